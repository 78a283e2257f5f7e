"""Published figures beside what the trials of a run or a sweep have measured."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exdd_ray.config.keys import resolve_key, value_at
from exdd_ray.experiment.config import VARIANT, ExperimentConfig
from exdd_ray.experiment.space import LoadedSweep
from exdd_ray.experiment.tables import Row
from exdd_ray.metrics.published import PublishedConfig
from exdd_ray.metrics.seeds import mean_by_seed


@dataclass(frozen=True)
class Beside:
    """A published figure, and what was measured here.

    Attributes:
        point: name of the point that it is beside.
        metric: key of the metric.
        published, published_std: not measured here; a deviation of None was not told.
        source: where it was published.
        measured, measured_std: mean and sample deviation over seeds; None where nothing, or one seed, was measured.
        seeds: with which it was measured.
    """

    point: str
    metric: str
    published: float
    published_std: float | None
    source: str
    measured: float | None
    measured_std: float | None
    seeds: int


def beside_published(loaded: LoadedSweep, rows: Sequence[Row]) -> list[Beside]:
    """Each published figure beside the points that it is of, in their order."""
    if not loaded.sweep.published:
        return []
    by_point: dict[str, list[Row]] = {}
    for row in rows:
        by_point.setdefault(row["name"], []).append(row)
    found = []
    for name, its in by_point.items():
        for figure in loaded.sweep.published:
            matching = _matching(figure, loaded, json.loads(its[0]["settings"]))
            if matching:
                found.append(_beside(figure, name, [row for row in its if (row["dataset"], row["seed"]) in matching]))
    return found


def _matching(figure: PublishedConfig, loaded: LoadedSweep, varied: Mapping[str, Any]) -> set[tuple[str, int]]:
    """Dataset and seed of the trials of a point that a figure is of."""
    wanted = {resolve_key(key, ExperimentConfig): value for key, value in figure.of.items() if key != VARIANT}
    if VARIANT in figure.of and varied.get(VARIANT) != figure.of[VARIANT]:
        return set()
    found = set()
    for dataset, trial in loaded.point(0, varied).trials:
        raw = trial.config.model_dump(mode="json")
        if all(value_at(raw, key) == value for key, value in wanted.items()):
            found.add((dataset, trial.config.seed))
    return found


def _beside(figure: PublishedConfig, name: str, rows: Sequence[Row]) -> Beside:
    measured = {
        (row["seed"], json.dumps([row["dataset"], row["category"]])): row[figure.metric]
        for row in rows
        if row["state"] == "done"
    }
    each = [] if None in measured.values() else list(mean_by_seed(measured).values())
    return Beside(
        point=name,
        metric=figure.metric,
        published=figure.value,
        published_std=figure.std,
        source=figure.source,
        measured=float(np.mean(each)) if each else None,
        measured_std=float(np.std(each, ddof=1)) if len(each) > 1 else None,
        seeds=len(each),
    )
