"""A run: its trials one after another, results written whole at the end."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from exdd_ray.config.load import LoadedRun, Trial, resolved_yaml
from exdd_ray.errors import UserError
from exdd_ray.experiment.fit import trains_alone
from exdd_ray.experiment.result import TrialResult, results_table
from exdd_ray.experiment.share import AssignedTrial, share
from exdd_ray.experiment.synth import pinned_trial
from exdd_ray.experiment.trial import assign, prepare_trial, run_trial
from exdd_ray.experiment.workshop import Workshop
from exdd_ray.report.page import write_report

FILES = frozenset(
    {"config.yaml", "predictions.parquet", "report.html", "resolved.yaml", "results.parquet", "summary.json"}
)


def run_trials(trials: Sequence[Trial], workshop: Workshop, done: Callable[[TrialResult], None]) -> list[TrialResult]:
    """Run every trial on every category of its dataset; `done` is called after each.

    All trials are checked against their data before the first one starts; what they have in common is made once. The
    results' trials name the commit of a hub's model.
    """
    pairs = [
        (trial, universe)
        for trial in map(pinned_trial, trials)
        for universe in workshop.categories(trial.config.dataset).values()
    ]
    assigned = [AssignedTrial(trial, universe, assign(trial.config, universe)) for trial, universe in pairs]
    share(assigned, workshop)
    _ahead([one for one in assigned if trains_alone(one.trial.config.detector)], workshop)
    results: list[TrialResult] = []
    for trial, universe in pairs:
        results.append(run_trial(trial, universe, workshop))
        done(results[-1])
    return results


def _ahead(trials: Sequence[AssignedTrial], workshop: Workshop) -> None:
    """Run trials side by side; what they synthesize is made before, as some of it is the same."""
    if trials and workshop.ahead is not None:
        for one in trials:
            prepare_trial(one.trial.config, one.universe, workshop)
        with workshop.progress("trials side by side", len(trials)) as advance:
            workshop.ahead(trials, workshop.store, advance)


def check_output(folder: Path) -> None:
    """Raise UserError where results cannot be written to a folder, or it holds anything but earlier results."""
    new = not folder.parent.exists()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        others = sorted({path.name for path in folder.iterdir()} - FILES) if folder.exists() else []
        probe = folder.parent / f".{folder.name}.unfinished"
        probe.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot write the results: {error.strerror}") from error
    shutil.rmtree(folder.parent if new else probe)
    if others:
        raise UserError(f"{folder}: holds {others[0]!r}, which is no result: choose another folder (output=...)")


def write_results(folder: Path, loaded: LoadedRun, results: Sequence[TrialResult]) -> None:
    """Write the FILES of a run into a folder, all or none; earlier results there are replaced.

    Raises UserError where the folder cannot be written.
    """
    trials = tuple({id(result.trial): result.trial for result in results}.values())
    unfinished, old = (folder.parent / f".{folder.name}.{state}" for state in ("unfinished", "old"))
    try:
        for leftover in (unfinished, old):
            shutil.rmtree(leftover, ignore_errors=True)
        unfinished.mkdir(parents=True)
        pq.write_table(results_table(results), unfinished / "results.parquet")
        pq.write_table(predictions_table(results), unfinished / "predictions.parquet")
        (unfinished / "config.yaml").write_text(yaml.safe_dump(loaded.raw, sort_keys=False), encoding="utf-8")
        (unfinished / "resolved.yaml").write_text(resolved_yaml(replace(loaded, trials=trials)), encoding="utf-8")
        (unfinished / "summary.json").write_text(json.dumps(summary(results), indent=1), encoding="utf-8")
        write_report(unfinished / "report.html", loaded.run, results)
        if folder.exists():
            folder.rename(old)
        unfinished.rename(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot write the results: {error.strerror or error}") from error
    finally:
        for leftover in (unfinished, old):
            shutil.rmtree(leftover, ignore_errors=True)


def predictions_table(results: Sequence[TrialResult]) -> pa.Table:
    """One row a trial and test image: name, category, seed, image id, label, defect, score."""
    return pa.Table.from_pylist(
        [
            {
                "name": result.trial.name,
                "category": result.category,
                "seed": result.trial.config.seed,
                "id": row.id,
                "label": row.label,
                "defect": row.defect,
                "score": float(score),
            }
            for result in results
            for row, score in zip(result.predictions.rows, result.predictions.scores, strict=True)
        ]
    )


def summary(results: Sequence[TrialResult]) -> dict[str, object]:
    """Metrics as JSON values: of the only trial, or by name; each the mean over categories and seeds."""
    names = list(dict.fromkeys(result.trial.name for result in results))
    means = {name: _mean([result for result in results if result.trial.name == name]) for name in names}
    return means[names[0]] if len(means) == 1 else {"trials": means}


def _mean(results: Sequence[TrialResult]) -> dict[str, object]:
    table = results_table(results)
    names = ("image_auroc", "image_ap", "image_precision", "image_recall", "pixel_auroc", "pixel_ap", "aupro")
    means = {name: None if table[name].null_count else pa.compute.mean(table[name]).as_py() for name in names}
    return {**means, "runs": table.num_rows, "seconds": round(sum(table["seconds"].to_pylist()), 3)}
