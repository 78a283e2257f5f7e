"""Blending a piece of one image into another: faded out at its edge, or with its gradients (Perez et al., 2003)."""

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array
from scipy.sparse.linalg import splu

_BESIDE = ((-1, 0), (1, 0), (0, -1), (0, 1))


def feathered(background: np.ndarray, piece: np.ndarray, mask: np.ndarray, feather: float) -> np.ndarray:
    """Image float64 [h x w x C]: the piece inside the mask, fading into the background over `feather` pixels.

    Args:
        background, piece: [h x w x C].
        mask: bool [h x w].
    """
    inside = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    share = np.clip(inside / (feather + 1), 0, 1)[..., None]
    return np.asarray(share * piece + (1 - share) * background)


def poisson(background: np.ndarray, piece: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Image float64 [h x w x C]: the piece inside the mask, plus the harmonic function that meets the background.

    Inside the mask the result has the gradients of the piece, on its border the values of the background (their eq. 3;
    with the piece's own gradients it is Laplace's equation for the difference of result and piece).

    Args:
        background, piece: [h x w x C].
        mask: bool [h x w], not empty, nowhere on the image's border.
    """
    rows, columns = np.nonzero(mask)
    number = np.full(mask.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    gap = background.astype(np.float64) - piece
    known, one, other = np.zeros((len(rows), gap.shape[2])), [], []
    for down, right in _BESIDE:
        beside = number[rows + down, columns + right]
        inner = beside >= 0
        one.append(np.flatnonzero(inner))
        other.append(beside[inner])
        known[~inner] += gap[rows + down, columns + right][~inner]
    result = background.astype(np.float64)
    result[rows, columns] = piece[rows, columns] + _solved(known, np.concatenate(one), np.concatenate(other))
    return result


def _solved(known: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """x [N x C] of 4 x_i - sum of x_j over its neighbours j inside = known_i, the sum of those outside.

    Args:
        one, other: every pair of neighbours inside, either way round.
    """
    at = np.arange(len(known))
    values = np.concatenate([np.full(len(at), 4.0), np.full(len(one), -1.0)])
    matrix = coo_array((values, (np.concatenate([at, one]), np.concatenate([at, other]))))
    return np.asarray(splu(matrix.tocsc()).solve(known))
