"""Memory banks: a coreset of vectors in the store, with where each vector came from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from exdd_ray.banks.config import CoresetConfig
from exdd_ray.banks.coreset import CoresetOrder, greedy_order
from exdd_ray.banks.coreset import Progress as Rounds
from exdd_ray.banks.options import merge_reduce_order, patchcore_released_order, random_order
from exdd_ray.banks.projection import project, projection_matrix
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.config.base import identity, without
from exdd_ray.device import compute_device
from exdd_ray.errors import DataError
from exdd_ray.memory import return_freed_memory
from exdd_ray.progress import Advance, Progress
from exdd_ray.store.arrays import read_arrays, write_arrays
from exdd_ray.store.artifact import Artifact, Recipe, Store

# The greedy order of so many points from a first one, as `greedy_order` gives it: of the points as they are, or as a
# matrix projects them.
Orderer = Callable[[int, int, Rounds, np.ndarray | None], CoresetOrder]

VERSION = 4
FILE = "bank.arrow"


@dataclass(frozen=True)
class Points:
    """Vectors that a bank is chosen from.

    Attributes:
        read: opens them [N x D]; called only where the bank is not in the store.
        count: N.
        inputs: keys that name them.
        space: names the features (backbone, weights, layers, aggregator): distances exist within one space only.
        batch: the name under which they can be removed from the bank again.
        order: makes their greedy order elsewhere; None is in this process.
    """

    read: Callable[[], VectorBlocks]
    count: int
    inputs: tuple[str, ...]
    space: str
    batch: str
    order: Orderer | None = None


@dataclass(frozen=True)
class MemoryBank:
    """M vectors, in farthest-first order where they were chosen so.

    Attributes:
        key: of the artifact.
        space: of the features.
        vectors: float32 [M x D].
        points: [M] each vector's number among the points of its batch.
        radii: [M] distance of each to those before it, where it was picked: among the projected vectors, or the
            chunks' coresets (infinite for the first; NaN where the method gives none).
        batch: [M] which of the batches each vector came with.
        batches: their names.
    """

    key: str
    space: str
    vectors: np.ndarray
    points: np.ndarray
    radii: np.ndarray
    batch: np.ndarray
    batches: tuple[str, ...]


def bank_size(points: int, config: CoresetConfig) -> int:
    """Vectors that the coreset of `points` vectors keeps: int(rate * points), at least the minimum, at most all."""
    return min(points, max(config.minimum, int(config.rate * points)))


def make_bank(points: Points, config: CoresetConfig, seed: int, store: Store, progress: Progress) -> MemoryBank:
    """The coreset of points as a bank: computed unless the store has it.

    Args:
        seed: of the first pick, unless the config has its own.
    """
    return make_banks(points, [config], seed, store, progress)[0]


def make_banks(
    points: Points, configs: Sequence[CoresetConfig], seed: int, store: Store, progress: Progress
) -> list[MemoryBank]:
    """The coresets of the same points as banks; arguments as those of `make_bank`.

    Orders are nested: of the banks that the store lacks and that differ in size alone, the largest is ordered, and the
    others are its beginning. Each is the artifact that `make_bank` makes.
    """
    sizes: dict[str, int] = {}
    for config in configs:
        if store.peek(_recipe(points, config, seed).key) is None:
            family = order_family(config)
            sizes[family] = max(sizes.get(family, 0), bank_size(points.count, config))
    orders: dict[str, tuple[CoresetOrder, np.ndarray]] = {}

    def build(config: CoresetConfig, folder: Path) -> dict[str, Any]:
        family, picks = order_family(config), bank_size(points.count, config)
        if family not in orders:
            orders[family] = _ordered(points, config, max(picks, sizes.get(family, 0)), _seed(config, seed), progress)
        order, vectors = orders[family]
        columns = {"vectors": vectors[:picks], "points": order.indices[:picks], "radii": order.radii[:picks]}
        write_arrays(folder / FILE, {**columns, "batch": np.zeros(picks, dtype=np.int32)})
        return {"space": points.space, "batches": [points.batch], "of": points.count}

    banks = [_opened(store.make(_recipe(points, c, seed), partial(build, c))) for c in configs]
    if orders:
        return_freed_memory()
    return banks


def _recipe(points: Points, config: CoresetConfig, seed: int) -> Recipe:
    chosen = {"seed": _seed(config, seed), "picks": bank_size(points.count, config)}
    how = {**without(identity(config), "rate", "minimum"), **chosen}
    return Recipe("bank", VERSION, how, (*points.inputs, points.space))


def order_family(config: CoresetConfig) -> str:
    """Names the banks that are beginnings of one order of the same points; a merge-reduced one is alone."""
    sized = set() if config.method == "merge_reduce" else {"rate", "minimum"}
    return config.model_dump_json(exclude=sized)


def _seed(config: CoresetConfig, seed: int) -> int:
    return seed if config.seed is None else config.seed


def _ordered(
    points: Points, config: CoresetConfig, picks: int, seed: int, progress: Progress
) -> tuple[CoresetOrder, np.ndarray]:
    """The order of so many picks, and their vectors [picks x D]."""
    vectors = points.read()
    with progress(f"{points.batch} bank: {picks} of {points.count} vectors", picks) as advance:
        order = _order(vectors, config, picks, seed, advance, points.order)
    chosen = vectors.take(order.indices)
    check_finite(f"the {points.batch} bank", chosen)
    return order, chosen


def open_bank(store: Store, key: str) -> MemoryBank:
    """A bank of the store. Raises DataError where the store has none, or none whole, under the key."""
    artifact = store.find(key)
    if artifact is None:
        raise DataError(f"{store.root}: no bank {key} (a damaged one is moved out of the way)")
    return _opened(artifact)


def check_finite(name: str, vectors: np.ndarray) -> None:
    """Raise DataError where vectors [N x D] hold NaN or infinite values."""
    bad = int((~np.isfinite(vectors)).any(axis=1).sum())
    if bad:
        raise DataError(f"{name}: {bad} of {len(vectors)} vectors hold NaN or infinite values")


def _opened(artifact: Artifact) -> MemoryBank:
    columns = read_arrays(artifact.file(FILE))
    metadata = artifact.metadata
    return MemoryBank(artifact.key, metadata["space"], **columns, batches=tuple(metadata["batches"]))


def _order(
    points: VectorBlocks, config: CoresetConfig, picks: int, seed: int, advance: Advance, remote: Orderer | None
) -> CoresetOrder:
    if config.method == "random":
        return random_order(len(points), picks, seed=seed)
    matrix = None if config.projection is None else projection_matrix(points.dim, config.projection, seed)
    first, done = int(np.random.default_rng(seed).integers(len(points))), 0

    def report(made: int, wanted: int) -> None:
        nonlocal done
        advance(min(made, wanted) - done)
        done = made

    if config.method == "greedy" and remote is not None:
        return remote(picks, first, report, matrix)
    compared = points if matrix is None else project(points, matrix)
    if config.method == "approximate":
        return patchcore_released_order(compared, picks, seed=seed, progress=report)
    if config.method == "merge_reduce":
        return merge_reduce_order(
            compared, picks, first=first, chunk=config.chunk, device=compute_device(), progress=report
        )
    return greedy_order(compared, picks, first=first, device=compute_device(), progress=report)
