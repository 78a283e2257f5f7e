"""ExDD as released, written out from its specification one step after another, against the package's fast path."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet50

from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows, select_rows
from exdd_ray.data.procedural.defects import add_defect
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.features.embedder import Embedder
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.fit import fit_patch_bank
from exdd_ray.store.artifact import Store

SIZE = (160, 56)  # (height, width) that the network sees: the published shape, half as large again
CROP = (64, 64)
NATIVE = (316, 112)
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = resnet50().eval()
    for module in network.modules():  # random statistics, so that folding or dropping them would show
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rows = []
    for i in range(20):
        rng = np.random.default_rng(i)
        defective = i >= 13
        image = make_surface("ceramic", NATIVE, rng)
        mask_file = None
        if defective:
            image, mask = add_defect(image, ("hole", "scratch", "stain")[i % 3], rng)
            second = np.zeros_like(mask)
            second[20:40, 10:30] = True  # every defective image has several contours
            image[second] = 255 - image[second]
            mask_file = str(folder / f"{i:02d}_GT.png")
            Image.fromarray((mask | second).astype(np.uint8) * 255).save(mask_file)
        Image.fromarray(image).save(folder / f"{i:02d}.png")
        split = "train" if i < 10 or 13 <= i < 17 else "test"  # 1,400 normal vectors: more than the minimum
        label = int(defective)
        rows.append(
            CatalogRow(
                id=f"{i:02d}", dataset="made", category="made", split=split, label=label,
                defect="made" if defective else "good", image=str(folder / f"{i:02d}.png"), mask=mask_file,
            )
        )  # fmt: skip
    return build_catalog(rows)


def embed_slowly(network, image, size):
    """[560-like x 1536] of one PIL image: the whole network is run, two hooks catch the maps."""
    pixels = torch.from_numpy(np.array(image.resize((size[1], size[0]), Image.BILINEAR))).float() / 255
    batch = ((pixels - MEAN) / STD).permute(2, 0, 1)[None]
    caught = []
    hooks = [
        network.layer2[-1].register_forward_hook(lambda module, args, output: caught.append(output)),
        network.layer3[-1].register_forward_hook(lambda module, args, output: caught.append(output)),
    ]
    with torch.no_grad():
        network(batch)
    for hook in hooks:
        hook.remove()
    pooled = [nn.AvgPool2d(3, stride=1)(m) for m in caught]
    resized = [nn.AdaptiveAvgPool2d(caught[0].shape[-2:])(m) for m in pooled]
    stacked = torch.cat(resized, dim=1)
    return stacked[0].reshape(stacked.shape[1], -1).T.numpy(), caught[0].shape[-2:]


def coreset_slowly(vectors, share):
    """Farthest-first on a 128-dimensional projection, one pick after another, in double precision."""
    count = min(len(vectors), max(1000, int(len(vectors) * share)))
    torch.manual_seed(0)
    matrix = torch.randn(vectors.shape[1], 128)
    matrix /= matrix.norm(dim=0)
    points = (vectors @ matrix.numpy()).astype(np.float64)
    picks = [int(np.random.default_rng(0).integers(len(points)))]
    nearest = ((points - points[picks[0]]) ** 2).sum(axis=1)
    while len(picks) < count:
        nearest[picks[-1]] = -1
        picks.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, ((points - points[picks[-1]]) ** 2).sum(axis=1))
    return vectors[picks]


def crop_slowly(row):
    """The defect of the last external contour in OpenCV's order, which is the first in reading order."""
    from scipy.ndimage import binary_fill_holes, find_objects, label

    mask = np.array(Image.open(row.mask)) > 127
    numbered, _ = label(binary_fill_holes(mask), structure=np.ones((3, 3)))
    down, across = find_objects(numbered)[0]
    top, left = max(down.start - 1, 0), max(across.start - 1, 0)
    bottom, right = min(down.stop + 1, mask.shape[0]), min(across.stop + 1, mask.shape[1])
    return Image.open(row.image).convert("RGB").crop((left, top, right, bottom))


def score_slowly(patches, bank, weight_is_one_minus):
    distances = torch.cdist(torch.from_numpy(patches).double(), torch.from_numpy(bank).double())
    nearest, index = distances.min(dim=1)
    worst = int(nearest.argmax())
    s = nearest[worst]
    around = torch.cdist(torch.from_numpy(bank[index[worst]])[None].double(), torch.from_numpy(bank).double())[0]
    neighbours = around.topk(3, largest=False).indices[1:]
    scale = np.sqrt(patches.shape[1])
    share = torch.exp(s / scale) / torch.exp(distances[worst, neighbours] / scale).sum()
    return float((1 - share if weight_is_one_minus else share) * s), nearest.numpy()


def map_slowly(ratio, grid):
    up = torch.nn.functional.interpolate(
        torch.from_numpy(ratio).float().reshape(1, 1, *grid), size=SIZE, mode="bilinear", align_corners=False
    )[0, 0]
    top = up.max()
    grey = Image.fromarray((up / top).mul(255).byte().numpy())
    return np.array(grey.filter(ImageFilter.GaussianBlur(2)), dtype=np.float32) / 255 * float(top)


def test_the_fast_path_equals_the_specification(network, catalog, tmp_path):
    rows = catalog_rows(catalog)
    train = [row for row in rows if row.split == "train"]
    embedded = [embed_slowly(network, Image.open(row.image).convert("RGB"), SIZE) for row in rows]
    grid = tuple(embedded[0][1])
    vectors = {row.id: patches for row, (patches, _) in zip(rows, embedded, strict=True)}
    negative = coreset_slowly(np.concatenate([vectors[row.id] for row in train if row.label == 0]), 0.01)
    crops = [embed_slowly(network, crop_slowly(row), CROP)[0] for row in train if row.label == 1]
    positive = coreset_slowly(np.concatenate(crops), 0.1)

    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, tmp_path / "w.safetensors")
    config = PatchBankConfig.model_validate(
        {
            "system": "exdd",
            "preset": "released",
            "features": {"weights": tmp_path / "w.safetensors", "resize": SIZE, "working_size": None},
            "positives": {"crop_size": CROP},
        }
    )
    embedder = Embedder(Store(tmp_path / "store"), config.features, catalog)
    fitted = fit_patch_bank(config, select_rows(catalog, split="train"), embedder, seed=5)
    np.testing.assert_allclose(fitted.negative.vectors, negative, rtol=1e-3, atol=1e-4)  # pick by pick
    predictions = fitted.predict(select_rows(catalog, split="test"))
    for row, image_score, patch_map in zip(predictions.rows, predictions.scores, predictions.patch_maps, strict=True):
        s_n, d_n = score_slowly(vectors[row.id], negative, weight_is_one_minus=True)
        s_p, d_p = score_slowly(vectors[row.id], positive, weight_is_one_minus=False)
        assert image_score == pytest.approx(s_n / (s_p + 1e-6), rel=1e-4)
        ratio = d_n / (d_p + 1e-6)
        np.testing.assert_allclose(patch_map, ratio, rtol=1e-4)
        drawn, slow = predictions.draw(patch_map), map_slowly(ratio, grid)
        level = ratio.max() / 255  # where the two sides of a rounding fall on different 8-bit levels
        assert np.abs(drawn - slow).max() <= 1.01 * level
        assert np.isclose(drawn, slow, rtol=1e-4).mean() > 0.99
