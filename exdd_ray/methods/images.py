"""Images as uint8 arrays at the size of a network, and their masks."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.masks import read_pair, read_row_levels
from exdd_ray.errors import ImageError
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.prepare import full_pixels

_READERS = 8


@dataclass(frozen=True)
class Images:
    """Images that could be decoded.

    Attributes:
        rows: n.
        pixels: uint8 [n x h x w x 3].
        unreadable: id -> why an image could not be.
    """

    rows: tuple[CatalogRow, ...]
    pixels: np.ndarray
    unreadable: dict[str, str]


def read_images(rows: Sequence[CatalogRow], geometry: FeaturesConfig) -> Images:
    """The images of catalog rows, by way of the working size where there is one, resized to the network's input."""
    height, width = geometry.input_size
    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(lambda row: _read(row, geometry), rows))
    good = [(row, pixels) for row, pixels in zip(rows, found, strict=True) if isinstance(pixels, np.ndarray)]
    return Images(
        rows=tuple(row for row, _ in good),
        pixels=np.stack([pixels for _, pixels in good]) if good else np.zeros((0, height, width, 3), dtype=np.uint8),
        unreadable={row.id: reason for row, reason in zip(rows, found, strict=True) if isinstance(reason, str)},
    )


def full_mask(row: CatalogRow, geometry: FeaturesConfig) -> np.ndarray:
    """Pixels bool [h x w] of a row's mask that are still full after its resize; none of a row without a mask.

    Raises ImageError for a mask that cannot be read.
    """
    if row.mask is None:
        return np.zeros(geometry.input_size, dtype=bool)
    return full_pixels(read_row_levels(row, geometry.working_size), geometry)


def _read(row: CatalogRow, geometry: FeaturesConfig) -> np.ndarray | str:
    try:
        image = read_pair(replace(row, mask=None), working_size=geometry.working_size)[0]
    except ImageError as error:
        return str(error)
    height, width = geometry.input_size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
