import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from exdd_ray.cli import data as cli
from exdd_ray.data.catalog import with_reading
from exdd_ray.data.check import DataReport, check_dataset
from exdd_ray.data.datasets import load_dataset
from exdd_ray.errors import DataError


def put(path: Path, value: int | None = None, size: tuple[int, int] = (6, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if value is None:
        seed = sum(map(ord, str(path)))
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    else:
        pixels = np.zeros(size, np.uint8)
        pixels[2, 3] = value
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    put(tmp_path / "train" / "good" / "a.png")
    put(tmp_path / "train" / "good" / "b.png", size=(12, 10))
    put(tmp_path / "test" / "good" / "c.png")
    put(tmp_path / "test" / "dent" / "d.png")
    put(tmp_path / "ground_truth" / "dent" / "d.png", 255)
    return tmp_path


def exdd(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_data_parser(parser.add_subparsers())
    args = parser.parse_args(["data", *arguments])
    code: int = args.run(args)
    return code


def test_clean_folder(clean: Path) -> None:
    report = check_dataset(load_dataset("folder", clean))
    assert report.problems == 0
    assert (report.dataset, report.images) == ("folder", 4)
    assert [(c.split, c.label, c.defect, c.images) for c in report.counts] == [
        ("test", 0, "good", 1),
        ("test", 1, "dent", 1),
        ("train", 0, "good", 2),
    ]
    assert (report.smallest, report.largest, report.sizes) == ((6, 8), (12, 10), 2)
    assert report.modes == (("RGB", 4),)
    assert (report.unreadable, report.masks, report.duplicates, report.wrong_counts) == ((), (), (), ())


def test_unreadable_image(clean: Path) -> None:
    path = clean / "train" / "good" / "a.png"
    path.write_bytes(path.read_bytes()[:60])
    report = check_dataset(load_dataset("folder", clean))
    assert [trouble.id for trouble in report.unreadable] == ["train/good/a.png"]
    assert report.unreadable[0].reason
    assert report.problems == 1
    assert report.modes == (("RGB", 3),)


@pytest.mark.parametrize(
    ("value", "size", "reason"),
    [
        (0, (6, 8), "the mask of a defect is empty"),
        (255, (6, 9), "mask of 9 x 6 pixels for an image of 8 x 6"),
    ],
)
def test_bad_masks(clean: Path, value: int, size: tuple[int, int], reason: str) -> None:
    put(clean / "ground_truth" / "dent" / "d.png", value, size)
    report = check_dataset(load_dataset("folder", clean))
    assert [trouble.id for trouble in report.masks] == ["test/dent/d.png"]
    assert reason in report.masks[0].reason
    assert report.problems == 1


def checked(root: Path, mask_threshold: int | None = None, bit_depth: int | None = None) -> DataReport:
    return check_dataset(with_reading(load_dataset("folder", root), mask_threshold, bit_depth))


def test_a_threshold_that_no_value_exceeds_is_a_problem_that_names_its_key(clean: Path) -> None:
    put(clean / "ground_truth" / "dent" / "d.png", 3)
    assert checked(clean).problems == 0
    report = checked(clean, mask_threshold=3)
    assert "none is above 3: lower dataset.mask_threshold" in report.masks[0].reason
    assert report.problems == 1


def test_grey_masks_that_lose_pixels_and_inverted_ones_are_noted(clean: Path) -> None:
    file = clean / "ground_truth" / "dent" / "d.png"
    pixels = np.zeros((6, 8), np.uint8)
    pixels[1:3, 1:7], pixels[4, 1:5], pixels[4, 5:7] = 80, 240, 255
    Image.fromarray(pixels).save(file)
    (note,) = checked(clean).notes
    assert "1 of 1 masks have more than two values" in note
    assert "test/dent/d.png, 67%, with values up to 255 of which those above 127 count" in note
    assert checked(clean, mask_threshold=79).notes == ()
    Image.fromarray(np.where(pixels, 0, 255).astype(np.uint8)).save(file)
    (note,) = checked(clean).notes
    assert "more than half of their image (the first: test/dent/d.png, 62%): are they inverted?" in note


def test_smooth_edges_of_a_mask_are_no_note(clean: Path) -> None:
    file = clean / "ground_truth" / "dent" / "d.png"
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    Image.fromarray(image).save(clean / "test" / "dent" / "d.png")
    mask = Image.new("L", (128, 96))
    mask.paste(255, (30, 30, 90, 70))
    mask.filter(ImageFilter.GaussianBlur(1)).save(file)
    assert checked(clean).notes == ()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_unused_bits_are_noted_until_the_bit_depth_is_given(tmp_path: Path, suffix: str) -> None:
    for seed in range(3):
        values = np.random.default_rng(seed).integers(0, 4000, (16, 16)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / f"{seed}.{suffix}")
    (note,) = checked(tmp_path).notes
    assert note.startswith("3 images have 16 bits, of which values up to 39")
    assert "use 12: read as 16 bits they have 17 levels, and dataset.bit_depth=12 uses all 256" in note
    assert checked(tmp_path, bit_depth=12).notes == ()
    report = checked(tmp_path, bit_depth=10)
    assert "does not fit 10 bits (dataset.bit_depth)" in report.unreadable[0].reason


def test_a_missing_mask_is_a_problem_unless_all_are_missing(clean: Path) -> None:
    put(clean / "test" / "scratch" / "e.png")
    report = check_dataset(load_dataset("folder", clean))
    assert [(trouble.id, trouble.reason) for trouble in report.masks] == [
        ("test/scratch/e.png", "a defect without a mask")
    ]
    shutil.rmtree(clean / "ground_truth")
    report = check_dataset(load_dataset("folder", clean))
    assert report.problems == 0
    assert report.notes == ("none of the 2 defects has a mask: image labels only",)


def test_duplicates(clean: Path) -> None:
    train = clean / "train" / "good"
    shutil.copy(train / "a.png", train / "a2.png")
    report = check_dataset(load_dataset("folder", clean))
    assert [(group.ids, group.harm) for group in report.duplicates] == [(("train/good/a.png", "train/good/a2.png"), "")]
    assert report.problems == 0
    shutil.copy(train / "b.png", clean / "test" / "good" / "b.png")
    shutil.copy(clean / "test" / "dent" / "d.png", clean / "test" / "good" / "d.png")
    report = check_dataset(load_dataset("folder", clean))
    assert {group.harm for group in report.duplicates} == {
        "",
        "the same image is in train and test",
        "the same image is normal and defective",
    }
    assert report.problems == 2


def test_duplicates_of_an_unsplit_dataset(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    report = check_dataset(load_dataset("folder", tmp_path))
    assert [group.harm for group in report.duplicates] == ["the same image may fall into train and test"]


def test_official_counts_of_the_categories_that_are_there(tmp_path: Path) -> None:
    put(tmp_path / "bottle" / "train" / "good" / "0.png")
    put(tmp_path / "bottle" / "test" / "good" / "0.png")
    report = check_dataset(load_dataset("mvtec_ad", tmp_path))
    assert [(w.category, w.split, w.label, w.expected, w.found) for w in report.wrong_counts] == [
        ("bottle", "train", 0, 209, 1),
        ("bottle", "test", 0, 20, 1),
        ("bottle", "test", 1, 63, 0),
    ]
    assert report.notes[0].startswith("not in this catalog: cable, capsule")


def test_command_line(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exdd("check", str(clean)) == 0
    captured = capsys.readouterr()
    assert "no problems found" in captured.out
    assert "dataset 'folder'" in captured.err
    put(clean / "ground_truth" / "dent" / "d.png", 0)
    assert exdd("check", str(clean), "--dataset", "folder", "--json") == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert captured.err == ""
    assert report["problems"] == 1
    assert report["masks"][0]["id"] == "test/dent/d.png"
    assert exdd("check", str(clean), "--dataset", "folder") == 1
    assert "4 images, 1 problems" in capsys.readouterr().out


def test_a_path_that_is_no_folder_is_named_and_no_layout_guessed(
    clean: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        exdd("check", str(clean / "nowhere"))
    table = clean / "labels.csv"
    table.touch()
    with pytest.raises(DataError, match=r"labels\.csv: a file; a dataset's root is the folder"):
        exdd("check", str(table))
    assert capsys.readouterr().err == ""


def test_list_names_every_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    assert exdd("list") == 0
    out = capsys.readouterr().out
    for name in ("ksdd2", "kolektor", "mvtec_ad", "visa", "magnetic_tile", "dagm", "mpdd", "btad", "folder", "dtd"):
        assert f" {name} " in out


@pytest.mark.shared
def test_real_magnetic_tiles(shared_dir: Path) -> None:
    report = check_dataset(load_dataset("magnetic_tile", shared_dir / "data" / "magnetic-tile"))
    assert (report.unreadable, report.duplicates, report.wrong_counts) == ((), (), ())
    # Published as they are: four uneven tiles without a marked pixel.
    assert [trouble.reason for trouble in report.masks] == ["the mask of a defect is empty"] * 4
    assert all(trouble.id.startswith("MT_Uneven/") for trouble in report.masks)
    assert report.problems == 4
    # Tiles were photographed at several exposures.
    assert 0.5 < len(report.twins) / report.images < 0.9
    assert "a random split puts such pairs into train and test" in report.notes[-1]
