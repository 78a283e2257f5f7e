"""A run: its trials one after another, results written whole at the end."""

import errno
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from exdd_ray.config.experiment import RunConfig
from exdd_ray.config.load import Trial
from exdd_ray.errors import UserError
from exdd_ray.experiment.dataset import by_category, load_catalog
from exdd_ray.experiment.result import TrialResult, results_table
from exdd_ray.experiment.trial import Workshop, run_trial
from exdd_ray.report.page import write_report


def run_trials(trials: Sequence[Trial], workshop: Workshop, done: Callable[[TrialResult], None]) -> list[TrialResult]:
    """Run every trial on every category of its dataset; `done` is called after each."""
    results: list[TrialResult] = []
    catalogs: dict[str, dict[str, pa.Table]] = {}
    for trial in trials:
        key = trial.config.dataset.model_dump_json(exclude={"split"})
        if key not in catalogs:
            catalogs[key] = by_category(load_catalog(trial.config.dataset, workshop.store, workshop.progress))
        for universe in catalogs[key].values():
            results.append(run_trial(trial, universe, workshop))
            done(results[-1])
    return results


def write_results(folder: Path, run: RunConfig, results: Sequence[TrialResult]) -> None:
    """Write report.html, results.parquet, predictions.parquet, config.yaml and summary.json into a folder, all or none.

    Raises UserError where the folder cannot be written.
    """
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        pq.write_table(results_table(results), unfinished / "results.parquet")
        pq.write_table(predictions_table(results), unfinished / "predictions.parquet")
        config = run.model_dump(mode="json")
        (unfinished / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        (unfinished / "summary.json").write_text(json.dumps(summary(results), indent=1), encoding="utf-8")
        write_report(unfinished / "report.html", run, results)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise UserError(f"{folder}: cannot write the results: {error.strerror}") from error
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


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
    names = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro")
    means = {name: pa.compute.mean(table[name]).as_py() for name in names}
    return {**means, "runs": table.num_rows, "seconds": round(sum(table["seconds"].to_pylist()), 3)}
