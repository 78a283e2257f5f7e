"""The results of a run or a sweep, and the folder that they are written into."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from exdd_ray.errors import UserError
from exdd_ray.experiment.beside import Beside, beside_published
from exdd_ray.experiment.load import Raw
from exdd_ray.experiment.plan import Plan
from exdd_ray.experiment.rates import machine
from exdd_ray.experiment.space import Command, LoadedSweep, resolved_yaml
from exdd_ray.experiment.summary import PointSummary, ScoredTrials, rung, summarize, summary_table
from exdd_ray.experiment.tables import NO_PREDICTIONS, Row
from exdd_ray.metrics.table import MEASURED
from exdd_ray.runs import claim, earlier_folders, new_folder
from exdd_ray.store.artifact import open_store

CONFIGS: Mapping[Command, str] = {"run": "config.yaml", "sweep": "sweep.yaml"}  # named by what runs it again
RESOLVED, PLAN = "resolved.yaml", "plan.json"
TRIALS, SUMMARY, DIGEST, PREDICTIONS = "trials.parquet", "summary.parquet", "summary.json", "predictions.parquet"
REPORT = "report.html"
# What a folder of results may hold: files and folders of trackers and of the search beside the tables.
_TRACKERS = ("wandb", "tensorboard", "mlflow", "mlflow.db")
RESULTS = (CONFIGS["sweep"], RESOLVED, PLAN, TRIALS, SUMMARY, DIGEST, PREDICTIONS, REPORT)
MARKER = ".exdd-sweep"
KNOWN = frozenset({MARKER, *RESULTS, *(f".{name}" for name in RESULTS), "optuna.log", *_TRACKERS})


@dataclass(frozen=True)
class SweepResults:
    """A finished run or sweep.

    Attributes:
        trials: as `trials_table` gives them.
        seconds: that it took.
        predictions: as `predictions_table` gives them.
    """

    loaded: LoadedSweep
    plan: Plan
    trials: pa.Table
    points: tuple[PointSummary, ...]
    seconds: float
    predictions: pa.Table

    @property
    def baseline(self) -> PointSummary:
        """The point that the others are compared with."""
        return next(point for point in self.points if point.baseline)

    @property
    def chosen(self) -> PointSummary | None:
        """The best point by the first objective; None where no point has all of its trials."""
        return next((point for point in self.points if point.chosen), None)

    @cached_property
    def published(self) -> list[Beside]:
        """Published figures beside what was measured here."""
        return beside_published(self.loaded, self.trials.to_pylist())

    @property
    def traces(self) -> dict[str, str]:
        """Why trials failed by a programming error -> the first one's traceback."""
        rows = reversed(self.trials.select(["error", "traceback"]).to_pylist())
        return {row["error"]: row["traceback"] for row in rows if row["traceback"]}

    @property
    def reasons(self) -> dict[str, int]:
        """Why trials failed -> how many."""
        return dict(Counter(row for row in self.trials["error"].to_pylist() if row))


def results_of(
    loaded: LoadedSweep,
    plan: Plan,
    trials: pa.Table,
    baseline: str,
    seconds: float,
    scored: ScoredTrials,
    predictions: pa.Table = NO_PREDICTIONS,
) -> SweepResults:
    """The results of a table of trials, and of the images that they scored."""
    points = tuple(summarize(trials, loaded.sweep, baseline, scored))
    return SweepResults(loaded, plan, trials, points, seconds, predictions)


def require_a_result(results: SweepResults) -> None:
    """Raise UserError, with the first trial's reason, where all of them failed."""
    failed = [row for row in results.trials.to_pylist() if row["state"] != "done"]
    if len(failed) == results.trials.num_rows:
        others = len(results.reasons) - 1
        more = f" (and for {others} other reasons)" * (others > 0)
        error = UserError(f"{failed[0]['error']}{more}")
        error.trace = failed[0]["traceback"]
        raise error


def results_folder(loaded: LoadedSweep, *, resume: bool = False) -> Path:
    """The folder that the sweep's results are to be written into: `output`, or else a new one of its own.

    To go on with a sweep that was cut off, it is the folder of the last one with the same overrides, if there is one.

    Raises UserError where it cannot be made, or `output` holds anything but a sweep's results.
    """
    name, overrides, output = loaded.sweep.name, loaded.overrides, loaded.sweep.output
    folder = new_folder(name, overrides, output)
    earlier = [one for one in earlier_folders(name, overrides) if (one / MARKER).exists()] if resume else []
    if output is None:
        folder = earlier[0] if earlier else claim(folder)
    check_folder(folder)
    return folder


