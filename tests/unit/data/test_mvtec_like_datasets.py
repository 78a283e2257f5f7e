"""MVTec AD 2, MVTec LOCO AD, AutoVI and VAD in the layouts of their publishers."""

from pathlib import Path

import pytest
from dataset_trees import ad_2, autovi, loco, put, summary, vad

from exdd_ray.data.catalog import GOOD, catalog_rows
from exdd_ray.data.check import check_dataset
from exdd_ray.data.datasets import guess_dataset, load_dataset
from exdd_ray.data.masks import read_row_mask
from exdd_ray.errors import DataError

EMPTY = "no image in this folder of masks"


def test_ad_2_is_tested_on_its_public_images(tmp_path: Path) -> None:
    assert summary(load_dataset("mvtec_ad_2", ad_2(tmp_path))) == {
        "can/test_public/bad/000_shift_1.png": ("test", 1, "bad", "000_shift_1_mask.png"),
        "can/test_public/bad/001_regular.png": ("test", 1, "bad", "001_regular_mask.png"),
        "can/test_public/good/000_overexposed.png": ("test", 0, GOOD, None),
        "can/train/good/000_regular.png": ("train", 0, GOOD, None),
        "can/validation/good/000_regular.png": ("validation", 0, GOOD, None),
    }


def test_loco_masks_are_folders(tmp_path: Path) -> None:
    catalog = load_dataset("mvtec_loco", loco(tmp_path))
    assert summary(catalog) == {
        "screw_bag/test/good/000.png": ("test", 0, GOOD, None),
        "screw_bag/test/logical_anomalies/000.png": ("test", 1, "logical_anomalies", "000"),
        "screw_bag/test/structural_anomalies/000.png": ("test", 1, "structural_anomalies", "000"),
        "screw_bag/train/good/000.png": ("train", 0, GOOD, None),
        "screw_bag/validation/good/000.png": ("validation", 0, GOOD, None),
    }
    logical, structural = (read_row_mask(row) for row in catalog_rows(catalog) if row.label)
    assert logical.sum() == 2
    assert logical[2, 3]
    assert logical[4, 5]
    assert structural.sum() == 1


def test_autovi_masks_hold_small_numbers(tmp_path: Path) -> None:
    catalog = load_dataset("autovi", autovi(tmp_path))
    assert summary(catalog) == {
        "pipe_clip/test/good/0001.png": ("test", 0, GOOD, None),
        "pipe_clip/test/unclipped/0089.png": ("test", 1, "unclipped", "0089"),
        "pipe_clip/train/good/0000.png": ("train", 0, GOOD, None),
    }
    assert [read_row_mask(row).sum() for row in catalog_rows(catalog) if row.label] == [1]


def test_vad_has_defects_to_train_on_and_kinds_that_are_not_among_them(tmp_path: Path) -> None:
    assert summary(load_dataset("vad", vad(tmp_path))) == {
        "test/bad/0.png": ("test", 1, "bad", None),
        "test/bad_unseen_defects/0.png": ("test", 1, "bad_unseen_defects", None),
        "test/good/0.png": ("test", 0, GOOD, None),
        "train/bad/0.png": ("train", 1, "bad", None),
        "train/good/0.png": ("train", 0, GOOD, None),
    }


@pytest.mark.parametrize(
    ("name", "build", "missing"),
    [
        ("mvtec_ad_2", ad_2, "can/validation"),
        ("mvtec_loco", loco, "screw_bag/validation"),
        ("autovi", autovi, "pipe_clip/test"),
        ("vad", vad, "train"),
    ],
)
def test_a_layout_tells_its_dataset_and_what_it_lacks(tmp_path: Path, name, build, missing) -> None:
    assert guess_dataset(build(tmp_path)) == name
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"expected a folder {Path(missing).name}/, found "):
        load_dataset(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "build", "mask", "reason"),
    [
        ("mvtec_ad_2", ad_2, "can/test_public/ground_truth/bad/000_shift_1_mask.png", "a defect without a mask"),
        (
            "mvtec_loco",
            loco,
            "screw_bag/ground_truth/structural_anomalies/000/000.png",
            EMPTY,
        ),
        ("autovi", autovi, "pipe_clip/ground_truth/unclipped/0089/0000.png", EMPTY),
    ],
)
def test_a_missing_mask_is_found(tmp_path: Path, name, build, mask, reason) -> None:
    build(tmp_path)
    assert check_dataset(load_dataset(name, tmp_path)).masks == ()
    (tmp_path / mask).unlink()
    assert [trouble.reason for trouble in check_dataset(load_dataset(name, tmp_path)).masks] == [reason]


def test_a_mask_file_beside_a_folder_of_masks_is_ambiguous(tmp_path: Path) -> None:
    put(loco(tmp_path) / "screw_bag" / "ground_truth" / "logical_anomalies" / "000.png", 255)
    with pytest.raises(DataError, match=r"000\.png and 000 cannot both be the mask of one image"):
        load_dataset("mvtec_loco", tmp_path)
