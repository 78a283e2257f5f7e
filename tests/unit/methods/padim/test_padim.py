"""PaDiM's Gaussians against numpy's, and the detector on images."""

import numpy as np
import pytest

from exdd_ray.errors import DataError
from exdd_ray.methods.padim.gaussians import fit_gaussians, mahalanobis


@pytest.fixture
def vectors() -> np.ndarray:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 6, 6))
    return (np.einsum("npd,pde->npe", rng.normal(size=(12, 3, 6)), mixing) + 100).astype(np.float32)


def test_distances_are_those_of_the_inverse_covariance(vectors: np.ndarray) -> None:
    found = mahalanobis(vectors, fit_gaussians(vectors, 0.01))
    for position in range(3):
        at = vectors[:, position].astype(np.float64)
        inverse = np.linalg.inv(np.cov(at.T) + 0.01 * np.eye(6))
        offsets = at - at.mean(0)
        expected = np.sqrt(np.einsum("nd,de,ne->n", offsets, inverse, offsets))
        np.testing.assert_allclose(found[:, position], expected, rtol=1e-3)


def test_fewer_images_than_dimensions_have_a_distance_too(vectors: np.ndarray) -> None:
    assert np.isfinite(mahalanobis(vectors, fit_gaussians(vectors[:2], 0.01))).all()


def test_one_image_is_too_few(vectors: np.ndarray) -> None:
    with pytest.raises(DataError, match="at least two"):
        fit_gaussians(vectors[:1], 0.01)


def test_singular_covariances_name_the_key(vectors: np.ndarray) -> None:
    with pytest.raises(DataError, match="singular with detector.regularisation=1e-300: raise it"):
        fit_gaussians(np.repeat(vectors[:1], 3, axis=0), 1e-300)
