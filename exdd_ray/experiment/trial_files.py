"""The files of a trial's artifact: what it measured, scored and trained on."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exdd_ray.experiment.result import Evaluation, TrialResult, result_record
from exdd_ray.experiment.small_maps import small_maps
from exdd_ray.experiment.tested import contents_of, scored
from exdd_ray.metrics.curves import Curve
from exdd_ray.metrics.evaluate import all_values
from exdd_ray.metrics.table import COMPARED, on_validation
from exdd_ray.store.arrays import write_arrays
from exdd_ray.synthesizers.synthesize import SyntheticSample

CONFIG, CURVES, MAPS = "config.json", "curves.arrow", "maps.arrow"
PREDICTIONS, SAMPLES = "predictions.parquet", "samples.parquet"
DETECTION = ("auroc", "ap", "f1", "threshold", "precision", "recall")


def write_trial(folder: Path, result: TrialResult) -> dict[str, Any]:
    """Write the files of a result; gives the artifact's metadata: the results' record and what else is of one value."""
    (folder / CONFIG).write_text(result.trial.config.model_dump_json(), encoding="utf-8")
    test = Evaluation(result.predictions, result.image, result.pixel)
    evaluations = {"test": test} if result.validation is None else {"test": test, "validation": result.validation}
    pq.write_table(_predictions(evaluations), folder / PREDICTIONS)
    write_arrays(folder / CURVES, _curves(test))
    maps, scale = small_maps(result.predictions)
    write_arrays(folder / MAPS, maps)
    if result.synthesis.samples:
        pq.write_table(pa.Table.from_pylist(list(map(sample_record, result.synthesis.samples))), folder / SAMPLES)
    kept = {key: value for key, value in result_record(result).items() if key != "name"}
    return {
        **kept,
        **_validation(result.validation),
        "tested": scored(result.predictions).key,
        "detection": _detection(test),
        "map_scale": scale,
        "dropped": sum(result.synthesis.dropped.values()),
        "dropped_of_parts": {part: sum(made.dropped.values()) for part, made in result.synthesis.parts.items()},
    }


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
    """All curves at one length: the last point of a shorter one stands there several times."""
    curves: dict[str, Curve] = {}
    if test.image is not None:
        curves = {"image_roc": test.image.detection.roc, "image_pr": test.image.detection.pr}
    if test.pixel is not None:
        found = test.pixel.detection
        curves |= {"pixel_roc": found.roc, "pixel_pr": found.pr, "pro": test.pixel.pro}
    length = max((len(curve.x) for curve in curves.values()), default=0)
    axes = {
        f"{name}_{axis}": np.asarray(getattr(curve, axis), float) for name, curve in curves.items() for axis in "xy"
    }
    return {name: np.pad(values, (0, length - len(values)), mode="edge") for name, values in axes.items()}


def _detection(test: Evaluation) -> dict[str, dict[str, float] | None]:
    found = {"image": test.image and test.image.detection, "pixel": test.pixel and test.pixel.detection}
    return {name: {key: getattr(one, key) for key in DETECTION} if one else None for name, one in found.items()}


def _validation(evaluation: Evaluation | None) -> dict[str, Any]:
    values = all_values(None, None) if evaluation is None else evaluation.metrics
    labels = [] if evaluation is None else [row.label for row in evaluation.predictions.rows]
    return {
        **{on_validation(metric): values[metric.key] for metric in COMPARED},
        "validation_normal": labels.count(0),
        "validation_defects": labels.count(1),
    }


def sample_record(made: SyntheticSample) -> dict[str, Any]:
    """A synthetic sample as a row of a table."""
    own = {field.name: getattr(made, field.name) for field in dataclasses.fields(made) if field.name != "row"}
    return {**dataclasses.asdict(made.row), **{f"sample_{name}": value for name, value in own.items()}}
