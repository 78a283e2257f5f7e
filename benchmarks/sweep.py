"""Sixty trials against one: a sweep of magnetic tiles (5 bank rates x 4 neighbourhoods x 3 synthetic counts).

Every run is a process of its own with an empty store, as a user would start it: the sweep (`exdd sweep`), one of its
trials alone (`exdd run`). Of the 60 independent runs a sample is timed and the sum extrapolated from their mean; their
metrics are compared with those of the sweep's trials.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import yaml
from common import CACHE, SHARED, report

from exdd_ray.experiment.space import Point, load_sweep, points_ahead

CONFIG = Path(__file__).parents[1] / "configs/sweeps/exdd_magnetic_tile.yaml"
METRICS = ("image_auroc", "image_ap", "image_f1", "pixel_auroc", "pixel_ap", "pixel_f1", "aupro")
GOALS = {"over_single": 2.0, "speedup_independent": 20, "warm_seconds": 30}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="cold sweeps, and cold runs of the baseline")
    parser.add_argument("--sample", type=int, default=3, help="other trials that are run alone")
    parser.add_argument("--here", action="store_true", help="the sweep without Ray")
    arguments = parser.parse_args()
    if not (SHARED / "data" / "magnetic-tile").is_dir():
        sys.exit(f"{SHARED} has no magnetic tiles: set EXDD_SHARED to the folder with real images and weights")
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        measure(Path(folder), arguments)


def measure(folder: Path, arguments: argparse.Namespace) -> None:
    points = points_ahead(load_sweep(CONFIG))
    options = ["--here"] if arguments.here else []
    cold, single = [], []
    for _ in range(arguments.repeats):  # in turns, so that both have the same weather
        cold.append(run_sweep(folder, options, fresh=True))
        single.append(run_alone(folder, points[0]))
    warm = statistics.median(run_sweep(folder, options, fresh=False) for _ in range(arguments.repeats))
    swept = {row["name"]: row for row in pq.read_table(folder / "sweep/trials.parquet").to_pylist()}
    apart = [difference(folder, points[0], swept)]
    others = sampled(points[1:], arguments.sample)
    alone = [statistics.median(single)]
    for point in others:
        alone.append(run_alone(folder, point))
        apart.append(difference(folder, point, swept))
    sweep, all_alone = statistics.median(cold), len(points) * statistics.mean(alone)
    figures = {
        "over_single": round(sweep / alone[0], 2),
        "speedup_independent": round(all_alone / sweep, 1),
        "identical": bool(max(apart) <= 1e-6),
        "warm_seconds": round(warm, 1),
        "cold_seconds": round(sweep, 1),
        "single_seconds": round(alone[0], 1),
        "largest_difference": max(apart),
        "compared": len(apart),
        "trials": len(points),
    }
    rows = [
        (f"{len(points)} trials, cold", f"{sweep:.1f} s", ", ".join(f"{s:.1f}" for s in cold)),
        ("one trial, cold", f"{alone[0]:.1f} s", ", ".join(f"{s:.1f}" for s in single)),
        ("others of them, cold", f"{statistics.mean(alone[1:]):.1f} s", ", ".join(f"{s:.1f}" for s in alone[1:])),
        (f"{len(points)} independent runs", f"{all_alone:.0f} s", "extrapolated from the mean of those timed"),
        (f"{len(points)} trials, warm", f"{warm:.1f} s", "all in the store"),
        ("largest difference of a metric", f"{max(apart):.1e}", f"{len(apart)} trials x {len(METRICS)} metrics"),
    ]
    report("a sweep against independent runs, magnetic tiles, ResNet-18", ("", "median", "runs"), rows, figures)


def sampled(points: Sequence[Point], count: int) -> list[Point]:
    """Points spread over the grid."""
    return [points[i] for i in np.linspace(0, len(points) - 1, count).round().astype(int)]


def run_sweep(folder: Path, options: Sequence[str], *, fresh: bool) -> float:
    store, output = folder / "store", folder / "sweep"
    if fresh:
        for old in (store, output):
            shutil.rmtree(old, ignore_errors=True)
    return timed_process("sweep", str(CONFIG), f"store={store}", f"output={output}", *options)


def run_alone(folder: Path, point: Point) -> float:
    """Seconds of one trial as a run of its own, with an empty store."""
    for old in ("store-alone", "alone"):
        shutil.rmtree(folder / old, ignore_errors=True)
    ((_, trial),) = point.trials
    config = {"name": "alone", **trial.config.model_dump(mode="json")}
    (folder / "alone.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    places = (f"store={folder}/store-alone", f"output={folder}/alone")
    return timed_process("run", str(folder / "alone.yaml"), *places)


def difference(folder: Path, point: Point, swept: dict[str, dict[str, float]]) -> float:
    """Largest difference of a metric between the run of a point alone and the sweep's trial."""
    (row,) = pq.read_table(folder / "alone/trials.parquet").to_pylist()
    return max(abs(row[name] - swept[point.name][name]) for name in METRICS)


def timed_process(*arguments: str) -> float:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "exdd_ray.cli.main", *arguments], capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"exdd {' '.join(arguments)}: {done.stderr[-2000:]}")
    print(f"exdd {arguments[0]}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds


if __name__ == "__main__":
    main()
