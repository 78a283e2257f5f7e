"""Boxes in which an inpainting base paints: drawn around the defects that it learns, and later as they were learnt.

A model knows how to fill its boxes alone: small ones where defects are small, at the border where they reach it.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from exdd_ray.config.base import Size

Box = tuple[float, float, float, float]  # top, bottom, left and right, as shares of the sides


def box_around(mask: np.ndarray, shares: tuple[float, float] | None, rng: np.random.Generator) -> np.ndarray:
    """A random box bool [H x W] around all of a mask bool [H x W], wherever it is where the mask is empty.

    Args:
        shares: least and largest side, of the mask's size; None is all of it.
    """
    box = np.ones_like(mask)
    if shares is None:
        return box
    for axis in (0, 1):
        length, at = mask.shape[axis], np.flatnonzero(mask.any(axis=1 - axis))
        low, high = (int(at.min()), int(at.max())) if len(at) else (length, -1)
        side = max(round(length * rng.uniform(*shares)), high - low + 1)
        line = np.zeros(length, dtype=bool)
        line[placed(low, high, length, side, rng)] = True
        box &= line[:, None] if axis == 0 else line
    return box


def placed(low: int, high: int, length: int, side: int, rng: np.random.Generator) -> slice:
    """So many pixels of a line, those from low to high among them."""
    side = min(side, length)
    first = int(rng.integers(max(high - side + 1, 0), min(low, length - side) + 1))
    return slice(first, first + side)


def learnt_boxes(surroundings: Sequence[Tensor | None]) -> list[Box]:
    """The boxes of pairs by what an inpainting base saw of each [b x 1+C x h x w]; of another base there are none."""
    found = []
    for where in (one[0, 0].numpy() > 0 for one in surroundings if one is not None):
        rows, columns = (np.flatnonzero(where.any(axis=axis)) for axis in (1, 0))
        height, width = where.shape
        top, left = float(rows[0] / height), float(columns[0] / width)
        found.append((top, float((rows[-1] + 1) / height), left, float((columns[-1] + 1) / width)))
    return found


def drawn_box(boxes: Sequence[Box], size: Size, rng: np.random.Generator) -> np.ndarray:
    """One of the boxes, bool [height x width]; all of it where there are none."""
    inside = np.zeros(size, dtype=bool)
    top, bottom, left, right = boxes[int(rng.integers(len(boxes)))] if boxes else (0.0, 1.0, 0.0, 1.0)
    height, width = size
    inside[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = True
    return inside
