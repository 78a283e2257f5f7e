"""PatchCore's Eq. 7: how much a patch's distance counts, from the neighbours of its nearest bank vector."""

import numpy as np


def neighbourhood_share(distance: np.ndarray, neighbours: np.ndarray, dim: int) -> np.ndarray:
    """exp(s / sqrt D) / sum over b of exp(|m_test - m_b| / sqrt D), the fraction in Eq. 7 of PatchCore: [n].

    Args:
        distance: [n] s, distance of the test patch to its nearest bank vector m*.
        neighbours: [n x b] distances of the test patch to the b bank vectors around m*.
        dim: D, length of a vector.
    """
    scale = np.sqrt(dim)
    exponents = (neighbours.astype(np.float64) - distance[:, None].astype(np.float64)) / scale
    share: np.ndarray = 1.0 / np.exp(exponents).sum(axis=1)
    return share


def used_neighbours(neighbours: np.ndarray, count: int, own_term: bool) -> np.ndarray:
    """Of the neighbours [n x b], m* itself first, those that the denominator sums over.

    Args:
        count: b; counts m* itself, which is then dropped where own_term is False (as released with ExDD).
    """
    return neighbours[:, 0 if own_term else 1 : count]
