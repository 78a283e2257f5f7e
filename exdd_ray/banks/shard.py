"""One shard of a greedy selection: its points, each with an upper bound of its distance to the picks."""

from dataclasses import dataclass

import numpy as np
import torch

from exdd_ray.banks.exact import LARGEST_SQUARE, rounding_bound, squared_distances
from exdd_ray.banks.loader import Scratch, VectorLoader, needed_shift
from exdd_ray.banks.picks import Picks
from exdd_ray.banks.tiles import run_tiles
from exdd_ray.banks.vectors import Span, VectorBlocks
from exdd_ray.errors import DataError

PICKED = -np.inf
_CPU_TILE, _GPU_TILE = (2048, 512), (32768, 2048)
_DENSE, _REACH, _COARSE = 0.75, 4, 0.1
_PAIR_ELEMENTS = 1 << 20
_ROW_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class Frontier:
    """The points of a shard that may be picked next.

    Attributes:
        ids: global row numbers [K], ascending.
        vectors: float32 [K x D].
        upper: upper bounds of their squared distances to the picks so far, float64 [K]; PICKED for a pick itself.
        outside: (squared distance, -id): no other point of the shard can come before this one in the order.
    """

    ids: np.ndarray
    vectors: np.ndarray
    upper: np.ndarray
    outside: tuple[float, float]


