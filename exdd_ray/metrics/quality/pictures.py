"""The images that are compared: arrays, files or catalog rows, whole or cropped around their defects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.images import read_image
from exdd_ray.data.masks import read_pair
from exdd_ray.errors import DataError

Picture = np.ndarray | str | Path | CatalogRow

_LEAST_SIDE = 32  # pixels; a smaller square, enlarged to the network's input, is blur


@dataclass(frozen=True)
class PictureSet:
    """Images that are decoded when asked for; `pixels(i)` gives one.

    Attributes:
        name: of the set, for messages.
        pictures: uint8 arrays [H x W x 3], image files, or catalog rows (a region is in pixels of the file).
        masks: bool [H x W] of each picture; None takes those of the catalog rows.
        context: margin of the square around the defect (see defect_square); None takes the whole image.
    """

    name: str
    pictures: Sequence[Picture]
    masks: Sequence[np.ndarray] | None = None
    context: float | None = None

    def __post_init__(self) -> None:
        if len(self.pictures) < 2:
            raise DataError(f"{self.name}: {len(self.pictures)} images, at least 2 are needed to compare sets")
        if self.masks is not None and len(self.masks) != len(self.pictures):
            raise DataError(f"{self.name}: {len(self.masks)} masks for {len(self.pictures)} images")

    def __len__(self) -> int:
        return len(self.pictures)

    def subset(self, members: Sequence[int]) -> "PictureSet":
        """The pictures at some positions."""
        masks = None if self.masks is None else [self.masks[i] for i in members]
        return PictureSet(self.name, [self.pictures[i] for i in members], masks, self.context)

    def pixels(self, position: int) -> np.ndarray:
        """uint8 [H x W x 3]. Raises ImageError or DataError naming what cannot be used."""
        image, mask = self._decoded(position)
        if self.context is None:
            return image
        label = self._label(position)
        if mask is None:
            raise DataError(f"{label}: no mask to crop the defect by")
        if mask.shape != image.shape[:2]:
            raise DataError(f"{label}: mask {mask.shape} and image {image.shape[:2]} differ in (height, width)")
        if not mask.any():
            raise DataError(f"{label}: the mask is empty, there is no defect to crop")
        x0, y0, x1, y1 = defect_square(mask, self.context)
        return image[y0:y1, x0:x1]

    def blocks(self, length: int) -> Iterator[list[np.ndarray]]:
        """The pixels of consecutive pictures, `length` of them at a time."""
        for start in range(0, len(self), length):
            yield [self.pixels(i) for i in range(start, min(start + length, len(self)))]

    def _decoded(self, position: int) -> tuple[np.ndarray, np.ndarray | None]:
        picture = self.pictures[position]
        given = None if self.masks is None else np.asarray(self.masks[position], dtype=bool)
        if isinstance(picture, CatalogRow):
            if self.context is None:
                return read_pair(picture)[0], None
            image, mask = read_pair(picture)
            return image, mask if given is None else given
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise DataError(f"{self._label(position)}: {picture.dtype} {picture.shape}, expected uint8 [H x W x 3]")
            return picture, given
        return read_image(str(picture)), given

    def _label(self, position: int) -> str:
        picture = self.pictures[position]
        if isinstance(picture, CatalogRow):
            return f"{self.name} {picture.id!r}"
        return f"{self.name} {position}" if isinstance(picture, np.ndarray) else str(picture)


def defect_square(mask: np.ndarray, context: float) -> tuple[int, int, int, int]:
    """A square (x0, y0, x1, y1) around all of a mask's pixels, so that the resize to the network's input keeps shapes.

    Its side is the bounding box's longer one plus the margins, at least 32 pixels, at most the image's shorter side. At
    an edge of the image it is shifted inwards. Only a defect longer than the image's shorter side makes it no square.

    Args:
        mask: bool [H x W], not empty.
        context: margin on each side as a share of the longer side.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    longest = int(max(rows[-1] - rows[0], columns[-1] - columns[0])) + 1
    wanted = max(_LEAST_SIDE, round(longest * (1 + 2 * context)))
    side = max(longest, min(wanted, *mask.shape))
    y0, y1 = _window(rows, side, mask.shape[0])
    x0, x1 = _window(columns, side, mask.shape[1])
    return x0, y0, x1, y1


def _window(occupied: np.ndarray, side: int, limit: int) -> tuple[int, int]:
    side = min(side, limit)
    start = round(float(occupied[0] + occupied[-1] + 1 - side) / 2)
    start = min(max(start, 0), limit - side)
    return start, start + side
