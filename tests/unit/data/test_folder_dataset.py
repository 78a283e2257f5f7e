from pathlib import Path

import pytest
from dataset_trees import put, summary
from PIL import Image

from exdd_ray.data.catalog import GOOD, UNSPLIT
from exdd_ray.data.datasets import load_dataset
from exdd_ray.data.images import read_image
from exdd_ray.errors import DataError
from exdd_ray.store.artifact import Recipe, Store


def test_folder_in_the_layout_of_mvtec(tmp_path: Path) -> None:
    put(tmp_path / "train" / "ok" / "a.jpg")
    put(tmp_path / "train" / "dent" / "b.jpg")
    put(tmp_path / "test" / "dent" / "c.jpg")
    put(tmp_path / "test" / "scratch" / "d.jpg")
    put(tmp_path / "ground_truth" / "dent" / "b_GT.png", 255)
    put(tmp_path / "ground_truth" / "dent" / "c.png", 255)
    assert summary(load_dataset("folder", tmp_path)) == {
        "test/dent/c.jpg": ("test", 1, "dent", "c.png"),
        "test/scratch/d.jpg": ("test", 1, "scratch", None),
        "train/dent/b.jpg": ("train", 1, "dent", "b_GT.png"),
        "train/ok/a.jpg": ("train", 0, GOOD, None),
    }


def test_folder_of_normal_and_defect(tmp_path: Path) -> None:
    put(tmp_path / "normal" / "a.png")
    put(tmp_path / "defect" / "b.png")
    put(tmp_path / "defect" / "scratch" / "c.png")
    put(tmp_path / "masks" / "b_mask.png", 255)
    put(tmp_path / "masks" / "scratch" / "c.bmp", 255)
    assert summary(load_dataset("folder", tmp_path)) == {
        "defect/b.png": (UNSPLIT, 1, "defect", "b_mask.png"),
        "defect/scratch/c.png": (UNSPLIT, 1, "scratch", "c.bmp"),
        "normal/a.png": (UNSPLIT, 0, GOOD, None),
    }


def test_folder_with_masks_beside_the_defects(tmp_path: Path) -> None:
    put(tmp_path / "normal" / "a.png")
    put(tmp_path / "defect" / "b.jpg")
    put(tmp_path / "defect" / "b_mask.png", 255)
    assert summary(load_dataset("folder", tmp_path)) == {
        "defect/b.jpg": (UNSPLIT, 1, "defect", "b_mask.png"),
        "normal/a.png": (UNSPLIT, 0, GOOD, None),
    }


def test_folder_of_images_only(tmp_path: Path) -> None:
    put(tmp_path / "a.PNG")
    put(tmp_path / "b.jpg")
    (tmp_path / ".hidden.png").touch()
    assert summary(load_dataset("folder", tmp_path)) == {
        "a.PNG": (UNSPLIT, 0, GOOD, None),
        "b.jpg": (UNSPLIT, 0, GOOD, None),
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["readme/a.txt"], r"expected train/good .*found readme/"),
        (["a.png", "a_mask.png"], r"a_mask\.png: looks like a mask"),
        (["train/good/a.png", "test/dent/b.png", "ground_truth/dent/other.png"], r"other\.png: has no place"),
        (["train/good/a.png", "holdout/good/b.png"], r"holdout/good/b\.png: has no place"),
        (["train/a.png", "test/dent/b.png"], r"train/a\.png: images must lie in a folder named by their kind"),
        (["a.png", "more/b.png"], r"more/b\.png: has no place"),
    ],
)
def test_folder_that_fits_no_layout(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        if name.endswith(".txt"):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).touch()
        else:
            put(tmp_path / name)
    with pytest.raises(DataError, match=message):
        load_dataset("folder", tmp_path)


