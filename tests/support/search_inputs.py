"""Vectors and a search by every distance for the tests of searching."""

import numpy as np


def plain(queries, bank, k, forbidden=None):
    """Every distance in double precision, sorted, ties by index."""
    squares = ((queries[:, None].astype(np.float64) - bank[None]) ** 2).sum(axis=2)
    if forbidden is not None:
        squares[forbidden] = np.inf
    order = np.lexsort((np.broadcast_to(np.arange(len(bank)), squares.shape), squares), axis=1)[:, :k]
    return np.sqrt(np.take_along_axis(squares, order, 1)), order


def integers(rng, rows, dim, offset=0.0):
    """Few distinct values: many exact ties and duplicates, and sums that have no rounding."""
    return (rng.integers(0, 3, (rows, dim)) + offset).astype(np.float32)
