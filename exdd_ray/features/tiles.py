"""Patch vectors of large images from overlapping square tiles, each at the scale that a network knows (SuperADD)."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from exdd_ray.config.base import Size
from exdd_ray.errors import ConfigError
from exdd_ray.features.aggregate import Patches, aggregate
from exdd_ray.features.backbone import Backbone
from exdd_ray.features.config import FeaturesConfig, TilesConfig


@dataclass(frozen=True)
class Span:
    """A tile along one side of an image, in patches.

    Attributes:
        start: its first one.
        first: the first that is taken from it.
        end: the one behind the last that is.
    """

    start: int
    first: int
    end: int


def patch_vectors(backbone: Backbone, images: Tensor, features: FeaturesConfig) -> Patches:
    """Patch vectors of normalised images [B x 3 x H x W], whole or tile by tile, on the grid of the whole image.

    Where tiles overlap, a vector is of the tile to whose middle it is nearer.

    Raises ConfigError for sizes that are no multiples of the network's stride.
    """
    size, tiles = (images.shape[-2], images.shape[-1]), features.tiles
    if tiles is None or size == (tiles.size, tiles.size):
        return aggregate(backbone(images), features.aggregator)
    side = tiles.size
    corner = backbone(_tile(images, 0, 0, side))
    found = aggregate(corner, features.aggregator)
    stride = _stride([*found.grid, *(length for one in corner for length in one.shape[-2:])], size, features)
    patch = (side // found.grid[0], side // found.grid[1])
    grid = (size[0] // patch[0], size[1] // patch[1])
    whole = found.vectors.new_empty((len(images), *grid, found.vectors.shape[-1]))
    spans = (tile_spans(length, tiles, stride, one) for length, one in zip(size, patch, strict=True))
    for row, column in itertools.product(*spans):
        if row.start or column.start:
            tile = _tile(images, row.start * patch[0], column.start * patch[1], side)
            found = aggregate(backbone(tile), features.aggregator)
        whole[:, row.first : row.end, column.first : column.end] = _taken(found, row, column)
    return Patches(whole.flatten(1, 2), grid, found.widths)


def tile_spans(length: int, tiles: TilesConfig, stride: int, patch: int) -> list[Span]:
    """The tiles along a side of so many pixels: as few as overlap enough, evenly spread, cut amid their overlaps.

    Args:
        stride: of the network's coarsest layer in pixels: tiles begin at multiples of it.
        patch: pixels of a vector's patch.

    Source: SuperADD's code.
    """
    places, side = (length - tiles.size) // stride, tiles.size // patch
    count = -(-places * stride // (tiles.size - 2 * tiles.overlap)) + 1
    starts = [i * places // max(count - 1, 1) * stride // patch for i in range(count)]
    cuts = [after + -(-(before + side - after) // 2) for before, after in itertools.pairwise(starts)]
    return [Span(*span) for span in zip(starts, [0, *cuts], [*cuts, length // patch], strict=True)]


def _tile(images: Tensor, top: int, left: int, side: int) -> Tensor:
    tile = images[:, :, top : top + side, left : left + side]
    return tile.contiguous(memory_format=torch.channels_last)


def _taken(found: Patches, row: Span, column: Span) -> Tensor:
    rows, columns = (slice(span.first - span.start, span.end - span.start) for span in (row, column))
    return found.vectors.unflatten(1, found.grid)[:, rows, columns]


def _stride(sides: Sequence[int], size: Size, features: FeaturesConfig) -> int:
    """Pixels after which all maps of a tile, of so many values a side, begin a value.

    Raises ConfigError where the tile, its overlap or the image is no multiple of them. A map that does not divide the
    finest one was rounded: 56 pixels are 7 values of stride 8, and 4 of stride 16.
    """
    assert features.tiles is not None
    tiles = features.tiles
    if any(tiles.size % side or max(sides) % side for side in sides):
        found = " and ".join(map(str, sorted(set(sides))))
        raise ConfigError(
            f"{features.backbone} has maps of {found} values along tiles of {tiles.size} pixels, which are no multiple "
            "of its strides: set another features.tiles.size"
        )
    stride = math.lcm(*(tiles.size // side for side in sides))
    given = {"tiles.overlap": tiles.overlap, "the images' height": size[0], "the images' width": size[1]}
    for name, length in given.items():
        if length % stride:
            near = f"{length // stride * stride} or {-(-length // stride) * stride}"
            raise ConfigError(
                f"tiles are laid in steps of {stride} pixels, the stride of {features.backbone}, and {name} is "
                f"{length}: give {near}"
            )
    return stride
