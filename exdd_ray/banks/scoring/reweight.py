"""PatchCore's Eq. 7: how much a patch's distance counts, from the neighbours of its nearest bank vector."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from exdd_ray.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

Values = TypeVar("Values", np.ndarray, "Tensor")


def neighbourhood_share(distance: np.ndarray, neighbours: np.ndarray, scale: float) -> np.ndarray:
    """exp(s / c) / sum over b of exp(|m_test - m_b| / c), the fraction in Eq. 7 of PatchCore (c = 1): [n].

    Args:
        distance: [n] s, distance of the test patch to its nearest bank vector m*.
        neighbours: [n x b] distances of the test patch to the b bank vectors around m*.
        scale: c; ExDD takes the square root of a vector's length.

    Raises DataError where there is nobody to compare with.
    """
    if neighbours.shape[1] == 0:
        raise DataError("Eq. 7 needs a memory bank of at least two vectors")
    exponents = (neighbours.astype(np.float64) - distance[:, None].astype(np.float64)) / scale
    share: np.ndarray = 1.0 / np.exp(exponents).sum(axis=1)
    return share


def used_neighbours(neighbours: Values, count: int, own_term: bool) -> Values:
    """Of the neighbours [n x b], m* itself first, those that the denominator sums over: none if m* is alone.

    Args:
        count: b; counts m* itself, which is then dropped where own_term is False (as released with ExDD).
    """
    if neighbours.shape[1] == 1:
        return neighbours[:, :0]
    return neighbours[:, 0 if own_term else 1 : count]
