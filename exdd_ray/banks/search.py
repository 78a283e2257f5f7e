"""Exact k-nearest neighbours: blocked matrix products sort out, exact distances decide (`scan.py`).

So ids and distances are the same whatever the tiles, the threads, the shards, the product's precision or the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from exdd_ray.banks.exact import LARGEST_SQUARE
from exdd_ray.banks.scan import GROUP, PreparedBank, best_of
from exdd_ray.banks.tiles import one_thread_each, run_tiles
from exdd_ray.banks.vectors import Span, VectorBlocks, as_blocks
from exdd_ray.errors import DataError

Precision = Literal["float32", "bfloat16"]

_TILE = {"cpu": 2048, "cuda": 8192}
_MEMORY_MIB = {"cpu": 8, "cuda": 512}


@dataclass(frozen=True)
class Neighbours:
    """Nearest bank vectors, nearest first; equal distances by lowest index.

    Attributes:
        distances: L2 float32 [S x Q x k], for each of S nested bank sizes.
        squares: the exact squared distances, float64 [S x Q x k]: what shards' results are merged by.
        indices: int64 [S x Q x k], positions in the bank.
    """

    distances: np.ndarray
    squares: np.ndarray
    indices: np.ndarray


def search(
    queries: VectorBlocks | np.ndarray,
    bank: np.ndarray,
    k: int,
    *,
    sizes: Sequence[int] | None = None,
    exclude: tuple[np.ndarray, np.ndarray] | None = None,
    memory_mib: int | None = None,
    precision: Precision = "float32",
    device: str = "cpu",
) -> Neighbours:
    """The k nearest bank vectors of every query.

    Args:
        queries: [Q x D].
        bank: [M x D].
        sizes: ascending nested bank sizes, each the first so many vectors, answered in one pass; None is (M,).
        exclude: groups of the queries [Q] and of the bank vectors [M]; a query ignores vectors of its own group.
        memory_mib: bound of the products held at a time by each thread; None is what measured fastest.
        precision: of the products; bfloat16 leaves more candidates and pays where the hardware multiplies it faster.
        device: `cpu` or a CUDA device.

    Raises:
        DataError: another dimension, NaN or infinite values, an empty bank, k larger than the smallest bank, or a query
            that has fewer than k vectors outside of its own group.
    """
    groups, bank_groups = exclude or (None, None)
    with one_thread_each():
        prepared = prepare_bank(bank, sizes=sizes, groups=bank_groups, precision=precision, device=device)
        return search_prepared(queries, prepared, k, groups=groups, memory_mib=memory_mib)


def prepare_bank(
    bank: np.ndarray,
    *,
    sizes: Sequence[int] | None = None,
    groups: np.ndarray | None = None,
    precision: Precision = "float32",
    device: str = "cpu",
) -> PreparedBank:
    """A bank [M x D] for many searches; arguments as those of `search`.

    Raises DataError for an empty bank, NaN or infinite values, sizes that are not ascending, another precision.
    """
    sizes = (len(bank),) if sizes is None else tuple(sizes)
    _check_bank(bank, sizes, groups, precision)
    with one_thread_each() as threads:
        threads = threads if torch.device(device).type == "cpu" else 1
        try:
            return PreparedBank(bank, sizes, groups, precision == "bfloat16", device, threads)
        except FloatingPointError:
            raise _unusable("the bank", as_blocks(bank)) from None


def search_prepared(
    queries: VectorBlocks | np.ndarray,
    bank: PreparedBank,
    k: int,
    *,
    groups: np.ndarray | None = None,
    memory_mib: int | None = None,
) -> Neighbours:
    """`search` in a bank that was prepared; `groups` are the queries' [Q], where the bank has some too.

    Raises DataError as `search` does.
    """
    found = search_part(queries, bank, k, groups=groups, memory_mib=memory_mib)
    require_found(found, k)
    return found


def require_found(found: Neighbours, k: int) -> None:
    """Raise DataError where a query found fewer than k vectors."""
    if np.isinf(found.squares[0]).any():
        raise DataError(f"a query has fewer than {k} bank vectors outside of its own group")


def search_part(
    queries: VectorBlocks | np.ndarray,
    bank: PreparedBank,
    k: int,
    *,
    groups: np.ndarray | None = None,
    memory_mib: int | None = None,
) -> Neighbours:
    """`search_prepared` in a part of a bank: a query that finds fewer than k there gets infinite distances and -1."""
    points, kind = as_blocks(queries), bank.device.type
    _check_queries(points, bank, k, groups)
    with one_thread_each() as threads:
        threads = threads if kind == "cpu" else 1
        rows = _tile_rows(len(points), threads, _TILE[kind])
        columns = max((memory_mib or _MEMORY_MIB[kind]) * 2**20 // (4 * rows) // GROUP, 1) * GROUP

        def work(span: Span) -> list[np.ndarray]:
            own = None if groups is None else groups[span.rows]
            found = bank.nearest(points.view(span), k, columns, own)
            points.release(span.rows)
            return found

        try:
            found = run_tiles(work, points.spans(rows), threads)
        except FloatingPointError:
            raise _unusable("queries", points) from None
    squares, indices = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    return Neighbours(np.sqrt(squares).astype(np.float32), squares, indices)


def merge_neighbours(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """The k nearest of all parts, whose indices are positions in one common bank: as if it had been searched whole."""
    squares, indices = (np.concatenate([getattr(p, name) for p in parts], axis=2) for name in ("squares", "indices"))
    squares, indices = best_of(squares, indices, k)
    return Neighbours(np.sqrt(squares).astype(np.float32), squares, indices)


def _tile_rows(queries: int, threads: int, most: int) -> int:
    """Rows of a tile, so that every thread gets as many."""
    rounds = -(-queries // (threads * most))
    return -(-queries // (threads * rounds))


def _unusable(name: str, vectors: VectorBlocks) -> DataError:
    usable = sum(
        int((np.einsum("nd,nd->n", block, block, dtype=np.float64) < LARGEST_SQUARE / 8).sum())
        for _, block in vectors.blocks(1 << 16)
    )
    if usable < len(vectors):
        return DataError(f"{name}: {len(vectors) - usable} vectors hold NaN, infinite or huge values")
    return DataError("the bank and the queries lie too far apart for float32")


def _check_bank(bank: np.ndarray, sizes: Sequence[int], groups: np.ndarray | None, precision: str) -> None:
    if bank.ndim != 2 or len(bank) == 0:
        raise DataError("the bank is empty: nothing to search in")
    if not sizes or list(sizes) != sorted(set(sizes)) or not 1 <= sizes[0] <= sizes[-1] <= len(bank):
        raise DataError(f"bank sizes {list(sizes)} are not ascending within 1 to {len(bank)}")
    if precision not in get_args(Precision):
        raise DataError(f"no precision {precision!r}: one of {', '.join(get_args(Precision))}")
    _check_groups(groups, len(bank), "bank vectors")


def _check_queries(queries: VectorBlocks, bank: PreparedBank, k: int, groups: np.ndarray | None) -> None:
    if queries.dim != bank.dim:
        raise DataError(f"queries have {queries.dim} dimensions, the bank has {bank.dim}: not the same features")
    if not 1 <= k <= bank.sizes[0]:
        raise DataError(f"{k} neighbours asked of a bank of {bank.sizes[0]}")
    if (groups is None) != (not bank.grouped):
        raise DataError("groups are of the queries and of the bank vectors, or of neither")
    _check_groups(groups, len(queries), "queries")


def _check_groups(groups: np.ndarray | None, count: int, what: str) -> None:
    if groups is None:
        return
    if groups.shape != (count,) or not np.issubdtype(groups.dtype, np.integer):
        raise DataError(f"groups of {count} {what} are {count} integers, not {groups.dtype} {list(groups.shape)}")
