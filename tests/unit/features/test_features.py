import json
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import resnet18

from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.errors import ConfigError, DataError, UserError
from exdd_ray.features.aggregate import aggregate
from exdd_ray.features.backbone import load_backbone, normalisation, weights_file
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embed import embed
from exdd_ray.features.prepare import TOUCHED, covered_shares, full_pixels, prepare_image, prepare_mask
from exdd_ray.features.slices import SLICE, make_slice, plan_slices
from exdd_ray.store.artifact import Store


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return resnet18().eval()


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18-test.safetensors"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return path


@pytest.fixture
def features(weights):
    return FeaturesConfig(backbone="resnet18", weights=weights, resize=(64, 96))


@pytest.fixture
def catalog(tmp_path):
    rows = []
    for i in range(SLICE + 3):
        path = tmp_path / f"{i:02d}.png"
        Image.fromarray(make_surface("wood", (70, 90), np.random.default_rng(i))).save(path)
        rows.append(
            CatalogRow(id=path.name, dataset="d", category="c", split="train", label=0, defect="good", image=str(path))
        )
    return build_catalog(rows)


def test_backbone_gives_the_layers_and_stops_after_the_last(network, features):
    backbone = load_backbone(features)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
        second = network.layer2(network.layer1(x))
        wanted = [second, network.layer3(second)]
        found = backbone(images)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert not any("layer4" in name or name.startswith("fc") for name, _ in backbone.body.named_parameters())


def test_timm_backbone_by_name(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    whole = timm.create_model("mobilenetv3_small_050", pretrained=False).eval()
    save_file({key: value.contiguous() for key, value in whole.state_dict().items()}, tmp_path / "m.safetensors")
    config = FeaturesConfig(
        backbone="timm/mobilenetv3_small_050", weights=tmp_path / "m.safetensors", layers=("blocks.0", "blocks.1")
    )
    with torch.no_grad():
        found = load_backbone(config)(torch.ones(1, 3, 64, 64))
        x = whole.blocks[0](whole.bn1(whole.conv_stem(torch.ones(1, 3, 64, 64))))
    torch.testing.assert_close(found[0], x)
    with pytest.raises(ConfigError, match="it has 5: bn1, blocks.0"):
        load_backbone(config.model_copy(update={"layers": ("nope",)}))


def random_weights(model, path):
    save_file({key: value.contiguous().clone() for key, value in model.state_dict().items()}, path)
    return path


@pytest.mark.parametrize(
    ("name", "layers", "indices", "grids"),
    [
        ("swin_tiny_patch4_window7_224", ("layers.1", "layers.2"), [1, 2], [(28, 28), (14, 14)]),
        ("convnext_atto", ("stages.1", "stages.2"), [1, 2], [(28, 28), (14, 14)]),
        ("vit_tiny_patch16_224", ("blocks.9", "blocks.10"), [9, 10], [(14, 14), (14, 14)]),
    ],
)
def test_timm_models_of_every_output_format(tmp_path, name, layers, indices, grids):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    whole = timm.create_model(name, pretrained=False).eval()
    config = FeaturesConfig(
        backbone=f"timm/{name}", weights=random_weights(whole, tmp_path / "w.safetensors"), layers=layers
    )
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        found = load_backbone(config)(images)
        wanted = whole.forward_intermediates(images, indices=indices, intermediates_only=True)
    assert [one.shape[-2:] for one in found] == grids
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_torchvisions_channels_last_maps(tmp_path):
    from torchvision.models import swin_t

    torch.manual_seed(0)
    whole = swin_t().eval()
    weights = random_weights(whole, tmp_path / "w.safetensors")
    config = FeaturesConfig(backbone="swin_t", weights=weights, layers=("features.1", "features.3"))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found = load_backbone(config)(images)
        wanted = [whole.features[:2](images), whole.features[:4](images)]
    assert [tuple(one.shape) for one in found] == [(1, 96, 16, 24), (1, 192, 8, 12)]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b.permute(0, 3, 1, 2))


def test_a_network_that_normalises_once_more(tmp_path):
    from torchvision.models import googlenet

    torch.manual_seed(0)
    whole = googlenet(init_weights=False, transform_input=True).eval()
    weights = random_weights(whole, tmp_path / "w.safetensors")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        (found,) = load_backbone(FeaturesConfig(backbone="googlenet", weights=weights, layers=("conv1",)))(images)
        torch.testing.assert_close(found, whole.conv1(whole._transform_input(images)))


