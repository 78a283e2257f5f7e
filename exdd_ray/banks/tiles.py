"""Work cut into tiles, each computed on one thread: results do not depend on the number of threads or on their luck."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Tile = TypeVar("Tile")
Result = TypeVar("Result")


@contextmanager
def one_thread_each() -> Iterator[int]:
    """Runs torch's own operations on one thread, in full float32; yields how many threads were set before.

    Small operations split over threads wait for the slowest one at every step, which on a machine that does anything
    else costs more than they compute. Whole tiles run side by side instead (`run_tiles`).
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def run_tiles(work: Callable[[Tile], Result], tiles: Sequence[Tile], threads: int) -> list[Result]:
    """Results in the order of the tiles; an exception of any tile is raised here."""
    if threads <= 1 or len(tiles) <= 1:
        return [work(tile) for tile in tiles]
    with one_thread_each(), ThreadPoolExecutor(min(threads, len(tiles))) as pool:
        return list(pool.map(work, tiles))
