"""The localiser's network, its loss, and the anomaly maps and image scores that it gives."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from exdd_ray.methods.localiser.config import LocaliserConfig
from exdd_ray.methods.localiser.samples import Sample
from exdd_ray.methods.segmentation import UNet, focal_loss
from exdd_ray.progress import Advance
from exdd_ray.training.gradients import no_memory_for

FOCAL_GAMMA = 2.0
_CHANNELS, _CLASSES = 3, 2
_SPREAD = 0.02
_FORWARD = 16


def make_network(config: LocaliserConfig, seed: int) -> UNet:
    """An untrained network, drawn from the seed: weights of convolutions N(0, .02), scales of BatchNorm N(1, .02)."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = UNet(config.network, _CHANNELS, _CLASSES)
        network.apply(_draw_weights)
    return network.to(memory_format=torch.channels_last)


def probabilities(network: nn.Module, pixels: np.ndarray) -> Tensor:
    """Probabilities of being anomalous float32 [B x 1 x S x S] of images uint8 [B x S x S x 3]."""
    device = next(network.parameters()).device
    images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255
    return network(images).float().softmax(dim=1)[:, 1:]


def batch_loss(network: nn.Module, samples: Sequence[Sample]) -> Tensor:
    """The focal loss over all pixels of the samples."""
    found = probabilities(network, np.stack([sample.image for sample in samples]))
    masks = torch.from_numpy(np.stack([sample.mask for sample in samples]))[:, None].to(found)
    return focal_loss(found, masks, FOCAL_GAMMA)


@torch.inference_mode()
def anomaly_maps(network: nn.Module, pixels: np.ndarray, config: LocaliserConfig, advance: Advance) -> np.ndarray:
    """Anomaly maps float32 [n x S x S] in 0..1 of images uint8 [n x S x S x 3]. Raises TrainingError out of memory."""
    device = next(network.parameters()).device.type
    maps = []
    for start in range(0, len(pixels), _FORWARD):
        part = pixels[start : start + _FORWARD]
        with no_memory_for("anomaly maps"), _autocast(device, config):
            maps.append(probabilities(network, part)[:, 0].cpu().numpy())
        advance(len(part))
    return np.concatenate(maps)


def image_scores(maps: np.ndarray, pool: int) -> np.ndarray:
    """Of each map [n x S x S] the largest mean over a window of pool x pixels, zeros around the map: [n]."""
    padded = torch.from_numpy(maps)[:, None]
    means = [functional.avg_pool2d(one, pool, stride=1, padding=pool // 2).amax((1, 2, 3)) for one in padded.split(64)]
    scores: np.ndarray = torch.cat(means).numpy()
    return scores


def _autocast(device: str, config: LocaliserConfig) -> torch.autocast:
    return torch.autocast(device, torch.bfloat16, enabled=config.training.precision == "bfloat16")


def _draw_weights(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.normal_(layer.weight, 0.0, _SPREAD)
    if isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, _SPREAD)
