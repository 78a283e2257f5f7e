"""Results as reports read them from their folder: points, their metrics, the rows of every trial."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from exdd_ray.config.keys import resolve_key
from exdd_ray.errors import ArtifactError, ConfigError
from exdd_ray.experiment.beside import Beside
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import read_raw, validate
from exdd_ray.experiment.space import Command, run_as_sweep
from exdd_ray.experiment.stored_result import StoredResult, read_result
from exdd_ray.experiment.summary import judged_by
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.experiment.sweep_results import CONFIGS, DIGEST, PLAN, RESOLVED, SUMMARY, TRIALS
from exdd_ray.metrics.metric import MISSING, Metric
from exdd_ray.metrics.table import METRICS, known_metric
from exdd_ray.store.artifact import open_store

FILES = (RESOLVED, PLAN, SUMMARY, DIGEST)
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Value:
    """A metric of a point, and its difference from the baseline's.

    Attributes:
        mean: over seeds and categories.
        half: half width of its 95 % interval; None with one run.
        difference, difference_half: from the baseline, and half width; None where there is none.
        p: of the difference.
        within_noise: None where there is no difference.
        unmeasured: the noise that the difference's interval and p leave out: of the `seeds` or of the `images`.
    """

    mean: float
    half: float | None = None
    difference: float | None = None
    difference_half: float | None = None
    p: float | None = None
    within_noise: bool | None = None
    unmeasured: str | None = None


@dataclass(frozen=True)
class Point:
    """A point of the swept space: its settings by dotted key, and its metrics by column; absent ones were not measured.

    Attributes:
        runs, failed: trials that are done, and that failed.
    """

    number: int
    name: str
    settings: Mapping[str, Any]
    runs: int
    failed: int
    baseline: bool
    chosen: bool
    pareto: bool
    values: Mapping[str, Value] = field(default_factory=dict)

    def mean(self, metric: Metric) -> float | None:
        """The mean of a metric, if it was measured."""
        value = self.values.get(metric.key)
        return None if value is None else value.mean


@dataclass(frozen=True)
class SweepFolder:
    """All of the results of a run or a sweep that its report shows.

    Attributes:
        command: that they are of.
        config: of a run, the sweep that it is.
        points: in the order that they were planned in.
        rows: of trials.parquet.
        summary, plan: of the JSON files.
    """

    folder: Path
    command: Command
    config: SweepConfig
    points: tuple[Point, ...]
    rows: tuple[Row, ...]
    summary: Mapping[str, Any]
    plan: Mapping[str, Any]

    @property
    def chosen(self) -> Point | None:
        """The best point by the selection metric."""
        return next((point for point in self.points if point.chosen), None)

    @property
    def baseline(self) -> Point | None:
        """The point that the others are compared with."""
        return next((point for point in self.points if point.baseline), None)

    @property
    def published(self) -> tuple[Beside, ...]:
        """Published figures beside what was measured here; runs of older versions have none."""
        return tuple(Beside(**one) for one in self.summary.get("published", ()))

    @property
    def overrides(self) -> tuple[str, ...]:
        """As they were typed."""
        return tuple(self.plan.get("overrides", ()))

    @property
    def keys(self) -> tuple[str, ...]:
        """The swept dotted keys, in order."""
        return tuple(dict.fromkeys(key for point in self.points for key in point.settings))

    @property
    def on_test(self) -> bool:
        """Whether the best point was chosen on the test images."""
        return self.config.select == "test"

    def done(self, point: Point) -> list[Row]:
        """The rows of a point's trials that did not fail."""
        return [row for row in self.rows if row["name"] == point.name and row["state"] == "done"]

    def objectives(self) -> tuple[Metric, ...]:
        """The objectives as measured on the images that the best point was chosen on; those of cost know no images."""
        return tuple(known_metric(judged_by(metric, self.config)) for metric in self.config.objectives)

    def metrics(self) -> tuple[Metric, ...]:
        """Metrics on the test images that any point has; the objectives first, and in any case."""
        found = {key for point in self.points for key in point.values}
        others = [key for key in METRICS if key in found]
        return tuple(map(known_metric, dict.fromkeys([*self.config.objectives, *others])))

    def title(self, key: str) -> str:
        """A swept key as a reader knows it: `count` as `synthesizer count`, by the last two parts of the full key."""
        found = next((name for name in self._swept if f".{name}".endswith(f".{key}")), key)
        return " ".join(found.split(".")[-max(2, key.count(".") + 1) :]).replace("_", " ")

    @cached_property
    def _swept(self) -> tuple[str, ...]:
        """The swept keys in full."""
        fidelity = self.config.tuner.fidelity
        keys = [*self.config.space, *([fidelity.key] if fidelity else [])]
        return tuple(resolve_key(key, ExperimentConfig) for key in keys)


