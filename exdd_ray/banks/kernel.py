"""A kernel machine on landmark vectors, fitted by weighted least squares from sums that groups of rows add to."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from exdd_ray.banks.tiles import one_thread_each, run_tiles

_ROWS = 1024  # vectors compared with the landmarks at a time
_JITTER = 1e-7


@dataclass(frozen=True)
class Kernel:
    """exp(-|x - m|^2 / (2 width^2)) of a vector x at M landmarks m: 1 at a landmark, 0 far from all of them.

    Attributes:
        landmarks: float32 [M x D].
        width: in the vectors' own unit.
    """

    landmarks: np.ndarray
    width: float

    def at(self, vectors: np.ndarray) -> np.ndarray:
        """Values float32 [n x M] at vectors [n x D]."""
        landmarks = torch.from_numpy(np.array(self.landmarks, dtype=np.float32))
        given = torch.from_numpy(np.array(vectors, dtype=np.float32))
        squares = (landmarks**2).sum(dim=1) + (given**2).sum(dim=1, keepdim=True)
        apart = torch.addmm(squares, given, landmarks.T, alpha=-2).clamp_(min=0)
        return apart.mul_(-0.5 / self.width**2).exp_().numpy()

    def weighted(self, vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Sums over the landmarks float32 [n x T], weighted by [M x T], at vectors [n x D].

        Rows are computed in slices of a fixed length, each on one thread, so that the bits do not depend on threads.
        """
        slices = [vectors[start : start + _ROWS] for start in range(0, len(vectors), _ROWS)]
        given = torch.from_numpy(weights.astype(np.float32))
        with one_thread_each() as threads:
            parts = run_tiles(lambda part: (torch.from_numpy(self.at(part)) @ given).numpy(), slices, threads)
        return np.concatenate(parts)


@dataclass(frozen=True)
class Sums:
    """What least squares needs of rows with kernel values phi and weights w: all of it adds up.

    Attributes:
        products: sum of w phi phi^T [M x M], float64.
        values: sum of w phi [M].
        weight: sum of w.
    """

    products: np.ndarray
    values: np.ndarray
    weight: float

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.products + other.products, self.values + other.values, self.weight + other.weight)

    def scaled(self, weight: float) -> "Sums":
        """The same with another sum of weights; nothing stays nothing."""
        factor = weight / self.weight if self.weight else 0.0
        return Sums(self.products * factor, self.values * factor, self.weight * factor)


def nothing(landmarks: int) -> Sums:
    """The sums of no row."""
    return Sums(np.zeros((landmarks, landmarks)), np.zeros(landmarks), 0.0)


def sums_of(kernel: Kernel, vectors: np.ndarray, weights: np.ndarray) -> Sums:
    """The sums of rows [n x D] with weights [n]."""
    slices = [slice(start, start + _ROWS) for start in range(0, len(vectors), _ROWS)]

    def part(rows: slice) -> Sums:
        values = kernel.at(vectors[rows]).astype(np.float64)
        weighed = values * weights[rows, None]
        products = torch.from_numpy(weighed).T @ torch.from_numpy(values)
        return Sums(products.numpy(), weighed.sum(axis=0), float(weights[rows].sum()))

    with one_thread_each() as threads:
        parts = run_tiles(part, slices, threads)
    return sum(parts, nothing(len(kernel.landmarks)))


def fitted_weights(kernel: Kernel, targets: Iterable[tuple[Sums, Sums, float]]) -> np.ndarray:
    """Weights float64 [M x T] of kernel ridge regression (landmarks as in the Nystroem method) to 1 and 0.

    They minimise sum w (f(x) - y)^2 + ridge |f|^2 for f = sum of weights times kernels, |f| being its norm in the
    kernel's space: f goes to 0 far from all landmarks.

    Args:
        targets: for each column the sums of the rows that are 1, of those that are 0, and the ridge.
    """
    with one_thread_each():
        between = kernel.at(kernel.landmarks).astype(np.float64)
        loose = _JITTER * np.eye(len(between))
        columns = [
            torch.linalg.solve(
                torch.from_numpy(ones.products + zeros.products + ridge * between + loose),
                torch.from_numpy(ones.values),
            ).numpy()
            for ones, zeros, ridge in targets
        ]
    return np.stack(columns, axis=1)
