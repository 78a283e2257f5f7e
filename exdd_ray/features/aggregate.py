"""From feature maps to patch vectors: the published ways."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from exdd_ray.errors import ConfigError

Aggregator = Literal["avg", "exdd", "pc1024", "nearest", "upscaled"]
_PC_DIM = 1024


@dataclass(frozen=True)
class Patches:
    """Patch vectors of a batch.

    Attributes:
        vectors: [B x P x D], P = height * width of the grid, row by row.
        grid: (height, width) of the patch grid.
        widths: values of a vector that each layer gives, shallow first; all together where they are mixed (`pc1024`).
    """

    vectors: Tensor
    grid: tuple[int, int]
    widths: tuple[int, ...]


def aggregate(maps: Sequence[Tensor], how: Aggregator) -> Patches:
    """Patch vectors on the grid of the first (finest) map, or on a finer one.

    Args:
        maps: feature maps, each [B x C x H' x W'], finest first.
        how: `avg` 3x3 mean with zero padding, bilinear to the finest grid, channels concatenated (as anomalib); `exdd`
            unpadded 3x3 mean, adaptive average pooling to the finest grid, concatenated (ExDD's released code);
            `pc1024` 3x3 neighbourhoods pooled to 1024 values per layer and again over layers (PatchCore's own code);
            `nearest` no mean, coarser maps repeated on the finest grid, concatenated (PaDiM); `upscaled` bilinear to
            twice the finest grid, concatenated, 3x3 mean with zero padding (SuperSimpleNet).

    Raises ConfigError where the first map is not the finest.
    """
    height, width = maps[0].shape[-2:]
    if any(m.shape[-2] > height or m.shape[-1] > width for m in maps):
        raise ConfigError("features.layers go shallow first: the first layer's map must be the finest")
    grid = (2 * height, 2 * width) if how == "upscaled" else (height, width)
    widths = (_PC_DIM,) if how == "pc1024" else tuple(m.shape[1] for m in maps)
    return Patches(_WAYS[how](maps, grid), grid, widths)


def _average(maps: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    pooled = [F.avg_pool2d(m, 3, stride=1, padding=1) for m in maps]
    return _concatenate([_bilinear(m, grid) for m in pooled])


def _exdd(maps: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    return _concatenate([F.adaptive_avg_pool2d(F.avg_pool2d(m, 3, stride=1), grid) for m in maps])


def _pc1024(maps: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    per_layer = torch.stack([_pooled_neighbourhoods(m, grid) for m in maps], dim=1)
    pooled = _pooled(per_layer.flatten(1))
    return pooled.unflatten(0, (-1, grid[0] * grid[1]))


def _pooled_neighbourhoods(features: Tensor, grid: tuple[int, int]) -> Tensor:
    batch, channels, height, width = features.shape
    patches = F.unfold(features, 3, padding=1).reshape(batch, channels * 9, height, width)
    return _pooled(_bilinear(patches, grid).permute(0, 2, 3, 1).reshape(-1, channels * 9))


def _pooled(vectors: Tensor) -> Tensor:
    """Means [n x 1024] over parts of vectors [n x D] that are as even as they can be."""
    if not torch.compiler.is_exporting():
        return F.adaptive_avg_pool1d(vectors.unsqueeze(1), _PC_DIM).squeeze(1)
    # As the exporter traces that, n is fixed.
    length = vectors.shape[1]
    starts = np.arange(_PC_DIM) * length // _PC_DIM
    counts = -(-(np.arange(_PC_DIM) + 1) * length // _PC_DIM) - starts
    within = np.arange(counts.max())
    places = np.minimum(starts[:, None] + within, length - 1)
    weights = (within < counts[:, None]) / counts[:, None]
    return (vectors[:, torch.from_numpy(places)] * torch.from_numpy(weights.astype(np.float32))).sum(dim=2)


def _nearest(maps: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    return _concatenate([F.interpolate(m, size=grid, mode="nearest") for m in maps])


def _upscaled(maps: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    enlarged = torch.cat([_bilinear(m, grid) for m in maps], dim=1)
    return _concatenate([F.avg_pool2d(enlarged, 3, stride=1, padding=1)])


def _bilinear(features: Tensor, grid: tuple[int, int]) -> Tensor:
    if features.shape[-2:] == grid:
        return features
    return F.interpolate(features, size=grid, mode="bilinear", align_corners=False)


def _concatenate(maps: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(maps), dim=1).flatten(2).transpose(1, 2)


_WAYS: dict[str, Callable[[Sequence[Tensor], tuple[int, int]], Tensor]] = {
    "avg": _average,
    "exdd": _exdd,
    "pc1024": _pc1024,
    "nearest": _nearest,
    "upscaled": _upscaled,
}
