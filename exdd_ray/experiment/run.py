"""A run: its trials one after another, results written whole at the end."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from exdd_ray.experiment.assign import assign
from exdd_ray.experiment.compare import contents_of
from exdd_ray.experiment.load import LoadedRun, Trial, resolved_yaml
from exdd_ray.experiment.result import TrialResult, results_table
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.share import AssignedTrial, share
from exdd_ray.experiment.synth import pinned_trial
from exdd_ray.experiment.trial import prepare_trial, run_trial
from exdd_ray.methods.table import method_of
from exdd_ray.metrics.table import MEASURED
from exdd_ray.report.page import write_report
from exdd_ray.runs import write_whole


def run_trials(trials: Sequence[Trial], session: Session, done: Callable[[TrialResult], None]) -> list[TrialResult]:
    """Run every trial on every category of its dataset; `done` is called after each.

    All trials are checked against their data before the first one starts; what they have in common is made once. The
    results' trials name the commit of a hub's model.
    """
    pairs = [
        (trial, universe)
        for trial in map(pinned_trial, trials)
        for universe in session.categories(trial.config.dataset).values()
    ]
    assigned = [AssignedTrial(trial, universe, assign(trial.config, universe)) for trial, universe in pairs]
    share(assigned, session)
    _ahead([one for one in assigned if _trains_alone(one)], session)
    results: list[TrialResult] = []
    for trial, universe in pairs:
        results.append(run_trial(trial, universe, session))
        done(results[-1])
    return results


def _trains_alone(one: AssignedTrial) -> bool:
    """Whether its detector trains networks, in one process."""
    detector = one.trial.config.detector
    training = method_of(detector).training(detector)
    return training is not None and training.workers == 1


def _ahead(trials: Sequence[AssignedTrial], session: Session) -> None:
    """Run trials side by side; what they synthesize is made before, as some of it is the same."""
    if trials and session.ahead is not None:
        for one in trials:
            prepare_trial(one.trial.config, one.universe, session)
        with session.progress("trials side by side", len(trials)) as advance:
            session.ahead(trials, session.store, advance)


def write_results(folder: Path, loaded: LoadedRun, results: Sequence[TrialResult]) -> Path:
    """Write the files of a run, all or none, and give the folder, as `write_whole`.

    Raises UserError where the folder cannot be written.
    """
    trials = tuple({id(result.trial): result.trial for result in results}.values())
    again = {key: value for key, value in loaded.raw.items() if key != "output"}  # it would go into this folder

    def write(into: Path) -> None:
        pq.write_table(results_table(results), into / "results.parquet")
        pq.write_table(predictions_table(results), into / "predictions.parquet")
        (into / "config.yaml").write_text(yaml.safe_dump(again, sort_keys=False), encoding="utf-8")
        (into / "resolved.yaml").write_text(resolved_yaml(replace(loaded, trials=trials)), encoding="utf-8")
        (into / "summary.json").write_text(json.dumps(summary(results), indent=1), encoding="utf-8")
        write_report(into / "report.html", loaded.run, results, loaded.overrides)

    return write_whole(folder, write)


def predictions_table(results: Sequence[TrialResult]) -> pa.Table:
    """One row a trial and test image: name, category, seed, image id, what it is known by, label, defect, score."""
    return pa.Table.from_pylist(
        [
            {
                "name": result.trial.name,
                "category": result.category,
                "seed": result.trial.config.seed,
                "id": row.id,
                "content": content,
                "label": row.label,
                "defect": row.defect,
                "score": float(score),
            }
            for result in results
            for row, content, score in zip(
                result.predictions.rows,
                contents_of(result.predictions.rows),
                result.predictions.scores,
                strict=True,
            )
        ]
    )


def summary(results: Sequence[TrialResult]) -> dict[str, object]:
    """Metrics as JSON values: of the only trial, or by name; each the mean over categories and seeds."""
    names = list(dict.fromkeys(result.trial.name for result in results))
    means = {name: _mean([result for result in results if result.trial.name == name]) for name in names}
    return means[names[0]] if len(means) == 1 else {"trials": means}


def _mean(results: Sequence[TrialResult]) -> dict[str, object]:
    table = results_table(results)
    names = [metric.key for metric in MEASURED]
    means = {name: None if table[name].null_count else pa.compute.mean(table[name]).as_py() for name in names}
    return {**means, "runs": table.num_rows, "seconds": round(sum(table["seconds"].to_pylist()), 3)}
