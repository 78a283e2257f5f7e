"""One trial: split, synthesize, fit, predict, evaluate."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.images import image_size
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.experiment.assign import assign, learns_from
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.pixels import stored_pixel_metrics
from exdd_ray.experiment.result import Evaluation, TrialResult
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.synthesis import run_synthesis
from exdd_ray.methods.method import TrainingImages
from exdd_ray.methods.predictions import Predictions
from exdd_ray.methods.table import method_of
from exdd_ray.metrics.evaluate import PixelMetrics, image_metrics, normal_threshold, pixel_metrics
from exdd_ray.metrics.threshold import OperatingPoint, point_at
from exdd_ray.synthesizers.synthesize import Synthesis
from exdd_ray.training.holdout import same_file

_BLOCK = 32


def run_trial(trial: Trial, universe: pa.Table, session: Session) -> TrialResult:
    """Run one experiment on one category.

    Args:
        universe: all real images of the category.

    Raises:
        DataError: the data do not allow it (nothing normal, one class in test, too many unreadable images, ...).
        ConfigError: settings that contradict each other.
    """
    started = time.perf_counter()
    config = trial.config
    prepared = prepare_trial(config, universe, session)
    fitted = method_of(config.detector).fit(config.detector, prepared.images, session, config.seed)
    predictions = fitted.predict(prepared.images.test)
    held_out = fitted.predict(prepared.held_out) if prepared.held_out.num_rows else None
    normals = _normals(held_out) if held_out else None
    test = _evaluate(predictions, normals, config, session, config.evaluation.bootstrap)
    validation = _evaluate(held_out, normals, config, session, 0) if held_out and prepared.chosen_by else None
    labels = np.array([row.label for row in test.predictions.rows])
    return TrialResult(
        trial=trial,
        category=universe["category"][0].as_py(),
        predictions=test.predictions,
        image=test.image,
        pixel=test.pixel,
        held_out=_held_out(labels, test.predictions, fitted.threshold),
        bank_sizes=fitted.bank_sizes,
        train=fitted.train,
        test=(int((labels == 0).sum()), int((labels == 1).sum())),
        remarks=prepared.remarks + fitted.remarks,
        seconds=time.perf_counter() - started,
        synthesis=prepared.synthesis,
        validation=validation,
    )


def _normals(predictions: Predictions) -> Predictions | None:
    """Those of normal images; None without any."""
    at = [i for i, row in enumerate(predictions.rows) if row.label == 0]
    rows = tuple(predictions.rows[i] for i in at)
    if not at:
        return None
    return replace(predictions, rows=rows, scores=predictions.scores[at], patch_maps=predictions.patch_maps[at])


def _evaluate(
    predictions: Predictions, normals: Predictions | None, config: ExperimentConfig, session: Session, resamples: int
) -> Evaluation:
    """What predictions are worth; thresholds are chosen on those of held-out normal images."""
    labels = np.array([row.label for row in predictions.rows])
    measured = {0, 1} <= set(labels.tolist())
    image = (
        image_metrics(
            labels,
            predictions.scores,
            config.evaluation,
            normals.scores if normals else None,
            resamples=resamples,
            seed=config.seed,
        )
        if measured
        else None
    )
    return Evaluation(predictions, image, _pixel_metrics(predictions, normals, config, session))


@dataclass(frozen=True)
class Prepared:
    """What a trial's detector is fitted to, held against and tested on, and what a reader must know about it.

    Attributes:
        held_out: the images that it is chosen by, or else normal ones that thresholds are chosen on.
        chosen_by: whether it is chosen by them.
    """

    images: TrainingImages
    held_out: pa.Table
    chosen_by: bool
    synthesis: Synthesis
    remarks: tuple[str, ...]


def prepare_trial(config: ExperimentConfig, universe: pa.Table, session: Session) -> Prepared:
    """Split one category, leave out what cannot be read, synthesize.

    Raises DataError as run_trial.
    """
    assignment = assign(config, universe)
    found = method_of(config.detector).faults(config.detector, universe, session)
    readable, unreadable = readable_ids(universe, found, config.dataset.max_unreadable)
    whole, train, held_out, test = (
        part.filter(pc.is_in(part["id"], readable))
        for part in (universe, assignment.train, assignment.held_out, assignment.test)
    )
    synthesis = _synthetic(config, whole, train, session)
    images = TrainingImages(universe, pa.concat_tables([train, synthesis.catalog]), test, _sources(synthesis, train))
    remarks = assignment.remarks + unreadable + session.notes(config.dataset, universe) + synthesis.remark
    chosen_by = assignment.validation.num_rows > 0
    return Prepared(images, held_out, chosen_by, synthesis, remarks)


def readable_ids(universe: pa.Table, found: Mapping[str, str], tolerated: float) -> tuple[pa.Array, tuple[str, ...]]:
    """Ids of the images without a fault, and the remark on the others. Raises DataError for more than are tolerated.

    Args:
        found: id -> why an image could not be decoded.
        tolerated: dataset.max_unreadable.
    """
    ids = universe["id"].combine_chunks()
    if not found:
        return ids, ()
    first = next(iter(found.values()))
    if len(found) > tolerated * universe.num_rows:
        raise DataError(
            f"{len(found)} of {universe.num_rows} images are unreadable, more than dataset.max_unreadable="
            f"{tolerated:g} tolerates; the first: {first}"
        )
    readable = ids.filter(pc.invert(pc.is_in(ids, pa.array(list(found)))))
    return readable, (f"{len(found)} unreadable images left out; the first: {first}",)


def _synthetic(config: ExperimentConfig, universe: pa.Table, train: pa.Table, session: Session) -> Synthesis:
    if config.synthesizer is None or not learns_from(config.detector).defects:
        return Synthesis((), {})
    return run_synthesis(config, universe, train, session)


def _sources(synthesis: Synthesis, train: pa.Table) -> dict[str, tuple[str, ...]]:
    """Id of a synthetic image -> the training images and masks that it was made from."""
    images, masks = ({file for file in train[name].to_pylist() if file} for name in ("image", "mask"))
    return {
        made.row.id: same_file(made.background, images) + same_file(made.mask_source, masks)
        for made in synthesis.samples
    }


def _held_out(labels: np.ndarray, predictions: Predictions, threshold: float | None) -> OperatingPoint | None:
    if threshold is None or not {0, 1} <= set(labels.tolist()):
        return None
    return point_at(labels, predictions.scores, threshold)


def _pixel_metrics(
    predictions: Predictions, normals: Predictions | None, config: ExperimentConfig, session: Session
) -> PixelMetrics | None:
    """None where no test defect has a mask; a defect without one is left out of the pixel metrics."""
    if not any(row.mask is not None for row in predictions.rows):
        return None
    geometry = config.detector.geometry
    if config.evaluation.resolution == "native" and (geometry.crop is not None or geometry.fit == "cut"):
        key = "crop" if geometry.crop is not None else "fit"
        raise ConfigError(f"evaluation.resolution=native needs maps of the whole image: unset detector.features.{key}")

    def measure() -> PixelMetrics:
        native = config.evaluation.resolution == "native"
        maps = (one for _, one in _drawn(normals, native=native)) if normals else iter(())
        return pixel_metrics(_maps_and_masks(predictions, config, session), config.evaluation, normal_threshold(maps))

    if config.evaluation.resolution == "native":
        return measure()
    return stored_pixel_metrics(predictions, normals, config, session.store, measure)


def _maps_and_masks(
    predictions: Predictions, config: ExperimentConfig, session: Session
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    with session.progress("measuring anomaly maps", len(predictions.rows)) as advance:
        for row, anomaly_map in _drawn(predictions, native=config.evaluation.resolution == "native"):
            if row.mask is not None:
                yield anomaly_map, session.mask(row, config.detector.geometry, config.evaluation)
            elif not row.label:
                yield anomaly_map, None
            advance(1)


def _drawn(predictions: Predictions, *, native: bool) -> Iterator[tuple[CatalogRow, np.ndarray]]:
    if native:
        for row, patch_map in zip(predictions.rows, predictions.patch_maps, strict=True):
            yield row, predictions.draw(patch_map, image_size(row.image))
        return
    for start in range(0, len(predictions.rows), _BLOCK):
        maps = predictions.draw.many(predictions.patch_maps[start : start + _BLOCK])
        yield from zip(predictions.rows[start : start + _BLOCK], maps, strict=True)
