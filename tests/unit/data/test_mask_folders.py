"""Masks of several files: a folder for each image, as MVTec LOCO AD and AutoVI have them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.check import check_dataset
from exdd_ray.data.crops import defect_crops
from exdd_ray.data.datasets import load_dataset
from exdd_ray.data.masks import read_mask, read_pair, read_row_levels, read_row_mask
from exdd_ray.data.values import mask_facts
from exdd_ray.errors import ImageError
from exdd_ray.experiment.session import Session
from exdd_ray.store.artifact import Store
from exdd_ray.store.contents import content_digests

SIZE = (40, 60)
ROTATED = 6  # EXIF: the camera was held 90 degrees clockwise


def blob(value: int, rows: slice, columns: slice, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[rows, columns] = value
    return mask


LEFT, RIGHT = blob(255, slice(5, 15), slice(5, 15)), blob(254, slice(20, 30), slice(40, 55))


@pytest.fixture
def row(tmp_path: Path) -> CatalogRow:
    """An image with two defects, each in a mask file of its own, of which only one reaches 255."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)).save(tmp_path / "image.png")
    (tmp_path / "masks").mkdir()
    for name, mask in (("000.png", LEFT), ("001.png", RIGHT)):
        Image.fromarray(mask).save(tmp_path / "masks" / name)
    (tmp_path / "masks" / ".DS_Store").write_bytes(b"x")
    return CatalogRow(
        id="a",
        dataset="d",
        category="c",
        split="test",
        label=1,
        defect="two",
        image=str(tmp_path / "image.png"),
        mask=str(tmp_path / "masks"),
        mask_threshold=0,
    )


UNION = (LEFT > 0) | (RIGHT > 0)


def test_a_folder_is_read_as_the_union_of_its_files(row: CatalogRow) -> None:
    np.testing.assert_array_equal(read_row_mask(row), UNION)
    np.testing.assert_array_equal(read_pair(row)[1], UNION)
    np.testing.assert_array_equal(read_row_mask(replace(row, mask_threshold=None)), UNION)
    half = read_row_mask(row, (20, 30))
    np.testing.assert_array_equal(half, read_mask(f"{row.mask}/000.png", 0, working_size=(20, 30)) | half)
    assert half[10:15, 20:27].all()


def test_a_threshold_is_that_of_each_file(row: CatalogRow) -> None:
    with pytest.raises(ImageError, match=r"001\.png: the mask's largest value is 254, none is above 254"):
        read_row_mask(replace(row, mask_threshold=254))


def test_every_file_is_full_where_it_has_its_largest_value(row: CatalogRow) -> None:
    np.testing.assert_array_equal(read_row_levels(row), UNION * 255)


def test_crops_are_of_every_defect(row: CatalogRow) -> None:
    crops = defect_crops(build_catalog([row]), contours="all", padding=0, min_area=1, working_size=None)
    assert {crop.region for crop in catalog_rows(crops)} == {(5, 5, 15, 15), (40, 20, 55, 30)}


def test_a_mask_that_was_turned_is_read_as_it_stands(row: CatalogRow, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    for folder, name in ((tmp_path, "image.png"), (tmp_path / "masks", "000.png"), (tmp_path / "masks", "001.png")):
        pixels = np.asarray(Image.open(folder / name))
        Image.fromarray(np.rot90(pixels)).save(folder / name, exif=exif)
    np.testing.assert_array_equal(read_row_mask(row), UNION)


def test_facts_are_of_the_worst_file_and_of_the_whole(row: CatalogRow) -> None:
    facts = mask_facts(row)
    assert (facts.levels, facts.grey) == (2, 0)
    assert facts.share == pytest.approx(UNION.mean())
    soft = blob(90, slice(0, 30), slice(0, 30))
    soft[10:12, 10:12] = 255
    Image.fromarray(soft).save(Path(str(row.mask)) / "002.png")
    assert mask_facts(replace(row, mask_threshold=None)).grey == pytest.approx(1 - 4 / 900)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda masks: [file.unlink() for file in masks.glob("*.png")], "no image in this folder of masks"),
        (lambda masks: (masks / "000.png").write_bytes(b""), r"000\.png: the file is empty"),
        (lambda masks: Image.new("L", (9, 9)).save(masks / "001.png"), r"001\.png: the mask is 9 x 9 pixels"),
    ],
)
def test_a_bad_file_in_the_folder_is_named(row: CatalogRow, spoil, message: str) -> None:
    spoil(Path(str(row.mask)))
    for read in (read_row_mask, read_pair, read_row_levels):
        with pytest.raises(ImageError, match=message):
            read(row)
    assert check_dataset(build_catalog([row])).problems == 1


def test_masks_of_several_sizes_are_refused_without_an_image(row: CatalogRow) -> None:
    Image.new("L", (9, 9)).save(Path(str(row.mask)) / "001.png")
    with pytest.raises(ImageError, match=r"several sizes: 60 x 40 .* and 9 x 9"):
        read_mask(str(row.mask), 0)


def test_the_hash_of_a_folder_is_of_what_is_in_its_files(row: CatalogRow) -> None:
    masks = Path(str(row.mask))
    (before,) = content_digests([masks])
    (masks / ".DS_Store").write_bytes(b"y")
    (masks / "001.png").rename(masks / "007.png")
    assert content_digests([masks]) == [before]
    Image.fromarray(np.roll(RIGHT, 1)).save(masks / "007.png")
    (moved,) = content_digests([masks])
    (masks / "007.png").unlink()
    (fewer,) = content_digests([masks])
    shutil.rmtree(masks)
    (none,) = content_digests([masks])
    assert len({before, moved, fewer, none}) == 4
    assert none.startswith("unreadable")


def test_a_changed_file_in_a_folder_changes_what_a_category_is_known_by(row: CatalogRow, tmp_path: Path) -> None:
    catalog, masks = build_catalog([row]), Path(str(row.mask))
    before = Session(Store(tmp_path / "store")).contents(catalog)
    Image.fromarray(np.roll(RIGHT, 1)).save(masks / "001.png")
    assert Session(Store(tmp_path / "store")).contents(catalog) != before


def test_a_folder_of_ones_own_may_have_them(tmp_path: Path) -> None:
    for name in ("train/good/a.png", "validation/good/b.png", "test/dent/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(len(name)).integers(0, 256, SIZE).astype(np.uint8)).save(tmp_path / name)
    for name, mask in (("000.png", LEFT), ("001.png", RIGHT)):
        (tmp_path / "ground_truth" / "dent" / "c").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "ground_truth" / "dent" / "c" / name)
    rows = {row.id: row for row in catalog_rows(load_dataset("folder", tmp_path))}
    assert rows["validation/good/b.png"].split == "validation"
    np.testing.assert_array_equal(read_row_mask(rows["test/dent/c.png"]), UNION)
