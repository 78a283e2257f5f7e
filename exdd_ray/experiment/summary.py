"""What a sweep says: means with intervals, differences from the baseline, the best trial, the Pareto front."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from exdd_ray.config.keys import resolve_key
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.experiment.tables import Row
from exdd_ray.metrics.difference import Difference, Measured, Run, difference, holm
from exdd_ray.metrics.influence import Scored
from exdd_ray.metrics.metric import VALIDATION
from exdd_ray.metrics.seeds import Mean, mean_by_seed, mean_of
from exdd_ray.metrics.table import COMPARED, COSTS, METRICS, influence_on, known_metric, on_validation

MEANS = tuple(metric.key for metric in COMPARED) + tuple(map(on_validation, (*COMPARED, *COSTS)))
# Key of a trial's artifact -> its scored images, by split.
ScoredTrials = Callable[[str], Mapping[str, Scored]]


@dataclass(frozen=True)
class PointSummary:
    """All trials of a point.

    Attributes:
        means: by metric; a metric that some trial lacks is absent.
        differences: from the baseline, by metric; their p are corrected by Holm's method over the points. Of points on
            the baseline's rung only.
        chosen: the best by the first objective on the images that the sweep selects by.
        pareto: no other point is better in one objective and at least as good in all others.
    """

    number: int
    name: str
    settings: str
    runs: int
    failed: int
    means: Mapping[str, Mean]
    differences: Mapping[str, Difference]
    baseline: bool
    chosen: bool
    pareto: bool


def judged_by(metric: str, sweep: SweepConfig) -> str:
    """The column of an objective on the images that the sweep selects by."""
    return metric if sweep.select == "test" else on_validation(METRICS[metric])


def summarize(trials: pa.Table, sweep: SweepConfig, baseline: str, scored: ScoredTrials) -> list[PointSummary]:
    """Every point of a table of trials, in its order.

    Chosen from are points with all of their trials done; of a search by successive halving those that reached the last
    rung, where the baseline is: with less effort a point is another one.

    Args:
        baseline: name of the point that the others are compared with.
        scored: the images behind a trial's metrics; where there are none a difference is tested over the seeds alone.
    """
    rows = trials.to_pylist()
    by_point = {name: [row for row in rows if row["name"] == name] for name in dict.fromkeys(r["name"] for r in rows)}
    means = {name: _means(members) for name, members in by_point.items()}
    last = rung(by_point[baseline][0], sweep)
    level = [name for name, members in by_point.items() if rung(members[0], sweep) == last]
    compared = _differences({name: by_point[name] for name in level}, baseline, scored)
    columns = [judged_by(metric, sweep) for metric in sweep.objectives]
    signs = [-1 if METRICS[metric].less else 1 for metric in sweep.objectives]
    complete = [
        name
        for name in level
        if all(row["state"] == "done" for row in by_point[name]) and all(column in means[name] for column in columns)
    ]
    values = np.array([[sign * means[n][c].value for c, sign in zip(columns, signs, strict=True)] for n in complete])
    judged = bool(complete and columns)  # a run chooses none
    best = complete[int(np.argmax(values[:, 0]))] if judged else None
    front = {name for name, on in zip(complete, pareto_front(values), strict=True) if on} if judged else set()
    return [
        PointSummary(
            number=members[0]["number"],
            name=name,
            settings=members[0]["settings"],
            runs=sum(row["state"] == "done" for row in members),
            failed=sum(row["state"] != "done" for row in members),
            means=means[name],
            differences=compared.get(name, {}),
            baseline=name == baseline,
            chosen=name == best,
            pareto=name in front,
        )
        for name, members in by_point.items()
    ]


def rung(row: Row, sweep: SweepConfig) -> float | None:
    """The effort that successive halving has spent on a row's point; None in other searches."""
    fidelity = sweep.tuner.fidelity
    if fidelity is None:
        return None
    full = resolve_key(fidelity.key, ExperimentConfig)
    return next(value for key, value in json.loads(row["settings"]).items() if f".{full}".endswith(f".{key}"))


