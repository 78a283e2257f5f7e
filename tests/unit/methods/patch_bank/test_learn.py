"""Evidence that is learnt of defects, on textures with dark and with bright spots."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.errors import DataError
from exdd_ray.features.embedder import Embedder
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.detector import FittedPatchBank, fit_patch_bank
from exdd_ray.metrics.curves import detection
from exdd_ray.store.artifact import Store

NORMAL, SIDE = 12, 64


def texture(folder: Path, name: str, *, level: int = 0, origin: str = "real", marked: bool = True) -> CatalogRow:
    """A texture; its spot differs by so many grey levels. What is not marked has a mask where there is no spot."""
    rng = np.random.default_rng(abs(hash_of(name)))
    image = 128 + 60 * gaussian_filter(rng.normal(size=(SIDE, SIDE)), 1)
    top, left = rng.integers(8, SIDE - 24, size=2)
    image[top : top + 12, left : left + 12] += level
    file, mask_file = folder / f"{name}.png", folder / f"{name}_mask.png"
    Image.fromarray(np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)).save(file)
    if level == 0 and marked:
        mask_file = None
    else:
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        mask[top : top + 12, left : left + 12] = 255
        Image.fromarray(mask).save(mask_file)
    label = int(mask_file is not None)
    return CatalogRow(
        id=name,
        dataset="d",
        category="c",
        split="train",
        label=label,
        defect="spot" if label else "good",
        image=str(file),
        mask=None if mask_file is None else str(mask_file),
        origin=origin,
    )


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode(), "big") % 2**32


def config(**evidence) -> PatchBankConfig:
    return PatchBankConfig.model_validate(
        {
            "features": {"resize": (SIDE, SIDE)},
            "bank": {"negative": {"rate": 0.05}, "positive": {"rate": 1.0}},
            "evidence": {"normal_landmarks": 64, **evidence},
        }
    )


@pytest.fixture
def normal(tmp_path) -> list[CatalogRow]:
    return [texture(tmp_path, f"normal {number}") for number in range(NORMAL)]


def fitted(rows: list[CatalogRow], folder: Path, **evidence) -> FittedPatchBank:
    chosen = config(**evidence)
    return fit_patch_bank(chosen, build_catalog(rows), Embedder(Store(folder / "store"), chosen.features), 0)


def fit_single(rows: list[CatalogRow], folder: Path) -> FittedPatchBank:
    chosen = PatchBankConfig.model_validate(
        {"system": "patchcore", "features": {"resize": (SIDE, SIDE)}, "bank": {"negative": {"rate": 0.05}}}
    )
    return fit_patch_bank(chosen, build_catalog(rows), Embedder(Store(folder / "store"), chosen.features), 0)


def test_what_looks_like_a_learnt_defect_is_raised_and_nothing_else(tmp_path, normal):
    dark = [texture(tmp_path, f"dark {number}", level=-25) for number in range(6)]
    tested = [texture(tmp_path, f"more {number}", level=-25) for number in range(6)]
    fresh = [texture(tmp_path, f"fresh {number}") for number in range(12)]
    bright = [texture(tmp_path, f"bright {number}", level=60) for number in range(4)]
    found = fitted([*normal, *dark], tmp_path)
    assert found.evidence is not None
    catalog = build_catalog([*tested, *fresh, *bright])
    (samples,) = found.embedder.samples(catalog)
    added = found.evidence.added(samples, found.embedder.store)
    kind = np.array([row.id.split()[0] for row in samples.rows])
    highest = {name: added[0, kind == name].max(axis=1) for name in ("more", "fresh", "bright")}
    assert np.median(highest["more"]) > 1
    assert np.median(highest["fresh"]) < 0.5
    dual = found.predict(catalog)
    alone = fit_single(normal, tmp_path).predict(catalog)
    judged = (kind == "more") | (kind == "fresh")
    aurocs = [detection((kind == "more")[judged], one.scores[judged]).auroc for one in (dual, alone)]
    assert aurocs[0] >= aurocs[1]


def test_the_same_bits_again_and_from_files(tmp_path, normal):
    from exdd_ray.methods.patch_bank.detector import predict_from_files

    rows = [*normal, *(texture(tmp_path, f"dark {number}", level=-40) for number in range(3))]
    first, second = fitted(rows, tmp_path / "a"), fitted(rows, tmp_path / "b")
    one, other = first.predict(build_catalog(rows)), predict_from_files(second, build_catalog(rows))
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.patch_maps, other.patch_maps)


def test_synthetic_defects_count_where_they_help_with_real_ones(tmp_path, normal):
    real = [texture(tmp_path, f"dark {number}", level=-30) for number in range(4)]
    useless = [
        texture(tmp_path, f"useless {number}", origin=f"synthesis-{'0' * 40}", marked=False) for number in range(8)
    ]
    found = fitted([*normal, *real, *useless], tmp_path)
    assert found.evidence is not None
    assert found.evidence.learnt.synthetic == 0
    alone = fitted([*normal, *useless], tmp_path)
    assert alone.evidence is not None
    assert alone.evidence.learnt.synthetic == 1


def test_without_a_defect_the_order_is_the_single_banks(tmp_path, normal):
    images = build_catalog([*normal, texture(tmp_path, "dark", level=-60)])
    dual, single = fitted(normal, tmp_path), fit_single(normal, tmp_path)
    one, other = dual.predict(images), single.predict(images)
    np.testing.assert_array_equal(np.argsort(one.scores), np.argsort(other.scores))
    np.testing.assert_allclose(np.corrcoef(one.patch_maps.ravel(), other.patch_maps.ravel())[0, 1], 1, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2])
def test_few_defects(tmp_path, normal, count):
    rows = [*normal, *(texture(tmp_path, f"dark {number}", level=-60) for number in range(count))]
    assert np.isfinite(fitted(rows, tmp_path).predict(build_catalog(rows)).scores).all()


def test_a_mask_smaller_than_a_patch_is_learnt_where_it_is(tmp_path, normal):
    row = texture(tmp_path, "dark", level=-60)
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[30, 30] = 255
    Image.fromarray(mask).save(row.mask)
    assert np.isfinite(fitted([*normal, row], tmp_path).predict(build_catalog([*normal, row])).scores).all()


def test_normal_images_that_are_all_alike_are_named(tmp_path):
    same = [texture(tmp_path, "normal 0")]
    copies = [CatalogRow(**{**vars(same[0]), "id": str(number)}) for number in range(4)]
    with pytest.raises(DataError, match="copies of each other"):
        fitted([*copies, texture(tmp_path, "dark", level=-60)], tmp_path)