@pytest.mark.parametrize(
    ("normal", "defect"), [("OK", "NG"), ("good", "bad"), ("normal", "abnormal"), ("Ok", "NOK"), ("GOOD", "Defective")]
)
def test_names_are_known_in_any_case(tmp_path: Path, normal: str, defect: str) -> None:
    put(tmp_path / "split" / "Train" / normal / "a.png")
    put(tmp_path / "split" / "TEST" / normal / "b.png")
    put(tmp_path / "split" / "TEST" / defect / "c.png")
    put(tmp_path / "split" / "Ground_Truth" / defect.lower() / "c.png", 255)
    assert summary(load_dataset("folder", tmp_path / "split")) == {
        f"TEST/{defect}/c.png": ("test", 1, defect, "c.png"),
        f"TEST/{normal}/b.png": ("test", 0, GOOD, None),
        f"Train/{normal}/a.png": ("train", 0, GOOD, None),
    }
    put(tmp_path / "unsplit" / normal / "a.png")
    put(tmp_path / "unsplit" / defect / "b.png")
    put(tmp_path / "unsplit" / "Masks" / defect.upper() / "b.png", 255)
    assert summary(load_dataset("folder", tmp_path / "unsplit")) == {
        f"{defect}/b.png": (UNSPLIT, 1, defect, "b.png"),
        f"{normal}/a.png": (UNSPLIT, 0, GOOD, None),
    }


def test_two_folders_that_stand_for_the_same_are_refused(tmp_path: Path) -> None:
    for name in ("ok/a.png", "good/b.png", "ng/c.png"):
        put(tmp_path / name)
    with pytest.raises(DataError, match=r"good/ and ok/ stand for the same"):
        load_dataset("folder", tmp_path)


def test_training_images_of_an_unknown_name_for_normal_are_refused(tmp_path: Path) -> None:
    for name in ("train/fine/a.png", "test/fine/b.png", "test/dent/c.png"):
        put(tmp_path / name)
    with pytest.raises(DataError, match=r"train split has no normal image, only fine: .* named good or normal or ok"):
        load_dataset("folder", tmp_path)


def test_a_mask_that_fits_two_images_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "normal" / "n.png")
    put(tmp_path / "defect" / "a" / "000.png")
    put(tmp_path / "defect" / "b" / "000.png")
    put(tmp_path / "masks" / "000.png", 255)
    with pytest.raises(DataError, match=r"masks/000\.png: would be the mask of both .*a/000\.png and .*b/000\.png"):
        load_dataset("folder", tmp_path)


@pytest.mark.parametrize("suffix", ["jfif", "jp2", "avif", "gif", "tga", "pbm"])
def test_what_pillow_reads_is_an_image(tmp_path: Path, suffix: str) -> None:
    put(tmp_path / "train" / "good" / "a.png")
    if suffix == "jfif":
        put(tmp_path / "test" / "dent" / "b.jpg").rename(tmp_path / "test" / "dent" / "b.jfif")
    else:
        mode = "1" if suffix == "pbm" else "RGB"
        (tmp_path / "test" / "dent").mkdir(parents=True)
        Image.new(mode, (8, 6)).save(tmp_path / "test" / "dent" / f"b.{suffix}")
    catalog = load_dataset("folder", tmp_path)
    assert f"test/dent/b.{suffix}" in catalog["id"].to_pylist()
    assert all(read_image(file).shape == (6, 8, 3) for file in catalog["image"].to_pylist())


def test_what_other_programs_and_this_one_leave_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "train" / "good" / "a.png")
    put(tmp_path / "test" / "runs" / "b.png")
    for name in (".ipynb_checkpoints/a.png", "@eaDir/a.png", "__MACOSX/a.png", "train/@eaDir/good/a.png"):
        put(tmp_path / name)
    put(tmp_path / "train" / "good" / ".ipynb_checkpoints" / "a-checkpoint.png")
    store = Store(tmp_path / "store")
    store.make(Recipe("test", 1, {}), lambda folder: put(folder / "made.png") and None)
    put(tmp_path / "runs" / "folder" / "sheet.png")
    (tmp_path / "runs" / "folder" / "resolved.yaml").touch()
    assert load_dataset("folder", tmp_path)["id"].to_pylist() == ["test/runs/b.png", "train/good/a.png"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["bottle/train/good/a.png", "cable/normal/a.png"], r"its folders \(bottle, cable\) are datasets .*/bottle;"),
        (["bottle/train/good/a.png", "bottle/test/good/b.png"], "the root is that of dataset.name=mvtec_ad"),
    ],
)
def test_layouts_that_are_near_are_named(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        put(tmp_path / name)
    with pytest.raises(DataError, match=message):
        load_dataset("folder", tmp_path)


def test_folder_keeps_masks_of_normal_images_out_of_the_way(tmp_path: Path) -> None:
    put(tmp_path / "train" / "good" / "a.png")
    put(tmp_path / "ground_truth" / "good" / "a.png", 0)
    assert summary(load_dataset("folder", tmp_path)) == {"train/good/a.png": ("train", 0, GOOD, None)}
