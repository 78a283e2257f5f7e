"""Pixel metrics as artifacts: named by the patch maps, the masks and how both are drawn, so measured once."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.methods.predictions import Predictions
from exdd_ray.metrics.curves import Curve, Detection
from exdd_ray.metrics.evaluate import PixelMetrics
from exdd_ray.store.arrays import read_arrays, write_arrays
from exdd_ray.store.artifact import Artifact, Recipe, Store
from exdd_ray.store.code import code_digest
from exdd_ray.store.contents import content_digests

VERSION = 3
_CURVES = ("roc", "pr", "pro")


def stored_pixel_metrics(
    predictions: Predictions,
    normals: Predictions | None,
    config: ExperimentConfig,
    store: Store,
    measure: Callable[[], PixelMetrics],
) -> PixelMetrics:
    """Metrics at the network's input size: read from the store, or measured and kept there.

    Args:
        normals: of held-out normal images, whose maps say what is above the normal.
    """
    geometry, evaluation, draw = config.detector.geometry, config.evaluation, predictions.draw
    how = {
        "code": code_digest("exdd_ray.experiment.trial"),
        "mask_resize": evaluation.mask_resize,
        "fpr_limit": evaluation.fpr_limit,
        "draw": {name: value for name, value in asdict(draw).items() if value is not None},
        "geometry": geometry.model_dump(mode="json", include={"working_size", "resize", "fit", "crop"}),
    }
    known = iter(content_digests([row.mask for row in predictions.rows if row.mask]))
    masks = [f"{row.label} {row.mask_threshold} {next(known) if row.mask else ''}" for row in predictions.rows]
    held_out = "" if normals is None else _maps_digest(normals)
    recipe = Recipe("pixels", VERSION, how, (_maps_digest(predictions), *masks, held_out))
    return _read(store.make(recipe, lambda folder: _write(folder, measure())))


def _maps_digest(predictions: Predictions) -> str:
    maps = np.ascontiguousarray(predictions.patch_maps)
    return f"{hashlib.blake2b(maps.tobytes(), digest_size=20).hexdigest()} {maps.dtype}"


def _write(folder: Path, metrics: PixelMetrics) -> dict[str, Any]:
    found = metrics.detection
    for name, curve in zip(_CURVES, (found.roc, found.pr, metrics.pro), strict=True):
        write_arrays(folder / f"{name}.arrow", {"x": np.asarray(curve.x, float), "y": np.asarray(curve.y, float)})
    numbers = ("auroc", "ap", "f1", "threshold", "precision", "recall")
    return {"values": dict(metrics.values), "detection": {name: getattr(found, name) for name in numbers}}


def _read(artifact: Artifact) -> PixelMetrics:
    roc, pr, pro = (Curve(**read_arrays(artifact.file(f"{name}.arrow"))) for name in _CURVES)
    return PixelMetrics(Detection(**artifact.metadata["detection"], roc=roc, pr=pr), artifact.metadata["values"], pro)
