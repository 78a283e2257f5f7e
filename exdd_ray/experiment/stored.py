"""Trials as artifacts: metrics, predictions and curves, named by all that decides them, so that none is run twice."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exdd_ray import __version__
from exdd_ray.config.base import identity
from exdd_ray.data.catalog import select_rows
from exdd_ray.device import CPU, compute_device
from exdd_ray.experiment.assign import assign, learns_from, mask_donors
from exdd_ray.experiment.compare import contents_of, scored
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.result import Evaluation, TrialResult, result_record
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.trial import run_trial
from exdd_ray.methods.config import DetectorConfig
from exdd_ray.methods.predictions import Predictions
from exdd_ray.methods.table import method_of
from exdd_ray.metrics.curves import Curve
from exdd_ray.metrics.evaluate import all_values
from exdd_ray.metrics.table import COMPARED, on_validation
from exdd_ray.store.arrays import write_arrays
from exdd_ray.store.artifact import Artifact, Recipe
from exdd_ray.store.code import code_digest
from exdd_ray.synthesizers import synthesize

VERSION = 7
CONFIG, CURVES, MAPS, PREDICTIONS = "config.json", "curves.arrow", "maps.arrow", "predictions.parquet"
_CURVE_POINTS = 200
_MAPS_EACH = 8
_MAP_SIDE = 64
# What makes a trial's numbers of images, beside the method's own code; stages that take long have versions instead.
_CODE = (
    "exdd_ray.banks",
    "exdd_ray.data",
    "exdd_ray.experiment.assign",
    "exdd_ray.experiment.dataset",
    "exdd_ray.experiment.pixels",
    "exdd_ray.experiment.result",
    "exdd_ray.experiment.stored",
    "exdd_ray.experiment.trial",
    "exdd_ray.features",
    "exdd_ray.metrics",
    "exdd_ray.synthesizers",
    "exdd_ray.training",
)


def trial_recipe(config: ExperimentConfig, universe: pa.Table, train: pa.Table, session: Session) -> Recipe:
    """Names the result of an experiment on one category, wherever its files lie; images are hashed, not decoded.

    Args:
        train: those of the universe that are trained on.
    """
    method = method_of(config.detector)
    made_by = {
        "experiment": identity(config),
        "category": universe["category"][0].as_py(),
        "code": code_digest(*_CODE, *method.sources),
        "version": __version__,
    }
    if (device := _device(config.detector, session)) != CPU:
        made_by["device"] = device
    if not method.repeats(config.detector):
        made_by["run"] = session.token
    inputs = (
        session.contents(universe),
        *method.inputs(config.detector),
        *synthesis_keys(config, universe, train, session),
    )
    return Recipe("trial", VERSION, made_by, inputs)


def _device(detector: DetectorConfig, session: Session) -> str:
    """Where a detector's stages compute what has other bits elsewhere."""
    training = method_of(detector).training(detector)
    asked = "auto" if training is None else training.device
    return (session.device or compute_device()) if asked == "auto" else asked


def stored_trial(trial: Trial, universe: pa.Table, session: Session) -> Artifact:
    """Run an experiment on one category unless the store has its result; its metadata are the results' record.

    Raises UserError as run_trial.
    """
    store, train = session.store, assign(trial.config, universe).train

    def build(folder: Path) -> dict[str, Any]:
        with store.recording() as stages:
            result = run_trial(trial, universe, session)
        return {**_write(folder, result), "stages": sorted(stages)}

    return store.make(trial_recipe(trial.config, universe, train, session), build)


def synthesis_keys(config: ExperimentConfig, universe: pa.Table, train: pa.Table, session: Session) -> list[str]:
    """Keys of the chunks of synthetic samples that an experiment trains on; none is made."""
    if config.synthesizer is None or not learns_from(config.detector).defects:
        return []
    normal, givers = select_rows(train, label=0), mask_donors(config, universe, train)
    synthesizer = synthesize.on_device(config.synthesizer, session.paints_on)
    return [job.recipe.key for job in synthesize.plan_chunks(synthesizer, normal, givers, config.seed)]


def _write(folder: Path, result: TrialResult) -> dict[str, Any]:
    (folder / CONFIG).write_text(result.trial.config.model_dump_json(), encoding="utf-8")
    evaluations = {"test": Evaluation(result.predictions, result.image, result.pixel)}
    if result.validation is not None:
        evaluations["validation"] = result.validation
    pq.write_table(_predictions(evaluations), folder / PREDICTIONS)
    write_arrays(folder / CURVES, _curves(evaluations["test"]))
    write_arrays(folder / MAPS, _maps(evaluations["test"].predictions))
    record = result_record(result)
    tested = scored(result.predictions).key
    kept = {key: value for key, value in record.items() if key != "name"}
    return {**kept, **_validation(result.validation), "tested": tested}


def _predictions(evaluations: Mapping[str, Evaluation]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "id": row.id,
                "content": content,
                "split": split,
                "label": row.label,
                "defect": row.defect,
                "image": row.image,
                "mask": row.mask,
                "mask_threshold": row.mask_threshold,
                "bit_depth": row.bit_depth,
                "region": list(row.region) if row.region else None,
                "score": float(score),
            }
            for split, evaluation in evaluations.items()
            for row, content, score in zip(
                evaluation.predictions.rows,
                contents_of(evaluation.predictions.rows),
                evaluation.predictions.scores,
                strict=True,
            )
        ]
    )


def _curves(test: Evaluation) -> dict[str, np.ndarray]:
    curves: dict[str, Curve] = {}
    if test.image is not None:
        curves = {"image_roc": test.image.detection.roc, "image_pr": test.image.detection.pr}
    if test.pixel is not None:
        found = test.pixel.detection
        curves |= {"pixel_roc": found.roc, "pixel_pr": found.pr, "pro": test.pixel.pro}
    return {f"{name}_{axis}": _thinned(curve, axis) for name, curve in curves.items() for axis in ("x", "y")}


def _thinned(curve: Curve, axis: str) -> np.ndarray:
    values = np.asarray(getattr(curve, axis), dtype=float)
    return values[np.linspace(0, len(values) - 1, _CURVE_POINTS).round().astype(int)]


def _maps(predictions: Predictions) -> dict[str, np.ndarray]:
    """Small anomaly maps [k x h x w] of the defects of the lowest scores and the normals of the highest, and which.

    `row` [k] counts the test images as the table of predictions has them.
    """
    labels = np.array([row.label for row in predictions.rows])
    ascending = np.argsort(predictions.scores, kind="stable")
    weakest = ascending[labels[ascending] == 1][:_MAPS_EACH]
    alarms = ascending[labels[ascending] == 0][::-1][:_MAPS_EACH]
    rows = np.concatenate([weakest, alarms])
    height, width = predictions.draw.input_size
    share = min(1.0, _MAP_SIDE / max(height, width))
    size = (max(1, round(height * share)), max(1, round(width * share)))
    drawn = [predictions.draw(predictions.patch_maps[row], size) for row in rows]
    return {"row": rows.astype(np.int32), "map": np.stack(drawn).astype(np.float32)}


def _validation(evaluation: Evaluation | None) -> dict[str, Any]:
    values = all_values(None, None) if evaluation is None else evaluation.metrics
    labels = [] if evaluation is None else [row.label for row in evaluation.predictions.rows]
    return {
        **{on_validation(metric): values[metric.key] for metric in COMPARED},
        "validation_normal": labels.count(0),
        "validation_defects": labels.count(1),
    }
