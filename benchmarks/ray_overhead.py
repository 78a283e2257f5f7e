"""Embedding and search through Ray against the same work in-process; two one-core workers against one."""

import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import ray
import torch
from common import free_tiles, report, resnet18, tile_features

from exdd_ray.banks.config import CoresetConfig
from exdd_ray.banks.memory_bank import Points, make_bank
from exdd_ray.banks.search import search
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.features.slices import plan_slices, run_on_threads
from exdd_ray.on_ray.bank import ShardedBank
from exdd_ray.on_ray.cluster import connect
from exdd_ray.on_ray.embed import RaySlices
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Store

IMAGES = 320
REPEATS = 3
SKIPPED = 4


def seconds_per_image(runner: object, folder: Path) -> float:
    """At steady state: the first slices, in which workers start and load their backbone, are not counted."""
    shutil.rmtree(folder, ignore_errors=True)
    jobs = plan_slices(free_tiles(IMAGES), resnet18())
    done: list[tuple[float, int]] = []
    runner(Store(folder), jobs, lambda images: done.append((time.perf_counter(), images)))  # type: ignore[operator]
    return (done[-1][0] - done[SKIPPED - 1][0]) / sum(n for _, n in done[SKIPPED:])


def searches(folder: Path) -> tuple[list[float], list[float]]:
    """Seconds of the same search in-process and over two shards."""
    embedding, vectors = tile_features(64)
    store = Store(folder / "banks")
    points = Points(lambda: VectorBlocks([vectors]), len(vectors), ("bench",), embedding.space, "normal")
    bank = make_bank(points, CoresetConfig(rate=0.12, method="random"), 0, store, silent)
    queries = vectors[: 784 * 24]
    sharded = ShardedBank(store, bank.key, shards=2)
    sharded.search(queries[:4096], 1)
    inside, through = [], []
    for _ in range(REPEATS):
        started = time.perf_counter()
        one = search(queries, bank.vectors, 1)
        inside.append(time.perf_counter() - started)
        started = time.perf_counter()
        other = sharded.search(queries, 1)
        through.append(time.perf_counter() - started)
        if not np.array_equal(one.indices, other.indices):
            sys.exit("the sharded bank answered otherwise than the whole one")
    sharded.close()
    return inside, through


def main() -> int:
    """Measure each pair in turn."""
    connect("local")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        local, rayed, one, two = [], [], [], []
        for _ in range(REPEATS):
            local.append(seconds_per_image(run_on_threads, folder / "store"))
            rayed.append(seconds_per_image(RaySlices(torch.get_num_threads()), folder / "store"))
            one.append(seconds_per_image(RaySlices(1), folder / "store"))
            two.append(seconds_per_image(RaySlices(2), folder / "store"))
        inside, through = searches(folder)
    ratios = {
        "embed_ratio": median(np.array(rayed) / local),
        "search_ratio": median(np.array(through) / inside),
        "two_workers": median(np.array(one) / two),
    }
    rows = [
        ("embedding, seconds an image", f"{median(local):.4f}", f"{median(rayed):.4f}", f"{ratios['embed_ratio']:.3f}"),
        ("search, seconds", f"{median(inside):.3f}", f"{median(through):.3f}", f"{ratios['search_ratio']:.3f}"),
        ("embedding, two workers for one", f"{median(two):.4f}", f"{median(one):.4f}", f"{ratios['two_workers']:.3f}"),
    ]
    ray.shutdown()
    figures = {name: round(float(value), 3) for name, value in ratios.items()}
    report("Ray against in-process", ("what", "in-process", "Ray", "ratio"), rows, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
