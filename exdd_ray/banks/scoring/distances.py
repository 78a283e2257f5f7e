"""What scoring starts from: distances of test patches to the banks."""

from dataclasses import dataclass

import numpy as np

from exdd_ray.config.base import Size


@dataclass(frozen=True)
class BankDistances:
    """Distances of the patches of n images to one bank.

    Attributes:
        nearest: [n x P] distance (not squared) of each patch to its nearest bank vector.
        indices: [n x P] that vector's position in the bank.
    """

    nearest: np.ndarray
    indices: np.ndarray


def smooth(values: np.ndarray, grid: Size, side: int) -> np.ndarray:
    """Mean over side x side neighbouring patches, edges repeated: [n x P] -> [n x P]."""
    if side == 1:
        return values
    from scipy.ndimage import uniform_filter

    maps = values.reshape(-1, *grid).astype(np.float64)
    return uniform_filter(maps, size=(1, side, side), mode="nearest").reshape(values.shape)
