"""Near-duplicates: pictures of one thing that differ in exposure, size or compression, found by a perceptual hash."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from exdd_ray.data.catalog import UNSPLIT, CatalogRow

_SIDE = 32
_SHADING = 3.0  # standard deviation of the Gaussian, in pixels of the thumbnail, that is taken for the lighting
_ALIKE = 0.9
_FLAT = 0.05  # grey levels: an image of less contrast is like no other
_ENOUGH = 20  # images from which on what all have in common is known
_BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Two files that show the same, by the correlation of their fingerprints (1 is equal)."""

    id: str
    like: str
    correlation: float


def fingerprint(pixels: np.ndarray) -> np.ndarray:
    """What an image looks like at a glance, float32 [1024] of length 1 (0 for a flat one); exposure does not count.

    Args:
        pixels: uint8 [H x W x 3].
    """
    grey = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    detail = np.asarray(grey, dtype=np.float64)
    detail = detail - ndimage.gaussian_filter(detail, _SHADING)
    detail -= detail.mean()
    contrast = detail.std()
    return (detail.ravel() / (contrast * _SIDE) if contrast > _FLAT else np.zeros(_SIDE**2)).astype(np.float32)


def find_twins(rows: Sequence[CatalogRow], prints: np.ndarray, contents: Sequence[str]) -> tuple[Twins, ...]:
    """Of every image that a training image of its category resembles, the most alike; without those of equal bytes.

    Of an unsplit dataset any image may fall into training, so that each is compared with all.

    Args:
        rows: N images.
        prints: their fingerprints [N x 1024].
        contents: [N] hashes of their files.
    """
    found: list[Twins] = []
    for category in sorted({row.category for row in rows}):
        members = [i for i, row in enumerate(rows) if row.category == category]
        found += _twins([rows[i] for i in members], _distinct(prints[members]), [contents[i] for i in members])
    return tuple(found)


def _twins(rows: Sequence[CatalogRow], prints: np.ndarray, contents: Sequence[str]) -> Iterator[Twins]:
    tested = [i for i, row in enumerate(rows) if row.split != "train"]
    trained = [i for i, row in enumerate(rows) if row.split in {"train", UNSPLIT}]
    numbers = np.unique(list(contents), return_inverse=True)[1]
    for start in range(0, len(tested) if trained else 0, _BLOCK):
        block = tested[start : start + _BLOCK]
        alike = prints[block] @ prints[trained].T
        alike[numbers[block][:, None] == numbers[trained]] = 0
        nearest = alike.argmax(axis=1)
        for i in np.flatnonzero(alike.max(axis=1) > _ALIKE):
            other, correlation = rows[trained[nearest[i]]], float(alike[i, nearest[i]])
            yield Twins(id=rows[block[i]].id, like=other.id, correlation=round(correlation, 3))


def _distinct(prints: np.ndarray) -> np.ndarray:
    """Fingerprints [N x 1024] without what all have in common, as the outline of a part that lies always alike."""
    if len(prints) < _ENOUGH:
        return prints
    own = prints - prints.mean(axis=0)
    return np.asarray(own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), _FLAT))
