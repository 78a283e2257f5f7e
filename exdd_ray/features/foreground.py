"""Which patches are of the object, by the first principal component of an image's tokens (AnomalyDINO)."""

import numpy as np

from exdd_ray.config.base import Size

_THRESHOLD = 10.0  # of the first component, in the units of DINOv2's tokens after the final norm
_BORDER = 0.2  # cut on each side; what is left is the centre
_LEAST = 0.35  # of the centre that an object fills: where no more is chosen, the other sign is the object


def foreground(tokens: np.ndarray, grid: Size) -> np.ndarray:
    """Bool [P] of one image's patch vectors [P x D], row by row on a grid, before they are scaled to length 1.

    The patches whose first principal component is large, dilated and closed by 3x3 patches; the component's sign is
    the one by which more than a third of the centre is chosen, so that an object that fills less of it is taken for
    the background. Of an image where nothing is chosen no patch is passed over. Source: AnomalyDINO (WACV 2025) and its
    code, in which all patches of such an image score 0.
    """
    from scipy.ndimage import binary_dilation, binary_erosion

    component = _first_component(tokens).reshape(grid)
    chosen = component > _THRESHOLD
    top, left = (int(side * _BORDER) for side in grid)
    if chosen[top : grid[0] - top, left : grid[1] - left].mean() <= _LEAST:
        chosen = -component > _THRESHOLD
    if not chosen.any():
        return np.ones(chosen.size, dtype=bool)
    around = np.ones((3, 3), dtype=bool)
    dilated = binary_dilation(binary_dilation(chosen, around), around)  # the second is the first half of the closing
    closed: np.ndarray = binary_erosion(dilated, around, border_value=1).reshape(-1)
    return closed


def _first_component(tokens: np.ndarray) -> np.ndarray:
    """Of each token [P]; the sign is such that the largest loading is positive."""
    centred = tokens.astype(np.float64) - tokens.mean(axis=0, dtype=np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    loading = vectors[:, -1]
    found: np.ndarray = centred @ loading * np.sign(loading[np.abs(loading).argmax()])
    return found
