"""What SuperSimpleNet trains on: patch vectors of images and their masks on the patch grid, and noise from seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from exdd_ray.config.base import Size
from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.masks import read_row_mask
from exdd_ray.data.procedural.noise import raw_perlin_noise
from exdd_ray.errors import DataError
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embedder import Samples
from exdd_ray.features.prepare import covered_shares
from exdd_ray.methods.supersimplenet.config import AnomaliesConfig
from exdd_ray.training.learner import ShuffledBatches

_POWERS = 6  # cells of the Perlin noise along an axis are 2 to the power of 0 to 5
_COPIES = 2  # of every image in a step, each with noise of its own


@dataclass(frozen=True)
class LearntImages:
    """Images with their vectors.

    Attributes:
        parts: of each origin.
        masks: bool [n x h x w] of the patch grid, in the order of the parts; empty for normal images.
        labels: [n] 0 normal, 1 defective.
        unmarked: defects that were left out, as their masks are empty.
    """

    parts: tuple[Samples, ...]
    masks: np.ndarray
    labels: np.ndarray
    unmarked: int

    def features(self, at: int) -> np.ndarray:
        """Of an image [h x w x C], shared with the store's file."""
        for part in self.parts:
            if at < len(part.rows):
                return part.embedding.image(int(part.at[at])).reshape(*self.masks.shape[1:], -1)
            at -= len(part.rows)
        raise IndexError(at)


@dataclass(frozen=True)
class Drawn:
    """An image of a step, how it is mirrored (down, across), and the seed of its noise."""

    at: int
    flips: tuple[bool, bool]
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Draws:
    """The images of a step: normal ones, and as many defects where there are any, which are mirrored at random."""

    images: LearntImages
    order: np.ndarray
    batches: ShuffledBatches
    seed: int

    def __call__(self, step: int) -> list[Drawn]:
        """Those of a step, each from (seed, step, place) alone."""
        drawn = []
        for place, at in enumerate(self.order[self.batches(step)]):
            seed = (self.seed, step, place)
            down, across = np.random.default_rng(seed).random(2) < 0.5
            defective = self.images.labels[at] == 1
            drawn.append(Drawn(int(at), (bool(down and defective), bool(across and defective)), seed))
        return drawn


def learnt_images(parts: Sequence[Samples], features: FeaturesConfig) -> LearntImages:
    """The readable images of a training catalog, but for defects whose masks are empty.

    Raises DataError where none is normal and for a defect without a mask, ImageError for a mask that cannot be read.
    """
    if not any(row.label == 0 for part in parts for row in part.rows):
        raise DataError("no normal image to train on")
    grid = parts[0].embedding.grid
    marked, masks, unmarked = [], [], 0
    for part in parts:
        each = [_patch_mask(row, features, grid) for row in part.rows]
        keep = np.array([mask.any() or not row.label for mask, row in zip(each, part.rows, strict=True)])
        marked.append(part.subset(np.flatnonzero(keep)))
        masks += [mask for mask, kept in zip(each, keep, strict=True) if kept]
        unmarked += int((~keep).sum())
    labels = np.array([row.label for part in marked for row in part.rows], dtype=np.int64)
    return LearntImages(tuple(marked), np.stack(masks), labels, unmarked)


def balanced(labels: np.ndarray) -> np.ndarray:
    """Positions of an epoch: all normal images, and defects repeated to as many, where there are any."""
    normal, defective = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    return np.concatenate([normal, np.resize(defective, len(normal) if len(defective) else 0)])


def batch_of(drawn: Sequence[Drawn], images: LearntImages, config: AnomaliesConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Features [B x C x h x w] of images, and noise [2B x C x h x w] and masks [2B x 1 x h x w] of two copies of each.

    Noise is where a Perlin mask is, never on a defect; the mask marks both.
    """
    grid, channels, copies = images.masks.shape[1:], images.parts[0].embedding.dim, _COPIES * len(drawn)
    features = np.empty((len(drawn), *grid, channels), dtype=np.float32)
    noise = np.zeros((copies, *grid, channels), dtype=np.float32)
    masks = np.empty((copies, *grid), dtype=bool)
    for place, one in enumerate(drawn):
        axes = tuple(axis for axis, flipped in enumerate(one.flips) if flipped)
        features[place] = np.flip(images.features(one.at), axes)
        mask = np.flip(images.masks[one.at], axes)
        for copy in range(_COPIES):
            rng, at = np.random.default_rng([*one.seed, copy]), _COPIES * place + copy
            noisy = noise_mask((mask.shape[0], mask.shape[1]), config, rng) & ~mask
            noise[at, noisy] = rng.standard_normal((int(noisy.sum()), channels), dtype=np.float32) * config.spread
            masks[at] = mask | noisy
    stacked = [torch.from_numpy(part).permute(0, 3, 1, 2) for part in (features, noise)]
    return stacked[0], stacked[1], torch.from_numpy(masks)[:, None].float()


def noise_mask(grid: Size, config: AnomaliesConfig, rng: np.random.Generator) -> np.ndarray:
    """Where noise is added: bool [h x w], Perlin noise (times the root of 2) above the level, or nowhere."""
    if rng.random() < config.clean_share:
        return np.zeros(grid, dtype=bool)
    cells = [min(2 ** int(rng.integers(_POWERS)), side) for side in grid]
    noise = np.sqrt(2) * raw_perlin_noise(grid, rng, cell=(grid[0] / cells[0], grid[1] / cells[1]))
    return np.asarray(noise > config.level)


def _patch_mask(row: CatalogRow, features: FeaturesConfig, grid: Size) -> np.ndarray:
    """Patches of which a mask covers half; of a defect that covers no patch so much, those that it covers most."""
    if not row.label:
        return np.zeros(grid, dtype=bool)
    if row.mask is None:
        raise DataError(f"{row.image}: supersimplenet learns defects by their masks, and this one has none")
    shares = covered_shares(read_row_mask(row, features.working_size), features, grid)
    return (shares >= min(0.5, float(shares.max()))) & (shares > 0)
