"""SuperSimpleNet fitted to a catalog: its heads are trained on vectors of the store, and are an artifact of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import MultiStepLR

from exdd_ray.banks.scoring.maps import MapMaker
from exdd_ray.config.base import identity, without
from exdd_ray.errors import DataError
from exdd_ray.features.embedder import Embedder, Samples
from exdd_ray.methods.predictions import Predictions
from exdd_ray.methods.supersimplenet.config import SuperSimpleNetConfig
from exdd_ray.methods.supersimplenet.losses import heads_loss
from exdd_ray.methods.supersimplenet.network import SuperSimpleNet
from exdd_ray.methods.supersimplenet.samples import Drawn, Draws, LearntImages, balanced, batch_of, learnt_images
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.store.hashes import digest
from exdd_ray.training.device import training_device
from exdd_ray.training.gradients import no_memory_for
from exdd_ray.training.learner import Learner, ShuffledBatches
from exdd_ray.training.stored import memory_remark, trained, training_recipe

VERSION = 2
_NAME = "supersimplenet"
_NOT_TRAINED_BY = ("preset", "features", "blur_radius", "training")
_DROPS, _FACTOR = (0.8, 0.9), 0.4  # of the learning rates: after which shares of the epochs, and to what of them
_MAX_GRADIENT = 1.0  # norm, where defects are learnt
_DECAY = 1e-5
_TOGETHER = 8  # images scored at a time


@dataclass(frozen=True)
class FittedSuperSimpleNet:
    """Trained heads, and how images are embedded for them."""

    config: SuperSimpleNetConfig
    embedder: Embedder
    network: SuperSimpleNet
    remarks: tuple[str, ...]

    def predict(self, catalog: pa.Table) -> Predictions:
        """Logits and maps of logits of a catalog's readable images. Raises DataError where none is."""
        parts = [part for part in self.embedder.samples(catalog) if len(part.at)]
        if not parts:
            raise DataError("nothing to predict: no image of the catalog is readable")
        found = [self._found(part, start) for part in parts for start in range(0, len(part.at), _TOGETHER)]
        draw = MapMaker(parts[0].embedding.grid, self.config.features.input_size, "gaussian", self.config.blur_radius)
        maps, scores = (np.concatenate(each) for each in zip(*found, strict=True))
        return Predictions(tuple(row for part in parts for row in part.rows), scores, maps, draw)

    @torch.inference_mode()
    def _found(self, samples: Samples, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Maps [n x P] and scores [n] of a few images."""
        grid, device = samples.embedding.grid, self.network.mean.device
        vectors = [samples.embedding.image(int(at)) for at in samples.at[start : start + _TOGETHER]]
        features = torch.from_numpy(np.stack(vectors)).to(device, torch.float32)
        with no_memory_for("anomaly maps"):
            found = self.network(features.unflatten(1, grid).permute(0, 3, 1, 2))
        return found.maps.flatten(1).cpu().numpy(), found.scores.cpu().numpy()


def fit_supersimplenet(
    config: SuperSimpleNetConfig,
    train: pa.Table,
    embedder: Embedder,
    seed: int,
    *,
    progress: Progress = silent,
    remote: Callable[[], None] | None = None,
) -> FittedSuperSimpleNet:
    """Train the heads on a catalog's normal images and defects, or take them from the store.

    Without defects no gradient flows from the image's score to the map; with some it does, and gradients are clipped.

    Args:
        remote: trains what the store lacks, in other processes; None is this process.

    Raises:
        DataError: no readable normal image, a defect without mask, fewer images than a batch.
        TrainingError: see exdd_ray.training.loop.train.
    """
    images = learnt_images([part for part in embedder.samples(train) if len(part.rows)], config.features)
    supervised = bool(images.labels.any())
    training = config.training
    if supervised and training.max_grad_norm is None:
        training = training.model_copy(update={"max_grad_norm": _MAX_GRADIENT})
    order = balanced(images.labels)
    batches = ShuffledBatches(len(order), training.batch, seed, drop_last=True)
    network = _make_network(config, images, seed)
    made = trained(
        _learner(config, network, Draws(images, order, batches, seed), apart=not supervised),
        config.epochs * batches.per_epoch,
        config=training,
        recipe=_recipe(config, images, seed),
        store=embedder.store,
        progress=progress,
        remote=remote,
    )
    left_out = f"{images.unmarked} training defects have empty masks and are left out"
    remarks = (left_out,) * (images.unmarked > 0) + memory_remark(made, training)
    return FittedSuperSimpleNet(config, embedder, network.to(training_device(training)), remarks)


def predict_from_files(fitted: FittedSuperSimpleNet, images: pa.Table) -> Predictions:
    """A catalog's scores and maps with nothing read from the store: every image is embedded anew."""
    with TemporaryDirectory() as folder:
        return replace(fitted, embedder=Embedder(Store(Path(folder)), fitted.config.features)).predict(images)


def _make_network(config: SuperSimpleNetConfig, images: LearntImages, seed: int) -> SuperSimpleNet:
    """Untrained heads, drawn from the seed; they know the channels' moments over the normal images."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = SuperSimpleNet(images.parts[0].embedding.dim, config)
    if config.standardised:
        network.mean[:], network.deviation[:] = _moments(images)
    return network


def _moments(images: LearntImages) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel [C] over the patches of the normal images, in float64."""
    normal = np.flatnonzero(images.labels == 0)
    means, squares = [], []
    for at in normal:
        vectors = images.features(int(at)).astype(np.float64)
        means.append(vectors.mean(axis=(0, 1)))
        squares.append((vectors**2).mean(axis=(0, 1)))
    mean = np.mean(means, axis=0)
    deviation = np.sqrt(np.maximum(np.mean(squares, axis=0) - mean**2, 0))
    deviation[deviation < 1e-6 * max(float(deviation.max()), 1.0)] = 1.0  # a channel that is always the same
    return torch.from_numpy(mean).float(), torch.from_numpy(deviation).float()


def _learner(config: SuperSimpleNetConfig, network: SuperSimpleNet, draws: Draws, *, apart: bool) -> Learner[Drawn]:
    heads = [*network.segment.parameters(), *network.look.parameters(), *network.score.parameters()]
    rates = [(network.adaptor.parameters(), config.adaptor_rate), (heads, config.head_rate)]
    optimizer = AdamW([{"params": list(part), "lr": rate} for part, rate in rates], weight_decay=_DECAY)
    drops = [round(share * config.epochs) * draws.batches.per_epoch for share in _DROPS]

    def loss(drawn: Sequence[Drawn], _: int) -> Tensor:
        features, noise, masks = (
            part.to(network.mean.device) for part in batch_of(drawn, draws.images, config.anomalies)
        )
        return heads_loss(network(features, noise, apart=apart), masks, config.margin)

    return Learner({_NAME: network}, [optimizer], [MultiStepLR(optimizer, drops, _FACTOR)], draws, loss, draws.seed)


def _recipe(config: SuperSimpleNetConfig, images: LearntImages, seed: int) -> Recipe:
    how = without(identity(config), *_NOT_TRAINED_BY)
    how |= {"seed": seed, "loop": training_recipe(config.training)}
    inputs = tuple(part.key for part in images.parts)
    return Recipe(f"train-{_NAME}", VERSION, how, (*inputs, digest(np.packbits(images.masks).tolist())))
