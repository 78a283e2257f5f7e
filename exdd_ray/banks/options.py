"""Other ways to thin a bank than the exact greedy order: random subset, merge-reduce, PatchCore's own."""

import numpy as np

from exdd_ray.banks.coreset import CoresetOrder, Progress, greedy_order
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.errors import DataError

_STARTS = 10
_BLOCK = 1 << 16


def random_order(count: int, picks: int, *, seed: int) -> CoresetOrder:
    """A random order of so many picks out of `count` vectors; it has no covering radius (NaN)."""
    indices = np.random.default_rng(seed).permutation(count)[:picks]
    return CoresetOrder(indices, np.full(len(indices), np.nan, dtype=np.float32), 0)


def merge_reduce_order(
    points: VectorBlocks,
    picks: int,
    *,
    first: int,
    chunk: int,
    device: str = "cpu",
    progress: Progress | None = None,
) -> CoresetOrder:
    """Greedy order of the greedy coresets of chunks: one chunk at a time is held, and then the coresets of all.

    Memory is that of `chunk` vectors, or of N / chunk * picks where that is more: chunks of many times `picks` pay.

    The picks cover all points within four times the least radius that so many picks can have, against twice for the
    exact greedy order: two by the chunks' coresets, two by the coreset of their union (Gonzalez 1985 for each). Chunks
    no larger than `picks` are kept whole.

    Args:
        points: [N x D].
        picks: length of the order; at most N are made.
        first: row number of the first pick; other chunks start from their own first row.
        chunk: rows of a chunk.
        device: `cpu` or a CUDA device.
        progress: called with (picks made, picks wanted): the share of all coresets that is done, in picks of the last.

    Returns:
        The order; its radii cover the union of the chunks' coresets, not all points.

    Raises:
        DataError: as `greedy_order`.
    """
    if chunk < 1 or not 0 <= first < len(points):
        raise DataError(f"chunks of {chunk} vectors and the first pick {first} do not fit {len(points)} vectors")
    kept: list[np.ndarray] = []
    starts = range(0, len(points), chunk)

    def report(made: int, wanted: int) -> None:
        if progress:
            progress(int(picks * (len(kept) + made / wanted) / (len(starts) + 1)), picks)

    for start in starts:
        part = points.select([(start, min(start + chunk, len(points)))])
        inside = first - start if start <= first < start + chunk else 0
        kept.append(start + greedy_order(part, picks, first=inside, device=device, progress=report).indices)
    union = np.concatenate(kept)
    at = int(np.flatnonzero(union == first)[0])
    found = greedy_order(points.take(union), picks, first=at, device=device, progress=report)
    return CoresetOrder(union[found.indices], found.radii, len(kept))


def patchcore_released_order(
    points: VectorBlocks, picks: int, *, seed: int, progress: Progress | None = None
) -> CoresetOrder:
    """PatchCore's released approximate greedy order of points [N x D].

    Ten random points start it: a point's first distance is its mean distance to them. Then the farthest point is picked
    and distances are lowered, one pick at a time; the starts are not picks themselves.
    """
    matrix = np.concatenate([block.astype(np.float32) for _, block in points.blocks(_BLOCK)])
    squares = np.einsum("nd,nd->n", matrix, matrix)
    starts = np.random.default_rng(seed).choice(len(matrix), size=min(_STARTS, len(matrix)), replace=False)
    nearest = np.mean([_distances(matrix, squares, int(start)) for start in starts], axis=0)
    indices, radii = [], []
    for made in range(min(picks, len(matrix))):
        indices.append(int(np.argmax(nearest)))
        radii.append(nearest[indices[-1]])
        nearest = np.minimum(nearest, _distances(matrix, squares, indices[-1]))
        nearest[indices] = -np.inf  # a duplicate of a pick may still follow, the pick itself may not
        if progress:
            progress(made + 1, picks)
    return CoresetOrder(np.array(indices), np.array(radii, dtype=np.float32), len(indices))


def _distances(matrix: np.ndarray, squares: np.ndarray, row: int) -> np.ndarray:
    return np.sqrt(np.maximum(squares + squares[row] - 2 * (matrix @ matrix[row]), 0))
