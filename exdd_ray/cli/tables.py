"""Results as a table on the terminal."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from exdd_ray.experiment.result import TrialResult, results_table
from exdd_ray.metrics.table import COMPARED, METRICS
from exdd_ray.metrics.threshold import OperatingPoint

_SHOWN = [metric.key for metric in COMPARED if metric.shown == "everywhere"]


def console() -> Console:
    """Standard output, wide enough for tables where it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 120)


def print_results(results: Sequence[TrialResult]) -> None:
    """One line a trial: the mean over categories and seeds, in percent, with the deviation over seeds."""
    spread = ", ± standard deviation over seeds" if len({result.trial.config.seed for result in results}) > 1 else ""
    table = Table(title=f"percent; mean over categories{spread}")
    table.add_column("trial", no_wrap=True)
    for name in _SHOWN:
        table.add_column(name.replace("_", " "), justify="right")
    records = results_table(results).to_pylist()
    for name in dict.fromkeys(record["name"] for record in records):
        mine = [record for record in records if record["name"] == name]
        table.add_row(name, *(_cell(mine, metric) for metric in _SHOWN))
    console().print(table)
    for name in dict.fromkeys(record["name"] for record in records):
        mine = [record for record in records if record["name"] == name]
        if all(record["image_precision"] is None for record in mine):
            print(f"{name}: scores only, in predictions.parquet")
            continue
        at = " and ".join(f"{metric} {_cell(mine, f'image_{metric}')}" for metric in ("precision", "recall"))
        print(f"{name}: {at}, at the F1-max threshold chosen on the test images")
    for result in results:
        if result.held_out is not None:
            print(
                f"{result.trial.name}, {result.category}, seed {result.trial.config.seed}: {_held_out(result.held_out)}"
            )
    for remark in dict.fromkeys(remark for result in results for remark in result.remarks):
        print(f"note: {remark}")


def _held_out(point: OperatingPoint) -> str:
    reached = f"precision {100 * point.precision:.2f} and recall {100 * point.recall:.2f}"
    return f"{reached}, at the F1-max threshold of held-out training images"


def _cell(records: list[dict[str, Any]], metric: str) -> str:
    if any(record[metric] is None for record in records):
        return "-"
    seeds = list(dict.fromkeys(record["seed"] for record in records))
    by_seed = [float(np.mean([r[metric] for r in records if r["seed"] == seed])) for seed in seeds]
    text = METRICS[metric].text
    mean = text(float(np.mean(by_seed)))
    return mean if len(seeds) == 1 else f"{mean} ± {text(float(np.std(by_seed, ddof=1)))}"
