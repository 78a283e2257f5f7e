"""Evidence that is learnt of defects, on textures with dark and with bright spots."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.errors import DataError
from exdd_ray.experiment.session import Session
from exdd_ray.features.embedder import Embedder
from exdd_ray.methods.method import BANKS, SEARCHES, PlannedFit
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.detector import FittedPatchBank
from exdd_ray.methods.patch_bank.fit import fit_patch_bank
from exdd_ray.methods.patch_bank.method import METHOD
from exdd_ray.methods.patch_bank.positives import Defects
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


def test_a_defect_whose_mask_covers_nothing_is_as_if_it_was_not_there(tmp_path, normal):
    good = [texture(tmp_path, f"dark {number}", level=-60) for number in range(2)]
    empty = [texture(tmp_path, f"empty {number}", level=-60) for number in range(2)]
    for row in empty:
        Image.fromarray(np.zeros((SIDE, SIDE), dtype=np.uint8)).save(row.mask)
    tested = build_catalog([*normal, *good, *empty])
    with_empty, without = fitted([*normal, *good, *empty], tmp_path), fitted([*normal, *good], tmp_path)
    np.testing.assert_array_equal(with_empty.predict(tested).scores, without.predict(tested).scores)
    assert without.remarks == ()
    assert with_empty.remarks == ("2 training defects are left out: their masks cover no patch of the image",)


def test_crops_of_one_image_are_left_out_together(tmp_path, normal):
    row = texture(tmp_path, "dark", level=-60)
    crops = [CatalogRow(**{**vars(row), "id": str(at), "region": (at, 0, SIDE, SIDE)}) for at in (0, 4, 8)]
    found = fitted([*normal, *crops], tmp_path)
    assert found.evidence is not None
    assert found.evidence.learnt.lifts[1] is None  # of one image it is not known how far a defect extends


def test_synthetic_defects_alone_are_judged_by_fits_that_left_them_out(tmp_path, normal):
    made = [texture(tmp_path, f"dark {number}", level=-60, origin=f"synthesis-{'0' * 40}") for number in range(4)]
    real = [CatalogRow(**{**vars(row), "origin": "real"}) for row in made]
    learnt = [fitted([*normal, *rows], tmp_path).evidence.learnt for rows in (made, real)]
    assert [one.synthetic for one in learnt] == [1, 0]
    np.testing.assert_array_equal(learnt[0].weights, learnt[1].weights)
    assert learnt[0].lifts[1] == learnt[1].lifts[1]


def test_synthetic_defects_that_are_not_learnt_are_told(tmp_path, normal):
    made = [texture(tmp_path, f"made {number}", level=-60, origin=f"synthesis-{'0' * 40}") for number in range(3)]
    found = fitted([*normal, *made, texture(tmp_path, "dark", level=-60)], tmp_path)
    (remark,) = found.remarks
    assert remark.startswith("3 synthetic defects are not learnt")


def test_the_key_names_all_that_is_learnt_of(tmp_path, normal):
    rows = [texture(tmp_path, f"dark {number}", level=-60) for number in range(2)]
    (samples,) = Embedder(Store(tmp_path / "store"), config().features).samples(build_catalog(rows))
    shape = (2, samples.embedding.patches)
    given = Defects((samples,), np.zeros(shape), np.eye(*shape) > 0, np.eye(*shape) > 0, np.array([False, False]))
    nothing = np.zeros(shape, dtype=bool)
    others = [
        replace(given, z=given.z + 1),
        replace(given, striking=nothing),
        replace(given, covered=nothing),
        replace(given, synthetic=~given.synthetic),
        given.only(np.array([True, False])),
    ]
    assert len({one.key for one in (given, *others)}) == 6


def test_the_plan_tells_the_banks_of_fusions_apart_and_has_none_without_a_defect(tmp_path, normal):
    rows = [*normal, texture(tmp_path, "dark", level=-60)]
    session, universe = Session(Store(tmp_path / "store")), build_catalog(rows)

    def needed(stage: str, train: list[CatalogRow], **changes: object) -> tuple[str, ...]:
        given = PatchBankConfig.model_validate({"features": {"resize": (SIDE, SIDE)}, **changes})
        fit = PlannedFit(universe, build_catalog(train), (), 0)
        return sum((need.keys for need in METHOD.needs(given, fit, session) if need.stage == stage), ())

    def scored(**scoring: object) -> dict[str, object]:
        return {"scoring": scoring}

    assert needed(BANKS, normal) == ()
    assert len(needed(SEARCHES, normal)) == 1
    banks = [
        needed(BANKS, rows, **changes)
        for changes in (
            {},
            scored(fusion="bonus"),
            scored(fusion="ratio"),
            scored(calibration=4),
            {"evidence": {"covered": 0.9}},
        )
    ]
    assert banks[1] == banks[2]
    assert len(set(banks)) == 4
    assert [len(needed(SEARCHES, rows, **scored(fusion=one))) for one in ("evidence", "bonus")] == [1, 2]


def test_masks_over_what_is_normal_are_named(tmp_path, normal):
    mask = texture(tmp_path, "dark", level=-60).mask
    wrong = [CatalogRow(**{**vars(row), "id": f"{row.id} again", "label": 1, "mask": mask}) for row in normal[:2]]
    with pytest.raises(DataError, match="are the masks right"):
        fitted([*normal, *wrong], tmp_path, hardest=SIDE * SIDE)


def test_no_more_landmarks_than_are_asked_for(tmp_path, normal):
    rows = [*normal, *(texture(tmp_path, f"dark {number}", level=-60) for number in range(4))]
    few, all_of_them = (fitted(rows, tmp_path, defect_landmarks=count).evidence for count in (5, 2048))
    assert few is not None
    assert all_of_them is not None
    assert len(few.learnt.kernel.landmarks) == 5 + 64
    assert len(all_of_them.learnt.kernel.landmarks) > 5 + 64
    np.testing.assert_array_equal(few.learnt.kernel.landmarks[:5], all_of_them.learnt.kernel.landmarks[:5])
