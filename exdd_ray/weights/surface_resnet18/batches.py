"""Training batches: random crops of the pools, with a label for each cell of layer2 and layer3."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from exdd_ray.data.procedural.defects import DEFECT_KINDS
from exdd_ray.weights.surface_resnet18.pools import Pools

IGNORED = -1
PURITY = 0.7
DEFECT_SHARE = 0.06
STRIDES = (8, 16)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Batch:
    """Normalised images `[N x 3 x H x W]`, their cell labels for each stride, each `[N x H/stride x W/stride]`."""

    images: Tensor
    labels: tuple[Tensor, ...]


def texture_batch(pools: Pools, maps: NDArray[np.uint8], count: int, rng: np.random.Generator) -> Batch:
    """Images of up to three programs side by side; a cell that shows two of them is ignored."""
    side = maps.shape[1]
    regions = torch.from_numpy(maps[rng.integers(len(maps), size=count)].astype(np.int64))
    regions = regions.flip(int(rng.integers(1, 3))) if rng.uniform() < 0.5 else regions
    classes = rng.integers(pools.textures.shape[0], size=(count, 3))
    crops = np.stack([[_crop(_pick(pools.textures[c], rng), side, rng) for c in row] for row in classes])
    images = torch.from_numpy(crops).gather(1, regions[:, None, :, :, None].expand(-1, 1, -1, -1, 3))[:, 0]
    shares = functional.one_hot(regions, 3).permute(0, 3, 1, 2).float()
    labels = []
    for stride in STRIDES:
        purity, winner = functional.avg_pool2d(shares, stride).max(dim=1)
        cell = torch.from_numpy(classes).gather(1, winner.flatten(1)).view_as(winner)
        labels.append(torch.where(purity >= PURITY, cell, IGNORED))
    return Batch(normalize(jitter(images, rng)), tuple(labels))


def defect_batch(pools: Pools, side: int, count: int, rng: np.random.Generator) -> Batch:
    """Crops of defective surfaces; a cell carries the defect that covers DEFECT_SHARE of it, 0 where none does."""
    images = np.empty((count, side, side, 3), dtype=np.uint8)
    maps = np.empty((count, side, side), dtype=np.uint8)
    for row, number in enumerate(rng.integers(len(pools.defective), size=count)):
        both = np.dstack([pools.defective[number], pools.labels[number]])
        turned = _crop(np.rot90(both, int(rng.integers(4))), side, rng)
        images[row], maps[row] = turned[..., :3], turned[..., 3]
    shares = (
        functional.one_hot(torch.from_numpy(maps.astype(np.int64)), len(DEFECT_KINDS) + 1).permute(0, 3, 1, 2).float()
    )
    return Batch(
        normalize(jitter(torch.from_numpy(images), rng)), tuple(_defect_cells(shares, stride) for stride in STRIDES)
    )


def _defect_cells(shares: Tensor, stride: int) -> Tensor:
    covered = functional.avg_pool2d(shares, stride)[:, 1:]
    most, kind = covered.max(dim=1)
    labels = torch.where(most >= DEFECT_SHARE, kind + 1, 0)
    return torch.where((most > 0) & (most < DEFECT_SHARE), IGNORED, labels)


def _pick(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    return np.asarray(images[rng.integers(len(images))])


def _crop(image: NDArray[np.uint8], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    top, left = rng.integers(image.shape[0] - side + 1), rng.integers(image.shape[1] - side + 1)
    return image[top : top + side, left : left + side]


def jitter(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Each image under another exposure, contrast and colour balance, a third in grey; uint8 `[N x H x W x 3]` to 0..1.

    Colour and brightness would otherwise give the classes away, and no shape would be learned.
    """
    count = len(images)
    scaled = images.float() / 255
    grey = torch.from_numpy(rng.uniform(size=count) < 0.35)[:, None, None, None]
    scaled = torch.where(grey, scaled.mean(dim=3, keepdim=True), scaled)
    mean = scaled.mean(dim=(1, 2, 3), keepdim=True)
    contrast = torch.from_numpy(np.exp(rng.normal(0, 0.3, (count, 1, 1, 1)))).float()
    gain = torch.from_numpy(np.exp(rng.normal(0, 0.25, (count, 1, 1, 1)))).float()
    balance = torch.from_numpy(np.exp(rng.normal(0, 0.12, (count, 1, 1, 3)))).float()
    balance = torch.where(grey, 1.0, balance)
    return (((scaled - mean) * contrast + mean) * gain * balance).clamp(0, 1)


def normalize(images: Tensor) -> Tensor:
    """Images `[N x H x W x 3]` in 0..1 to the backbone's input `[N x 3 x H x W]`: ImageNet's mean and deviation."""
    return ((images - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)).permute(0, 3, 1, 2)
