"""Masks of defects, and images with them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.files import list_images
from exdd_ray.data.images import brightness, decode, image_size, read_image, resize_bilinear, sixteen_bit
from exdd_ray.errors import ImageError

_FULL = 255
_SIXTEEN_BIT = 65535


def read_mask(path: str, threshold: int | None, *, working_size: tuple[int, int] | None = None) -> np.ndarray:
    """Defect pixels of a mask file: those whose value is above the threshold, in the file's own range.

    The value is the grey level (0-65535 for a 16-bit file, 0 or 255 for a one-bit file), the index of a palette file,
    the largest channel of a colour file; and alpha, where colour is the same everywhere and alpha is not.

    Args:
        path: of the mask file, or of a folder with several: a pixel is defective where it is in any of them.
        threshold: highest value that is not a defect; None is that of `mask_threshold`, and reads a palette file by its
            colours.
        working_size: (height, width); the values are resized to it (see resize_bilinear) before the comparison.

    Returns:
        bool [H x W]; all False for a mask without a non-zero value.

    Raises:
        ImageError: unreadable file; a folder without an image, or with images of several sizes; or the mask has
            non-zero values, but none above the threshold.
    """
    return unite_masks(path, [_read_mask_file(file, threshold, working_size) for file in mask_files(path)])


def mask_files(path: str) -> list[str]:
    """The files of a mask: itself, or the images in it where it is a folder. Raises ImageError where that has none."""
    folder = Path(path)
    if not folder.is_dir():
        return [path]
    files = [str(file) for file in list_images(folder)]
    if not files:
        raise ImageError(path, "no image in this folder of masks")
    return files


def unite_masks(path: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    """The largest value at each pixel [H x W] of the masks in a folder. Raises ImageError where their sizes differ."""
    if sizes := {part.shape for part in parts if part.shape != parts[0].shape}:
        found = _size_text(parts[0].shape), _size_text(sizes.pop())
        raise ImageError(path, f"masks of one image have several sizes: {' and '.join(found)}")
    return np.asarray(np.maximum.reduce(parts))


def _read_mask_file(path: str, threshold: int | None, working_size: tuple[int, int] | None = None) -> np.ndarray:
    values = mask_values(path, by_index=threshold is not None)
    threshold = mask_threshold(values) if threshold is None else threshold
    highest = int(values.max())
    if 0 < highest <= threshold:
        raise ImageError(
            path,
            f"the mask's largest value is {highest}, none is above {threshold}: lower dataset.mask_threshold",
        )
    if working_size is not None:
        values = resize_bilinear(values, working_size)
    return np.asarray(values > threshold)


def mask_threshold(values: np.ndarray) -> int:
    """The highest value that is not a defect: between the two of a mask that has two, else half of the file's range."""
    levels = np.unique(values)
    if len(levels) == 2:
        return int(levels.sum(dtype=np.int64)) // 2
    return (255 if values.dtype == np.uint8 else _SIXTEEN_BIT) // 2


def mask_values(path: str, *, by_index: bool) -> np.ndarray:
    """Values [H x W] of one mask file as read_mask compares them: uint8, or int32 for a 16-bit file.

    Args:
        path: of the mask file.
        by_index: reads a palette file by its indices, not by the colours that they stand for.

    Raises:
        ImageError: unreadable file, or float values.
    """
    image = decode(path)
    if image.mode == "F":
        raise ImageError(path, "float pixels have no known range: convert the mask to 8 or 16 bits")
    if image.mode.startswith("I"):
        return sixteen_bit(path, image)
    values = np.asarray(image) if image.mode == "P" and by_index else brightness(image)
    if _constant(values) and image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA"))[:, :, 3]
        return values if _constant(alpha) else alpha
    # a palette may give all of its entries one colour
    return np.asarray(image) if image.mode == "P" and _constant(values) else values


def read_row_levels(row: CatalogRow, working_size: tuple[int, int] | None = None) -> np.ndarray:
    """Grey levels of a catalog row's mask, of which 255 alone is full, resized to a working size (height, width).

    An eight-bit file that reaches 255 is taken as it is; of another one the defect pixels are full, the others empty.

    Returns:
        uint8 [H x W].

    Raises:
        ImageError: as read_row_mask.
    """
    path = _row_mask_path(row)
    levels = unite_masks(path, [_read_levels(file, row.mask_threshold) for file in mask_files(path)])
    return levels if working_size is None else resize_bilinear(levels, working_size)


def _read_levels(path: str, threshold: int | None) -> np.ndarray:
    mask = _read_mask_file(path, threshold)
    values = mask_values(path, by_index=threshold is not None)
    return values if values.dtype == np.uint8 and values.max() == _FULL else mask.astype(np.uint8) * _FULL


def read_row_mask(row: CatalogRow, working_size: tuple[int, int] | None = None) -> np.ndarray:
    """Mask bool [H x W] of a catalog row, whole; resized to a working size (height, width) where one is given.

    Raises:
        ImageError: the row has no mask, it is unreadable, or of another size than the image.
    """
    return read_mask(_row_mask_path(row), row.mask_threshold, working_size=working_size)


def _row_mask_path(row: CatalogRow) -> str:
    """Where a row's mask is. Raises ImageError where there is none, or one of another size than the image."""
    if row.mask is None:
        raise ImageError(row.image, "has no mask")
    _check_mask_size(row.mask, row.image, image_size(row.image))
    return row.mask


def read_pair(row: CatalogRow, *, working_size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Image and mask of a catalog row, cropped to its region.

    Args:
        row: its region is in pixels of the resized image where a working size is given.
        working_size: (height, width) to which both are resized before the crop; None keeps their size.

    Returns:
        image uint8 [H x W x 3] and mask bool [H x W], None for a row without a mask file.

    Raises:
        ImageError: an unreadable file, a mask of another size than its image, a region outside of the image.
    """
    image = read_image(row.image, row.bit_depth)
    mask = None
    if row.mask is not None:
        _check_mask_size(row.mask, row.image, image.shape[:2])
        mask = read_mask(row.mask, row.mask_threshold, working_size=working_size)
    if working_size is not None:
        image = resize_bilinear(image, working_size)
    if row.region is None:
        return image, mask
    x0, y0, x1, y1 = row.region
    height, width = image.shape[:2]
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ImageError(row.image, f"region {row.region} is not inside of the {_size_text((height, width))} image")
    return image[y0:y1, x0:x1], None if mask is None else mask[y0:y1, x0:x1]


def _constant(values: np.ndarray) -> bool:
    return bool(values.min() == values.max())


def _check_mask_size(mask_path: str, image_path: str, size: tuple[int, ...]) -> None:
    for file in mask_files(mask_path):
        found = image_size(file)
        if found != size:
            raise ImageError(file, f"the mask is {_size_text(found)}, its image {image_path} is {_size_text(size)}")


def _size_text(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]} pixels (width x height)"


def grown(mask: np.ndarray, radius: int) -> np.ndarray:
    """The mask bool [H x W] dilated by a disc of this radius in pixels."""
    from scipy.ndimage import binary_dilation

    rows, columns = np.indices((2 * radius + 1,) * 2) - radius
    return np.asarray(binary_dilation(mask, rows**2 + columns**2 <= radius**2 + 1))
