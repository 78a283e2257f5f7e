"""Which kind of defect is it? A classifier that is trained on synthetic images and asked of real ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from exdd_ray.features.backbone import Backbone, weights_digest
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.prepare import prepare_image
from exdd_ray.metrics.quality.config import KindsConfig
from exdd_ray.metrics.quality.networks import pretrained
from exdd_ray.metrics.quality.pictures import PictureSet
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.training.device import training_device
from exdd_ray.training.learner import Learner, ShuffledBatches
from exdd_ray.training.stored import trained, training_recipe

VERSION = 1
_NAME = "kinds"
_LAYERS = {"surface_resnet18": "layer3", "resnet18": "layer3", "resnet34": "layer4"}
_DROPS, _FACTOR = (0.8, 0.9), 0.2  # of the learning rate: after which shares of the steps, and to what of it
_FORWARD = 32


@dataclass(frozen=True)
class KindPictures:
    """Pictures of N defects, and the position of each one's kind [N]."""

    pictures: PictureSet
    kinds: np.ndarray


class KindNetwork(nn.Module):
    """A backbone and a linear layer on the mean of its feature map; the statistics of BatchNorm stay as they are."""

    def __init__(self, backbone: Backbone, channels: int, kinds: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(channels, kinds)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B x kinds] of normalised images [B x 3 x H x W]."""
        for layer in self.backbone.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()
        (features,) = self.backbone(images)
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


def describe_classifier(config: KindsConfig) -> str:
    """Network, input, training, and the content hash of the first weights."""
    return (
        f"{config.network} with a linear layer, input {config.size} x {config.size}, all of it trained for "
        f"{config.epochs} epochs, first weights {weights_digest(_features(config))}"
    )


def called_kinds(
    made: KindPictures,
    real: PictureSet,
    config: KindsConfig,
    store: Store,
    seed: int = 0,
    progress: Progress = silent,
) -> np.ndarray:
    """What a classifier that was trained on synthetic defects calls real ones: positions of kinds [len(real)].

    After AnomalyDiffusion (Hu et al., 2024): a ResNet from ImageNet's weights, cross-entropy, Adam, the rate lowered
    twice. The trained network is an artifact of the store.

    Raises:
        DataError: fewer synthetic images than a batch.
        UserError: weights that are not to be had.
        TrainingError: see exdd_ray.training.loop.train.
    """
    images = _resized(made.pictures, config.size)
    network = _network(config, int(made.kinds.max()) + 1, seed)
    batches = ShuffledBatches(len(images), config.training.batch, seed)
    how: dict[str, Any] = config.model_dump(mode="json", exclude={"weights", "training"})
    how |= {"loop": training_recipe(config.training), "seed": seed, "kinds": made.kinds.tolist()}
    contents = hashlib.blake2b(images.tobytes(), digest_size=20).hexdigest()
    trained(
        _learner(network, images, made.kinds, config, batches, seed),
        config.epochs * batches.per_epoch,
        config=config.training,
        recipe=Recipe(f"train-{_NAME}", VERSION, how, (weights_digest(_features(config)), contents)),
        store=store,
        progress=progress,
    )
    return _called(network.to(training_device(config.training)), _resized(real, config.size), config)


def _learner(
    network: KindNetwork,
    images: np.ndarray,
    kinds: np.ndarray,
    config: KindsConfig,
    batches: ShuffledBatches,
    seed: int,
) -> Learner[int]:
    optimizer, targets = Adam(network.parameters(), lr=config.learning_rate), torch.from_numpy(kinds)
    drops = [round(share * config.epochs) * batches.per_epoch for share in _DROPS]

    def loss(positions: Sequence[int], _: int) -> Tensor:
        logits = network(_batch(images[list(positions)], config))
        return functional.cross_entropy(logits.float(), targets[list(positions)].to(logits.device))

    def draw(step: int) -> list[int]:
        return [int(at) for at in batches(step)]

    return Learner({_NAME: network}, [optimizer], [MultiStepLR(optimizer, drops, _FACTOR)], draw, loss, seed)


@torch.inference_mode()
def _called(network: KindNetwork, images: np.ndarray, config: KindsConfig) -> np.ndarray:
    parts = [images[start : start + _FORWARD] for start in range(0, len(images), _FORWARD)]
    return np.concatenate([network(_batch(part, config)).argmax(dim=1).cpu().numpy() for part in parts])


def _network(config: KindsConfig, kinds: int, seed: int) -> KindNetwork:
    """The pretrained backbone with a new head drawn from the seed."""
    backbone = pretrained(_features(config), "quality.kinds.weights", "cpu")
    with torch.no_grad():
        (features,) = backbone(torch.zeros(1, 3, config.size, config.size))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return KindNetwork(backbone, features.shape[1], kinds).requires_grad_(True)


def _features(config: KindsConfig) -> FeaturesConfig:
    size, layers = (config.size, config.size), (_LAYERS[config.network],)
    return FeaturesConfig(backbone=config.network, weights=config.weights, layers=layers, resize=size)


def _resized(pictures: PictureSet, size: int) -> np.ndarray:
    """uint8 [N x size x size x 3] (bilinear, antialiased)."""
    images = (Image.fromarray(pictures.pixels(at)) for at in range(len(pictures)))
    return np.stack([np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)) for image in images])


def _batch(images: np.ndarray, config: KindsConfig) -> Tensor:
    features = _features(config)
    batch = torch.from_numpy(np.stack([prepare_image(image, features) for image in images]))
    return batch.to(training_device(config.training), memory_format=torch.channels_last)
