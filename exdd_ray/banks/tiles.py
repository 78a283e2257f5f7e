"""Work cut into tiles, each computed on one thread: results do not depend on the number of threads or on their luck."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

Tile = TypeVar("Tile")
Result = TypeVar("Result")


@contextmanager
def one_thread_each() -> Iterator[int]:
    """Runs torch's own operations on one thread, in full float32; yields how many threads were set before.

    Small operations split over threads wait for the slowest one at every step, which on a machine that does anything
    else costs more than they compute. Whole tiles run side by side instead (`run_tiles`). Blocks may overlap, of one
    thread or of several: the last one to end restores what the first one found.
    """
    with _lock:
        if not _open_blocks:
            _found.append(_Settings())
            _Settings.exact()
        _open_blocks.append(None)
        threads = _found[0].threads
    try:
        yield threads
    finally:
        with _lock:
            _open_blocks.pop()
            if not _open_blocks:
                _found.pop().restore()


class _Settings:
    """torch's own, as they are now."""

    def __init__(self) -> None:
        self.threads = torch.get_num_threads()
        self._low = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
        self._precisions = [part.fp32_precision for part in _PRODUCTS]

    @staticmethod
    def exact() -> None:
        torch.set_num_threads(1)
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        for part in _PRODUCTS:
            part.fp32_precision = "ieee"

    def restore(self) -> None:
        torch.set_num_threads(self.threads)
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = self._low
        for part, precision in zip(_PRODUCTS, self._precisions, strict=True):
            part.fp32_precision = precision


_PRODUCTS: tuple[Any, ...] = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
)
_lock = threading.Lock()
_open_blocks: list[None] = []
_found: list[_Settings] = []


def run_tiles(work: Callable[[Tile], Result], tiles: Sequence[Tile], threads: int) -> list[Result]:
    """Results in the order of the tiles; an exception of any tile is raised here."""
    if threads <= 1 or len(tiles) <= 1:
        return [work(tile) for tile in tiles]
    with one_thread_each(), ThreadPoolExecutor(min(threads, len(tiles))) as pool:
        return list(pool.map(work, tiles))
