"""Greedy k-centre (farthest-first) order of vectors: lazy, batched, exact.

Plain farthest-first (Gonzalez 1985) updates every point's distance to the picks after each pick. But an old distance is
an upper bound of the present one, so the points with the largest old distances, the frontier, decide alone until the
best of them falls below the largest distance outside. Then one matrix product applies all new picks to the points, and
only to those that may still matter: a point below the covering radius to be expected at the end is left behind.
The picks are those of the plain loop with exact distances, ties by lowest row number: a pick is made only when it is
certain (see `exact.py`), whatever the batches, the number of shards or the device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from exdd_ray.banks.exact import rounding_bound, squared_distances
from exdd_ray.banks.loader import needed_shift
from exdd_ray.banks.picks import Picks
from exdd_ray.banks.shard import PICKED, CoresetShard, Frontier
from exdd_ray.banks.tiles import one_thread_each
from exdd_ray.banks.vectors import VectorBlocks, as_blocks
from exdd_ray.errors import DataError

FRONTIER = 4096
_INNER = 256
_EARLY = 0.25

# Adds picks (global numbers [m], vectors [m x D]) to all shards, then asks each for its frontier(size, target, exact).
Advance = Callable[[np.ndarray, np.ndarray, int, float, bool], Sequence[Frontier]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CoresetOrder:
    """Rows in the order in which they were picked: every prefix is the coreset of that size.

    Attributes:
        indices: row numbers int64 [M], each at most once.
        radii: float32 [M]; the distance of a pick to the picks before it, which is the covering radius of those
            picks; infinite for the first.
        rounds: passes over all points.
    """

    indices: np.ndarray
    radii: np.ndarray
    rounds: int


def greedy_order(
    points: VectorBlocks | np.ndarray,
    picks: int,
    *,
    first: int,
    device: str = "cpu",
    frontier: int = FRONTIER,
    progress: Progress | None = None,
) -> CoresetOrder:
    """Exact farthest-first order of points [N x D] from a given first one.

    When all points left are duplicates of picks (distance 0) the order goes on with the lowest row numbers.

    Args:
        picks: length of the order; at most N are made.
        first: row number of the first pick.
        device: `cpu` or a CUDA device; the order is the same.
        frontier: points compared between two passes over all of them; changes the time only.
        progress: called with (picks made, picks wanted) after every pass.

    Raises:
        DataError: no vectors, NaN or infinite values, `first` out of range, `picks` below 1.
    """
    vectors = as_blocks(points)
    if not 0 <= first < len(vectors):
        raise DataError(f"the first pick {first} is not one of {len(vectors)} vectors")
    if min(picks, frontier) < 1:
        raise DataError(f"a coreset needs at least one pick and a frontier of one, not {picks} and {frontier}")
    with one_thread_each() as threads:
        shard = CoresetShard(vectors, device=device, threads=threads)
        start = vectors.take(np.array([first]))
        wanted = min(picks, len(vectors))
        return run_rounds(
            advance_all([shard]), first, start, wanted, frontier=frontier, device=device, progress=progress
        )


def advance_all(shards: Sequence[CoresetShard]) -> Advance:
    """The shards of this process as one `Advance`."""

    def advance(ids: np.ndarray, vectors: np.ndarray, size: int, target: float, exact: bool) -> list[Frontier]:
        for shard in shards:
            shard.update(ids, vectors)
        return [shard.frontier(size, target=target, exact=exact) for shard in shards]

    return advance


def run_rounds(
    advance: Advance,
    first: int,
    vector: np.ndarray,
    count: int,
    *,
    frontier: int = FRONTIER,
    device: str = "cpu",
    progress: Progress | None = None,
) -> CoresetOrder:
    """Farthest-first order over shards, wherever they are: one call to all of them a round.

    Args:
        advance: sends the new picks to every shard and returns their frontiers.
        first: global number of the first pick.
        vector: its vector [1 x D].
        count: length of the order, at most the number of points.
        frontier: size asked of each shard.
    """
    ids, radii = np.array([first]), np.array([np.inf])
    fresh, rounds, exact = vector, 0, False
    picks = None
    while len(ids) < count:
        merged = merge_frontiers(
            advance(ids[len(ids) - len(fresh) :], fresh, frontier, _expected_radius(radii, count) ** 2, exact)
        )
        if picks is None:
            shift = needed_shift(VectorBlocks([merged.vectors]))
            picks = Picks(vector.shape[1], torch.device(device), shift)
            picks.append(torch.from_numpy(vector).to(device))
        rows, squares = pick_within(merged, picks, count - len(ids), device)
        # Inexact bounds may decide nothing; the next round asks for exact ones, of which the first is always a pick.
        rounds += len(fresh) > 0
        fresh, exact = merged.vectors[rows], len(rows) == 0
        ids, radii = np.concatenate([ids, merged.ids[rows]]), np.concatenate([radii, np.sqrt(squares)])
        if progress:
            progress(len(ids), count)
    return CoresetOrder(ids, radii.astype(np.float32), rounds)


def _expected_radius(radii: np.ndarray, count: int) -> float:
    """The covering radius at the end, by the power law that it follows so far; infinite where it is too early."""
    made = len(radii)
    if made < max(_EARLY * count, 16) or radii[-1] == 0:
        return float(np.inf)
    slope = np.log(radii[-1] / radii[made // 4]) / np.log(4)
    return float(radii[-1] * (count / made) ** slope)


def merge_frontiers(frontiers: Sequence[Frontier]) -> Frontier:
    """The frontiers of all shards as one."""
    ids = np.concatenate([part.ids for part in frontiers])
    order = np.argsort(ids)
    return Frontier(
        ids=ids[order],
        vectors=np.concatenate([part.vectors for part in frontiers])[order],
        upper=np.concatenate([part.upper for part in frontiers])[order],
        outside=max(part.outside for part in frontiers),
    )


def pick_within(frontier: Frontier, picks: Picks, limit: int, device: str) -> tuple[np.ndarray, np.ndarray]:
    """All picks that the frontier decides alone: their rows in it [m] and squared distances float64 [m].

    The frontier is a set of points like any other, so the same two steps choose within it: a small inner frontier
    is compared pick by pick, then the whole one is updated.

    Args:
        picks: the picks before; the new ones are added.
        limit: most picks to make.
    """
    inner = CoresetShard(VectorBlocks([frontier.vectors]), device=device, picks=picks)
    inner.set_bounds(frontier.upper)
    rows, squares = [np.empty(0, dtype=np.int64)], [np.empty(0)]
    while limit > 0:
        part = inner.frontier(_INNER, target=max(frontier.outside[0], 0.0), exact=True)
        value, row = part.outside
        outside = max((value, -float(frontier.ids[int(-row)])), frontier.outside)
        chosen, distances = _certain_picks(part, frontier.ids[part.ids], outside, limit)
        if len(chosen) == 0:
            break
        rows.append(part.ids[chosen])
        squares.append(distances)
        limit -= len(chosen)
        inner.update(rows[-1], part.vectors[chosen])
    return np.concatenate(rows), np.concatenate(squares)


def _certain_picks(
    part: Frontier, ids: np.ndarray, outside: tuple[float, float], limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """The plain loop on few points with exact distances, until a point outside could come first."""
    points = torch.from_numpy(part.vectors)
    least, most = _pair_bounds(points)
    left = part.upper.copy()
    chosen: list[int] = []
    squares: list[float] = []
    while len(chosen) < limit:
        best = int(left.argmax())
        if left[best] == PICKED or (left[best], -float(ids[best])) < outside:
            break
        chosen.append(best)
        squares.append(float(left[best]))
        left[best] = PICKED
        near = np.flatnonzero(least[best] < left)  # the new pick is no nearer to the others than their picks so far
        left[near] = np.minimum(left[near], most[best, near])
        close = near[left[near] >= outside[0]]  # a bound below that suffices: such a point is not picked here
        if len(close):
            left[close] = np.minimum(left[close], squared_distances(points[close], points[best : best + 1]).numpy())
    return np.array(chosen, dtype=np.int64), np.array(squares)


def _pair_bounds(points: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Least and most [K x K] that the squared distances between points [K x D] can be."""
    moved = points - points.mean(0)
    squares = moved.square().sum(1)
    norms = squares.sqrt()
    values = torch.addmm(squares, moved, moved.T, alpha=-2).add_(squares[:, None])
    bound = rounding_bound(norms[:, None], norms[None, :], points.shape[1])
    return (values - bound).clamp_(min=0).numpy(), (values + bound).numpy()
