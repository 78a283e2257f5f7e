"""timm's vision transformers, and what else is held, at sizes that they were not trained at."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.errors import ConfigError, UserError
from exdd_ray.features.aggregate import aggregate
from exdd_ray.features.backbone import load_backbone
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embed import embed
from exdd_ray.features.prepare import prepare_image
from exdd_ray.features.slices import feature_space
from exdd_ray.store.artifact import Store

timm = pytest.importorskip("timm")

SMALL = "test_vit"  # 6 blocks of width 64, patches of 16 pixels, a class token; made for 160 pixels
REGISTER = "test_vit2"  # 8 blocks, a register token
ROTARY = "vit_tiny_patch16_dinov3_qkvb"  # rotary position embeddings


def random_weights(name: str, path: Path, **options) -> Path:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, **options)
    with torch.no_grad():
        for each in model.parameters():  # zeros and ones of a fresh model would hide what is left out
            each.add_(0.02 * torch.randn_like(each))
    save_file({key: value.contiguous().clone() for key, value in model.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return random_weights(SMALL, tmp_path_factory.mktemp("small") / "w.safetensors")


def features(name: str, weights: Path, **changes) -> FeaturesConfig:
    given = {"backbone": f"timm/{name}", "weights": weights, "layers": ("blocks.1", "blocks.3"), "resize": (64, 96)}
    return FeaturesConfig.model_validate(given | changes)


def reference(name: str, weights: Path, images: torch.Tensor, indices: list[int], *, norm: bool) -> list[torch.Tensor]:
    """Of timm's whole network, which resamples its position embeddings as it meets a size."""
    whole = timm.create_model(name, pretrained=False, dynamic_img_size=True).eval()
    whole.load_state_dict(load_file(weights))
    return whole.forward_intermediates(images, indices=indices, norm=norm, intermediates_only=True)


@pytest.mark.parametrize(
    ("name", "norm"), [(SMALL, False), (SMALL, True), (REGISTER, False), (ROTARY, False), (ROTARY, True)]
)
def test_blocks_at_another_size_are_timms(name, norm, tmp_path):
    weights = random_weights(name, tmp_path / "w.safetensors")
    images = torch.randn(2, 3, 64, 96)
    backbone = load_backbone(features(name, weights, final_norm=norm))
    with torch.no_grad():
        found, wanted = backbone(images), reference(name, weights, images, [1, 3], norm=norm)
    assert [one.shape[-2:] for one in found] == [(4, 6), (4, 6)]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert len(backbone.body.model.blocks) == 4, "the forward pass stops after the last layer"


def test_tokens_are_laid_out_as_the_image_is(small):
    """A change of one patch changes the embedded token of that place most; class tokens are none of them."""
    backbone = load_backbone(features(SMALL, small, layers=("blocks.0",)))
    images = torch.zeros(2, 3, 64, 96)
    images[1, :, 32:48, 80:96] = 3
    with torch.no_grad():
        (tokens,) = backbone(images)
    change = (tokens[1] - tokens[0]).norm(dim=0)
    assert divmod(int(change.argmax()), 6) == (2, 5)


