"""Distances: the exact ones that decide, and the error bound of the fast ones that sort out.

The exact squared distance of two vectors is the float64 sum of squared differences, added up in a fixed order: the same
pair gives the same bits in every batch, on every device, however the work is divided. Everything that is reported or
compared for equality is this number. The matrix product |x|^2 + |c|^2 - 2xc only discards what cannot matter, with the
bound of its rounding error.
"""

import torch

_NARROW = 32
# Products of vectors whose squared norms are above this could overflow float32.
LARGEST_SQUARE = 1e37


def squared_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Exact squared L2 distances of rows: float32 [n x D] and [n x D] or [1 x D] -> float64 [n].

    Differences of float32 numbers are taken in float64. The sum folds the second half of the components onto the first
    until one is left, element by element, so that no library chooses its order.
    """
    terms = a.double().sub_(b.double())
    terms.mul_(terms)
    while (width := terms.shape[1]) > _NARROW:
        half = width // 2
        terms[:, :half] += terms[:, width - half :]
        terms = terms[:, : width - half]
    columns = terms.T.contiguous()  # short rows are slow to walk; the same additions
    while (width := len(columns)) > 1:
        half = width // 2
        columns[:half] += columns[width - half :]
        columns = columns[: width - half]
    return columns[0]


def rounding_bound(norms: torch.Tensor, others: torch.Tensor | float, dim: int) -> torch.Tensor:
    """Largest error of |x|^2 + |c|^2 - 2xc computed in the type of `norms`, in any order of summation.

    A computed sum of D products differs from the true one by at most about D u |x| |c|, u the unit roundoff (Higham,
    Accuracy and Stability of Numerical Algorithms, 3.1); 16 more units pay for the norms, the last additions and the
    shift, the constant for squares that vanish below the smallest number of the type.

    Args:
        norms: |x|, of any shape.
        others: |c|, a number or of a shape that broadcasts with `norms`.
        dim: D.
    """
    limits = torch.finfo(norms.dtype)
    return (norms + others).square_().mul_((dim + 16) * limits.eps / 2).add_((dim + 16) * limits.tiny)
