"""Embedding from JPEG files, in-process and with Ray Data, against the bare forward pass and a DataLoader loop."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from common import free_tiles, report, resnet18, rounds_per_second

from exdd_ray.data.images import read_image
from exdd_ray.features.aggregate import aggregate
from exdd_ray.features.backbone import folded, load_backbone
from exdd_ray.features.embed import embed
from exdd_ray.features.prepare import prepare_image
from exdd_ray.features.slices import SLICE, plan_slices, run_on_threads
from exdd_ray.on_ray.cluster import connect
from exdd_ray.on_ray.embed import RaySlices
from exdd_ray.store.artifact import Store

IMAGES = 320
REPEATS = 7


class Tiles(torch.utils.data.Dataset[torch.Tensor]):
    """The images as the usual data set: decoded and resized one at a time."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.from_numpy(prepare_image(read_image(self.paths[i]), resnet18()))


def bare(count: int, size: int, *, apart: bool) -> float:
    """Images per second of the truncated forward pass and aggregation on ready tensors, all cores.

    Args:
        size: images a batch.
        apart: batches side by side, each on one thread; else one after another, each on all threads.
    """
    backbone = folded(load_backbone(resnet18()))
    batch = torch.randn(size, 3, 224, 224).contiguous(memory_format=torch.channels_last)

    def once() -> None:
        with torch.inference_mode():
            aggregate(backbone(batch), "avg")

    return size * rounds_per_second(once, count // size, apart=apart)


def pipeline(runner: object, folder: Path) -> float:
    """Images per second of the whole pipeline: decode, resize, embed, write artifacts."""
    shutil.rmtree(folder, ignore_errors=True)
    catalog = free_tiles(IMAGES)
    started = time.perf_counter()
    embed(catalog, resnet18(), Store(folder), run=runner)  # type: ignore[arg-type]
    return IMAGES / (time.perf_counter() - started)


def ray_steady(folder: Path) -> float:
    """Images per second with Ray Data between the first slice and the last: without the start of its workers."""
    shutil.rmtree(folder, ignore_errors=True)
    jobs = plan_slices(free_tiles(IMAGES), resnet18())
    done: list[tuple[float, int]] = []
    RaySlices()(Store(folder), jobs, lambda images: done.append((time.perf_counter(), images)))
    skipped = 4  # slices until every worker has loaded its backbone
    return sum(n for _, n in done[skipped:]) / (done[-1][0] - done[skipped - 1][0])


def dataloader() -> float:
    """Images per second of the usual loop: a DataLoader with workers, its batches through the same backbone."""
    paths = free_tiles(IMAGES)["image"].to_pylist()
    loader = torch.utils.data.DataLoader(Tiles(paths), batch_size=SLICE, num_workers=2)
    backbone = load_backbone(resnet18())
    started = time.perf_counter()
    with torch.inference_mode():
        kept = [aggregate(backbone(batch), "avg").vectors.numpy() for batch in loader]
    np.concatenate(kept)
    return IMAGES / (time.perf_counter() - started)


def measure(folder: Path) -> tuple[dict[str, list[float]], list[str]]:
    """Images per second of every way, all in turn, so that a drift of the machine meets all alike; the bare ones."""
    ways: dict[str, Callable[[], float]] = {
        f"bare, {size} a batch, {'a thread each' if apart else 'all threads'}": partial(bare, 128, size, apart=apart)
        for size in (2, 4, SLICE)
        for apart in (True, False)
    }
    names = list(ways)
    ways |= {
        "local": partial(pipeline, run_on_threads, folder),
        "ray": partial(ray_steady, folder),
        "dataloader": dataloader,
    }
    pipeline(run_on_threads, folder)  # warm the caches of the files
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            found[name].append(way())
    return found, names


def main() -> int:
    """The bare forward pass is the fastest of six ways to call it."""
    connect("local")
    with tempfile.TemporaryDirectory() as name:
        found, names = measure(Path(name) / "store")
    speed = {name: median(values) for name, values in found.items()}
    best = max(names, key=lambda name: speed[name])
    ratio = {name: median(np.array(values) / found[best]) for name, values in found.items()}
    rows = [(name, f"{speed[name]:.1f}", f"{ratio[name]:.3f}") for name in found]
    figures = {
        "fraction_local": round(float(ratio["local"]), 3),
        "fraction_ray": round(float(ratio["ray"]), 3),
        "ratio_dataloader": round(float(median(np.array(found["local"]) / found["dataloader"])), 3),
        "images_per_second": round(speed["local"], 1),
    }
    header = ("what", "images/s", "of the best bare forward pass")
    report(f"embedding {IMAGES} tiles", header, rows, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
