"""The image classifier (DIAG, In&Out): trained on image labels; its class-activation map is the anomaly map."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from exdd_ray.banks.scoring.maps import MapMaker
from exdd_ray.config.base import Size
from exdd_ray.data.catalog import REAL, CatalogRow, catalog_rows
from exdd_ray.data.masks import read_row_levels
from exdd_ray.errors import DataError
from exdd_ray.features.backbone import normalisation, weights_digest
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.prepare import full_pixels
from exdd_ray.methods.classifier.config import ClassifierConfig
from exdd_ray.methods.classifier.network import ImageClassifier, build_network, image_logits, logit_maps, set_batchnorm
from exdd_ray.methods.predictions import Predictions
from exdd_ray.metrics.threshold import f1_max_point
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Artifact, Recipe, Store
from exdd_ray.store.contents import content_digests
from exdd_ray.training.holdout import Sources, hold_out
from exdd_ray.training.learner import Learner, ShuffledBatches
from exdd_ray.training.pictures import Pictures, read_pictures
from exdd_ray.training.stored import memory_remark, restore, trained, training_recipe

VERSION = 3
_NAME = "classifier"
_READERS = 8
_FEATURES = {"backbone", "layers", "working_size", "resize", "fit", "crop"}


@dataclass(frozen=True)
class FittedClassifier:
    """A trained classifier.

    Attributes:
        network: in evaluation mode.
        grid: (height, width) of its maps.
        threshold: of F1-max on the held-out training images; None where none were held out.
        epochs: after how many the weights were taken.
        train: normal, real defective and synthetic images trained on.
        held_out: training images that validated instead.
        unreadable: training image id -> why it was left out.
        remarks: what a reader of the results must know.
    """

    config: ClassifierConfig
    network: ImageClassifier
    grid: Size
    threshold: float | None
    epochs: int
    train: tuple[int, int, int]
    held_out: int
    unreadable: dict[str, str]
    remarks: tuple[str, ...]

    def predict(self, catalog: pa.Table) -> Predictions:
        """Logits and maps of the readable images of a catalog. Raises DataError where none is."""
        pictures = read_pictures(labelled(catalog_rows(catalog), self.config), self.config.features)
        if not pictures.rows:
            raise DataError("nothing to predict: no image of the catalog is readable")
        maps = logit_maps(self.network, pictures, range(len(pictures.rows)), self.config)
        return Predictions(
            rows=pictures.rows,
            scores=image_logits(maps),
            patch_maps=maps.reshape(len(maps), -1),
            draw=MapMaker(self.grid, self.config.features.input_size, "gaussian", 0.0),
        )


def fit_classifier(
    config: ClassifierConfig,
    train: pa.Table,
    store: Store,
    seed: int,
    *,
    sources: Sources | None = None,
    progress: Progress = silent,
    remote: Callable[[], None] | None = None,
) -> FittedClassifier:
    """Train on the image labels of a catalog; the trained network is an artifact of the store.

    Args:
        train: normal and defective images, real or synthetic.
        seed: of the head's first weights, of the order of the images and of what is held out.
        sources: of the synthetic images: what they were made from is not held out while they are trained on.
        remote: trains what the store lacks, in other processes; None is this process.

    Raises:
        DataError: one class only, fewer images than a batch, too few to hold any out.
        ConfigError: what `build_network` refuses.
        TrainingError: as `train` of the training loop.
    """
    given = catalog_rows(train)
    rows = labelled(given, config)
    _require_both(rows)
    recipe = _recipe(config, rows, seed, sources)
    network, grid = build_network(config, seed)
    if remote is not None and store.find(recipe.key) is None:
        remote()
    made = store.find(recipe.key)
    if made is None:
        made = _trained(config, network, rows, seed, sources, recipe, store, progress)
    restore(made, {_NAME: network})
    found = made.metadata
    return FittedClassifier(
        config=config,
        network=network,
        grid=grid,
        threshold=found["threshold"],
        epochs=found["best_step"] // found["per_epoch"],
        train=tuple(found["train"]),
        held_out=found["held_out"],
        unreadable=found["unreadable"],
        remarks=_remarks(config, given, rows, found["mixed"]) + memory_remark(made, config.training),
    )


def labelled(rows: Sequence[CatalogRow], config: ClassifierConfig) -> list[CatalogRow]:
    """The rows with the labels that the config asks for; a defect without a mask keeps its own.

    Raises ImageError for a mask that cannot be read.
    """
    if config.labels == "catalog":
        return list(rows)
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(partial(_by_full_mask, features=config.features), rows))


def _by_full_mask(row: CatalogRow, features: FeaturesConfig) -> CatalogRow:
    if row.mask is None:
        return row
    full = full_pixels(read_row_levels(row, features.working_size), features)
    return replace(row, label=int(full.any()))


def _trained(
    config: ClassifierConfig,
    network: ImageClassifier,
    rows: Sequence[CatalogRow],
    seed: int,
    sources: Sources | None,
    recipe: Recipe,
    store: Store,
    progress: Progress,
) -> Artifact:
    pictures = read_pictures(rows, config.features)
    _require_both(pictures.rows)
    kept, held = np.arange(len(pictures.rows)), np.zeros(0, dtype=np.int64)
    if config.checkpoint == "validation":
        kept, held = hold_out(pictures.rows, config.holdout, seed, sources)
    batches = ShuffledBatches(len(kept), config.training.batch, seed)

    def value() -> float:
        return -_cross_entropy(pictures.labels[held], image_logits(logit_maps(network, pictures, held, config)))

    def describe() -> dict[str, Any]:
        chosen = [pictures.rows[at] for at in kept]
        return {
            "threshold": _threshold(config, network, pictures, held) if len(held) else None,
            "per_epoch": batches.per_epoch,
            "train": _counts(chosen),
            "held_out": len(held),
            "mixed": len(pictures.rows) - len(kept) - len(held),
            "unreadable": dict(pictures.reasons),
        }

    return trained(
        _learner(config, network, pictures, kept, batches, seed),
        config.epochs * batches.per_epoch,
        config=config.training.model_copy(update={"validate_every": batches.per_epoch}),
        recipe=recipe,
        store=store,
        validate=None if config.checkpoint == "last" else value,
        describe=describe,
        progress=progress,
    )


def _learner(
    config: ClassifierConfig,
    network: ImageClassifier,
    pictures: Pictures,
    kept: np.ndarray,
    batches: ShuffledBatches,
    seed: int,
) -> Learner[int]:
    parameters, device = list(network.parameters()), next(network.parameters()).device
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.SGD
    labels = torch.from_numpy(pictures.labels).to(device, torch.float32)

    def draw(step: int) -> list[int]:
        return [int(at) for at in kept[batches(step)]]

    def loss(positions: Sequence[int], step: int) -> Tensor:
        set_batchnorm(network, config, step // batches.per_epoch)
        images = pictures.batch(positions).to(device, memory_format=torch.channels_last)
        logits = network(images).mean((1, 2))
        return functional.binary_cross_entropy_with_logits(logits, labels[list(positions)])

    optimizer = kind(parameters, lr=config.learning_rate)
    return Learner({_NAME: network}, [optimizer], [None], draw, loss, seed)


def _threshold(config: ClassifierConfig, network: ImageClassifier, pictures: Pictures, held: np.ndarray) -> float:
    logits = image_logits(logit_maps(network, pictures, held, config))
    return f1_max_point(pictures.labels[held], logits, config.threshold).threshold


def _cross_entropy(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean over the two classes: held-out images are few, and mostly normal."""
    losses = np.logaddexp(0, np.where(labels == 1, -logits, logits))
    return float(np.mean([losses[labels == label].mean() for label in (0, 1)]))