class CoresetShard:
    """Points [N x D], each with an upper bound of its squared distance to the nearest pick.

    Lazy twice: picks are applied many at a time, and only to points whose old bound still reaches the frontier. Most
    points fall below the final covering radius after a fraction of the picks and are never touched again.

    The state follows from the points and the picks alone: a shard that was lost is built again and given all picks so
    far by one `update`.

    Args:
        points: the shard's vectors.
        offset: global number of its first row.
        device: where it computes.
        threads: tiles computed side by side on a CPU.
        picks: picks made before, to which `upper` of `set_bounds` belongs; the shard adds its own.

    Raises:
        DataError: vectors hold NaN or infinite values.
    """

    def __init__(
        self,
        points: VectorBlocks,
        *,
        offset: int = 0,
        device: str = "cpu",
        threads: int = 1,
        picks: Picks | None = None,
    ) -> None:
        self.offset = offset
        self._device, self._dim = torch.device(device), points.dim
        on_cpu = self._device.type == "cpu"
        self._threads, self._tile = (threads, _CPU_TILE) if on_cpu else (1, _GPU_TILE)
        self._picks = Picks(points.dim, self._device, needed_shift(points)) if picks is None else picks
        self._loader = VectorLoader(points, self._device, self._picks.shift)
        self._scratch = Scratch()
        self._squares = torch.empty(len(points), device=self._device)
        run_tiles(self._measure, points.spans(self._tile[0]), self._threads)
        self._check_finite()
        self._upper = torch.full((len(points),), torch.inf, dtype=torch.float64, device=self._device)
        self._exact = torch.zeros(len(points), dtype=torch.bool, device=self._device)
        self._seen = torch.zeros(len(points), dtype=torch.int64, device=self._device)

    def set_bounds(self, upper: np.ndarray) -> None:
        """Starts from upper bounds [N] of the squared distances to the picks that the shard was made with."""
        self._upper.copy_(torch.from_numpy(upper))
        self._exact.copy_(self._upper == PICKED)
        self._seen.fill_(len(self._picks))

    def update(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Adds picks of this shard or any other: global numbers [m], vectors float32 [m x D]."""
        if len(ids) == 0:
            return
        self._picks.append(torch.from_numpy(vectors).to(self._device))
        own = torch.from_numpy(ids[(ids >= self.offset) & (ids < self.offset + len(self._upper))] - self.offset)
        self._upper[own] = PICKED
        self._exact[own] = True

    def frontier(self, size: int, *, target: float = 0.0, exact: bool = False) -> Frontier:
        """The points with the largest distances, `size` of them or fewer, ties by lowest number.

        Args:
            size: most points to return.
            target: squared distance below which points may stay behind: they are not brought up to date now. A guess,
                it changes the time only; infinity brings as few up to date as possible.
            exact: find the distances exactly, and go on until the first of them is certain to be the shard's next
                pick: no point outside has a larger distance, or the same and a lower number.
        """
        while True:
            rows, outside = self._select(size, target, exact)
            if not exact:
                break
            unsure = rows[~self._exact[rows]]
            if len(unsure):
                self._refine(unsure)
            best = int(rows[self._upper[rows].argmax()])
            if (float(self._upper[best]), -float(best + self.offset)) >= outside:
                break
        return Frontier(
            ids=rows.cpu().numpy() + self.offset,
            vectors=self._loader.stored(rows).cpu().numpy(),
            upper=self._upper[rows].cpu().numpy(),
            outside=outside,
        )

    def _measure(self, span: Span) -> None:
        block = self._loader.load(span)
        torch.sum(block.square(), dim=1, out=self._squares[span.rows])

    def _check_finite(self) -> None:
        bad = int((~(self._squares < LARGEST_SQUARE / 8)).sum())
        if bad:
            raise DataError(f"{bad} of {len(self._squares)} vectors hold NaN, infinite or huge values (|x| > 1e18)")

    def _select(self, size: int, target: float, exact: bool) -> tuple[torch.Tensor, tuple[float, float]]:
        """Up to `size` rows whose bounds are the largest and up to date, and (bound, -id) of the next one.

        Half of them will do, as the rows left out set the limit, unless the very first is to be known exactly.
        """
        while True:
            rows = _largest(self._upper, size)
            fresh = rows[self._seen[rows] == len(self._picks)]
            if len(fresh) >= (len(rows) if exact else len(rows) / 2):
                break
            floor = min(target, float(self._upper[_largest(self._upper, _REACH * size)].min()))
            stale = ((self._seen < len(self._picks)) & (self._upper >= floor)).nonzero()[:, 0]
            self._apply_picks(stale, floor, float(self._upper[rows].max()))
        rest = self._upper.clone()
        rest[fresh] = -torch.inf
        first = int(rest.argmax())
        return fresh, (float(rest[first]), -float(first + self.offset))

    def _apply_picks(self, rows: torch.Tensor, floor: float, radius: float) -> None:
        """Brings rows up to date with all picks, or down to a bound below `floor`, whichever comes first.

        Args:
            radius: the largest squared distance now: products must resolve it, in float64 if need be.
        """
        rows = rows[torch.sort(self._seen[rows], stable=True).indices]
        run_tiles(lambda part: self._apply_to_part(part, floor, radius), rows.split(self._tile[0]), self._threads)

    def _apply_to_part(self, rows: torch.Tensor, floor: float, radius: float) -> None:
        rows = rows.sort().values
        norms = self._squares[rows].sqrt()
        if float(rounding_bound(norms, self._picks.largest, self._dim).max()) < _COARSE * radius:
            block, squares = self._loader.gather(rows), self._squares[rows]
        else:
            block = self._loader.gather_wide(rows)
            squares = block.square().sum(1)
        bound = rounding_bound(squares.sqrt(), self._picks.largest, self._dim)
        position = int(self._seen[rows].min())
        while position < len(self._picks):
            columns = slice(position, min(position + self._tile[1], len(self._picks)))
            out = self._scratch.matrix("tile", len(block), columns.stop - position, block)
            value = self._picks.products(block, columns, out).amin(1).add_(squares)
            position = columns.stop
            upper = torch.minimum(self._upper[rows], (value + bound).double())
            # Exact it stays while the new picks are certainly no nearer: even the least that they may be is no less.
            self._exact[rows] &= (value - bound).clamp_(min=0).double() >= upper
            self._upper[rows] = upper
            self._seen[rows] = position
            keep = (upper >= floor).nonzero()[:, 0]
            if len(keep) < _DENSE * len(rows):
                rows, block, squares, bound = rows[keep], block[keep], squares[keep], bound[keep]

    def _refine(self, rows: torch.Tensor) -> None:
        """Finds the exact squared distance of some rows to their nearest pick."""
        step = max(1, _ROW_ELEMENTS // len(self._picks))
        run_tiles(self._refine_part, rows.split(step), self._threads)

    def _refine_part(self, rows: torch.Tensor) -> None:
        block = self._loader.gather_wide(rows)
        out = self._scratch.matrix("all", len(rows), len(self._picks), block)
        for first in range(0, len(self._picks), self._tile[1]):
            columns = slice(first, min(first + self._tile[1], len(self._picks)))
            self._picks.products(block, columns, out[:, columns])
        bound = rounding_bound(block.square().sum(1).sqrt_(), self._picks.largest, self._dim)
        # The nearest pick's product exceeds the least product by two bounds at most: its own error and the other's.
        near, pick = (out <= out.amin(1).add_(bound, alpha=2)[:, None]).nonzero(as_tuple=True)
        exact = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=self._device)
        stored, step = self._loader.stored(rows), max(1, _PAIR_ELEMENTS // self._dim)
        for a, c in zip(near.split(step), pick.split(step), strict=True):
            exact.scatter_reduce_(0, a, squared_distances(stored[a], self._picks.raw[c]), "amin")
        self._upper[rows] = exact
        self._exact[rows] = True
        self._seen[rows] = len(self._picks)


def _largest(values: torch.Tensor, size: int) -> torch.Tensor:
    """Positions of the `size` largest values, ascending; among equals the lowest positions."""
    if size >= len(values):
        return torch.arange(len(values), device=values.device)
    threshold = _order_statistic(values, size)
    chosen = values > threshold
    ties = (values == threshold).nonzero()[:, 0]
    chosen[ties[: size - int(chosen.sum())]] = True
    return chosen.nonzero()[:, 0]


def _order_statistic(values: torch.Tensor, size: int) -> float:
    """The `size`-th largest value; numpy's partition is many times faster than torch's on a CPU."""
    if values.device.type == "cpu":
        return float(np.partition(values.numpy(), len(values) - size)[len(values) - size])
    return float(torch.topk(values, size, sorted=False).values.min())
