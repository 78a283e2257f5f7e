"""Crops of defects: one for each external contour of a mask (ExDD, defect crops for the positive memory bank)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import pyarrow as pa
from scipy import ndimage

from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.masks import read_row_mask
from exdd_ray.errors import DataError

Box = tuple[int, int, int, int]

_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


def defect_crops(
    catalog: pa.Table,
    *,
    contours: Literal["all", "last"],
    padding: int,
    min_area: int,
    working_size: tuple[int, int] | None,
) -> pa.Table:
    """Catalog with a row for each defect region; its id is the image's with `#` and the number of the contour.

    Args:
        catalog: rows of defective images with masks.
        contours: `all` of an image, or only the `last` in the order of OpenCV. The code released with ExDD writes all
            crops of an image to one file name, so that the last survives.
        padding: pixels added on each side of a contour's bounding box, clipped at the image's edge.
        min_area: contours that enclose fewer pixels are passed over.
        working_size: (height, width) to which image and mask are resized first; the regions are in its pixels, so
            read_pair needs the same working size.

    Returns:
        The rows with `region` set. An image whose mask is empty (after the resize) has none.

    Raises:
        DataError: a row without a mask, or one that is a crop already; no contour in any mask.
        ImageError: a mask that is unreadable or of another size than its image.
    """
    crops = [
        crop for row in catalog_rows(catalog) for crop in _crops_of_row(row, contours, padding, min_area, working_size)
    ]
    if not crops:
        raise DataError(f"no contour of {min_area} pixels or more in the masks of {catalog.num_rows} images")
    return build_catalog(crops)


def contour_boxes(mask: np.ndarray, *, padding: int, min_area: int) -> list[tuple[int, Box]]:
    """Number and padded bounding box (x0, y0, x1, y1) of each external contour, in the order of OpenCV.

    An external contour is the outline of an 8-connected component with its holes filled. OpenCV's findContours
    (RETR_EXTERNAL) gives them last found first: the last of its list is the first that a scan by rows meets.

    Args:
        mask: bool [H x W].
        padding: pixels added on each side, clipped at the mask's edge.
        min_area: contours that enclose fewer pixels keep their number, but are not returned.
    """
    height, width = mask.shape
    components, count = ndimage.label(_fill_holes(mask), structure=_EIGHT_CONNECTED)
    areas = np.bincount(components.ravel(), minlength=count + 1)[1:]
    boxes = []
    for number, ((rows, columns), area) in enumerate(
        zip(reversed(ndimage.find_objects(components)), reversed(areas), strict=True)
    ):
        if area >= min_area:
            x0, y0 = max(columns.start - padding, 0), max(rows.start - padding, 0)
            x1, y1 = min(columns.stop + padding, width), min(rows.stop + padding, height)
            boxes.append((number, (x0, y0, x1, y1)))
    return boxes


def _fill_holes(mask: np.ndarray) -> np.ndarray:
    """All pixels but those from which a path of 4-neighbours outside of the mask leads to the edge."""
    background, _ = ndimage.label(~np.pad(mask, 1))
    return np.asarray(background[1:-1, 1:-1] != background[0, 0])


def _crops_of_row(
    row: CatalogRow,
    contours: Literal["all", "last"],
    padding: int,
    min_area: int,
    working_size: tuple[int, int] | None,
) -> Iterator[CatalogRow]:
    if row.mask is None:
        raise DataError(f"image {row.id!r} has no mask to crop its defects by")
    if row.region is not None:
        raise DataError(f"image {row.id!r} is a crop already")
    mask = read_row_mask(row, working_size)
    boxes = contour_boxes(mask, padding=padding, min_area=min_area)
    for number, box in boxes if contours == "all" else boxes[-1:]:
        yield replace(row, id=f"{row.id}#{number}", region=box)
