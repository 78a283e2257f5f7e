"""Memory banks: a coreset of vectors in the store, with where each vector came from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exdd_ray.banks.coreset import CoresetOrder, greedy_order
from exdd_ray.banks.options import patchcore_released_order, project, random_order
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.config.detector import CoresetConfig
from exdd_ray.progress import Advance, Progress
from exdd_ray.store.arrays import read_arrays, write_arrays
from exdd_ray.store.artifact import Recipe, Store

VERSION = 1
_FILE = "bank.arrow"


@dataclass(frozen=True)
class MemoryBank:
    """M vectors in farthest-first order.

    Attributes:
        key: of the artifact.
        vectors: float32 [M x D].
        points: [M] each vector's number among the points that the bank was chosen from.
        radii: [M] distance of each to those before it (infinite for the first; NaN where the method gives none).
    """

    key: str
    vectors: np.ndarray
    points: np.ndarray
    radii: np.ndarray


def bank_size(points: int, config: CoresetConfig) -> int:
    """Vectors that the coreset of `points` vectors keeps: int(rate * points), at least the minimum, at most all."""
    return min(points, max(config.minimum, int(config.rate * points)))


def make_bank(
    points: Callable[[], VectorBlocks],
    count: int,
    config: CoresetConfig,
    seed: int,
    inputs: tuple[str, ...],
    store: Store,
    progress: Progress,
    label: str,
) -> MemoryBank:
    """The bank of points [N x D]: its coreset is computed unless the store has it.

    Args:
        points: opens the points; called only where the coreset is not in the store.
        count: N.
        inputs: keys that name the points.
        seed: of the first pick, unless the config has its own.
    """
    seed = seed if config.seed is None else config.seed
    picks = bank_size(count, config)
    how = {"method": config.method, "projection": config.projection, "seed": seed, "picks": picks}

    def build(folder: Path) -> dict[str, Any]:
        vectors = points()
        with progress(f"{label} bank: {picks} of {count} vectors", picks) as advance:
            order = _order(vectors, config, picks, seed, advance)
        write_arrays(
            folder / _FILE, {"vectors": vectors.take(order.indices), "points": order.indices, "radii": order.radii}
        )
        return {"of": count, "rounds": order.rounds}

    artifact = store.make(Recipe("bank", VERSION, how, inputs), build)
    return MemoryBank(artifact.key, **read_arrays(artifact.file(_FILE)))


def _order(points: VectorBlocks, config: CoresetConfig, picks: int, seed: int, advance: Advance) -> CoresetOrder:
    if config.method == "random":
        return random_order(len(points), picks, seed=seed)
    compared = points if config.projection is None else project(points, config.projection, seed=seed)
    done = 0

    def report(made: int, wanted: int) -> None:
        nonlocal done
        advance(min(made, wanted) - done)
        done = made

    if config.method == "approximate":
        return patchcore_released_order(compared, picks, seed=seed, progress=report)
    first = int(np.random.default_rng(seed).integers(len(points)))
    return greedy_order(compared, picks, first=first, progress=report)