def read_sweep(folder: Path) -> SweepFolder:
    """Read the results of a run or a sweep.

    Raises:
        ConfigError: the folder holds none, or its config is not valid.
        ArtifactError: a file is damaged.
    """
    command: Command = "run" if (folder / CONFIGS["run"]).is_file() else "sweep"
    path = folder / CONFIGS[command]
    if missing := [name for name in (TRIALS, path.name, *FILES) if not (folder / name).is_file()]:
        raise ConfigError(f"{folder}: not the results of a run or a sweep (it has no {missing[0]})")
    raw = read_raw(path)
    config = run_as_sweep(raw, path) if command == "run" else validate(SweepConfig, raw, path)
    try:
        points = [_point(row) for row in _rows(folder / SUMMARY)]
        return SweepFolder(
            folder=folder,
            command=command,
            config=config,
            points=tuple(sorted(points, key=lambda point: point.number)),
            rows=tuple(_rows(folder / TRIALS)),
            summary=json.loads((folder / DIGEST).read_text(encoding="utf-8")),
            plan=json.loads((folder / PLAN).read_text(encoding="utf-8")),
        )
    except (pa.ArrowInvalid, OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder}: damaged results ({error})") from error


def read_trials(sweep: SweepFolder, rows: Sequence[Row]) -> list[StoredResult]:
    """The results behind rows of trials that are done, from the store.

    Raises ArtifactError where it does not have them any more.
    """
    store = open_store(sweep.config.store)
    if store.mirror is None and not store.root.is_dir():
        raise ArtifactError(f"the store {store.root} is not here")
    return [read_result(store, row["artifact"], row["name"], row["dataset"], row["category"]) for row in rows]


def _rows(path: Path) -> list[Row]:
    """A table's rows; what is not a number is None."""
    return [
        {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
        for row in pq.read_table(path).to_pylist()
    ]


def _point(row: Row) -> Point:
    metrics = [
        key.removesuffix("_half") for key in row if key.endswith("_half") and not key.endswith("_difference_half")
    ]
    return Point(
        **{key: row[key] for key in ("number", "name", "runs", "failed", "baseline", "chosen", "pareto")},
        settings=json.loads(row["settings"]),
        values={metric: _value(row, metric) for metric in metrics if row[metric] is not None},
    )


def _value(row: Row, metric: str) -> Value:
    names = ("half", "difference", "difference_half", "p", "within_noise", "unmeasured")
    return Value(row[metric], **{name: row.get(f"{metric}_{name}") for name in names})


def setting_text(value: Any) -> str:
    """A setting's value on one line."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping | list):
        return str(yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf)).strip().strip("{}")
    return str(value)


def setting_of(point: Point, key: str) -> str:
    """A point's setting on one line; a dash where it has none."""
    return setting_text(point.settings[key]) if key in point.settings else MISSING


def number_of(value: Any) -> float | None:
    """A setting as a number, if it is one."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def numeric_keys(points: Sequence[Point], keys: Sequence[str]) -> tuple[str, ...]:
    """The keys that are set to two numbers or more."""
    return tuple(key for key in keys if len({number_of(point.settings.get(key)) for point in points} - {None}) > 1)
