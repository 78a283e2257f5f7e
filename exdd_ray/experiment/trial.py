"""One trial: split, synthesize, fit, predict, evaluate."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exdd_ray.data.catalog import UNLABELLED, UNSPLIT, VALIDATION, CatalogRow, select_rows
from exdd_ray.data.datasets import DATASETS
from exdd_ray.data.images import image_size
from exdd_ray.data.split import positives_from_test
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.dataset import copies, copy_remarks, split_universe
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.pixels import stored_pixel_metrics
from exdd_ray.experiment.remarks import synthesis_remarks
from exdd_ray.experiment.result import Evaluation, TrialResult
from exdd_ray.experiment.session import Session
from exdd_ray.methods.config import DetectorConfig
from exdd_ray.methods.method import Fitted, LearnsFrom, TrainingImages
from exdd_ray.methods.predictions import Predictions
from exdd_ray.methods.table import method_of, methods
from exdd_ray.metrics.evaluate import PixelMetrics, image_metrics, pixel_metrics
from exdd_ray.metrics.threshold import OperatingPoint, point_at
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.inpaint.model import model_digest
from exdd_ray.synthesizers.synthesize import Synthesis, on_device, synthesize
from exdd_ray.training.holdout import same_file

_BLOCK = 32


@dataclass(frozen=True)
class Assignment:
    """Who trains, who is held out to choose by and who is tested in a trial, and what a reader must know about it."""

    train: pa.Table
    validation: pa.Table
    test: pa.Table
    remarks: tuple[str, ...]


def assign(config: ExperimentConfig, universe: pa.Table) -> Assignment:
    """Split one category and check that the trial can be run on it; images are hashed, not decoded.

    A test set of one class, or without labels, gets scores and a remark that nothing can be measured.

    Raises DataError for nothing to test, no normal image, or no defect for a detector that needs some.
    """
    catalog = split_universe(config, universe)
    train, validation, test = (select_rows(catalog, split=name) for name in ("train", VALIDATION, "test"))
    if not test.num_rows:
        raise DataError(f"{universe['category'][0].as_py()}: no image to test")
    validation, unused = _usable_validation(config, validation)
    if isinstance(config.synthesizer, InpaintConfig):
        model_digest(config.synthesizer)  # refuses a model that cannot be had, before anything is computed
    normal, defects = select_rows(train, label=0), select_rows(train, label=1)
    learns, method = learns_from(config.detector), method_of(config.detector)
    usable, left_out = _usable(defects, learns)
    synthetic = config.synthesizer is not None and config.synthesizer.count > 0
    if learns.defects and usable.num_rows == 0 and not synthetic:
        raise DataError(_no_defects(learns, defects.num_rows))
    trained = pa.concat_tables([normal, usable])
    unmeasured = tuple(f"scores without metrics: the test images {lacking}" for lacking in [_lacking(test)] if lacking)
    painted = synthesis_remarks(config) if synthetic and learns.defects else ()
    copied = copy_remarks(config, universe, pa.concat_tables([trained, validation]), test)
    of_images = _leakage(config, universe, catalog) + copied + left_out
    of_config = painted + method.remarks(config.detector)
    return Assignment(trained, validation, test, unmeasured + unused + of_config + of_images)


def learns_from(detector: DetectorConfig) -> LearnsFrom:
    """What a detector learns from beside normal images."""
    return method_of(detector).learns_from(detector)


def require_both_labels(images: pa.Table) -> None:
    """Raise DataError where test images allow no metrics, for a sweep has nothing else to compare by."""
    if lacking := _lacking(images):
        raise DataError(f"{images['category'][0].as_py()}: nothing can be compared: the test images {lacking}")


def _usable_validation(config: ExperimentConfig, images: pa.Table) -> tuple[pa.Table, tuple[str, ...]]:
    """The validation images, and the remark on the dataset's own where they are of one class and so allow no choice.

    Raises DataError where the experiment asks for some.
    """
    lacking = _lacking(images) if images.num_rows else ""
    if not lacking:
        return images, ()
    if config.dataset.split.validation_defects:
        raise DataError(f"{images['category'][0].as_py()}: the validation images {lacking}")
    remark = (
        f"the dataset's own validation images ({images.num_rows}) {lacking}, and are neither trained on nor tested: "
        "with dataset.split.validation_defects of the test they can be chosen by"
    )
    return images.slice(0, 0), (remark,)


def _lacking(images: pa.Table) -> str:
    """Why AUROC and AP are undefined on images; empty where they are not."""
    if select_rows(images, label=UNLABELLED).num_rows:
        return "have no labels"
    normal = select_rows(images, label=0).num_rows
    return {0: "are all defective", images.num_rows: "are all normal"}.get(normal, "")


def _usable(defects: pa.Table, learns: LearnsFrom) -> tuple[pa.Table, tuple[str, ...]]:
    """The training defects that a detector learns from, and the remark on those that it cannot."""
    if not learns.defects:
        return defects.slice(0, 0), ()
    if not learns.masks:
        return defects, ()
    masked = defects.filter(pc.is_valid(defects["mask"]))
    without = defects.num_rows - masked.num_rows
    return masked, (f"{without} training defects have no mask and are left out",) * (without > 0)


def _no_defects(learns: LearnsFrom, defects: int) -> str:
    if learns.masks and defects:
        others = " or ".join(kind for kind, one in methods().items() if _without_masks(one.learns_from(one.config())))
        return (
            f"{learns.name} needs defects with masks to train on, and none of the {defects} training defects has one: "
            f"add masks, set a synthesizer, or take a detector that needs none (detector.kind={others})"
        )
    return f"{learns.name} needs defects to train on, and there is none: set dataset.split.defects or a synthesizer"


def _without_masks(learns: LearnsFrom) -> bool:
    return learns.defects and not learns.masks


def _leakage(config: ExperimentConfig, universe: pa.Table, catalog: pa.Table) -> tuple[str, ...]:
    remarks: tuple[str, ...] = ()
    spec = DATASETS.get(config.dataset.name)
    if spec is not None and spec.related and pc.any(pc.equal(universe["split"], UNSPLIT)).as_py():
        remarks += (f"leakage: {spec.related}, and the split is random",)
    moved = positives_from_test(universe, catalog)
    if moved and learns_from(config.detector).defects:
        remarks += (
            f"training defects ({moved}) were taken from the dataset's test split and are not tested: figures of the "
            "whole test split are of other images",
        )
    return remarks


def mask_donors(config: ExperimentConfig, universe: pa.Table, train: pa.Table) -> pa.Table:
    """Defects whose masks a synthesizer may paint in: those trained on.

    Where a trial trains on none (zero-shot), they are those that the dataset itself has in train, but for the ones held
    out for validation: DIAG's stand-in for masks that an expert draws.
    """
    defects = select_rows(train, label=1)
    if defects.num_rows:
        return defects
    official, split = select_rows(universe, split="train", label=1), split_universe(config, universe)
    held_out = select_rows(split, split=VALIDATION)["id"].combine_chunks()
    givers = official.filter(pc.invert(pc.is_in(official["id"], held_out)))
    if config.dataset.duplicates == "keep":
        return givers
    tested = pa.concat_tables([givers, select_rows(split, split="test")])
    return givers.filter(pa.array(~copies(tested)[: givers.num_rows]))


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
    test = _evaluate(fitted, prepared.images.test, config, session, config.evaluation.bootstrap)
    validation = _evaluate(fitted, prepared.validation, config, session, 0) if prepared.validation.num_rows else None
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


def _evaluate(
    fitted: Fitted, images: pa.Table, config: ExperimentConfig, session: Session, resamples: int
) -> Evaluation:
    predictions = fitted.predict(images)
    labels = np.array([row.label for row in predictions.rows])
    measured = {0, 1} <= set(labels.tolist())
    image = image_metrics(labels, predictions.scores, resamples=resamples, seed=config.seed) if measured else None
    return Evaluation(predictions, image, _pixel_metrics(predictions, config, session))


@dataclass(frozen=True)
class Prepared:
    """What a trial's detector is fitted to, chosen by and tested on, and what a reader must know about it."""

    images: TrainingImages
    validation: pa.Table
    synthesis: Synthesis
    remarks: tuple[str, ...]


