"""From decoded images and masks to what the network sees, with one geometry for both."""

import numpy as np
from PIL import Image

from exdd_ray.config.base import Size
from exdd_ray.features.backbone import normalisation
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.line.geometry import Geometry, central, cut, prepare, resized

TOUCHED = 1e-6  # share of a patch from which on a mask touches it: less is rounding


def prepare_image(image: np.ndarray, config: FeaturesConfig) -> np.ndarray:
    """An image as the backbone sees it: uint8 [H x W x 3] to float32 [3 x h x w]."""
    return prepare(image, config, *normalisation(config.backbone))


def geometry_of(config: FeaturesConfig) -> Geometry:
    """How images are prepared, without the config."""
    mean, std = normalisation(config.backbone)
    return Geometry(config.resize, config.fit, config.crop, config.working_size, mean, std)


def prepare_mask(mask: np.ndarray, config: FeaturesConfig) -> np.ndarray:
    """A mask under the image's geometry, resized once, by the nearest pixel: bool [H x W] -> bool [h x w]."""
    mask = cut(mask, config)
    height, width = resized(config.working_size or mask.shape, config.resize)
    return central(np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)), config.crop)


def full_pixels(levels: np.ndarray, config: FeaturesConfig) -> np.ndarray:
    """Where a mask is still full after the resize of an image (bilinear, antialiased): uint8 [H x W] -> bool [h x w].

    Args:
        levels: 255 where the mask is full, at the working size where there is one.
    """
    levels = cut(levels, config)
    height, width = resized(levels.shape, config.resize)
    scaled = np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.BILINEAR))
    return central(scaled == 255, config.crop)


def covered_shares(mask: np.ndarray, config: FeaturesConfig, grid: Size, covered: Size | None = None) -> np.ndarray:
    """How much of each patch a mask covers, 0 to 1: bool [H x W] -> float32 [grid height x grid width].

    Args:
        covered: (height, width) in pixels of the input that the grid covers; None is all.
    """
    mask = cut(mask, config)
    height, width = resized(mask.shape, config.resize)
    area = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    cropped = Image.fromarray(central(np.asarray(area), config.crop))
    if covered is not None:  # what is beyond the image is padding, and in no mask
        cropped = cropped.crop((0, 0, covered[1], covered[0]))
    return np.asarray(cropped.resize((grid[1], grid[0]), Image.Resampling.BOX))
