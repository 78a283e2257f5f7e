"""Which synthetic samples are dropped: those without a defect, those changed elsewhere, and near-duplicates."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from exdd_ray.errors import DataError
from exdd_ray.synthesizers.config import FilterConfig

THUMBNAIL = 16
UNCHANGED = "unchanged inside the mask"
CHANGED = "changed outside the mask"


class Change(NamedTuple):
    """Mean absolute difference of 0..255, over pixels and channels, inside and outside a mask."""

    inside: float
    outside: float


def measure_change(background: np.ndarray, result: np.ndarray, mask: np.ndarray) -> Change:
    """How far a painted sample differs from what it was painted on.

    Args:
        background: uint8 [H x W x 3] before the painting.
        result: uint8 [H x W x 3].
        mask: bool [H x W], where it was painted.

    Raises:
        DataError: an empty mask, or arrays of different sizes.
    """
    if background.shape != result.shape or mask.shape != result.shape[:2]:
        raise DataError(f"background {background.shape}, result {result.shape} and mask {mask.shape} differ in size")
    if not mask.any():
        raise DataError("an empty mask: nothing was painted")
    change = np.abs(result.astype(np.int16) - background)
    return Change(float(change[mask].mean()), 0.0 if mask.all() else float(change[~mask].mean()))


def judge(change: Change, config: FilterConfig) -> str:
    """Why a sample is to be dropped, the same words for all that are dropped for it; empty for a good one."""
    if change.inside < config.min_inside:
        return UNCHANGED
    return CHANGED if change.outside > config.max_outside else ""


def fingerprint(result: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Grey thumbnail uint8 [16 x 16] of the mask's box in an image uint8 [H x W x 3], wherever that box lies.

    Raises DataError for an empty mask.
    """
    if not mask.any():
        raise DataError("an empty mask: nothing was painted")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    crop = result[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    grey = Image.fromarray(np.ascontiguousarray(crop)).convert("L")
    return np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def duplicates(fingerprints: np.ndarray, level: float) -> np.ndarray:
    """Which samples [N] differ from an earlier kept one by less than `level` (mean absolute difference of 0..255).

    The verdict on a sample depends on those before it only, so that fewer samples are a prefix of more.

    Args:
        fingerprints: uint8 [N x 16 x 16], in the samples' order.
    """
    prints = fingerprints.reshape(-1, THUMBNAIL**2).astype(np.int16)
    dropped = np.zeros(len(prints), dtype=bool)
    for i in range(1, len(prints)):
        earlier = prints[:i][~dropped[:i]]
        dropped[i] = np.abs(earlier - prints[i]).mean(axis=1).min() < level
    return dropped
