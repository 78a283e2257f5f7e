"""DiffusionAD: trained on normal images and synthetic anomalies, kept in the store, applied to a catalog."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from exdd_ray.banks.scoring.maps import MapMaker
from exdd_ray.config.base import identity, without
from exdd_ray.data.catalog import catalog_rows, select_rows
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.methods.diffusionad.config import DiffusionADConfig, InferenceConfig
from exdd_ray.methods.diffusionad.inference import anomaly_maps, image_scores, random_noise, seeded_noise
from exdd_ray.methods.diffusionad.learner import make_learner
from exdd_ray.methods.diffusionad.networks import Networks, make_networks
from exdd_ray.methods.diffusionad.training_samples import draw_validation
from exdd_ray.methods.images import Images, full_mask, read_images
from exdd_ray.methods.predictions import Predictions
from exdd_ray.metrics.curves import detection
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.store.contents import content_digests
from exdd_ray.synthesizers.per_region.sources import texture_files
from exdd_ray.synthesizers.per_region.synthesizer import SYNTHESIZER as PER_REGION
from exdd_ray.synthesizers.segmentation import segmenters
from exdd_ray.training.config import TrainConfig
from exdd_ray.training.device import training_device
from exdd_ray.training.learner import ShuffledBatches, Value
from exdd_ray.training.stored import memory_remark, trained, training_recipe

VERSION = 3
LEAK = "leakage: the checkpoint was chosen by the AUROC of the test images (detector.checkpoint=test)"
_DIGITS = 3  # to which the released code rounds an AUROC before it compares
_HOLD_OUT = 2  # second word of the seed of who is held out
_NOT_TRAINED_BY = ("preset", "antialias", "inference", "training", "epochs", "steps", "validate_epochs")


@dataclass(frozen=True)
class FittedDiffusionAD:
    """A trained detector.

    Attributes:
        networks: in evaluation mode, on the device.
        seed: of the noise at test, where it is seeded.
        key: of the trained networks' artifact.
        threshold: of the image score, with the largest F1 on what the checkpoint was chosen on; None for the last one,
            and for another mode than the one step that it is chosen with.
        train: normal images that were trained on, and held out of the training.
        unreadable: id -> why a training image could not be read.
        remarks: what a reader of the scores must know.
    """

    config: DiffusionADConfig
    networks: Networks
    seed: int
    progress: Progress
    key: str
    threshold: float | None
    train: tuple[int, int]
    unreadable: dict[str, str]
    remarks: tuple[str, ...]

    def predict(self, catalog: pa.Table) -> Predictions:
        """Scores and anomaly maps of the readable images of a catalog. Raises DataError where none is."""
        images = read_images(catalog_rows(catalog), self.config.geometry)
        if not images.rows:
            raise DataError("nothing to predict: no image of the catalog is readable")
        maps = self._maps(images)
        side = (self.config.size, self.config.size)
        return Predictions(
            rows=images.rows,
            scores=image_scores(maps),
            patch_maps=maps.reshape(len(maps), -1),
            draw=MapMaker(grid=side, input_size=side, blur="gaussian", radius=0.0),
        )

    def _maps(self, images: Images) -> np.ndarray:
        size, names = self.config.size, [row.id for row in images.rows]
        seeded = self.config.inference.noise == "seeded"
        noise = seeded_noise(self.seed, names, size) if seeded else random_noise(size)
        with self.progress("DiffusionAD", len(names)) as advance:
            return anomaly_maps(self.networks, images.pixels, noise, self.config, advance)


def fit_diffusionad(
    config: DiffusionADConfig,
    train: pa.Table,
    store: Store,
    seed: int,
    *,
    test: pa.Table | None = None,
    progress: Progress = silent,
    remote: Callable[[], None] | None = None,
) -> FittedDiffusionAD:
    """Train on the normal images of a catalog, or take the trained networks from the store.

    Args:
        train: its defective images are not used.
        seed: of the networks' weights and of all that is drawn.
        test: the test images; for `checkpoint: test` only.
        remote: trains what the store lacks, in other processes; None is this process.

    Raises:
        DataError: fewer readable normal images than a batch, or too few to hold some out of.
        ConfigError: `checkpoint: test` without test images.
        TrainingError: see exdd_ray.training.loop.train.
    """
    images = read_images(catalog_rows(select_rows(train, label=0)), config.geometry)
    if not images.rows:
        raise DataError("no normal image to train on is readable")
    config = _for_category(config, images.rows[0].category)
    normal, held_out = _parted(images.pixels, config, seed)
    training, steps = _loop(config, len(normal))
    networks = make_networks(config, seed)
    textures = texture_files(config.anomalies.textures)
    judge, tested = _judge(config, networks, held_out, test, seed, textures)
    inputs = (_digest(images.pixels), *content_digests([*textures, *segmenters(config)]), *tested)
    artifact = trained(
        make_learner(networks, normal, config, steps, seed, textures),
        steps,
        config=training,
        recipe=_recipe(config, training, steps, seed, inputs),
        store=store,
        validate=None if judge is None else lambda: judge().value,
        keep_latest=config.checkpoint == "test",
        describe=lambda: {"threshold": None if judge is None else judge().threshold},
        progress=progress,
        remote=remote,
    )
    for module in networks.modules.values():
        module.to(training_device(training))
    return FittedDiffusionAD(
        config=config,
        networks=networks,
        seed=seed,
        progress=progress,
        key=artifact.key,
        threshold=artifact.metadata["threshold"] if config.inference.mode == "one_step" else None,
        train=(len(normal), len(held_out)),
        unreadable=images.unreadable,
        remarks=(LEAK,) * (config.checkpoint == "test") + memory_remark(artifact, training),
    )


@dataclass(frozen=True)
class Judgement:
    """How good the networks' current weights are, and the threshold of the image score with the largest F1."""

    value: Value
    threshold: float


