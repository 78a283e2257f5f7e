"""The mask of a pair: where its part differs from the backdrop, or a model finds it; and what is wrong with it."""

import numpy as np
from scipy.ndimage import binary_closing, binary_fill_holes, binary_opening, gaussian_filter

from exdd_ray.synthesizers.dualanodiff.config import Colour, PairMaskConfig
from exdd_ray.synthesizers.segmentation import segment

EMPTY = "the mask is empty: no anomalous part was painted"
FULL = "the mask covers all of the image"
ELSEWHERE = "the mask does not cover what changed"


def part_mask(part: np.ndarray, backdrop: Colour, config: PairMaskConfig) -> np.ndarray:
    """The mask bool [H x W] of an anomalous part uint8 [H x W x 3] on a backdrop (of -1..1).

    It is where a model finds the part, or where the channel that differs most from the backdrop does so clearly;
    opened, closed, and with holes filled. Raises UserError as exdd_ray.synthesizers.segmentation.segment.
    """
    if config.model is not None:
        mask = segment(part, config.model)
    else:
        levels = (np.array(backdrop) + 1) * 127.5
        mask = _clear(_apart(part, levels, config).max(axis=2), config.level, config)
    if config.opening:
        mask = binary_opening(mask, iterations=config.opening)
    if config.closing:
        around = np.pad(mask, config.closing, "edge")  # the border closes nothing
        inner = (slice(config.closing, -config.closing),) * 2
        mask = binary_closing(around, iterations=config.closing)[inner]
    return np.asarray(binary_fill_holes(mask))


def changed_region(background: np.ndarray, image: np.ndarray, config: PairMaskConfig) -> np.ndarray:
    """Where an image differs clearly from its background, both uint8 [H x W x 3]: bool [H x W].

    The size of their difference is averaged over channels.
    """
    return _clear(_apart(image, background, config).mean(axis=2), config.changed_level, config)


def _apart(image: np.ndarray, other: np.ndarray, config: PairMaskConfig) -> np.ndarray:
    """The size of the blurred difference of images [H x W x 3]."""
    return np.abs(gaussian_filter(image.astype(np.float64) - other, (config.blur, config.blur, 0)))


def _clear(apart: np.ndarray, level: float, config: PairMaskConfig) -> np.ndarray:
    """Where a difference [H x W] is above a share of its largest, and above the level."""
    return np.asarray(apart > max(config.share * float(apart.max()), level))


def fault_of(mask: np.ndarray, changed: np.ndarray | None, config: PairMaskConfig) -> str:
    """Why a pair is of no use, by its mask and what changed where that is known, bool [H x W]; empty for a good one."""
    if not mask.any():
        return EMPTY
    if mask.all():
        return FULL
    if changed is not None and (mask & changed).sum() < config.covers * changed.sum():
        return ELSEWHERE
    return ""
