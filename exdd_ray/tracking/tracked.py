"""A sweep's results as trackers show them: each trial with its artifact in the store."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exdd_ray.config.keys import set_key
from exdd_ray.errors import ArtifactError, ConfigError
from exdd_ray.report.sweep_data import Row, SweepFolder, read_sweep
from exdd_ray.store.artifact import Artifact, Store, open_store

_COUNTED = ("number", "seed")  # numbers that are no metrics
Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class TrialRow:
    """One point of the space with one seed on one category.

    Attributes:
        settings: what the sweep varies -> value.
        error: why it failed; empty where it is done.
        artifact: None where it failed.
        metrics: those that could be measured, counts among them.
        remarks: what a reader must know, each in a line.
    """

    number: int
    name: str
    settings: Mapping[str, Any]
    seed: int
    dataset: str
    category: str
    error: str
    artifact: Artifact | None
    metrics: Mapping[str, float]
    remarks: str

    @property
    def title(self) -> str:
        """Differs from those of all other trials."""
        return ", ".join(filter(None, [self.name, self.category, f"seed {self.seed}"]))

    @property
    def identity(self) -> str:
        """The same whenever the same trial is logged: of the artifact's key, or of the title where there is none."""
        return f"{self.name} {self.artifact.key}" if self.artifact else self.title

    @property
    def stages(self) -> tuple[str, ...]:
        """Keys of the artifacts that it was made from."""
        return () if self.artifact is None else tuple(self.artifact.metadata["stages"])


@dataclass(frozen=True)
class TrackedSweep:
    """A sweep's results, and its trials with their artifacts."""

    results: SweepFolder
    store: Store
    trials: tuple[TrialRow, ...]

    @property
    def folder(self) -> Path:
        """Of the results."""
        return self.results.folder

    @property
    def name(self) -> str:
        """Of the sweep."""
        return self.results.config.name

    @property
    def facts(self) -> Mapping[str, Any]:
        """Of `summary.json`."""
        return self.results.summary

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all that a trial has measured, in the table's order."""
        return tuple(dict.fromkeys(name for row in self.trials for name in row.metrics))

    @property
    def settings(self) -> dict[str, list[Scalar]]:
        """Every setting's values, each once."""
        keys = dict.fromkeys(key for row in self.trials for key in row.settings)
        values = {key: [plain(row.settings[key]) for row in self.trials if key in row.settings] for key in keys}
        return {key: list(dict.fromkeys(found)) for key, found in values.items()}


def tracked_sweep(folder: Path) -> TrackedSweep:
    """All of a sweep's folder.

    Raises:
        ConfigError: no sweep's folder.
        ArtifactError: a table is damaged, or a trial's artifact is not in the store any more.
    """
    results = read_sweep(folder)
    if results.command == "run":
        raise ConfigError(f"{folder}: the results of a run, and trackers show sweeps")
    store = open_store(results.config.store)
    try:
        return TrackedSweep(results, store, tuple(_trial(row, store) for row in results.rows))
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ArtifactError(f"{folder / 'trials.parquet'}: not a table of trials ({reason})") from error


def plain(value: Any) -> Scalar:
    """A setting's value as trackers take it: lists and mappings as JSON."""
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as mappings in mappings."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found = set_key(found, key, value)
    return found


def _trial(row: Row, store: Store) -> TrialRow:
    return TrialRow(
        number=row["number"],
        name=row["name"],
        settings=json.loads(row["settings"]),
        seed=row["seed"],
        dataset=row["dataset"],
        category=row["category"],
        error=row["error"],
        artifact=_artifact(row, store) if row["state"] == "done" else None,
        metrics={name: value for name, value in row.items() if name not in _COUNTED and _is_number(value)},
        remarks=row["remarks"],
    )


def _artifact(row: Row, store: Store) -> Artifact:
    found = store.find(row["artifact"])
    if found is None:
        raise ArtifactError(f"{row['artifact']}, of trial {row['name']}, is not in the store {store.root}")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
