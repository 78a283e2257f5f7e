"""One trial: split, synthesize, fit, predict, evaluate."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exdd_ray.config.detector import FeaturesConfig
from exdd_ray.config.experiment import DatasetConfig, EvaluationConfig, ExperimentConfig
from exdd_ray.config.load import Trial
from exdd_ray.config.synthesis import InpaintConfig
from exdd_ray.data.catalog import UNSPLIT, CatalogRow, select_rows
from exdd_ray.data.datasets import DATASETS
from exdd_ray.data.images import image_size, read_row_mask
from exdd_ray.data.split import positives_from_test, split_catalog
from exdd_ray.detectors.patch_bank import FittedPatchBank, Predictions, fit_patch_bank
from exdd_ray.detectors.samples import Embedder, ImageOrderer, Searcher
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.experiment.pixels import stored_pixel_metrics
from exdd_ray.experiment.result import TrialResult
from exdd_ray.features.embed import SliceRunner
from exdd_ray.features.prepare import prepare_mask
from exdd_ray.metrics.evaluate import PixelMetrics, image_metrics, pixel_metrics
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Store
from exdd_ray.synthesis.chunk import ChunkRunner
from exdd_ray.synthesis.model import model_digest
from exdd_ray.synthesis.synthesize import Synthesis, synthesize

_BLOCK = 32
_KEPT_MASKS = 4096


@dataclass
class Workshop:
    """What the trials of a run share: the store, and what they have opened from it.

    Attributes:
        run: computes embedding slices; None takes this process's threads.
        paint: makes chunks of synthetic samples; None takes this process's threads.
        order, search: make coresets and search banks; None is this process.
    """

    store: Store
    progress: Progress = silent
    run: SliceRunner | None = None
    paint: ChunkRunner | None = None
    order: ImageOrderer | None = None
    search: Searcher | None = None
    _embedders: dict[tuple[str, str], Embedder] = field(default_factory=dict)
    _masks: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def embedder(self, features: FeaturesConfig, universe: pa.Table) -> Embedder:
        """The embedder of a dataset's category; embeds all of it once."""
        key = (features.model_dump_json(), universe["image"][0].as_py())
        if key not in self._embedders:
            self._embedders[key] = Embedder(
                self.store, features, universe, self.run, self.progress, self.order, self.search
            )
        return self._embedders[key]

    def mask(self, row: CatalogRow, features: FeaturesConfig, evaluation: EvaluationConfig) -> np.ndarray:
        """The true mask bool of a test image that has one, at the resolution of the evaluation."""
        if evaluation.resolution == "native":
            return read_row_mask(row)
        key = (f"{row.mask} {row.mask_threshold}", f"{features.model_dump_json()} {evaluation.mask_resize}")
        if key not in self._masks:
            if len(self._masks) == _KEPT_MASKS:
                self._masks.clear()
            mask = read_row_mask(row, features.working_size)
            self._masks[key] = prepare_mask(mask, features, eroded=evaluation.mask_resize == "eroded")
        return self._masks[key]


@dataclass(frozen=True)
class Assignment:
    """Who trains and who is tested in a trial, and what a reader must know about it."""

    train: pa.Table
    test: pa.Table
    remarks: tuple[str, ...]


def assign(config: ExperimentConfig, universe: pa.Table) -> Assignment:
    """Split one category and check that the trial can be run on it; no image is opened.

    Raises DataError for a test set of one class, no normal image, or no defect (with a mask) for a dual bank.
    """
    split, dual = config.dataset.split, config.detector.bank.positive is not None
    catalog = split_catalog(universe, train_fraction=split.train_fraction, defects=split.defects, seed=config.seed)
    train, test = select_rows(catalog, split="train"), select_rows(catalog, split="test")
    for label, name in ((0, "normal"), (1, "defective")):
        if select_rows(test, label=label).num_rows == 0:
            where = universe["category"][0].as_py()
            raise DataError(f"{where}: AUROC and AP are undefined: the test set has nothing {name}")
    remarks = _leakage(config, universe, catalog)
    if isinstance(config.synthesizer, InpaintConfig):
        model_digest(config.synthesizer)  # refuses a model that cannot be had, before anything is computed
    defects = select_rows(train, label=1)
    if dual:
        masked = defects.filter(pc.is_valid(defects["mask"]))
        if masked.num_rows == 0 and (config.synthesizer is None or config.synthesizer.count == 0):
            raise DataError(
                f"a dual bank needs defects with masks to train on, and none of {defects.num_rows} training defects "
                "has one: set dataset.split.defects or a synthesizer"
            )
        if masked.num_rows < defects.num_rows:
            remarks += (f"{defects.num_rows - masked.num_rows} training defects have no mask and are left out",)
        defects = masked
    return Assignment(pa.concat_tables([select_rows(train, label=0), defects]), test, remarks)


