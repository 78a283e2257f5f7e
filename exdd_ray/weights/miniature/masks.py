"""Where to inpaint: regions around a defect, as exact or as vague as users draw them."""

import numpy as np
from numpy.typing import NDArray

from exdd_ray.data.masks import grown
from exdd_ray.data.procedural.noise import band_noise
from exdd_ray.data.procedural.shapes import radial_distance

Mask = NDArray[np.bool_]
MAX_GROWTH = 6


def inpainting_mask(defect: Mask, rng: np.random.Generator) -> Mask:
    """A region `[H x W]` that covers the defect: grown by 1 to 6 pixels, its bounding box, or a rounded spot around.

    The vague ones say nothing about the kind of the defect, so that the model must read the prompt.
    """
    choice = rng.uniform()
    if choice < 0.45:
        return grown(defect, int(rng.integers(1, MAX_GROWTH + 1)))
    if choice < 0.65:
        return _bounding_box(defect, rng)
    return spot_around(defect, rng) | defect


def _bounds(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


def _bounding_box(defect: Mask, rng: np.random.Generator) -> Mask:
    top, bottom, left, right = _bounds(defect)
    above, below, before, behind = rng.integers(0, 9, 4)
    box = np.zeros_like(defect)
    box[max(top - above, 0) : bottom + below, max(left - before, 0) : right + behind] = True
    return box


def spot_around(defect: Mask, rng: np.random.Generator) -> Mask:
    """An ellipse about the defect's bounding box, its outline often uneven: `[H x W]`."""
    top, bottom, left, right = _bounds(defect)
    height, width = (max(extent, 8) * rng.uniform(1.0, 1.6) for extent in (bottom - top, right - left))
    centre = (top + bottom) / 2 + rng.normal(0, 1.5), (left + right) / 2 + rng.normal(0, 1.5)
    radius, aspect = 0.5 * float(np.sqrt(height * width)), width / height
    distance = radial_distance(defect.shape, centre, radius=radius, aspect=aspect)
    if rng.uniform() < 0.5:
        distance = distance * (1 + 0.15 * np.clip(band_noise(distance.shape, rng, period=radius + 4), -1.5, 1.5))
    return np.asarray(distance < 1)
