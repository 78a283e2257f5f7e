"""The mask of a pair: where its part differs from the backdrop; and what is wrong with it, if anything."""

import numpy as np
from scipy.ndimage import binary_closing, binary_fill_holes, binary_opening, gaussian_filter

from exdd_ray.synthesizers.dualanodiff.config import Colour, PairMaskConfig

EMPTY = "the mask is empty: no anomalous part was painted"
FULL = "the mask covers all of the image"
ELSEWHERE = "the mask does not cover what changed"
_BLUR = 1.0  # standard deviation in pixels of what is compared


def part_mask(part: np.ndarray, backdrop: Colour, config: PairMaskConfig) -> np.ndarray:
    """The mask bool [H x W] of an anomalous part uint8 [H x W x 3] on a backdrop (of -1..1).

    It is where any channel differs from the backdrop by more than the level, opened, closed, and with holes filled.
    """
    levels = (np.array(backdrop) + 1) * 127.5
    mask = np.abs(part.astype(np.float64) - levels).max(axis=2) > config.level
    if config.opening:
        mask = binary_opening(mask, iterations=config.opening)
    if config.closing:
        around = np.pad(mask, config.closing, "edge")  # the border closes nothing
        inner = (slice(config.closing, -config.closing),) * 2
        mask = binary_closing(around, iterations=config.closing)[inner]
    return np.asarray(binary_fill_holes(mask))


def changed_region(background: np.ndarray, image: np.ndarray, config: PairMaskConfig) -> np.ndarray:
    """Where an image differs from its background, both uint8 [H x W x 3]: bool [H x W].

    Their difference, blurred, its size averaged over channels, is above the level.
    """
    apart = gaussian_filter(image.astype(np.float64) - background, (_BLUR, _BLUR, 0))
    return np.asarray(np.abs(apart).mean(axis=2) > config.changed_level)


def fault_of(mask: np.ndarray, changed: np.ndarray | None, config: PairMaskConfig) -> str:
    """Why a pair is of no use, by its mask and what changed where that is known, bool [H x W]; empty for a good one."""
    if not mask.any():
        return EMPTY
    if mask.all():
        return FULL
    if changed is not None and (mask & changed).sum() < config.covers * changed.sum():
        return ELSEWHERE
    return ""