def _for_category(config: DiffusionADConfig, category: str) -> DiffusionADConfig:
    """The config as it is for a category: the anomalies of a texture are filled with other textures alone."""
    anomalies = config.anomalies
    if anomalies.texture_share is not None or category not in anomalies.texture_categories:
        return config
    return config.model_copy(update={"anomalies": anomalies.model_copy(update={"texture_share": 1.0})})


def _parted(pixels: np.ndarray, config: DiffusionADConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images to train on, and those held out of it (none unless the checkpoint is chosen on them).

    Raises DataError where none would be left to train on.
    """
    count = max(1, round(config.held_out * len(pixels))) if config.checkpoint == "validation" else 0
    if count >= len(pixels):
        raise DataError(
            "detector.checkpoint=validation needs at least 2 normal images: one to hold out of the training"
        )
    order = np.random.default_rng([seed, _HOLD_OUT]).permutation(len(pixels))
    return pixels[np.sort(order[count:])], pixels[np.sort(order[:count])]


def _loop(config: DiffusionADConfig, normal: int) -> tuple[TrainConfig, int]:
    """How and for how many steps so many images are trained on, epochs counted in steps.

    Raises DataError for fewer images than a batch.
    """
    training = config.training
    per_epoch = ShuffledBatches(normal, training.batch, seed=0, drop_last=True).per_epoch
    if config.validate_epochs is not None:
        training = training.model_copy(update={"validate_every": config.validate_epochs * per_epoch})
    return training, config.steps or config.epochs * per_epoch


def _recipe(config: DiffusionADConfig, training: TrainConfig, steps: int, seed: int, inputs: tuple[str, ...]) -> Recipe:
    """What the trained networks depend on; how often is validated does not matter where the last ones are taken."""
    how = without(identity(config), *_NOT_TRAINED_BY)
    loop = training if config.checkpoint != "last" else training.model_copy(update={"validate_every": 1})
    made_by = {**how, "seed": seed, "steps": steps, "loop": training_recipe(loop), "synthesis": PER_REGION.version}
    return Recipe("train-diffusionad", VERSION, made_by, inputs)


def _judge(
    config: DiffusionADConfig,
    networks: Networks,
    held_out: np.ndarray,
    test: pa.Table | None,
    seed: int,
    textures: tuple[str, ...],
) -> tuple[Callable[[], Judgement] | None, tuple[str, ...]]:
    """What the checkpoint is chosen by, and the digests of the test images where it is chosen on them."""
    if config.checkpoint == "last":
        return None, ()
    alike = config.model_copy(update={"inference": InferenceConfig(batch=config.inference.batch)})
    if config.checkpoint == "validation":
        images, masks = draw_validation(held_out, config, seed, textures)
        return lambda: _by_masks(_maps(networks, images, alike, seed), masks), ()
    if test is None:
        raise ConfigError("detector.checkpoint=test: the test images are not given")
    found = read_images(catalog_rows(test), config.geometry)
    labels = np.array([row.label for row in found.rows])
    if len(set(labels.tolist())) < 2:
        raise DataError("detector.checkpoint=test: the test images are of one class")
    truth = np.stack([full_mask(row, config.geometry) for row in found.rows])
    if not truth.any():
        raise DataError("detector.checkpoint=test also chooses by pixels: no defect of the test images has a mask")
    digests = (_digest(found.pixels), "".join(map(str, labels)), _digest(truth))
    return lambda: judge_on_test(_maps(networks, found.pixels, alike, seed), labels, truth), digests


def _maps(networks: Networks, pixels: np.ndarray, config: DiffusionADConfig, seed: int) -> np.ndarray:
    noise = seeded_noise(seed, [str(number) for number in range(len(pixels))], config.size)
    return anomaly_maps(networks, pixels, noise, config, lambda _: None)


def _by_masks(maps: np.ndarray, masks: np.ndarray) -> Judgement:
    """Mean of image AUROC and pixel AP: the one is 1 early, and the other goes on."""
    image = detection(masks.any(axis=(1, 2)).astype(int), image_scores(maps))
    pixel = detection(masks.ravel().astype(int), maps.ravel())
    return Judgement((image.auroc + pixel.ap) / 2, image.threshold)


def judge_on_test(maps: np.ndarray, labels: np.ndarray, truth: np.ndarray) -> Judgement:
    """Image AUROC, and image and pixel AUROC together, in percent, rounded."""
    image, pixel = detection(labels, image_scores(maps)), detection(truth.ravel().astype(int), maps.ravel())
    of_images, of_pixels = (round(found.auroc, _DIGITS) * 100 for found in (image, pixel))
    return Judgement((of_images, of_images + of_pixels), image.threshold)


def input_digests(config: DiffusionADConfig) -> tuple[str, ...]:
    """Content hashes of the texture images that anomalies are filled with, and of the model that says where they lie.

    There is none of what is made, or not used.
    """
    return tuple(content_digests([*texture_files(config.anomalies.textures), *segmenters(config)]))


def _digest(pixels: np.ndarray) -> str:
    return hashlib.blake2b(pixels.tobytes(), digest_size=20).hexdigest()
