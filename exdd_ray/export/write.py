"""From a trial's result to a folder that scores images as it did, or nothing."""

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exdd_ray import __version__
from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.masks import read_pair
from exdd_ray.errors import UserError
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.stored_result import StoredResult
from exdd_ray.experiment.trial import prepare_trial
from exdd_ray.export.portable import Portable
from exdd_ray.export.proof import prove
from exdd_ray.line.detector import Detector
from exdd_ray.line.folder import Manifest, Threshold, write_manifest
from exdd_ray.line.graph import read_graph, traced, write_graph
from exdd_ray.methods.table import method_of
from exdd_ray.runs import write_whole


def export(result: StoredResult, folder: Path, session: Session) -> Manifest:
    """Write the detector of a trial as a folder, whole or not at all.

    It is fitted again, which takes what the store has; then it scores test images through what was written.

    Raises:
        ConfigError: options of the detector that cannot leave the lab.
        UserError: a method without a graph, a folder that is there or cannot be made, scores that differ from those
            that were evaluated.
    """
    if folder.exists():
        raise UserError(f"{folder}: is there already: choose another place, or remove it")
    portable = _portable(result, session)
    manifest = _manifest(result, portable)

    def write(unfinished: Path) -> None:
        nonlocal manifest
        write_graph(unfinished, traced(portable.module, portable.size))
        written = Detector(manifest, read_graph(unfinished))
        proof = prove(written, [(_pixels(row), score) for row, score in _sample(result)])
        manifest = replace(manifest, proof=proof)
        write_manifest(unfinished, manifest)

    write_whole(folder, write)
    return manifest


def _portable(result: StoredResult, session: Session) -> Portable:
    config = result.trial.config
    images = prepare_trial(config, session.categories(config.dataset)[result.category], session).images
    fitted = method_of(config.detector).fit(config.detector, images, session, config.seed)
    if fitted.portable is None:
        raise UserError(f"detector.kind={config.detector.kind} cannot be exported yet")
    return fitted.portable()


def _manifest(result: StoredResult, portable: Portable) -> Manifest:
    config = result.trial.config
    return Manifest(
        detector=config.detector.kind,
        geometry=portable.geometry,
        bit_depth=config.dataset.bit_depth,
        map_scale=result.map_scale,
        threshold=_threshold(result),
        lineage=_lineage(result),
        metrics={**result.metrics, **_intervals(result)},
        proof={},
    )


def _intervals(result: StoredResult) -> dict[str, float]:
    found = {} if result.image is None else result.image.intervals
    return {f"{key}_{end}": getattr(one, end) for key, one in found.items() for end in ("low", "high")}


def _threshold(result: StoredResult) -> Threshold | None:
    if result.held_out is not None:
        value = apart_from_scores(result.held_out.threshold, result.scores)
        return Threshold(value, "F1-max on training images that were held out")
    if result.chosen_on_test is not None:
        normal, defects = result.test
        seen = f"F1-max on the {normal} normal and {defects} defective test images, by which it was also evaluated"
        return Threshold(apart_from_scores(result.chosen_on_test.threshold, result.scores), seen)
    return None


def apart_from_scores(threshold: float, scores: np.ndarray) -> float:
    """A threshold with the same verdicts on scores that no rounding turns.

    One that is a score itself is moved to the middle between that and the next score below.
    """
    below = scores[scores < threshold]
    return float((below.max() + threshold) / 2) if threshold in scores and len(below) else threshold


def _lineage(result: StoredResult) -> dict[str, Any]:
    normal, defects, synthetic = result.train
    return {
        "trial": result.trial.name,
        "dataset": result.place,
        "train": {"normal": normal, "defects": defects, "synthetic": synthetic},
        "experiment": result.trial.config.model_dump(mode="json"),
        "exdd_ray": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


_SAMPLE = 64  # test images that a graph must score as they were evaluated


def _sample(result: StoredResult) -> list[tuple[CatalogRow, float]]:
    """Test images evenly spread over the order of their scores."""
    order = np.argsort(result.scores)
    spread = order[np.linspace(0, len(order) - 1, min(_SAMPLE, len(order))).round().astype(int)]
    return [(result.rows[place], float(result.scores[place])) for place in spread]


def _pixels(row: CatalogRow) -> np.ndarray:
    image, _ = read_pair(replace(row, mask=None))
    return image
