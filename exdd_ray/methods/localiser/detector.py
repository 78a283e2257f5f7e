"""The localiser: trained on images with masks, kept in the store, applied to a catalog."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from exdd_ray.banks.scoring.maps import MapMaker
from exdd_ray.config.base import identity, without
from exdd_ray.data.catalog import REAL, CatalogRow, build_catalog, catalog_rows
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.methods.images import full_mask, read_images
from exdd_ray.methods.localiser.config import LocaliserConfig
from exdd_ray.methods.localiser.judge import Judgement, judge_held_out, judge_on_test
from exdd_ray.methods.localiser.network import anomaly_maps, batch_loss, image_scores, make_network
from exdd_ray.methods.localiser.samples import Draws, Pairs, Sample, read_pairs
from exdd_ray.methods.method import counts
from exdd_ray.methods.predictions import Predictions
from exdd_ray.methods.segmentation import UNet
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.store.hashes import digest
from exdd_ray.training.device import training_device
from exdd_ray.training.holdout import Sources, hold_out
from exdd_ray.training.learner import Learner, ShuffledBatches
from exdd_ray.training.stored import memory_remark, trained, training_recipe

VERSION = 1
LEAK = (
    "leakage: the checkpoint was chosen by image AUROC, pixel AUROC, pixel AP and AUPRO of the test images "
    "(detector.checkpoint=test)"
)
_NAME = "localiser"
_NOT_TRAINED_BY = ("preset", "antialias", "defects", "training", "holdout")
_DROPS, _FACTOR = (0.8, 0.9), 0.2  # of the learning rate: after which shares of the epochs, and to what of it


@dataclass(frozen=True)
class FittedLocaliser:
    """A trained localiser.

    Attributes:
        network: in evaluation mode, on the device.
        threshold: of the image score, with the largest F1 on the held-out images; None where none were held out.
        train: normal, real defective and synthetic images trained on.
        held_out: training images that validated instead.
        remarks: what a reader of the scores must know.
    """

    config: LocaliserConfig
    network: UNet
    progress: Progress
    threshold: float | None
    train: tuple[int, int, int]
    held_out: int
    remarks: tuple[str, ...]

    def predict(self, catalog: pa.Table) -> Predictions:
        """Scores and anomaly maps of the readable images of a catalog. Raises DataError where none is."""
        images = read_images(catalog_rows(catalog), self.config.geometry)
        if not images.rows:
            raise DataError("nothing to predict: no image of the catalog is readable")
        with self.progress("localiser", len(images.rows)) as advance:
            maps = anomaly_maps(self.network, images.pixels, self.config, advance)
        side = (self.config.size, self.config.size)
        return Predictions(
            rows=images.rows,
            scores=image_scores(maps, self.config.pool),
            patch_maps=maps.reshape(len(maps), -1),
            draw=MapMaker(grid=side, input_size=side, blur="gaussian", radius=0.0),
        )


def fit_localiser(
    config: LocaliserConfig,
    train: pa.Table,
    store: Store,
    seed: int,
    *,
    sources: Sources | None = None,
    test: pa.Table | None = None,
    progress: Progress = silent,
    remote: Callable[[], None] | None = None,
) -> FittedLocaliser:
    """Train on normal images and defects with masks, or take the trained network from the store.

    Args:
        train: normal images and defects, real or synthetic.
        seed: of the first weights, of the samples and of what is held out.
        sources: of the synthetic images: what they were made from is not held out while they are trained on.
        test: the test images; for `checkpoint: test` only.
        remote: trains what the store lacks, in other processes; None is this process.

    Raises:
        DataError: one class only, no mask with a pixel at the network's size, too few images to hold any out.
        ImageError: an image or a mask that cannot be read, a defect without a mask.
        ConfigError: `checkpoint: test` without test images.
        TrainingError: see exdd_ray.training.loop.train.
    """
    rows = _trained_on(catalog_rows(train), config)
    kept, held = np.arange(len(rows)), np.zeros(0, dtype=np.int64)
    if config.checkpoint == "validation":
        kept, held = hold_out(rows, config.holdout, seed, sources)
    pairs, validation = (read_pairs([rows[at] for at in part], config.size) for part in (kept, held))
    _require_pixels(pairs, "trained on", config)
    network, batches = make_network(config, seed), ShuffledBatches(config.draws, config.training.batch, seed)
    judge, tested = _judge(config, network, validation, test)
    training = config.training.model_copy(update={"validate_every": config.validate_epochs * batches.per_epoch})
    made = trained(
        _learner(config, network, pairs, batches, seed),
        config.epochs * batches.per_epoch,
        config=training,
        recipe=_recipe(config, pairs, validation, seed, tested),
        store=store,
        validate=None if judge is None else lambda: judge().value,
        describe=lambda: {"threshold": None if judge is None else judge().threshold},
        progress=progress,
        remote=remote,
    )
    torn = len(rows) - len(kept) - len(held)
    return FittedLocaliser(
        config=config,
        network=network.to(training_device(training)),
        progress=progress,
        threshold=made.metadata["threshold"] if len(held) else None,  # none that was chosen on the test images
        train=counts(build_catalog(pairs.rows)),
        held_out=len(held),
        remarks=_remarks(config, torn) + memory_remark(made, training),
    )


def _learner(
    config: LocaliserConfig, network: UNet, pairs: Pairs, batches: ShuffledBatches, seed: int
) -> Learner[Sample]:
    optimizer = Adam(network.parameters(), lr=config.learning_rate)
    drops = [round(share * config.epochs) * batches.per_epoch for share in _DROPS]
    return Learner(
        modules={_NAME: network},
        optimizers=[optimizer],
        schedulers=[MultiStepLR(optimizer, drops, _FACTOR)],
        draw=Draws(pairs, config, batches, seed),
        loss=lambda samples, _: batch_loss(network, samples),
        seed=seed,
    )


def _recipe(config: LocaliserConfig, pairs: Pairs, validation: Pairs, seed: int, tested: tuple[str, ...]) -> Recipe:
    """What the trained network depends on."""
    unused = () if config.checkpoint != "last" else ("pool",)
    how: dict[str, Any] = without(identity(config), *_NOT_TRAINED_BY, *unused)
    how |= {"seed": seed, "loop": training_recipe(config.training.model_copy(update={"validate_every": 1}))}
    return Recipe(f"train-{_NAME}", VERSION, how, (*_digests(pairs), *_digests(validation), *tested))


def _digests(pairs: Pairs) -> tuple[str, ...]:
    named = digest([[row.label, row.defect] for row in pairs.rows])
    return (
        *(hashlib.blake2b(part.tobytes(), digest_size=20).hexdigest() for part in (pairs.pixels, pairs.masks)),
        named,
    )


def _judge(
    config: LocaliserConfig, network: UNet, validation: Pairs, test: pa.Table | None
) -> tuple[Callable[[], Judgement] | None, tuple[str, ...]]:
    """What the checkpoint is chosen by, and the digests of the test images where it is chosen on them."""
    if config.checkpoint == "last":
        return None, ()
    if config.checkpoint == "validation":
        _require_pixels(validation, "held out", config)
        return partial(_judged, config, network, validation, judge_held_out), ()
    if test is None:
        raise ConfigError("detector.checkpoint=test: the test images are not given")
    tested = _tested(test, config)
    return partial(_judged, config, network, tested, judge_on_test), _digests(tested)


def _judged(config: LocaliserConfig, network: UNet, pairs: Pairs, judge: Callable[..., Judgement]) -> Judgement:
    maps = anomaly_maps(network, pairs.pixels, config, lambda _: None)
    return judge(maps, image_scores(maps, config.pool), pairs.labels, pairs.masks)


def _tested(test: pa.Table, config: LocaliserConfig) -> Pairs:
    """The test images as they are scored, with the pixels of their masks that are full after the resize, as released.

    Raises DataError where nothing can be chosen by them.
    """
    found = read_images(catalog_rows(test), config.geometry)
    pairs = Pairs(found.rows, found.pixels, np.stack([full_mask(row, config.geometry) for row in found.rows]))
    if set(pairs.labels.tolist()) != {0, 1}:
        raise DataError("detector.checkpoint=test: the test images are of one class")
    if not pairs.masks.any():
        raise DataError("detector.checkpoint=test also chooses by pixels: no defect of the test images has a mask")
    return pairs


def _trained_on(rows: list[CatalogRow], config: LocaliserConfig) -> list[CatalogRow]:
    """The normal images, and the defects that the config asks for. Raises DataError where either is lacking."""
    needs = "a localiser needs normal images and defects with masks to train on"
    if not rows:
        raise DataError(f"{needs}: there is none")
    if all(row.label for row in rows):
        raise DataError(f"{needs}: all {len(rows)} are defective")
    if not any(row.label for row in rows):
        raise DataError(f"{needs}: all {len(rows)} are normal: set dataset.split.defects or a synthesizer")
    if config.defects == "all":
        return rows
    chosen = [row for row in rows if not row.label or row.origin != REAL]
    if not any(row.label for row in chosen):
        raise DataError("detector.defects=synthetic, and no defect is: set a synthesizer, or detector.defects=all")
    return chosen


def _require_pixels(pairs: Pairs, what: str, config: LocaliserConfig) -> None:
    if not pairs.masks.any():
        raise DataError(f"no mask of the defects {what} has a pixel left at {config.size} pixels: raise detector.size")


def _remarks(config: LocaliserConfig, torn: int) -> tuple[str, ...]:
    left_out = f"{torn} synthetic images were made from a held-out image and from another one, and are left out"
    return (LEAK,) * (config.checkpoint == "test") + (left_out,) * (torn > 0)
