"""The image classifier's network: a backbone and one logit, which is the mean of a map of logits.

The logit is linear in the mean of the backbone's feature map, so the same weights, applied place by place, give its
class-activation map (Zhou et al., 2016), whose mean is the logit.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from exdd_ray.config.base import Size
from exdd_ray.errors import ConfigError
from exdd_ray.features.backbone import Backbone, load_backbone
from exdd_ray.methods.classifier.config import ClassifierConfig
from exdd_ray.training.device import training_device
from exdd_ray.training.gradients import no_memory_for
from exdd_ray.training.pictures import Pictures

_FORWARD = 16


class ImageClassifier(nn.Module):
    """A backbone and a linear layer that reads its one feature map place by place."""

    def __init__(self, backbone: Backbone, channels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Maps of logits float32 [B x h x w] of images [B x 3 x H x W]; their means are the images' logits."""
        (features,) = self.backbone(images)
        logits: Tensor = self.head(features.permute(0, 2, 3, 1))
        return logits[..., 0].float()


def build_network(config: ClassifierConfig, seed: int) -> tuple[ImageClassifier, Size]:
    """The pretrained backbone with a new head drawn from the seed, and the (height, width) of its maps.

    Raises:
        ConfigError: trained BatchNorm with weights that have theirs folded in; a layer without a feature map.
        UserError: weights that are not to be had, or do not fit.
    """
    backbone = load_backbone(config.features)
    if config.batchnorm != "frozen" and _folded(backbone):
        raise ConfigError(
            f"the weights of {config.features.backbone} have their BatchNorm folded into the convolutions, which holds "
            "with fixed statistics only: set detector.batchnorm=frozen"
        )
    with torch.no_grad():
        (features,) = backbone(torch.zeros(1, 3, *config.features.input_size))
    if features.dim() != 4:
        raise ConfigError(f"{config.features.backbone}: {config.features.layers[0]} is no feature map [B x C x h x w]")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = ImageClassifier(backbone, features.shape[1]).requires_grad_(True)
    return network.to(training_device(config.training)), (features.shape[2], features.shape[3])


def set_batchnorm(network: ImageClassifier, config: ClassifierConfig, epoch: int) -> None:
    """Evaluation mode for what the config wants in it at an epoch, from 0, of a network in training mode."""
    if config.batchnorm == "released" and epoch > 0:
        network.eval()
    if config.batchnorm == "frozen":
        for layer in _norms(network):
            layer.eval()


def logit_maps(
    network: ImageClassifier, pictures: Pictures, at: Iterable[int] | np.ndarray, config: ClassifierConfig
) -> np.ndarray:
    """Maps of logits float32 [n x h x w] of the pictures at n positions, by a network in evaluation mode.

    Raises TrainingError out of memory.
    """
    device, positions = training_device(config.training), np.asarray(list(at), dtype=np.int64)
    half = torch.autocast(device, dtype=torch.bfloat16, enabled=config.training.precision == "bfloat16")
    maps = []
    with torch.no_grad(), half, no_memory_for("logits"):
        for start in range(0, len(positions), _FORWARD):
            images = pictures.batch(positions[start : start + _FORWARD])
            maps.append(network(images.to(device, memory_format=torch.channels_last)).cpu().numpy())
    return np.concatenate(maps)


def image_logits(maps: np.ndarray) -> np.ndarray:
    """Image scores float64 [n] of maps of logits [n x h x w]."""
    logits: np.ndarray = maps.mean((1, 2), dtype=np.float64)
    return logits


def _folded(backbone: nn.Module) -> bool:
    """Whether all BatchNorm statistics are those of a layer that never saw an image."""
    means = [layer.running_mean for layer in _norms(backbone) if layer.running_mean is not None]
    return bool(means) and all(not mean.any() for mean in means)


def _norms(network: nn.Module) -> list[_BatchNorm]:
    return [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