def _require_both(rows: Sequence[CatalogRow]) -> None:
    labels = {row.label for row in rows}
    if labels == {0, 1}:
        return
    if not labels:
        raise DataError("a classifier needs normal and defective images to train on: there is none")
    what, remedy = ("defective", "") if 1 in labels else ("normal", ": set dataset.split.defects or a synthesizer")
    raise DataError(f"a classifier needs normal and defective images to train on: all {len(rows)} are {what}{remedy}")


def _recipe(
    config: ClassifierConfig,
    rows: Sequence[CatalogRow],
    seed: int,
    sources: Sources | None,
) -> Recipe:
    how = config.model_dump(mode="json", include={"optimizer", "learning_rate", "epochs", "batchnorm", "checkpoint"})
    how["features"] = config.features.model_dump(mode="json", include=_FEATURES)
    how["normalisation"] = normalisation(config.features.backbone)
    how["training"], how["seed"] = training_recipe(config.training.model_copy(update={"validate_every": 1})), seed
    if config.checkpoint == "validation":
        how |= {"holdout": config.holdout, "threshold": config.threshold, "sources": _made_from(rows, sources)}
    return Recipe("train-classifier", VERSION, how, (weights_digest(config.features), *_contents(rows)))


def _made_from(rows: Sequence[CatalogRow], sources: Sources | None) -> dict[int, list[int]]:
    """Position of a synthetic image -> positions of those it was made from."""
    at: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        for file in filter(None, (row.image, row.mask)):
            at.setdefault(file, []).append(position)
    made = {position: (sources or {}).get(row.id) for position, row in enumerate(rows)}
    return {
        position: sorted({one for file in files for one in at.get(file, [])})
        for position, files in made.items()
        if files is not None
    }


def _contents(rows: Sequence[CatalogRow]) -> list[str]:
    contents = content_digests([row.image for row in rows])
    return [
        f"{content} {row.label} {row.view} {row.split} {row.origin == REAL}"
        for content, row in zip(contents, rows, strict=True)
    ]


def _counts(rows: Sequence[CatalogRow]) -> tuple[int, int, int]:
    """Normal, real defective and synthetic images."""
    defects = [row for row in rows if row.label]
    real = sum(row.origin == REAL for row in defects)
    return len(rows) - len(defects), real, len(defects) - real


def _remarks(
    config: ClassifierConfig, given: Sequence[CatalogRow], rows: Sequence[CatalogRow], mixed: int
) -> tuple[str, ...]:
    torn = f"{mixed} synthetic images were made from a held-out image and from another one, and are left out"
    defects, faded = (sum(row.label for row in some) for some in (given, rows))
    by_mask = (
        "defects without a full mask pixel at the network's size count as normal, in the test too (labels=full_mask): "
        f"{defects - faded} of {defects} in training"
    )
    return (by_mask,) * (config.labels == "full_mask") + (torn,) * (mixed > 0)
