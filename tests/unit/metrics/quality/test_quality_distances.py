"""Distances between sets of features, against their closed forms."""

import numpy as np
import pytest
from scipy import linalg

from exdd_ray.errors import DataError
from exdd_ray.metrics.quality.distances import frechet_distance, inception_score, kernel_distance, precision_recall


def gaussian(count: int, dim: int, seed: int, mean: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, scale, (count, dim))


def test_identical_sets_have_no_distance() -> None:
    same = gaussian(80, 12, seed=0)
    assert frechet_distance(same, same) == pytest.approx(0, abs=1e-6)
    assert precision_recall(same, same) == (1.0, 1.0)


def test_kid_is_zero_for_independent_draws_and_below_for_copies() -> None:
    # The estimate takes the sets to be independent: copies meet themselves in one of N cross pairs.
    kids = [kernel_distance(gaussian(80, 12, seed), gaussian(80, 12, seed + 100)) for seed in range(20)]
    assert np.mean([kid.mean for kid in kids]) == pytest.approx(0, abs=0.03)
    same = gaussian(80, 12, seed=0)
    products = (same @ same.T / 12 + 1) ** 3
    off_diagonal = (products.sum() - np.trace(products)) / (80 * 79)
    expected = -2 / 80 * (np.trace(products) / 80 - off_diagonal)
    kid = kernel_distance(same, same)
    assert kid.mean == pytest.approx(expected, abs=4 * kid.std / np.sqrt(100))
    assert expected < -0.1


def test_fid_is_the_closed_form() -> None:
    # Whitened samples have exactly these moments: |3 - 0|^2 * 4 + tr(I + 4 I - 2 * 2 I) = 36 + 4.
    def exact(seed: int) -> np.ndarray:
        drawn = gaussian(200, 4, seed)
        drawn -= drawn.mean(axis=0)
        return drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn, rowvar=False))).T

    assert frechet_distance(exact(1), 3 + 2 * exact(2)) == pytest.approx(36 + 4, rel=1e-9)


def test_fid_of_correlated_features_and_of_sets_below_full_rank() -> None:
    one, two = gaussian(60, 8, 1) @ gaussian(8, 8, 2), gaussian(60, 8, 3, mean=0.5)
    covariances = [np.cov(features, rowvar=False) for features in (one, two)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(one.mean(0) - two.mean(0)).sum() + np.trace(sum(covariances)) - 2 * np.trace(root)
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-8)
    # Fewer images than features: tr (C1 C2)^1/2 is the nuclear norm of the product of the centred sets.
    few, other = gaussian(10, 40, 4), gaussian(15, 40, 5, mean=0.3)
    centred = [features - features.mean(0) for features in (few, other)]
    trace = linalg.svdvals(centred[0] @ centred[1].T).sum() / np.sqrt(9 * 14)
    spread = np.square(centred[0]).sum() / 9 + np.square(centred[1]).sum() / 14
    expected = np.square(few.mean(0) - other.mean(0)).sum() + spread - 2 * trace
    assert frechet_distance(few, other) == pytest.approx(expected, rel=1e-6)


def test_kid_is_the_unbiased_estimate_with_the_cubic_kernel() -> None:
    one, two = gaussian(120, 6, 1), gaussian(90, 6, 2, mean=0.4)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / 6 + 1) ** 3

    def within(a: np.ndarray) -> float:
        products = kernel(a, a)
        return (products.sum() - np.trace(products)) / (len(a) * (len(a) - 1))

    whole = within(one) + within(two) - 2 * kernel(one, two).mean()
    kid = kernel_distance(one, two)
    # The mean over subsets is unbiased for the value of the whole sets.
    assert (kid.parts, kid.size) == (100, 45)
    assert kid.mean == pytest.approx(whole, abs=4 * kid.std / np.sqrt(100))
    assert kid.std > 0
    # Two vectors a set leave one subset: the estimate itself.
    pair = kernel_distance(one[:2], two[:2])
    k11, k22, k12 = (kernel(one[:2], one[:2])[0, 1], kernel(two[:2], two[:2])[0, 1], kernel(one[:2], two[:2]).mean())
    assert pair.mean == pytest.approx(k11 + k22 - 2 * k12)


def test_precision_and_recall_tell_narrow_from_wrong() -> None:
    real = gaussian(200, 4, 1)
    narrow = gaussian(200, 4, 2, scale=0.2)
    precision, recall = precision_recall(real, narrow)
    assert precision > 0.95
    assert recall < 0.5
    assert precision_recall(narrow, real) == (recall, precision)
    assert precision_recall(real, real + 100) == (0.0, 0.0)


def test_inception_score_counts_the_classes() -> None:
    certain = np.repeat(50.0 * np.eye(5), 40, axis=0)
    one_part = inception_score(certain[::4])
    assert one_part.parts == 1
    assert one_part.mean == pytest.approx(5, rel=1e-9)
    assert np.isnan(one_part.std)
    assert inception_score(np.zeros((100, 5))).mean == pytest.approx(1)
    assert inception_score(certain).parts == 10


@pytest.mark.parametrize(
    ("real", "synthetic", "message"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3)), "real: features"),
        (np.zeros((5, 3)), np.zeros((5, 4)), "3 and 4 dimensions"),
        (np.zeros((5, 3)), np.full((5, 3), np.nan), "synthetic: features that are not finite"),
    ],
)
def test_unusable_features_are_refused(real: np.ndarray, synthetic: np.ndarray, message: str) -> None:
    for measure in (frechet_distance, kernel_distance, precision_recall):
        with pytest.raises(
            DataError, match=message if len(real) > 1 or measure is not precision_recall else "4 images"
        ):
            measure(real, synthetic)
