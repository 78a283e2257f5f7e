"""A bank ready to be multiplied with tiles of queries, and the neighbours that the products leave.

An element of the product is a candidate while it may be smaller than the k-th smallest seen so far, by the rounding
error of both. The minima of groups of columns tell where to look, so that the product is read once; a group's error is
that of its own largest norm, so that one long vector makes the others no less certain. Candidates get exact distances.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from exdd_ray.banks.exact import LARGEST_SQUARE, rounding_bound, squared_distances
from exdd_ray.banks.loader import Scratch, as_tensor, sample_mean
from exdd_ray.banks.tiles import run_tiles
from exdd_ray.banks.vectors import VectorBlocks

GROUP = 32
# Groups of candidates that a tile holds; more are settled at once (a bank of equal vectors has nothing else).
_MOST_GROUPS = 1 << 16
_ROWS = 512
_PAIR_ELEMENTS = 1 << 17


@dataclass(frozen=True)
class _Tile:
    """Queries [q x D], as given and as they are multiplied, and their norms [q]."""

    raw: Tensor
    factors: Tensor
    norms: Tensor
    groups: Tensor | None


@dataclass(frozen=True)
class _Candidates:
    """Rows of the tile, and places in the prepared bank of vectors that may be among their nearest."""

    rows: Tensor
    places: Tensor


class PreparedBank:
    """Vectors [M x D] moved to the origin, in order of |c|^2 within each nested part.

    In that order |c|^2 hardly varies within a group of columns, so that the product alone, -2qc, and the group's least
    and largest |c|^2 bound its scores |c|^2 - 2qc: adding |c|^2 to every element would cost a pass.

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
        norms = run_tiles(lambda part: (part - self._shift).norm(dim=1), self._raw.split(_ROWS), threads)
        squares = torch.cat(norms).square_()
        _check_size(squares)
        self.sizes = tuple(sizes)
        self._parts, self._numbers, real = _layout(sizes, squares)
        grouped = squares[self._numbers].view(-1, GROUP)
        self._least, self._most = grouped.amin(1), grouped.amax(1)
        self._longest = self._most.sqrt()
        self._squares = grouped.masked_fill_(~real.view(-1, GROUP), torch.inf)
        self._factors = torch.empty(
            (len(self._numbers), self._raw.shape[1]), dtype=torch.bfloat16 if low else torch.float32, device=self.device
        )
        run_tiles(self._fill, range(0, len(self._factors), _ROWS), threads)
        self._groups = None if groups is None else _integers(groups[: sizes[-1]], self.device)[self._numbers]

    @property
    def dim(self) -> int:
        """D."""
        return int(self._raw.shape[1])

    @property
    def grouped(self) -> bool:
        """Whether queries exclude vectors of their own group."""
        return self._groups is not None

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
            smallest, nearest = self._scan(tile, part, smallest, columns)
            if found:
                squares, indices = (np.concatenate(pair, axis=1) for pair in zip(found[-1], nearest, strict=True))
                nearest = best_of(squares, indices, k)
            found.append(nearest)
        return [np.stack(arrays) for arrays in zip(*found, strict=True)]

    def _fill(self, start: int) -> None:
        part = slice(start, start + _ROWS)
        self._factors[part] = self._raw[self._numbers[part]] - self._shift

    def _tile(self, queries: np.ndarray, groups: np.ndarray | None) -> _Tile:
        raw = as_tensor(queries).to(self.device).float()
        factors = self._scratch.matrix("queries", len(raw), raw.shape[1], self._shift)
        norms = torch.sub(raw, self._shift, out=factors).norm(dim=1)
        _check_size(norms.square())
        own = None if groups is None else _integers(groups, self.device)
        return _Tile(raw, factors.mul_(-2).to(self._factors.dtype), norms, own)

    def _errors(self, tile: _Tile, among: slice) -> Tensor:
        """Largest error of the scores of each row and group [q x g]."""
        norms, longest = tile.norms[:, None], self._longest[among]
        # |c|^2 is added up in float32 too: the root of two pays for it.
        errors = rounding_bound(norms, 2**0.5 * longest, tile.raw.shape[1])
        if self._low:
            # bfloat16 rounds both factors and the product 2qc by 2^-8 each: 6 * 2^-8 |q||c| together, where 4 |q||c| is
            # at most the square of the norms' sum; the rest pays for products of errors. Sums are float32's.
            errors.add_((norms + longest).square_(), alpha=2 * 2.0**-8)
        return errors

    def _scan(
        self, tile: _Tile, part: tuple[int, int], smallest: Tensor, columns: int
    ) -> tuple[Tensor, tuple[np.ndarray, np.ndarray]]:
        """Upper bounds of the k smallest scores so far [q x k], and the nearest of the part, as `_exact` gives them."""
        kept: list[tuple[Tensor, ...]] = []
        nearest: tuple[np.ndarray, np.ndarray] | None = None
        for start in range(*part, columns):
            stop = min(start + columns, part[1])
            products = self._products(tile, start, stop).view(len(smallest), -1, GROUP)
            among = slice(start // GROUP, stop // GROUP)
            minima, errors = products.amin(2), self._errors(tile, among)
            # Of a group with the least product p, one score is at most p + most + error, and none is below p + least -
            # error. The k-th smallest of the former is at least the k-th smallest score: groups above it are out.
            smallest = _k_smallest(smallest, (minima + self._most[among]).add_(errors))
            least = minima.add_(self._least[among]).sub_(errors)
            rows, groups = (least <= smallest[:, -1:]).nonzero(as_tuple=True)
            kept.append((rows, groups + among.start, least[rows, groups], products[rows, groups], errors[rows, groups]))
            if sum(len(columns[0]) for columns in kept) > _MOST_GROUPS or stop == part[1]:
                nearest = self._settle(tile, kept, smallest, nearest)
                kept.clear()
        assert nearest is not None
        return smallest, nearest

    def _settle(
        self,
        tile: _Tile,
        kept: Sequence[tuple[Tensor, ...]],
        smallest: Tensor,
        nearest: tuple[np.ndarray, np.ndarray] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest among the kept groups' elements and those before."""
        rows, groups, least, products, errors = (torch.cat(column) for column in zip(*kept, strict=True))
        limit, k = smallest[:, -1], smallest.shape[1]
        near = (least <= limit[rows]).nonzero()[:, 0]
        rows, groups, errors = rows[near], groups[near], errors[near]
        scores = products[near] + self._squares[groups]
        # once for the element's own error: `limit` holds that of the score that set it
        pair, offset = ((scores <= (limit[rows] + errors)[:, None]) & scores.isfinite()).nonzero(as_tuple=True)
        found = self._exact(tile, _Candidates(rows[pair], groups[pair] * GROUP + offset), k)
        if nearest is None:
            return found
        squares, indices = (np.concatenate(both, axis=1) for both in zip(nearest, found, strict=True))
        return best_of(squares, indices, k)

    def _products(self, tile: _Tile, start: int, stop: int) -> Tensor:
        """-2qc [q x (stop - start)]; infinite where a query excludes the vector."""
        out = self._scratch.matrix("products", len(tile.raw), stop - start, self._shift)
        if self._low:
            out.copy_(torch.mm(tile.factors, self._factors[start:stop].T))
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


def _layout(sizes: Sequence[int], squares: Tensor) -> tuple[list[tuple[int, int]], Tensor, Tensor]:
    """Places of each nested part, the vector at each place, and whether it is there for the first time.

    Within a part vectors are in order of their squares; the last one fills its group up.
    """
    parts: list[tuple[int, int]] = []
    numbers: list[Tensor] = []
    real: list[Tensor] = []
    for start, stop in zip((0, *sizes), sizes, strict=False):
        first = parts[-1][1] if parts else 0
        order = start + squares[start:stop].argsort(stable=True)
        padding = -len(order) % GROUP
        numbers += [order, order[-1:].expand(padding)]
        real += [torch.ones_like(order, dtype=torch.bool), order.new_zeros(padding, dtype=torch.bool)]
        parts.append((first, first + len(order) + padding))
    return parts, torch.cat(numbers), torch.cat(real)


def _k_smallest(smallest: Tensor, minima: Tensor) -> Tensor:
    """Of the bounds of groups: the k-th smallest of them is no less than the k-th smallest score."""
    if smallest.shape[1] == 1:
        return torch.minimum(smallest, minima.amin(1, keepdim=True))
    return torch.cat([smallest, minima], 1).topk(smallest.shape[1], largest=False).values


def _each_once(rows: Tensor) -> bool:
    return bool((rows == torch.arange(len(rows), device=rows.device)).all())


def _check_size(squares: Tensor) -> None:
    if not float(squares.max()) < LARGEST_SQUARE:
        raise FloatingPointError


def _integers(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.int64)).to(device)
