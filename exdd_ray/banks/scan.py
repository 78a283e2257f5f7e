"""A bank ready to be multiplied with tiles of queries, and the neighbours that the products leave.

An element of the product is a candidate while it is within the rounding error of the k-th smallest seen so far. The
minima of groups of columns tell where to look, so that the product is read once. Candidates get exact distances.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from exdd_ray.banks.exact import rounding_bound, squared_distances
from exdd_ray.banks.loader import Scratch, as_tensor, sample_mean
from exdd_ray.banks.tiles import run_tiles
from exdd_ray.banks.vectors import VectorBlocks

GROUP = 64
# Squares above this could overflow in a product; no product of vectors below it reaches half of what padding scores.
LARGEST_SQUARE = 1e37
_NEVER = 3e38
_ROWS = 512
_PAIR_ELEMENTS = 1 << 17


@dataclass(frozen=True)
class _Tile:
    """Queries [q x D], as given and as they are multiplied, with twice the error of their scores [q]."""

    raw: Tensor
    factors: Tensor
    margin: Tensor
    groups: Tensor | None


@dataclass(frozen=True)
class _Candidates:
    """Rows of the tile, places in the prepared bank, scores |c|^2 - 2qc."""

    rows: Tensor
    places: Tensor
    scores: Tensor


class PreparedBank:
    """Vectors [M x D] moved to the origin, with |c|^2 as one more component, cut at the nested sizes.

    Args:
        bank: the vectors; those before the last size are used.
        sizes: nested sizes, ascending.
        groups: of the vectors [M], where queries exclude their own.
        low: multiply in bfloat16; the margin grows with it, so that the same neighbours are among the candidates.
        device: where it computes.
        threads: parts prepared side by side.

    Raises:
        FloatingPointError: vectors hold NaN, infinite or huge values.
    """

    def __init__(
        self, bank: np.ndarray, sizes: Sequence[int], groups: np.ndarray | None, low: bool, device: str, threads: int
    ) -> None:
        self.device = torch.device(device)
        self._low = low
        self._scratch = Scratch()
        self._raw = as_tensor(bank[: sizes[-1]]).to(self.device)
        self._shift = sample_mean(VectorBlocks([bank])).to(self.device)
        self._numbers, self._parts = _layout(sizes, self.device)
        self._places = (self._numbers >= 0).nonzero()[:, 0]
        self._squares = torch.full((len(self._numbers),), _NEVER, device=self.device)
        kind = torch.bfloat16 if low else torch.float32
        self._factors = torch.zeros((len(self._numbers), self._raw.shape[1] + 1), dtype=kind, device=self.device)
        run_tiles(self._fill, range(0, len(self._raw), _ROWS), threads)
        self._factors[:, -1] = 0.0 if low else self._squares
        self._largest = _largest_norm(self._squares[self._places])
        self._groups = None if groups is None else torch.full_like(self._numbers, -1)
        if self._groups is not None and groups is not None:
            self._groups[self._places] = _numbers(groups[: sizes[-1]], self.device)

    def nearest(self, queries: np.ndarray, k: int, columns: int, groups: np.ndarray | None) -> list[np.ndarray]:
        """The k nearest of a tile of queries [q x D] in each nested bank.

        Args:
            columns: bank vectors multiplied at a time.
            groups: of the queries [q].

        Returns:
            Exact squared distances float64 and indices int64, [S x q x k]; infinite where groups leave fewer than k.

        Raises:
            FloatingPointError: queries hold NaN, infinite or huge values.
        """
        tile = self._tile(queries, groups)
        smallest = torch.full((len(queries), k), torch.inf, device=self.device)
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for part in self._parts:
            smallest, candidates = self._scan(tile, part, smallest, columns)
            nearest = self._exact(tile, candidates, k)
            if found:
                squares, indices = (np.concatenate(pair, axis=1) for pair in zip(found[-1], nearest, strict=True))
                nearest = best_of(squares, indices, k)
            found.append(nearest)
        return [np.stack(arrays) for arrays in zip(*found, strict=True)]

    def _fill(self, start: int) -> None:
        places = self._places[start : start + _ROWS]
        moved = self._raw[start : start + _ROWS] - self._shift
        self._squares[places] = torch.linalg.vector_norm(moved, dim=1, dtype=torch.float64).square_().float()
        self._factors[places, :-1] = moved.to(self._factors.dtype)

    def _tile(self, queries: np.ndarray, groups: np.ndarray | None) -> _Tile:
        raw = as_tensor(queries).to(self.device).float()
        dim = raw.shape[1]
        factors = self._scratch.matrix("queries", len(raw), dim + 1, self._squares)
        moved = torch.sub(raw, self._shift, out=factors[:, :dim])
        norms = torch.linalg.vector_norm(moved, dim=1)
        _largest_norm(norms.square())
        margin = rounding_bound(norms, self._largest, dim + 1).mul_(2)
        if self._low:
            # bfloat16 rounds both factors and the product by 2^-9, the product itself is added up in float32.
            margin.add_((norms + self._largest).square_(), alpha=4 * 2.0**-9)
        moved.mul_(-2)
        factors[:, dim] = 1
        return _Tile(
            raw, factors.to(self._factors.dtype), margin, None if groups is None else _numbers(groups, self.device)
        )

    def _scan(self, tile: _Tile, part: tuple[int, int], smallest: Tensor, columns: int) -> tuple[Tensor, _Candidates]:
        """The k smallest group minima so far [q x k], and the part's elements within the margin of the last of them."""
        kept: list[_Candidates] = []
        for start in range(*part, columns):
            stop = min(start + columns, part[1])
            scores = self._scores(tile, start, stop).view(len(smallest), -1, GROUP)
            minima = scores.amin(2)
            smallest = _k_smallest(smallest, minima)
            limit = smallest[:, -1] + tile.margin
            rows, groups = (minima <= limit[:, None]).nonzero(as_tuple=True)
            inside = scores[rows, groups]
            pair, offset = ((inside <= limit[rows, None]) & (inside < _NEVER / 2)).nonzero(as_tuple=True)
            kept.append(_Candidates(rows[pair], start + groups[pair] * GROUP + offset, inside[pair, offset]))
        rows, places, values = (torch.cat([getattr(c, n) for c in kept]) for n in ("rows", "places", "scores"))
        near = values <= (smallest[:, -1] + tile.margin)[rows]
        return smallest, _Candidates(rows[near], places[near], values[near])

    def _scores(self, tile: _Tile, start: int, stop: int) -> Tensor:
        out = self._scratch.matrix("scores", len(tile.raw), stop - start, self._squares)
        if self._low:
            out.copy_(torch.mm(tile.factors, self._factors[start:stop].T)).add_(self._squares[start:stop])
        else:
            torch.mm(tile.factors, self._factors[start:stop].T, out=out)
        if tile.groups is not None and self._groups is not None:
            out.masked_fill_(tile.groups[:, None] == self._groups[start:stop], torch.inf)
        return out

    def _exact(self, tile: _Tile, candidates: _Candidates, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Exact squared distances and indices of the k nearest candidates of each row [q x k]."""
        order = candidates.rows.argsort(stable=True)
        rows, numbers = candidates.rows[order], self._numbers[candidates.places[order]]
        queries = tile.raw if len(rows) == len(tile.raw) and _each_once(rows) else None
        apart = torch.empty(len(rows), dtype=torch.float64, device=self.device)
        step = max(1, _PAIR_ELEMENTS // tile.raw.shape[1])
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            near = tile.raw[rows[part]] if queries is None else queries[part]
            apart[part] = squared_distances(near, self._raw[numbers[part]].float())
        return _table(rows.cpu().numpy(), apart.cpu().numpy(), numbers.cpu().numpy(), (len(tile.raw), k))


def _table(
    rows: np.ndarray, squares: np.ndarray, indices: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest of each row, ties by index, from a list sorted by row; infinite and -1 where there are fewer."""
    if shape == (len(rows), 1) and len(np.unique(rows)) == len(rows):
        return squares[:, None], indices[:, None]
    order = np.lexsort((indices, squares, rows))
    rows, indices, squares = rows[order], indices[order], squares[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    first = rank < shape[1]
    nearest, places = np.full(shape, np.inf), np.full(shape, -1, dtype=np.int64)
    nearest[rows[first], rank[first]] = squares[first]
    places[rows[first], rank[first]] = indices[first]
    return nearest, places


def best_of(squares: np.ndarray, indices: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest along the last axis, ties by index."""
    order = np.lexsort((indices, squares), axis=-1)[..., :k]
    return np.take_along_axis(squares, order, -1), np.take_along_axis(indices, order, -1)


def _layout(sizes: Sequence[int], device: torch.device) -> tuple[Tensor, list[tuple[int, int]]]:
    """Vector number at each place, -1 for padding to whole groups, and the places of each part."""
    numbers: list[Tensor] = []
    parts: list[tuple[int, int]] = []
    for start, stop in zip((0, *sizes), sizes, strict=False):
        first = parts[-1][1] if parts else 0
        numbers += [torch.arange(start, stop), torch.full((-(stop - start) % GROUP,), -1)]
        parts.append((first, first + len(numbers[-2]) + len(numbers[-1])))
    return torch.cat(numbers).to(device), parts


def _k_smallest(smallest: Tensor, minima: Tensor) -> Tensor:
    """The k-th smallest group minimum is no less than the k-th smallest element."""
    if smallest.shape[1] == 1:
        return torch.minimum(smallest, minima.amin(1, keepdim=True))
    return torch.cat([smallest, minima], 1).topk(smallest.shape[1], largest=False).values


def _each_once(rows: Tensor) -> bool:
    return bool((rows == torch.arange(len(rows), device=rows.device)).all())


def _largest_norm(squares: Tensor) -> float:
    largest = float(squares.max())
    if not largest < LARGEST_SQUARE:
        raise FloatingPointError
    return float(largest**0.5)


def _numbers(groups: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(groups, dtype=np.int64)).to(device)
