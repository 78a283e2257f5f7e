"""What is learnt: images of a kind of defect and their anomalous parts, as the model sees them, encoded once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import binary_closing, binary_fill_holes, label
from torch import Tensor
from torch.nn import functional

from exdd_ray.config.base import Size
from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.masks import read_pair
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.synthesizers.dualanodiff.boxes import box_around, placed
from exdd_ray.synthesizers.dualanodiff.config import ASKED_BY, BackgroundConfig, Colour, DualConfig, DualTuningConfig
from exdd_ray.synthesizers.foreground import foreground
from exdd_ray.synthesizers.painting.denoiser import moments_of, takes_mask

_LEAST = 2
_HALF = 128

Window = tuple[slice, slice]


@dataclass(frozen=True)
class LatentPair:
    """An image, its part, and its background where one is learnt, encoded.

    Attributes:
        moments: mean and deviation of their latents [b x 2C x h x w].
        surroundings: what an inpainting base sees of each: where it paints, and latents of the rest [b x 1+C x h x w];
            None with another base.
    """

    moments: Tensor
    surroundings: Tensor | None

    def sample(self, noise: torch.Generator) -> Tensor:
        """One draw of the latents [b x C x h x w]."""
        mean, deviation = self.moments.chunk(2, dim=1)
        return mean + deviation * torch.randn(mean.shape, generator=noise)


def rows_of(defects: Sequence[CatalogRow], kind: str) -> list[CatalogRow]:
    """Training defects of a kind; of all kinds where it is empty.

    Raises DataError for fewer than two, and for one without a mask.
    """
    if all(row.mask is None for row in defects):
        raise DataError(f"{ASKED_BY} needs a training defect that has a mask; there is none")
    rows = [row for row in defects if kind in ("", row.defect)]
    what = f"kind {kind!r}" if kind else "any kind"
    if len(rows) < _LEAST:
        there = ", ".join(sorted({row.defect for row in defects})) or "none"
        raise DataError(f"{len(rows)} training defects of {what}, at least {_LEAST} are needed (there: {there})")
    for row in rows:
        if row.mask is None:
            raise DataError(f"{row.image}: the anomalous part of an image is learnt by its mask, and this one has none")
    return rows


@torch.no_grad()
def latent_pairs(
    rows: Sequence[CatalogRow], config: DualConfig, tuning: DualTuningConfig, pipeline: Any, seed: int
) -> list[LatentPair]:
    """Every repeat of every image, mirrored and in a window of its own.

    Raises ImageError for an unreadable image or mask, DataError for an empty mask.
    """
    found = []
    for number, row in enumerate(rows):
        image, mask = read_pair(row, working_size=config.working_size)
        if mask is None or not mask.any():
            raise DataError(f"{row.image}: its mask is empty: there is no anomalous part to learn")
        for repeat in range(tuning.repeats):
            rng = np.random.default_rng([seed, number, repeat])
            small, inside, box = _view(image, mask, config, tuning, rng)
            found.append(encoded_views(views_of(small, inside, tuning), box, tuning.background, pipeline))
    return found


def _view(
    image: np.ndarray, mask: np.ndarray, config: DualConfig, tuning: DualTuningConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image mirrored, in a window of its own and at the model's size, with its mask and the box to paint in."""
    turned, where = _turned(image, mask, rng) if tuning.flips else (image, mask)
    window = window_around(where, config.window, rng)
    inside = mask_at(where[window], config.size)
    return resized(turned[window], config.size), inside, box_around(inside, config.box, rng)


def mask_at(mask: np.ndarray, size: Size) -> np.ndarray:
    """A mask bool [H x W] at (height, width): pixels that it fills by half, or the most where it fills none so far."""
    levels = resized(mask.astype(np.uint8) * 255, size)
    return np.asarray(levels >= min(_HALF, max(int(levels.max()), 1)))


