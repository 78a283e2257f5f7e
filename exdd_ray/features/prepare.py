"""From decoded images and masks to what the network sees, with one geometry for both."""

import numpy as np
from PIL import Image

from exdd_ray.config.base import Size
from exdd_ray.features.backbone import normalisation
from exdd_ray.features.config import FeaturesConfig

TOUCHED = 1e-6  # share of a patch from which on a mask touches it: less is rounding


def prepare_image(image: np.ndarray, config: FeaturesConfig) -> np.ndarray:
    """Cut to the proportions of `resize` or not, resized (bilinear, antialiased), cropped, and normalised.

    From uint8 [H x W x 3] to float32 [3 x h x w].
    """
    image = _cut(image, config)
    height, width = _resized(image.shape[:2], config.resize)
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    planes = np.array(_central(resized, config.crop).transpose(2, 0, 1), dtype=np.float32, order="C")
    planes /= np.float32(255)
    mean, std = (np.array(values, dtype=np.float32)[:, None, None] for values in normalisation(config.backbone))
    planes -= mean
    planes /= std
    return planes


def prepare_mask(mask: np.ndarray, config: FeaturesConfig) -> np.ndarray:
    """A mask under the image's geometry, resized once, by the nearest pixel: bool [H x W] -> bool [h x w]."""
    mask = _cut(mask, config)
    height, width = _resized(config.working_size or mask.shape, config.resize)
    return _central(np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)), config.crop)


def full_pixels(levels: np.ndarray, config: FeaturesConfig) -> np.ndarray:
    """Where a mask is still full after the resize of an image (bilinear, antialiased): uint8 [H x W] -> bool [h x w].

    Args:
        levels: 255 where the mask is full, at the working size where there is one.
    """
    levels = _cut(levels, config)
    height, width = _resized(levels.shape, config.resize)
    resized = np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.BILINEAR))
    return _central(resized == 255, config.crop)


def covered_shares(mask: np.ndarray, config: FeaturesConfig, grid: Size, covered: Size | None = None) -> np.ndarray:
    """How much of each patch a mask covers, 0 to 1: bool [H x W] -> float32 [grid height x grid width].

    Args:
        covered: (height, width) in pixels of the input that the grid covers; None is all.
    """
    mask = _cut(mask, config)
    height, width = _resized(mask.shape, config.resize)
    area = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    cropped = Image.fromarray(_central(np.asarray(area), config.crop))
    if covered is not None:  # what is beyond the image is padding, and in no mask
        cropped = cropped.crop((0, 0, covered[1], covered[0]))
    return np.asarray(cropped.resize((grid[1], grid[0]), Image.Resampling.BOX))


def cut_size(size: Size, config: FeaturesConfig) -> Size:
    """(height, width) of the part of an image of some size that is resized: all of it, or what `fit=cut` leaves."""
    if config.fit == "stretch" or isinstance(config.resize, int):
        return size
    (height, width), (tall, wide) = size, config.resize
    if height * wide > tall * width:
        return max(1, round(width * tall / wide)), width
    return height, max(1, round(height * wide / tall))


def _cut(image: np.ndarray, config: FeaturesConfig) -> np.ndarray:
    height, width = image.shape[:2]
    return np.ascontiguousarray(_central(image, cut_size((height, width), config)))


def _resized(size: tuple[int, ...], target: int | Size) -> Size:
    """(height, width) after the resize; one number is the shorter side, the longer one is truncated (torchvision)."""
    if not isinstance(target, int):
        return target
    height, width = size
    if height <= width:
        return target, int(target * width / height)
    return int(target * height / width), target


def _central(image: np.ndarray, crop: Size | None) -> np.ndarray:
    if crop is None:
        return image
    top, left = (round((have - want) / 2) for have, want in zip(image.shape, crop, strict=False))
    return image[top : top + crop[0], left : left + crop[1]]