@pytest.mark.parametrize(
    ("name", "layers", "error"),
    [
        ("vit_tiny_patch16_224", ("blocks.9",), r"timm/vit_tiny_patch16_224 cannot read images of 64 x 96 pixels"),
        ("swin_t", ("avgpool", "flatten"), r"layer flatten gives 1 x 768 values, no feature map"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(tmp_path, name, layers, error):
    timm, torchvision = pytest.importorskip("timm"), pytest.importorskip("torchvision")
    source = timm.create_model if name.startswith("vit") else torchvision.models.get_model
    weights = random_weights(source(name), tmp_path / "w.safetensors")
    backbone = name if name == "swin_t" else f"timm/{name}"
    config = FeaturesConfig(backbone=backbone, weights=weights, layers=layers)
    with pytest.raises(ConfigError, match=error), torch.no_grad():
        load_backbone(config)(torch.randn(1, 3, 64, 96))


@pytest.mark.parametrize(
    ("backbone", "mean", "std"),
    [
        ("surface_resnet18", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("efficientnet_v2_l", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("timm/vit_tiny_patch16_224", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("timm/swin_tiny_patch4_window7_224", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("timm/vit_base_patch16_clip_224", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ],
)
def test_images_are_normalised_as_the_backbone_was_trained(backbone, mean, std):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    found = prepare_image(image, FeaturesConfig(backbone=backbone, resize=(32, 32)))
    wanted = (image / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(found, wanted.transpose(2, 0, 1), atol=1e-5)


def test_a_model_with_a_config_of_its_own_is_normalised_by_it(tmp_path):
    """One of a folder here; one of a hub (timm/hf-hub:owner/name) is read alike."""
    own = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.25, 0.2], "num_classes": 3, "input_size": [3, 64, 64]}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": own}))
    assert normalisation(f"timm/local-dir:{tmp_path}") == ((0.5, 0.4, 0.3), (0.25, 0.25, 0.2))
    with pytest.raises(UserError, match="its config cannot be had"):
        normalisation(f"timm/local-dir:{tmp_path / 'none'}")
    with pytest.raises(UserError, match=r"Invalid pretrained tag \(none\)"):
        normalisation("timm/resnet18.none")


def test_the_normalisation_is_part_of_what_an_embedding_is(features, catalog):
    (job, *_) = plan_slices(catalog, features)
    assert job.recipe.config["normalisation"] == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_weights_are_looked_for_in_order(features, weights, monkeypatch, tmp_path):
    assert weights_file(features) == weights
    monkeypatch.setenv("EXDD_WEIGHTS", str(weights.parent))
    assert weights_file(FeaturesConfig(backbone="resnet18")) == weights
    assert weights_file(FeaturesConfig()).name == "surface_resnet18.safetensors"


def test_without_weights_one_error_names_all_ways(monkeypatch, tmp_path):
    monkeypatch.delenv("EXDD_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"features.weights=PATH.*EXDD_WEIGHTS.*download"):
        weights_file(FeaturesConfig(backbone="resnet50"))


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"backbone": "resnet81"}, "did you mean 'resnet18'"),
        ({"backbone": "resnet18", "layers": ("layer2", "layer9")}, "it has conv1"),
        ({"backbone": "resnet50"}, "not this backbone's weights|is \\("),
        ({"backbone": "resnet18", "weights": "missing.pth"}, "no such weights file"),
    ],
)
def test_bad_backbones(weights, config, error):
    with pytest.raises(UserError, match=error):
        load_backbone(FeaturesConfig.model_validate({"weights": weights, **config}))


def test_a_file_that_is_no_weights(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"no")
    with pytest.raises(UserError, match="not a readable weights file"):
        load_backbone(FeaturesConfig(backbone="resnet18", weights=tmp_path / "w.pth"))


@pytest.fixture
def maps():
    torch.manual_seed(1)
    return [torch.randn(2, 8, 10, 6), torch.randn(2, 16, 5, 3)]


def test_avg(maps):
    found = aggregate(maps, "avg")
    assert (found.vectors.shape, found.grid) == ((2, 60, 24), (10, 6))
    padded = F.pad(maps[0], (1, 1, 1, 1))
    assert found.vectors[1, 2 * 6 + 3, 5] == pytest.approx(float(padded[1, 5, 2:5, 3:6].mean()), rel=1e-5)
    deep = F.interpolate(F.avg_pool2d(maps[1], 3, 1, 1), size=(10, 6), mode="bilinear")
    torch.testing.assert_close(found.vectors[..., 8:], deep.flatten(2).transpose(1, 2))


def test_exdd_pools_without_padding_and_upsamples_in_blocks(maps):
    found = aggregate(maps, "exdd").vectors.transpose(1, 2).reshape(2, 24, 10, 6)
    for m, part in zip(maps, (found[:, :8], found[:, 8:]), strict=True):
        small = F.avg_pool2d(m, 3, 1)
        rows, columns = small.shape[-2:]
        i, j = 7, 4
        box = small[..., i * rows // 10 : -(-(i + 1) * rows // 10), j * columns // 6 : -(-(j + 1) * columns // 6)]
        torch.testing.assert_close(part[..., i, j], box.mean((-2, -1)))


def test_pc1024_pools_neighbourhoods_then_layers():
    torch.manual_seed(2)
    maps = [torch.randn(1, 128, 4, 4), torch.randn(1, 256, 2, 2)]
    found = aggregate(maps, "pc1024").vectors
    assert found.shape == (1, 16, 1024)
    neighbourhood = F.pad(maps[0], (1, 1, 1, 1))[0, :, 1:4, 2:5].reshape(1, 1, -1)  # patch (1, 2), channel by channel
    deep = F.unfold(maps[1], 3, padding=1).reshape(1, 256 * 9, 2, 2)
    deep = F.interpolate(deep, size=(4, 4), mode="bilinear", align_corners=False)[0, :, 1, 2].reshape(1, 1, -1)
    both = torch.cat([F.adaptive_avg_pool1d(v, 1024) for v in (neighbourhood, deep)], dim=2)
    torch.testing.assert_close(found[0, 1 * 4 + 2], F.adaptive_avg_pool1d(both, 1024)[0, 0])


def test_images_keep_their_shape_and_crops_are_central():
    image = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    assert prepare_image(image, FeaturesConfig(resize=(128, 64))).shape == (3, 128, 64)
    config = FeaturesConfig(resize=256, crop=(224, 224))
    from torchvision.transforms import v2

    pil = Image.fromarray(image)
    wanted = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])(pil)
    wanted = (wanted - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    np.testing.assert_allclose(prepare_image(image, config), wanted.numpy(), atol=1e-5)


def test_masks_follow_the_image_and_eroded_ones_are_smaller():
    mask = np.zeros((100, 50), dtype=bool)
    mask[40:60, 20:31] = True
    config = FeaturesConfig(resize=(70, 36))
    nearest, eroded = prepare_mask(mask, config), full_pixels(mask.astype(np.uint8) * 255, config)
    assert nearest.shape == (70, 36)
    assert 0 < eroded.sum() < nearest.sum()
    assert not (eroded & ~nearest).any()


@pytest.mark.parametrize(("size", "cut"), [((70, 20), (60, 20)), ((60, 30), (60, 20)), ((45, 15), (45, 15))])
def test_a_central_cut_leaves_nothing_stretched(size, cut):
    """KSDD2's way: to the proportions of 600 x 200, then resized; masks and patches lie where the image does."""
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (*size, 3), dtype=np.uint8), rng.random(size) < 0.3
    top, left = ((have - want) // 2 for have, want in zip(size, cut, strict=True))
    central = (slice(top, top + cut[0]), slice(left, left + cut[1]))
    fitted, plain = FeaturesConfig(resize=(48, 16), fit="cut"), FeaturesConfig(resize=(48, 16))
    for prepare, given in ((prepare_image, image), (prepare_mask, mask), (full_pixels, mask.astype(np.uint8) * 255)):
        np.testing.assert_array_equal(prepare(given, fitted), prepare(given[central], plain))
    np.testing.assert_array_equal(covered_shares(mask, fitted, (6, 2)), covered_shares(mask[central], plain, (6, 2)))


def test_a_central_cut_is_of_images_as_they_are():
    with pytest.raises(ValueError, match="fit=cut takes images as they are, and working_size stretches them"):
        FeaturesConfig(resize=(48, 16), fit="cut", working_size=(60, 20))
    with pytest.raises(ValueError, match="resize by the shorter side stretches nothing: unset fit"):
        FeaturesConfig(resize=64, crop=(64, 64), fit="cut")


def test_a_mask_of_one_pixel_covers_one_patch():
    mask = np.zeros((100, 50), dtype=bool)
    mask[73, 11] = True
    covered = covered_shares(mask, FeaturesConfig(resize=(70, 36)), (10, 6)) > TOUCHED
    assert np.argwhere(covered).tolist() == [[7, 1]]


def test_embedding_is_the_aggregated_maps(features, catalog, tmp_path):
    embedding = embed(catalog, features, Store(tmp_path / "store"))
    row = SLICE + 1
    image = prepare_image(np.asarray(Image.open(catalog["image"][row].as_py())), features)
    with torch.inference_mode():
        wanted = aggregate(load_backbone(features)(torch.from_numpy(image)[None]), "avg").vectors[0].numpy()
    np.testing.assert_allclose(embedding.image(row), wanted, rtol=1e-4, atol=1e-5)
    assert (embedding.grid, embedding.dim) == ((8, 12), 384)
    taken = embedding.vectors([3, 4, SLICE, 1])
    np.testing.assert_array_equal(taken.take(np.arange(2 * 96, 3 * 96)), embedding.image(SLICE))


def test_any_number_of_threads_gives_the_same_bits(features, catalog, tmp_path):
    jobs = plan_slices(catalog, features)
    threads = torch.get_num_threads()
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        store = Store(tmp_path / str(count))
        embedding = embed(catalog, features, store)
        found.append(np.stack([embedding.image(i) for i in range(catalog.num_rows)]))
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(*found)
    assert len(jobs) == 2


def test_slices_are_found_again_and_only_new_ones_made(features, catalog, tmp_path):
    first = Store(tmp_path / "store")
    embed(catalog.slice(0, SLICE), features, first)
    second = Store(tmp_path / "store")
    embed(catalog, features, second)
    assert (len(first.made), len(second.made)) == (1, 1)
    other = Store(tmp_path / "store")
    embed(catalog, features.model_copy(update={"aggregator": "exdd"}), other)
    assert len(other.made) == 2


def test_half_precision_is_stored_at_half_the_size(features, catalog, tmp_path):
    half = embed(catalog, features.model_copy(update={"dtype": "float16"}), Store(tmp_path / "a"))
    full = embed(catalog, features, Store(tmp_path / "b"))
    assert half.image(0).dtype == np.float16
    np.testing.assert_allclose(half.image(0), full.image(0), rtol=2e-3, atol=1e-3)


def test_unreadable_images_are_left_out_with_their_reason(features, catalog, tmp_path):
    broken = catalog["image"][2].as_py()
    os.truncate(broken, 100)
    embedding = embed(catalog, features, Store(tmp_path / "store"))
    assert embedding.readable.tolist() == [i != 2 for i in range(catalog.num_rows)]
    assert broken in embedding.reasons[2]
    with pytest.raises(DataError, match="row 2 has no vectors"):
        embedding.image(2)
    image = prepare_image(np.asarray(Image.open(catalog["image"][3].as_py())), features)
    with torch.inference_mode():
        wanted = aggregate(load_backbone(features)(torch.from_numpy(image)[None]), "avg").vectors[0].numpy()
    np.testing.assert_allclose(embedding.image(3), wanted, rtol=1e-4, atol=1e-5)


def test_no_readable_image_at_all(features, catalog, tmp_path):
    for path in catalog["image"].to_pylist():
        os.truncate(path, 0)
    with pytest.raises(DataError, match="no image is readable"):
        embed(catalog, features, Store(tmp_path / "store"))


def test_a_damaged_slice_is_made_again(features, catalog, tmp_path):
    store = Store(tmp_path / "store")
    before = embed(catalog, features, store).image(0).copy()
    artifact = make_slice(store, plan_slices(catalog, features)[0])
    file = artifact.file("vectors.arrow")
    file.write_bytes(file.read_bytes()[:-100] + bytes(100))
    again = Store(tmp_path / "store")
    np.testing.assert_array_equal(embed(catalog, features, again).image(0), before)
    assert again.made == [artifact.key]


def test_bfloat16_is_near_and_another_feature_space(features, catalog, tmp_path):
    full = embed(catalog, features, Store(tmp_path / "a"))
    low = embed(catalog, features.model_copy(update={"precision": "bfloat16"}), Store(tmp_path / "b"))
    off = np.linalg.norm(low.image(0) - full.image(0)) / np.linalg.norm(full.image(0))
    assert 0 < off < 0.05
    assert low.space != full.space