def _leakage(config: ExperimentConfig, universe: pa.Table, catalog: pa.Table) -> tuple[str, ...]:
    remarks = mask_leak(config)
    spec = DATASETS.get(config.dataset.name)
    if spec is not None and spec.related and pc.any(pc.equal(universe["split"], UNSPLIT)).as_py():
        remarks += (f"leakage: {spec.related}, and the split is random",)
    moved = positives_from_test(universe, catalog)
    if moved and config.detector.bank.positive is not None:
        remarks += (f"leakage: training defects ({moved}) were taken from the test split, and are not tested",)
    return remarks


def mask_leak(config: ExperimentConfig) -> tuple[str, ...]:
    """The remark on synthetic defects that are painted in the masks of real ones."""
    synthesizer = config.synthesizer
    leaks = isinstance(synthesizer, InpaintConfig) and synthesizer.masks.source == "positives"
    return ("leakage: synthetic defects lie in the masks of training defects (masks.source=positives)",) * leaks


def run_trial(trial: Trial, universe: pa.Table, workshop: Workshop) -> TrialResult:
    """Run one experiment on one category.

    Args:
        universe: all real images of the category.

    Raises:
        DataError: the data do not allow it (nothing normal, one class in test, too many unreadable images, ...).
        ConfigError: settings that contradict each other.
    """
    started = time.perf_counter()
    config = trial.config
    assignment = assign(config, universe)
    embedder = workshop.embedder(config.detector.features, universe)
    readable, unreadable = _readable(universe, embedder, config.dataset)
    train, test = (part.filter(pc.is_in(part["id"], readable)) for part in (assignment.train, assignment.test))
    synthesis = _synthetic(config, train, workshop)
    real = select_rows(train, label=1).slice(0, None if config.detector.bank.positive else 0)
    synthetic = synthesis.catalog
    normal = select_rows(train, label=0)
    fitted = fit_patch_bank(config.detector, pa.concat_tables([normal, real, synthetic]), embedder, config.seed)
    predictions = fitted.predict(test)
    labels = np.array([row.label for row in predictions.rows])
    image = image_metrics(labels, predictions.scores, resamples=config.evaluation.bootstrap, seed=config.seed)
    return TrialResult(
        trial=trial,
        category=universe["category"][0].as_py(),
        predictions=predictions,
        image=image,
        pixel=_pixel_metrics(predictions, config, workshop),
        bank_sizes=_bank_sizes(fitted),
        train=(normal.num_rows, real.num_rows, synthetic.num_rows),
        test=(int((labels == 0).sum()), int((labels == 1).sum())),
        remarks=assignment.remarks + unreadable + synthesis.remark,
        seconds=time.perf_counter() - started,
    )


def _readable(universe: pa.Table, embedder: Embedder, config: DatasetConfig) -> tuple[pa.Array, tuple[str, ...]]:
    """Ids of the images that could be decoded; refuses where more could not than the config tolerates."""
    embedding = embedder.embedding(universe)
    ids = universe["id"].filter(pa.array(embedding.readable)).combine_chunks()
    faults = len(embedding.reasons)
    if not faults:
        return ids, ()
    first = next(iter(embedding.reasons.values()))
    if faults > config.max_unreadable * universe.num_rows:
        raise DataError(
            f"{faults} of {universe.num_rows} images are unreadable, more than dataset.max_unreadable="
            f"{config.max_unreadable:g} tolerates; the first: {first}"
        )
    return ids, (f"{faults} unreadable images left out; the first: {first}",)


def _synthetic(config: ExperimentConfig, train: pa.Table, workshop: Workshop) -> Synthesis:
    if config.synthesizer is None or config.detector.bank.positive is None:
        return Synthesis((), {})
    normal, positives = (select_rows(train, label=label) for label in (0, 1))
    return synthesize(
        config.synthesizer,
        normal,
        positives,
        config.seed,
        workshop.store,
        run=workshop.paint,
        progress=workshop.progress,
    )


def _bank_sizes(fitted: FittedPatchBank) -> tuple[int, int]:
    return len(fitted.negative.vectors), 0 if fitted.positive is None else len(fitted.positive.vectors)


def _pixel_metrics(predictions: Predictions, config: ExperimentConfig, workshop: Workshop) -> PixelMetrics | None:
    """None where no test defect has a mask; a defect without one is left out of the pixel metrics."""
    if not any(row.mask is not None for row in predictions.rows):
        return None
    if config.evaluation.resolution == "native" and config.detector.features.crop is not None:
        raise ConfigError("evaluation.resolution=native needs maps of the whole image: unset detector.features.crop")

    def measure() -> PixelMetrics:
        return pixel_metrics(_maps_and_masks(predictions, config, workshop), fpr_limit=config.evaluation.fpr_limit)

    if config.evaluation.resolution == "native":
        return measure()
    return stored_pixel_metrics(predictions, config, workshop.store, measure)


def _maps_and_masks(
    predictions: Predictions, config: ExperimentConfig, workshop: Workshop
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    with workshop.progress("measuring anomaly maps", len(predictions.rows)) as advance:
        for row, anomaly_map in _drawn(predictions, native=config.evaluation.resolution == "native"):
            if row.mask is not None:
                yield anomaly_map, workshop.mask(row, config.detector.features, config.evaluation)
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
