"""What the benchmarks share: real images and features, timing, the table and the JSON line."""

import json
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from exdd_ray.data.catalog import CatalogRow, select_rows
from exdd_ray.data.datasets import load_dataset
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embed import Embedding, embed
from exdd_ray.store.artifact import Store

SHARED = Path(os.environ.get("EXDD_SHARED", "../shared"))
CACHE = Path(os.environ.get("EXDD_BENCH_CACHE", ".scratch"))


def tiles() -> pa.Table:
    """Catalog of the magnetic tiles; ends the program with a reason where they are absent."""
    root = SHARED / "data" / "magnetic-tile"
    if not root.is_dir():
        sys.exit(f"{root} is absent: set EXDD_SHARED to the folder with real images and weights")
    return load_dataset("magnetic_tile", root)


def resnet18() -> FeaturesConfig:
    """ImageNet ResNet-18, layers 2 and 3, 224 pixels: 784 vectors of 384 an image."""
    weights = SHARED / "weights" / "resnet18_in1k_conv1-layer3.safetensors"
    return FeaturesConfig(backbone="resnet18", weights=weights)


def free_tiles(count: int) -> pa.Table:
    """The first so many defect-free tiles."""
    return select_rows(tiles(), label=0).slice(0, count)


def tile_features(count: int) -> tuple[Embedding, np.ndarray]:
    """Real features [count * 784 x 384] of defect-free tiles, from the benchmarks' own store."""
    embedding = embed(free_tiles(count), resnet18(), Store(CACHE / "store"))
    vectors = embedding.vectors(np.arange(count))
    return embedding, vectors.take(np.arange(len(vectors)))


def copy_images(rows: Sequence[CatalogRow], images: Path, masks: Path) -> None:
    """Copies images, and the masks that they have, into folders; names tell their kinds."""
    for row in rows:
        name = f"{row.defect}_{Path(row.image).stem}"
        images.mkdir(parents=True, exist_ok=True)
        shutil.copy(row.image, images / f"{name}{Path(row.image).suffix}")
        if row.mask is not None:
            masks.mkdir(parents=True, exist_ok=True)
            shutil.copy(row.mask, masks / f"{name}_mask{Path(row.mask).suffix}")


def timed(work: Callable[[], object], repeats: int = 3) -> float:
    """Median seconds of so many runs."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def rounds_per_second(once: Callable[[], object], rounds: int, *, apart: bool) -> float:
    """How often a second a function runs, after a first run of each thread that is not counted.

    Args:
        apart: runs side by side, each on one thread; else one after another, each on all threads.
    """
    threads = torch.get_num_threads()
    workers, each = (threads, 1) if apart else (1, threads)
    torch.set_num_threads(each)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(each,)) as pool:
        list(pool.map(lambda _: once(), range(workers)))
        started = time.perf_counter()
        list(pool.map(lambda _: once(), range(rounds)))
        seconds = time.perf_counter() - started
    torch.set_num_threads(threads)
    return rounds / seconds


def report(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], figures: Mapping[str, object]) -> None:
    """Print a table, then the figures as one JSON object on the last line."""
    table = Table(*header, title=f"{title} ({os.cpu_count()} cores, {platform.processor() or platform.machine()})")
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)
    print(json.dumps(figures))
