from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.crops import contour_boxes, defect_crops
from exdd_ray.data.masks import read_pair
from exdd_ray.errors import DataError

DRAWING = [
    "#...........",
    "......##....",
    "..#...##..#.",
    "...#.......#",
    "............",
    ".#####......",
    ".#...#...##.",
    ".#.#.#...##.",
    ".#...#......",
    ".#####.....#",
]
DRAWN = np.array([[mark == "#" for mark in line] for line in DRAWING])
# Bounding boxes of cv2.findContours(mask, RETR_EXTERNAL, CHAIN_APPROX_SIMPLE) in its order, recorded with
# OpenCV 4.6, 4.10 and 5.0 (which agree).
OPENCV_DRAWN = [(11, 9, 12, 10), (9, 6, 11, 8), (1, 5, 6, 10), (10, 2, 12, 4), (2, 2, 4, 4), (6, 1, 8, 3), (0, 0, 1, 1)]
OPENCV_NOISE = [
    *[(9, 11, 10, 12), (5, 11, 7, 12), (13, 9, 15, 12), (8, 9, 9, 10), (6, 9, 7, 10), (2, 9, 3, 10), (7, 7, 8, 8)],
    *[(15, 6, 16, 10), (5, 6, 6, 8), (0, 6, 2, 9), (12, 5, 14, 8), (8, 5, 9, 6), (10, 3, 12, 4), (7, 3, 8, 4)],
    *[(5, 3, 6, 5), (2, 3, 4, 5), (13, 2, 15, 4), (0, 2, 1, 4), (15, 0, 16, 1), (13, 0, 14, 1), (11, 0, 12, 1)],
    (2, 0, 6, 2),
]


def boxes(mask: np.ndarray, padding: int = 0, min_area: int = 1) -> list[tuple[int, int, int, int]]:
    return [box for _, box in contour_boxes(mask, padding=padding, min_area=min_area)]


def catalog(folder: Path, mask: np.ndarray | None, **fields: object) -> pa.Table:
    shape = (10, 12) if mask is None else mask.shape
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)).save(folder / "a.png")
    if mask is not None:
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "m.png")
    values = {"id": "test/a.png", "dataset": "d", "category": "c", "split": "train", "label": 1, "defect": "dent"}
    path = None if mask is None else str(folder / "m.png")
    return build_catalog([CatalogRow(**{**values, "image": str(folder / "a.png"), "mask": path, **fields})])


def test_order_and_boxes_are_those_of_opencv() -> None:
    assert boxes(DRAWN) == OPENCV_DRAWN
    assert boxes(np.random.default_rng(0).random((12, 16)) < 0.25) == OPENCV_NOISE


def test_padding_is_clipped_at_the_edge() -> None:
    mask = np.zeros((5, 6), bool)
    mask[0, 5] = True
    assert boxes(mask, padding=2) == [(3, 0, 6, 3)]


def test_small_contours_are_passed_over_and_the_others_keep_their_number() -> None:
    kept = contour_boxes(DRAWN, padding=0, min_area=4)
    assert kept == [(1, (9, 6, 11, 8)), (2, (1, 5, 6, 10)), (5, (6, 1, 8, 3))]


def test_every_contour_becomes_a_row(tmp_path: Path) -> None:
    crops = catalog_rows(
        defect_crops(catalog(tmp_path, DRAWN), contours="all", padding=1, min_area=4, working_size=None)
    )
    assert {row.id: row.region for row in crops} == {
        "test/a.png#1": (8, 5, 12, 9),
        "test/a.png#2": (0, 4, 7, 10),
        "test/a.png#5": (5, 0, 9, 4),
    }
    for row in crops:
        image, mask = read_pair(row)
        x0, y0, x1, y1 = row.region or (0, 0, 0, 0)
        assert image.shape == (y1 - y0, x1 - x0, 3)
        assert mask is not None
        assert np.array_equal(mask, DRAWN[y0:y1, x0:x1])


def test_released_code_keeps_the_last_contour_that_is_large_enough(tmp_path: Path) -> None:
    crops = defect_crops(catalog(tmp_path, DRAWN), contours="last", padding=0, min_area=4, working_size=None)
    assert [(row.id, row.region) for row in catalog_rows(crops)] == [("test/a.png#5", (6, 1, 8, 3))]


def test_regions_are_in_pixels_of_the_working_size(tmp_path: Path) -> None:
    mask = np.zeros((315, 115), bool)
    mask[10:14, 20:23] = mask[200:202, 50:90] = True
    table = catalog(tmp_path, mask, mask_threshold=0)
    crops = catalog_rows(defect_crops(table, contours="all", padding=0, min_area=1, working_size=(632, 224)))
    # Recorded with OpenCV: resize (bilinear) to 224 x 632, contours of what is above 0.
    assert [row.region for row in crops] == [(96, 400, 176, 406), (38, 19, 46, 29)]
    image, defect = read_pair(crops[0], working_size=(632, 224))
    assert image.shape == (6, 80, 3)
    assert defect is not None
    assert defect.all()


def test_rows_that_cannot_give_crops(tmp_path: Path) -> None:
    settings = {"contours": "all", "padding": 1, "min_area": 1, "working_size": None}
    with pytest.raises(DataError, match=r"image 'test/a\.png' has no mask"):
        defect_crops(catalog(tmp_path, None), **settings)
    with pytest.raises(DataError, match="a crop already"):
        defect_crops(catalog(tmp_path, DRAWN, region=(0, 0, 2, 2)), **settings)
    with pytest.raises(DataError, match="no contour of 1 pixels or more in the masks of 1 images"):
        defect_crops(catalog(tmp_path, np.zeros((4, 4), bool)), **settings)