def prepare_trial(config: ExperimentConfig, universe: pa.Table, session: Session) -> Prepared:
    """Split one category, leave out what cannot be read, synthesize.

    Raises DataError as run_trial.
    """
    assignment = assign(config, universe)
    found = method_of(config.detector).faults(config.detector, universe, session)
    readable, unreadable = readable_ids(universe, found, config.dataset.max_unreadable)
    whole, train, validation, test = (
        part.filter(pc.is_in(part["id"], readable))
        for part in (universe, assignment.train, assignment.validation, assignment.test)
    )
    synthesis = _synthetic(config, whole, train, session)
    images = TrainingImages(universe, pa.concat_tables([train, synthesis.catalog]), test, _sources(synthesis, train))
    remarks = assignment.remarks + unreadable + session.notes(config.dataset, universe) + synthesis.remark
    return Prepared(images, validation, synthesis, remarks)


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


def run_synthesis(config: ExperimentConfig, universe: pa.Table, train: pa.Table, session: Session) -> Synthesis:
    """The synthetic defects of an experiment that has a synthesizer, made where the store lacks them.

    Raises UserError as synthesize.
    """
    assert config.synthesizer is not None
    return synthesize(
        on_device(config.synthesizer, session.paints_on),
        select_rows(train, label=0),
        mask_donors(config, universe, train),
        config.seed,
        session.store,
        run=session.paint,
        progress=session.progress,
    )


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


def _pixel_metrics(predictions: Predictions, config: ExperimentConfig, session: Session) -> PixelMetrics | None:
    """None where no test defect has a mask; a defect without one is left out of the pixel metrics."""
    if not any(row.mask is not None for row in predictions.rows):
        return None
    if config.evaluation.resolution == "native" and config.detector.geometry.crop is not None:
        raise ConfigError("evaluation.resolution=native needs maps of the whole image: unset detector.features.crop")

    def measure() -> PixelMetrics:
        return pixel_metrics(_maps_and_masks(predictions, config, session), fpr_limit=config.evaluation.fpr_limit)

    if config.evaluation.resolution == "native":
        return measure()
    return stored_pixel_metrics(predictions, config, session.store, measure)


def _maps_and_masks(
    predictions: Predictions, config: ExperimentConfig, session: Session
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    with session.progress("measuring anomaly maps", len(predictions.rows)) as advance:
        for row, anomaly_map in _drawn(predictions, native=config.evaluation.resolution == "native"):
            if row.mask is not None:
                yield anomaly_map, session.mask(row, config.detector.geometry, config.evaluation)
            elif not row.label:
                yield anomaly_map, np.zeros(anomaly_map.shape, dtype=bool)
            advance(1)


def _drawn(predictions: Predictions, *, native: bool) -> Iterator[tuple[CatalogRow, np.ndarray]]:
    if native:
        for row, patch_map in zip(predictions.rows, predictions.patch_maps, strict=True):
            yield row, predictions.draw(patch_map, image_size(row.image))
        return
    for start in range(0, len(predictions.rows), _BLOCK):
        maps = predictions.draw.many(predictions.patch_maps[start : start + _BLOCK])
        yield from zip(predictions.rows[start : start + _BLOCK], maps, strict=True)
