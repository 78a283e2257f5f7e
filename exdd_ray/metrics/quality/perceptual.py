"""LPIPS between pictures (Zhang et al., 2018), and within the clusters of their nearest real ones (IC-LPIPS)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from exdd_ray.errors import DataError
from exdd_ray.features.backbone import weights_digest
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.metrics.quality.config import PerceptualName
from exdd_ray.metrics.quality.networks import pretrained
from exdd_ray.metrics.quality.pictures import PictureSet

_SIDE = 256
_BLOCK = 32
_COLUMNS = 1 << 17  # vector components taken to float64 at a time
_BACKBONES = {"squeeze": "squeezenet1_1", "alex": "alexnet", "vgg": "vgg16"}


@dataclass(frozen=True)
class Perceptual:
    """A loaded LPIPS (version 0.1) of the package lpips, whose trained linear heads come with it.

    Attributes:
        name: of its network.
        description: network, input, and the content hash of the network's weights.
        model: lpips.LPIPS.
        device: it is on.
    """

    name: PerceptualName
    description: str
    model: Any
    device: str


@dataclass(frozen=True)
class Clusters:
    """LPIPS within clusters.

    Attributes:
        means: [K] mean over the pairs of each cluster with two members or more.
        single: synthetic images that are alone in their cluster, and so left out.
    """

    means: np.ndarray
    single: int


def load_perceptual(name: PerceptualName, weights: Path | None = None, device: str = "cpu") -> Perceptual:
    """LPIPS with its network's ImageNet weights from a file, EXDD_WEIGHTS, or torchvision's download.

    Raises UserError where these are not to be had or do not fit; there is never a random network.
    """
    import lpips

    features = FeaturesConfig(backbone=_BACKBONES[name], weights=weights, layers=("features",))
    given = pretrained(features, "quality.perceptual_weights", "cpu").state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # lpips asks torchvision for the network by an old argument
        model = lpips.LPIPS(net=name, pnet_rand=True, verbose=False)
    # lpips names a layer slice<n>.<i>..., torchvision features.<i>...
    model.net.load_state_dict({key: given[f"body.features.{key.split('.', 1)[1]}"] for key in model.net.state_dict()})
    description = f"LPIPS 0.1 on {features.backbone}, input {_SIDE} x {_SIDE}, weights {weights_digest(features)}"
    return Perceptual(name, description, model.eval().to(device), device)


def pairwise_lpips(perceptual: Perceptual, first: PictureSet, second: PictureSet) -> np.ndarray:
    """LPIPS of every picture of one set to every one of another, [N x M].

    LPIPS is a squared Euclidean distance: that of the unit-normalised feature maps, each channel times the root of its
    trained weight, each layer divided by the root of its positions. So a picture passes the network once a block, not
    once a pair.
    """
    rows = []
    for block in first.blocks(_BLOCK):
        one = _embed(perceptual, block)
        rows.append(np.hstack([_squared(one, _embed(perceptual, other)) for other in second.blocks(_BLOCK)]))
    return np.vstack(rows)


def cluster_lpips(perceptual: Perceptual, synthetic: PictureSet, nearest: np.ndarray) -> Clusters:
    """Mean pairwise LPIPS within each cluster of synthetic pictures (Ojha et al., 2021, sec. 4, intra-cluster LPIPS).

    Args:
        synthetic: M pictures.
        nearest: [M] the real picture nearest to each, which is its cluster.

    Raises:
        DataError: no cluster has two members.
    """
    clusters = [np.flatnonzero(nearest == real) for real in np.unique(nearest)]
    several = [members for members in clusters if len(members) > 1]
    if not several:
        raise DataError("no two synthetic images share a nearest real one")
    means = [_mean_of_pairs(perceptual, synthetic.subset(members.tolist())) for members in several]
    return Clusters(np.asarray(means), len(clusters) - len(several))


def _mean_of_pairs(perceptual: Perceptual, pictures: PictureSet) -> float:
    distances = pairwise_lpips(perceptual, pictures, pictures)
    return float(distances[np.triu_indices(len(pictures), 1)].mean())


@torch.inference_mode()
def _embed(perceptual: Perceptual, pictures: Sequence[np.ndarray]) -> Tensor:
    """Vectors [B x E] whose squared distances are LPIPS, of pictures uint8 [H x W x 3]."""
    import lpips

    model = perceptual.model
    batch = torch.from_numpy(np.stack([_prepare(picture) for picture in pictures])).to(perceptual.device)
    parts = []
    for maps, head in zip(model.net(model.scaling_layer(batch)), model.lins, strict=True):
        weight = head.model[-1].weight / (maps.shape[2] * maps.shape[3])
        parts.append((lpips.normalize_tensor(maps) * weight.sqrt()).flatten(1))
    return torch.cat(parts, dim=1)


def _squared(first: Tensor, second: Tensor) -> np.ndarray:
    """Squared distances [N x M]; summed in float64, for small ones are differences of large products."""
    total = torch.zeros(len(first), len(second), dtype=torch.float64, device=first.device)
    for one, two in zip(first.split(_COLUMNS, dim=1), second.split(_COLUMNS, dim=1), strict=True):
        one, two = one.double(), two.double()
        total += one.square().sum(1)[:, None] + two.square().sum(1)[None] - 2 * one @ two.T
    return total.clamp(min=0).cpu().numpy()


def _prepare(picture: np.ndarray) -> np.ndarray:
    """Bilinear, antialiased resize to the network's input, values of -1..1: float32 [3 x 256 x 256]."""
    resized = np.asarray(Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
    return np.ascontiguousarray((resized.astype(np.float32) / np.float32(127.5) - 1).transpose(2, 0, 1))