def test_position_embeddings_of_other_weights_are_resampled(tmp_path):
    """Weights of 96 pixels have 36 positions, the network at 64 x 96 has 24."""
    weights = random_weights(SMALL, tmp_path / "w.safetensors", img_size=96)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        (found,) = load_backbone(features(SMALL, weights, layers=("blocks.3",)))(images)
        whole = timm.create_model(SMALL, pretrained=False, img_size=96).eval()
        whole.load_state_dict(load_file(weights))
        (wanted,) = whole.forward_intermediates(images, indices=[3], intermediates_only=True)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "layers", "grids"),
    [
        ("swin_tiny_patch4_window7_224", ("layers.0", "layers.1"), [(64, 56), (32, 28)]),
        ("convnext_atto", ("stages.0", "stages.1"), [(64, 56), (32, 28)]),
    ],
)
def test_swin_and_convnext_at_another_size(name, layers, grids, tmp_path):
    weights = random_weights(name, tmp_path / "w.safetensors")
    images = torch.randn(1, 3, 256, 224)
    with torch.no_grad():
        found = load_backbone(features(name, weights, layers=layers, resize=(256, 224)))(images)
        whole = timm.create_model(name, pretrained=False, **({"img_size": (256, 224)} if "swin" in name else {})).eval()
        whole.load_state_dict(load_file(weights))
        wanted = whole.forward_intermediates(images, indices=[0, 1], intermediates_only=True)
    assert [one.shape[-2:] for one in found] == grids
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (
            {"resize": (64, 90)},
            "patches of 16 x 16 pixels, and images of 64 x 90 are no whole ones: "
            "give 64 x 80 or 64 x 96, or set features.pad=true",
        ),
        ({"resize": (70, 90)}, r"give 64 x 80 or 80 x 96"),
        ({"layers": ("blocks.6",)}, r"timm/test_vit has no layer 'blocks.6': it has 6: blocks.0, .*, blocks.5"),
        ({"layers": ("blocks.3", "blocks.1")}, "go shallow first: blocks.1, blocks.3"),
        ({"backbone": "timm/vit_tiny_patch16_224"}, r"w.safetensors: 'cls_token' is \(1, 1, 64\), not \(1, 1, 192\)"),
        ({"backbone": "timm/convnext_atto", "layers": ("stages.1",), "final_norm": True}, "no final norm"),
        ({"backbone": "timm/swin_tiny_patch4_window7_224", "layers": ("layers.1",), "final_norm": True}, "final norm"),
        ({"backbone": f"timm/{REGISTER}", "final_norm": True}, "no final norm"),
        (
            {"backbone": "timm/nest_tiny", "layers": ("levels.0",)},
            "cannot be made for images of 64 x 96 pixels",
        ),
    ],
)
def test_what_does_not_fit_is_one_clear_error(small, changes, error):
    with pytest.raises((ConfigError, UserError), match=error) as raised:
        load_backbone(features(SMALL, small, **changes))
    assert "\n" not in str(raised.value)


def test_a_model_of_a_folder_is_read_at_another_size(small, tmp_path):
    """As one of a hub is (timm/hf-hub:owner/name): its own config says that it is made for a size."""
    own = {"input_size": [3, 160, 160], "fixed_input_size": True, "mean": [0.5] * 3, "std": [0.5] * 3}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": SMALL, "pretrained_cfg": own}))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found = load_backbone(features(f"local-dir:{tmp_path}", small))(images)
        wanted = load_backbone(features(SMALL, small))(images)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_what_fails_at_a_size_is_one_clear_error(tmp_path):
    name = "levit_128s"
    weights = random_weights(name, tmp_path / "w.safetensors", img_size=100)
    config = features(name, weights, layers=("stages.0",), resize=(100, 100))
    with pytest.raises(ConfigError, match="timm/levit_128s cannot read images of 100 x 100 pixels") as raised:
        load_backbone(config)(torch.randn(1, 3, 100, 100))
    assert "\n" not in str(raised.value)


def test_a_final_norm_is_of_transformers():
    with pytest.raises(ValueError, match="final_norm is of vision transformers"):
        FeaturesConfig(backbone="resnet18", final_norm=True)


def test_tokens_of_unit_length_are_another_space(small, tmp_path):
    path = tmp_path / "wood.png"
    Image.fromarray(make_surface("wood", (70, 90), np.random.default_rng(0))).save(path)
    row = CatalogRow(id="a", dataset="d", category="c", split="train", label=0, defect="good", image=str(path))
    config = features(SMALL, small, aggregator="nearest", final_norm=True, unit_length=True)
    embedding = embed(build_catalog([row]), config, Store(tmp_path / "store"))
    image = torch.from_numpy(prepare_image(np.asarray(Image.open(path)), config))[None]
    with torch.inference_mode():
        wanted = F.normalize(aggregate(load_backbone(config)(image), "nearest").vectors[0], dim=-1).numpy()
    np.testing.assert_allclose(embedding.image(0), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embedding.image(0), axis=1), 1, rtol=1e-5)
    spaces = {feature_space(features(SMALL, small, **{name: True})) for name in ("final_norm", "unit_length")}
    assert len({feature_space(features(SMALL, small)), *spaces}) == 3


@pytest.mark.shared
def test_dinov2_at_224_pixels_is_timms(shared_dir):
    weights = shared_dir / "weights" / "dinov2_vits14.safetensors"
    name = "vit_small_patch14_dinov2.lvd142m"
    config = features(name, weights, layers=("blocks.3", "blocks.11"), resize=(224, 224), final_norm=True)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        found, wanted = load_backbone(config)(images), reference(name, weights, images, [3, 11], norm=True)
    assert [tuple(one.shape) for one in found] == [(1, 384, 16, 16)] * 2
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