def views_of(image: np.ndarray, mask: np.ndarray, tuning: DualTuningConfig) -> list[np.ndarray]:
    """An image uint8 [h x w x 3], its part within a mask bool [h x w], and its background where one is learnt.

    Each is float32 [h x w x 3] of -1..1.
    """
    whole = centred(image)
    views = [whole, np.where(mask[..., None], whole, np.array(tuning.backdrop, np.float32))]
    return views if tuning.background is None else [*views, background_of(image, tuning.background)]


def background_of(image: np.ndarray, config: BackgroundConfig) -> np.ndarray:
    """An image uint8 [h x w x 3] without its foreground, float32 of -1..1, in whose middle the foreground then is."""
    part = foreground(image, config.foreground)
    if config.closing:
        part = binary_fill_holes(binary_closing(np.pad(part, config.closing, "edge"), iterations=config.closing))
        part = part[config.closing : -config.closing, config.closing : -config.closing]
    return centred(image) * ~part[..., None]


def backdrop_view(backdrop: Colour, size: Size) -> np.ndarray:
    """A part that shows nothing, float32 [h x w x 3] of -1..1."""
    return np.broadcast_to(np.array(backdrop, np.float32), (*size, 3))


def encoded_views(
    views: Sequence[np.ndarray], box: np.ndarray, background: BackgroundConfig | None, pipeline: Any
) -> LatentPair:
    """Views float32 [H x W x 3], a background last, encoded; an inpainting base paints within the box bool [H x W]."""
    images = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)
    moments = moments_of(pipeline, images)
    surroundings = None
    if takes_mask(pipeline):
        hidden = moments_of(pipeline, images * torch.from_numpy(~box)).chunk(2, dim=1)[0]
        where = functional.interpolate(torch.from_numpy(box).float()[None, None], size=hidden.shape[2:])
        surroundings = torch.cat([where.expand(len(hidden), -1, -1, -1), hidden], dim=1)
    if background is not None and not background.scaled:
        moments[2:] /= pipeline.vae.config.scaling_factor
    return LatentPair(moments, surroundings)


def check_box(config: DualConfig, pipeline: Any) -> None:
    """Raises ConfigError for a box with a base that paints whole images."""
    if config.box is not None and not takes_mask(pipeline):
        raise ConfigError(f"{config.model} paints whole images, and no boxes in them: set synthesizer.box=null")


def window_around(mask: np.ndarray, size: Size | None, rng: np.random.Generator) -> Window:
    """A window of a size (height, width), of the image at most, somewhere around a spot of the mask bool [H x W].

    It holds all of the spot, or a part of it where it is larger.
    """
    if size is None:
        return slice(None), slice(None)
    spots, count = label(mask)
    pixels = np.argwhere(spots == 1 + rng.integers(count))
    if (np.ptp(pixels, axis=0) >= size).any():
        pixels = pixels[[rng.integers(len(pixels))]]
    bounds = zip(pixels.min(axis=0), pixels.max(axis=0), mask.shape, size, strict=True)
    row, column = (placed(int(low), int(high), length, side, rng) for low, high, length, side in bounds)
    return row, column


def window_anywhere(image: Size, size: Size | None, rng: np.random.Generator) -> Window:
    """A window of a size (height, width), of the image (height, width) at most, at a random place."""
    if size is None:
        return slice(None), slice(None)
    row, column = (placed(length, -1, length, side, rng) for length, side in zip(image, size, strict=True))
    return row, column


def resized(image: np.ndarray, size: Size) -> np.ndarray:
    """An image uint8 [H x W] or [H x W x 3] at (height, width)."""
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def centred(image: np.ndarray) -> np.ndarray:
    """Float32 of -1..1 of uint8."""
    return image.astype(np.float32) / 127.5 - 1


def _turned(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Both mirrored at random: left to right, and top to bottom."""
    axes = tuple(axis for axis in (0, 1) if rng.uniform() < 0.5)
    return (np.ascontiguousarray(np.flip(each, axes)) for each in (image, mask))
