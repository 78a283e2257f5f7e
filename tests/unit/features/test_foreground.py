"""Objects are told from their background by the first principal component of tokens."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embedder import Embedder
from exdd_ray.features.foreground import foreground
from exdd_ray.methods.padim.config import PadimConfig
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.fit import fit_patch_bank
from exdd_ray.store.artifact import Store

GRID = (10, 12)
SIDE = 256  # 16 patches


def tokens(objects: np.ndarray, apart: float = 40.0) -> np.ndarray:
    """Two clusters of vectors of 16 values, so far apart."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(objects.size, 16)) + apart * objects.reshape(-1, 1) * np.eye(16)[3]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_large_object_is_found_whichever_way_the_component_points(sign):
    """Its middle is filled, and it is one patch wider on every side."""
    objects = np.zeros(GRID, dtype=bool)
    objects[3:7, 3:9] = True
    holed = objects.copy()
    holed[4, 5] = False
    found = foreground(sign * tokens(holed), GRID).reshape(GRID)
    wider = np.zeros(GRID, dtype=bool)
    wider[2:8, 2:10] = True
    np.testing.assert_array_equal(found, wider)


def test_where_no_object_stands_out_nothing_is_passed_over():
    assert foreground(tokens(np.ones(GRID, dtype=bool), apart=0), GRID).all()


def row(path: Path) -> CatalogRow:
    where = {"dataset": "d", "category": "c", "split": "train"}
    return CatalogRow(id=path.name, **where, label=0, defect="good", image=str(path))


@pytest.fixture(scope="module")
def discs(tmp_path_factory) -> pa.Table:
    """Three discs of wood on black."""
    folder, rows = tmp_path_factory.mktemp("discs"), []
    y, x = np.mgrid[:SIDE, :SIDE]
    disc = (y - 128) ** 2 + (x - 128) ** 2 < 80**2
    for number in range(3):
        path = folder / f"{number}.png"
        wood = make_surface("wood", (SIDE, SIDE), np.random.default_rng(number))
        Image.fromarray(np.where(disc[..., None], wood, 0).astype(np.uint8)).save(path)
        rows.append(row(path))
    return build_catalog(rows)


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> FeaturesConfig:
    """Random weights, the final norm as large as a trained one's."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    state = timm.create_model("test_vit", pretrained=False).state_dict()
    state["norm.weight"] *= 8
    state["pos_embed"] *= 0  # what is alike has tokens that are alike
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file({key: value.contiguous().clone() for key, value in state.items()}, path)
    given = {"backbone": "timm/test_vit", "weights": path, "layers": ("blocks.1",), "aggregator": "nearest"}
    options = {"resize": (SIDE, SIDE), "final_norm": True, "unit_length": True, "foreground": True}
    return FeaturesConfig.model_validate(given | options)


def test_no_bank_has_background_and_it_scores_0(discs, features, tmp_path):
    config = PatchBankConfig.model_validate(
        {"system": "patchcore", "features": features, "bank": {"negative": {"rate": 1}}, "scoring": {"smoothing": 1}}
    )
    embedder = Embedder(Store(tmp_path / "store"), features)
    fitted = fit_patch_bank(config, discs.slice(0, 2), embedder, 0)
    (samples,) = embedder.samples(discs)
    objects = samples.embedding.foreground(np.arange(3))
    assert 0 < objects.mean() < 1
    assert len(fitted.negative.vectors) == objects[:2].sum()
    found = fitted.predict(discs.slice(2, 1))
    np.testing.assert_array_equal(found.patch_maps[0] > 0, objects[2])


def test_only_single_banks_leave_a_background_out(features):
    with pytest.raises(ValueError, match=r"features.foreground is not for detector.kind=padim"):
        PadimConfig(features=features)
    with pytest.raises(ValueError, match=r"features.foreground is of a single bank"):
        PatchBankConfig(features=features)
