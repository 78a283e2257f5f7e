"""Exact k-nearest neighbours: blocked matrix products sort out, exact distances decide (`scan.py`).

So ids and distances are the same whatever the tiles, the threads, the shards, the product's precision or the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from exdd_ray.banks.scan import GROUP, LARGEST_SQUARE, PreparedBank, best_of
from exdd_ray.banks.tiles import one_thread_each, run_tiles
from exdd_ray.banks.vectors import Span, VectorBlocks, as_blocks
from exdd_ray.errors import DataError

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
    precision: Literal["float32", "bfloat16"] = "float32",
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
    points = as_blocks(queries)
    sizes = (len(bank),) if sizes is None else tuple(sizes)
    _check(points, bank, k, sizes)
    kind = torch.device(device).type
    with one_thread_each() as threads:
        threads = threads if kind == "cpu" else 1
        rows = _tile_rows(len(points), threads, _TILE[kind])
        columns = max((memory_mib or _MEMORY_MIB[kind]) * 2**20 // (4 * rows) // GROUP, 1) * GROUP
        groups, bank_groups = exclude or (None, None)

        def work(span: Span) -> list[np.ndarray]:
            own = None if groups is None else groups[span.rows]
            found = prepared.nearest(points.view(span), k, columns, own)
            points.release(span.rows)
            return found

        try:
            prepared = PreparedBank(bank, sizes, bank_groups, precision == "bfloat16", device, threads)
            found = run_tiles(work, points.spans(rows), threads)
        except FloatingPointError:
            raise _unusable(points, bank) from None
    squares, indices = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    if np.isinf(squares[0]).any():
        raise DataError(f"a query has fewer than {k} bank vectors outside of its own group")
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


def _unusable(queries: VectorBlocks, bank: np.ndarray) -> DataError:
    for name, blocks in (("the bank", as_blocks(bank)), ("queries", queries)):
        usable = sum(
            int((np.einsum("nd,nd->n", block, block, dtype=np.float64) < LARGEST_SQUARE / 8).sum())
            for _, block in blocks.blocks(1 << 16)
        )
        if usable < len(blocks):
            return DataError(f"{name}: {len(blocks) - usable} vectors hold NaN, infinite or huge values")
    return DataError("the bank and the queries lie too far apart for float32")


def _check(queries: VectorBlocks, bank: np.ndarray, k: int, sizes: Sequence[int]) -> None:
    if bank.ndim != 2 or len(bank) == 0:
        raise DataError("the bank is empty: nothing to search in")
    if queries.dim != bank.shape[1]:
        raise DataError(f"queries have {queries.dim} dimensions, the bank has {bank.shape[1]}: not the same features")
    if list(sizes) != sorted(set(sizes)) or not 1 <= sizes[0] <= sizes[-1] <= len(bank):
        raise DataError(f"bank sizes {list(sizes)} are not ascending within 1 to {len(bank)}")
    if not 1 <= k <= sizes[0]:
        raise DataError(f"{k} neighbours asked of a bank of {sizes[0]}")