def check_folder(folder: Path) -> None:
    """Raise UserError where results cannot be written to a folder, or it holds anything but a sweep's."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
        # without its marker a folder is somebody else's, whatever its files are called
        others = sorted(names - KNOWN if MARKER in names else names)
        if not others:
            (folder / MARKER).touch()
    except OSError as error:
        raise UserError(f"{folder}: cannot write the results: {error.strerror}") from error
    if others:
        raise UserError(f"{folder}: holds {others[0]!r}, which is no sweep's result: choose another (output=...)")


def write_results(folder: Path, results: SweepResults) -> None:
    """Write the tables, each whole, over those of an earlier sweep. Raises UserError where that cannot be done."""
    try:
        _write(folder / CONFIGS[results.loaded.command], yaml.safe_dump(_config(results.loaded), sort_keys=False))
        trials = {id(one.trial): one.trial for one in results.plan.trials}.values()
        _write(folder / RESOLVED, resolved_yaml(trials))
        _write(folder / PLAN, json.dumps(_plan(results), indent=1))
        tables = {TRIALS: results.trials, SUMMARY: summary_table(results.points), PREDICTIONS: results.predictions}
        for name, table in tables.items():
            pq.write_table(table, folder / f".{name}")
            (folder / f".{name}").replace(folder / name)
        _write(folder / DIGEST, json.dumps(digest_of(results), indent=1))
    except OSError as error:
        raise UserError(f"{folder}: cannot write the results: {error.strerror or error}") from error


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _config(loaded: LoadedSweep) -> Raw:
    """What gives the same results again; a run's has no `output`, as it would go into a folder that is taken."""
    store = open_store(loaded.sweep.store)
    place = str(store.root) if store.mirror is None else store.mirror.uri
    raw = {**loaded.raw, "store": place}  # as it is found from other folders too
    return {key: value for key, value in raw.items() if key != "output" or loaded.command == "sweep"}


def _plan(results: SweepResults) -> dict[str, Any]:
    return {
        "overrides": list(results.loaded.overrides),
        "trials": len(results.plan.trials),
        "stages": [asdict(stage) for stage in results.plan.stages],
        "seconds": round(results.seconds, 3),
        "machine": machine(),
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def digest_of(results: SweepResults) -> dict[str, Any]:
    """The results in a few JSON values: of a run the metrics of its only point, or of each by name.

    `published` are the published figures beside them, which were not measured here.
    """
    found = _digest_of_run(results) if results.loaded.command == "run" else _digest_of_sweep(results)
    return {**found, "published": [asdict(one) for one in results.published]} if results.published else found


def _digest_of_run(results: SweepResults) -> dict[str, Any]:
    rows = [row for row in results.trials.to_pylist() if row["state"] == "done"]
    names = dict.fromkeys(row["name"] for row in results.trials.to_pylist())
    means = {name: _means_of_run([row for row in rows if row["name"] == name]) for name in names}
    found = next(iter(means.values())) if len(means) == 1 else {"trials": means}
    return {
        **found,
        **({"failed": sum(results.reasons.values()), "reasons": results.reasons} if results.reasons else {}),
    }


def _means_of_run(rows: Sequence[Row]) -> dict[str, Any]:
    """Means over categories and seeds; None where a trial has none."""
    found: dict[str, Any] = {}
    for name in (metric.key for metric in MEASURED):
        values = [row[name] for row in rows]
        found[name] = None if not values or None in values else float(np.mean(values))
    return {**found, "runs": len(rows), "seconds": round(sum(row["seconds"] for row in rows), 3)}


def _digest_of_sweep(results: SweepResults) -> dict[str, Any]:
    sweep, chosen = results.loaded.sweep, results.chosen
    metric = sweep.objectives[0]
    of_trials = [remark for text in results.trials["remarks"].to_pylist() for remark in (text or "").splitlines()]
    return {
        "name": sweep.name,
        "objectives": list(sweep.objectives),
        "select": sweep.select,
        "baseline": results.baseline.name,
        "chosen": chosen.name if chosen else None,
        "chosen_means": {name: mean.value for name, mean in chosen.means.items()} if chosen else None,
        "within_noise": _noise(chosen, metric),
        "trials": results.trials.num_rows,
        "failed": sum(results.reasons.values()),
        "reasons": results.reasons,
        "remarks": list(dict.fromkeys([*of_trials, *_apart(results)])),
    }


def _apart(results: SweepResults) -> list[str]:
    """The remarks on points that are not compared with the baseline: of lower rungs, or with another test set."""
    sweep = results.loaded.sweep
    rungs = {row["name"]: rung(row, sweep) for row in results.trials.to_pylist()}
    alone = [one.name for one in results.points if one.runs and not one.baseline and not one.differences]
    lower = [name for name in alone if rungs[name] != rungs[results.baseline.name]]
    others = [name for name in alone if name not in lower]
    found = []
    if lower:
        found.append(
            f"stopped on lower rungs, and so neither compared with the baseline nor chosen: {'; '.join(lower)}"
        )
    if others and results.baseline.runs:
        found.append(f"not compared with the baseline, as they were tested on other images: {'; '.join(others)}")
    return found


def _noise(chosen: PointSummary | None, metric: str) -> bool | None:
    return chosen.differences[metric].within_noise if chosen and metric in chosen.differences else None


def forget_search(folder: Path) -> None:
    """Remove the state of an earlier adaptive search."""
    (folder / "optuna.log").unlink(missing_ok=True)
