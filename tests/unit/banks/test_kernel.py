"""Kernel ridge regression from sums, against the same regression on all rows."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from exdd_ray.banks.kernel import Kernel, fitted_weights, nothing, sums_of


@pytest.fixture
def kernel() -> Kernel:
    return Kernel(np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32), 1.5)


def rows(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 5)).astype(np.float32), rng.uniform(0.5, 2, count)


def values(kernel: Kernel, vectors: np.ndarray) -> np.ndarray:
    apart = np.linalg.norm(vectors[:, None].astype(float) - kernel.landmarks[None].astype(float), axis=2)
    return np.exp(-(apart**2) / (2 * kernel.width**2))


def test_values_are_one_at_a_landmark_and_nothing_far_away(kernel):
    vectors, _ = rows(1, 20)
    np.testing.assert_allclose(kernel.at(vectors), values(kernel, vectors), rtol=1e-5)
    np.testing.assert_allclose(np.diag(kernel.at(kernel.landmarks)), 1, atol=1e-5)
    assert not kernel.weighted(vectors + 1e3, np.ones((7, 2))).any()


def test_weights_are_those_of_ridge_regression_on_all_rows(kernel):
    (ones, heavy), (zeros, light) = rows(1, 30), rows(2, 3000)
    ridge, between = 1e-3, values(kernel, kernel.landmarks)
    (found,) = fitted_weights(kernel, [(sums_of(kernel, ones, heavy), sums_of(kernel, zeros, light), ridge)]).T
    given, weights = values(kernel, np.concatenate([ones, zeros])), np.concatenate([heavy, light])
    target = np.concatenate([np.ones(30), np.zeros(3000)])

    def loss(candidate: np.ndarray) -> float:
        return float(weights @ (given @ candidate - target) ** 2 + ridge * candidate @ between @ candidate)

    best = np.linalg.solve(given.T @ (weights[:, None] * given) + ridge * between, given.T @ (weights * target))
    np.testing.assert_allclose(found, best, rtol=1e-3, atol=1e-5)
    moved = found + 0.01 * np.random.default_rng(3).normal(size=(100, 7))
    assert all(loss(found) <= loss(candidate) for candidate in moved)


def test_sums_of_parts_add_up_to_those_of_all_rows(kernel):
    vectors, weights = rows(1, 2500)
    whole = sums_of(kernel, vectors, weights)
    parts = sum((sums_of(kernel, vectors[at::3], weights[at::3]) for at in range(3)), nothing(7))
    np.testing.assert_allclose(parts.products, whole.products, rtol=1e-10)
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-10)
    assert parts.weight == pytest.approx(whole.weight)
    assert whole.scaled(0.1).weight == pytest.approx(0.1)
    assert nothing(7).scaled(0.1).weight == 0


def test_bits_do_not_depend_on_threads(kernel):
    vectors, weights = rows(1, 5000)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append((kernel.weighted(vectors, weights[:14].reshape(7, 2)), sums_of(kernel, vectors, weights)))
    finally:
        torch.set_num_threads(before)
    for weighted, sums in found[1:]:
        np.testing.assert_array_equal(weighted, found[0][0])
        np.testing.assert_array_equal(sums.products, found[0][1].products)


def test_bits_do_not_depend_on_threads_of_numpy():
    rng = np.random.default_rng(0)
    kernel = Kernel(rng.normal(size=(1201, 48)).astype(np.float32), 10.0)
    vectors, weights, found = rng.normal(size=(2001, 48)).astype(np.float32), rng.normal(size=(1201, 2)), []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(kernel.weighted(vectors, weights))
    np.testing.assert_array_equal(*found)
