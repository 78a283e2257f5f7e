"""The results' folder of a sweep: tables, plan, summary, written whole."""

import json
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from exdd_ray.errors import UserError
from exdd_ray.experiment.plan import Plan
from exdd_ray.experiment.rates import machine
from exdd_ray.experiment.space import LoadedSweep
from exdd_ray.experiment.summary import PointSummary, ScoredTrials, rung, summarize, summary_table
from exdd_ray.runs import claim, earlier_folders, new_folder
from exdd_ray.store.artifact import open_store

CONFIG, RESOLVED, PLAN = "sweep.yaml", "resolved.yaml", "plan.json"
TRIALS, SUMMARY, DIGEST = "trials.parquet", "summary.parquet", "summary.json"
REPORT = "report.html"
# What a folder of results may hold: files and folders of trackers and of the search beside the tables.
_TRACKERS = ("wandb", "tensorboard", "mlflow", "mlflow.db")
RESULTS = (CONFIG, RESOLVED, PLAN, TRIALS, SUMMARY, DIGEST, REPORT)
MARKER = ".exdd-sweep"
KNOWN = frozenset({MARKER, *RESULTS, *(f".{name}" for name in RESULTS), "tune", "optuna.log", *_TRACKERS})


@dataclass(frozen=True)
class SweepResults:
    """A finished sweep.

    Attributes:
        trials: as `trials_table` gives them.
        seconds: that the sweep took.
    """

    loaded: LoadedSweep
    plan: Plan
    trials: pa.Table
    points: tuple[PointSummary, ...]
    seconds: float

    @property
    def baseline(self) -> PointSummary:
        """The point that the others are compared with."""
        return next(point for point in self.points if point.baseline)

    @property
    def chosen(self) -> PointSummary | None:
        """The best point by the first objective; None where no point has all of its trials."""
        return next((point for point in self.points if point.chosen), None)

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
    loaded: LoadedSweep, plan: Plan, trials: pa.Table, baseline: str, seconds: float, scored: ScoredTrials
) -> SweepResults:
    """The results of a table of trials, and of the images that they scored."""
    return SweepResults(loaded, plan, trials, tuple(summarize(trials, loaded.sweep, baseline, scored)), seconds)


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


def write_sweep(folder: Path, results: SweepResults) -> None:
    """Write the tables, each whole, over those of an earlier sweep. Raises UserError where that cannot be done."""
    loaded = results.loaded
    try:
        store = open_store(loaded.sweep.store)
        place = str(store.root) if store.mirror is None else store.mirror.uri
        raw = {**loaded.raw, "store": place}  # as it is found from other folders too
        _write(folder / CONFIG, yaml.safe_dump(raw, sort_keys=False))
        _write(folder / RESOLVED, _resolved(results))
        _write(folder / PLAN, json.dumps(_plan(results), indent=1))
        for name, table in ((TRIALS, results.trials), (SUMMARY, summary_table(results.points))):
            pq.write_table(table, folder / f".{name}")
            (folder / f".{name}").replace(folder / name)
        _write(folder / DIGEST, json.dumps(digest_of(results), indent=1))
    except OSError as error:
        raise UserError(f"{folder}: cannot write the results: {error.strerror or error}") from error


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _resolved(results: SweepResults) -> str:
    trials = {id(one.trial): one.trial for one in results.plan.trials}.values()
    documents = ({"name": trial.name, **trial.config.model_dump(mode="json")} for trial in trials)
    return "---\n".join(yaml.safe_dump(values, sort_keys=False) for values in documents)


def _plan(results: SweepResults) -> dict[str, Any]:
    return {
        "trials": len(results.plan.trials),
        "stages": [asdict(stage) for stage in results.plan.stages],
        "seconds": round(results.seconds, 3),
        "machine": machine(),
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def digest_of(results: SweepResults) -> dict[str, Any]:
    """The sweep in a few JSON values."""
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


def remove_unfinished(folder: Path, *, keep_search: bool) -> None:
    """Remove what Tune left of an earlier sweep; and, unless it is gone on with, the state of an adaptive search."""
    shutil.rmtree(folder / "tune", ignore_errors=True)
    if not keep_search:
        (folder / "optuna.log").unlink(missing_ok=True)
