"""What scoring starts from: distances of test patches to the banks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exdd_ray.config.base import Size


@dataclass(frozen=True)
class BankDistances:
    """Distances of the patches of n images to one bank.

    Attributes:
        nearest: [n x P] distance (not squared) of each patch to its nearest bank vector.
        indices: [n x P] that vector's position in the bank; [n x P x L] of a mean over L banks.
    """

    nearest: np.ndarray
    indices: np.ndarray


def mean_distances(found: Sequence[BankDistances]) -> BankDistances:
    """The mean over several banks, one a layer, of the distances to each; of one bank what was found.

    Source: SuperADD's code, which divides each layer's distances by the length of its vectors first: of one transformer
    all are as long.
    """
    if len(found) == 1:
        return found[0]
    nearest = np.mean([one.nearest for one in found], axis=0)
    return BankDistances(nearest, np.stack([one.indices for one in found], axis=-1))


def smooth(values: np.ndarray, grid: Size, side: int) -> np.ndarray:
    """Mean over side x side neighbouring patches, edges repeated: [n x P] -> [n x P]."""
    if side == 1:
        return values
    from scipy.ndimage import uniform_filter

    maps = values.reshape(-1, *grid).astype(np.float64)
    return uniform_filter(maps, size=(1, side, side), mode="nearest").reshape(values.shape)
