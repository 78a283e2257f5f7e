"""A Gaussian of the vectors at every patch position, and the Mahalanobis distance to it (Defard et al., Eq. 1, 2)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from exdd_ray.errors import DataError

_POSITIONS = 256  # whose covariances are factored at a time


@dataclass(frozen=True)
class Gaussians:
    """Gaussians of P positions.

    Attributes:
        means: float32 [P x D].
        whitening: float32 [P x D x D], lower triangular W with W^T W the inverse of the covariance: the Mahalanobis
            distance of x is the length of W (x - mean).
    """

    means: np.ndarray
    whitening: np.ndarray


def fit_gaussians(images: Iterable[np.ndarray], regularisation: float) -> Gaussians:
    """The mean, and the sample covariance plus `regularisation` on its diagonal, of the vectors at each position.

    Sums are in float64 around the first image's vectors, so that nothing cancels.

    Args:
        images: vectors [P x D] of each normal image.

    Raises DataError for fewer than two images.
    """
    origin = total = products = None
    count = 0
    for vectors in images:
        found = torch.from_numpy(np.asarray(vectors, dtype=np.float64))
        if origin is None or total is None or products is None:
            origin, total = found, torch.zeros_like(found)
            products = torch.zeros(*found.shape, found.shape[1], dtype=torch.float64)
        shifted = found - origin
        total += shifted
        products.baddbmm_(shifted[:, :, None], shifted[:, None, :])
        count += 1
    if origin is None or total is None or products is None or count < 2:
        raise DataError(f"PaDiM needs at least two normal images to train on, and there is {count}")
    products.baddbmm_(total[:, :, None], total[:, None, :], alpha=-1 / count).div_(count - 1)
    whitening = torch.empty(products.shape, dtype=torch.float32)
    for start in range(0, len(products), _POSITIONS):
        whitening[start : start + _POSITIONS] = _whitening(products[start : start + _POSITIONS], regularisation)
    return Gaussians((origin + total / count).float().numpy(), whitening.numpy())


def mahalanobis(vectors: np.ndarray, gaussians: Gaussians) -> np.ndarray:
    """Distances float32 [n x P] of images' vectors [n x P x D] to the Gaussians of their positions."""
    offsets = torch.from_numpy(np.asarray(vectors, dtype=np.float32) - gaussians.means).permute(1, 2, 0)
    return torch.bmm(torch.from_numpy(gaussians.whitening), offsets).norm(dim=1).T.contiguous().numpy()


def _whitening(covariances: Tensor, regularisation: float) -> Tensor:
    identity = torch.eye(covariances.shape[-1], dtype=torch.float64)
    factors, failed = torch.linalg.cholesky_ex(covariances + regularisation * identity)
    whitening = torch.linalg.solve_triangular(factors, identity.expand_as(factors), upper=False).float()
    if failed.any() or not whitening.isfinite().all():
        raise DataError(f"PaDiM: covariances are singular with detector.regularisation={regularisation:g}: raise it")
    return whitening