def pareto_front(values: np.ndarray) -> np.ndarray:
    """Which of N points [N x objectives], larger being better, no other one dominates: bool [N]."""
    at_least = (values[:, None] >= values[None]).all(axis=2)
    better = (values[:, None] > values[None]).any(axis=2)
    return np.asarray(~(at_least & better).any(axis=0))


def _means(rows: Sequence[Row]) -> dict[str, Mean]:
    """Means of the metrics that all trials have; datasets and categories share their seed, so a seed is one run."""
    done = [row for row in rows if row["state"] == "done"]
    found = {}
    for metric in MEANS:
        values = {(run.seed, run.place): float(row[metric]) for run, row in _measured(done, metric)}
        if done and len(values) == len(done):
            found[metric] = mean_of(np.array(list(mean_by_seed(values).values())))
    return found


def _differences(
    by_point: Mapping[str, Sequence[Row]], baseline: str, scored: ScoredTrials
) -> dict[str, dict[str, Difference]]:
    """Of every point but the baseline, by metric: paired by seed, dataset, category and test images."""
    found: dict[str, dict[str, Difference]] = {name: {} for name in by_point}
    for metric in MEANS:
        theirs = _values(by_point[baseline], metric, scored)
        compared: dict[str, Difference] = {}
        for name, rows in by_point.items():
            mine = {run: value for run, value in _values(rows, metric, scored).items() if run in theirs}
            if mine and name != baseline:
                compared[name] = difference(mine, theirs, of_images=known_metric(metric).level != "cost")
        for name, corrected in zip(compared, holm(list(compared.values())), strict=True):
            found[name][metric] = corrected
    return found


def _measured(rows: Sequence[Row], metric: str) -> list[tuple[Run, Row]]:
    """The rows that have a metric, and what it is paired by."""
    return [
        (Run(row["seed"], json.dumps([row["dataset"], row["category"]]), row["tested"]), row)
        for row in rows
        if row[metric] is not None
    ]


def _values(rows: Sequence[Row], metric: str, scored: ScoredTrials) -> dict[Run, Measured]:
    split = "validation" if metric.startswith(VALIDATION) else "test"
    found = {}
    for run, row in _measured(rows, metric):
        images = scored(row["artifact"]).get(split)
        influence = influence_on(metric, images) if images else None
        measured_on = run._replace(tested=images.key) if images else run  # points may differ in one split alone
        found[measured_on] = Measured(float(row[metric]), influence)
    return found


def summary_table(points: Sequence[PointSummary]) -> pa.Table:
    """One row a point; columns `<metric>` and `<metric>_half`, `_difference`, `_difference_half`, `_p` and so on.

    `_unmeasured` is the noise that interval and p of the difference leave out: of the `seeds`, or of the `images`.
    """
    metric_fields = [
        field
        for metric in MEANS
        for field in (
            (metric, pa.float64()),
            (f"{metric}_half", pa.float64()),
            (f"{metric}_difference", pa.float64()),
            (f"{metric}_difference_half", pa.float64()),
            (f"{metric}_p", pa.float64()),
            (f"{metric}_within_noise", pa.bool_()),
            (f"{metric}_unmeasured", pa.string()),
        )
    ]
    schema = pa.schema(
        [
            ("number", pa.int32()),
            ("name", pa.string()),
            ("settings", pa.string()),
            ("runs", pa.int32()),
            ("failed", pa.int32()),
            *metric_fields,
            ("baseline", pa.bool_()),
            ("chosen", pa.bool_()),
            ("pareto", pa.bool_()),
        ]
    )
    return pa.Table.from_pylist([_summary_row(point) for point in points], schema=schema)


def _summary_row(point: PointSummary) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: getattr(point, name)
        for name in ("number", "name", "settings", "runs", "failed", "baseline", "chosen", "pareto")
    }
    for metric, mean in point.means.items():
        row |= {metric: mean.value, f"{metric}_half": mean.half}
    for metric, apart in point.differences.items():
        row |= {
            f"{metric}_difference": apart.mean.value,
            f"{metric}_difference_half": apart.mean.half,
            f"{metric}_p": apart.p,
            f"{metric}_within_noise": apart.within_noise,
            f"{metric}_unmeasured": apart.unmeasured,
        }
    return row
