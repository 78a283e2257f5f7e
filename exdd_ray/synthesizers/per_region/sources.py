"""What fills a synthetic defect: a foreign texture, or the image itself, altered and shuffled (MemSeg; DRAEM).

The published recipes draw three of ten augmenters of imgaug 0.4. ALTERATIONS are these, with their ranges and defaults,
but for one: imgaug changes the brightness in one of six colour spaces, here it is one of two (see _brightness).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from exdd_ray.config.base import Size
from exdd_ray.data.files import images_under
from exdd_ray.data.images import read_image
from exdd_ray.data.procedural.surfaces import MATERIALS, MIN_SIDE, make_surface
from exdd_ray.errors import DataError

_CELLS = 8
_ALTERATIONS = 3

Alteration = Callable[[Image.Image, np.random.Generator], Image.Image]


def texture(size: Size, rng: np.random.Generator, files: Sequence[str]) -> np.ndarray:
    """A texture uint8 [H x W x 3]: one of the files, or without any a procedural surface (of a small image its corner).

    Raises ImageError for a file that cannot be read.
    """
    if not files:
        whole = (max(size[0], MIN_SIDE), max(size[1], MIN_SIDE))
        return make_surface(str(rng.choice(MATERIALS)), whole, rng)[: size[0], : size[1]]
    image = Image.fromarray(read_image(files[int(rng.integers(len(files)))]))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def texture_files(folder: Path | None) -> tuple[str, ...]:
    """The images that are now in a folder and its subfolders, sorted; none without a folder.

    Raises DataError for a folder without images.
    """
    if folder is None:
        return ()
    files = images_under(folder)
    if not files:
        raise DataError(f"{folder}: no texture image in this folder")
    return files


def structure(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image uint8 [H x W x 3] with three random alterations, its 8 x 8 cells shuffled (MemSeg).

    DiffusionAD's released code shuffles 8 columns and then 8 rows, the even among themselves and the odd, so that the
    cells of a row stay in one row. Here its preset shuffles cells too.
    """
    return _shuffle_cells(alter(image, rng), rng)


def alter(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image uint8 [H x W x 3] after three different random alterations, in random order."""
    altered = Image.fromarray(image)
    for number in rng.choice(len(ALTERATIONS), size=_ALTERATIONS, replace=False):
        altered = ALTERATIONS[number](altered, rng)
    return np.asarray(altered)


def _shuffle_cells(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    even = Image.fromarray(image).resize((-(-width // _CELLS) * _CELLS, -(-height // _CELLS) * _CELLS))
    pixels = np.asarray(even)
    tall, wide = pixels.shape[0] // _CELLS, pixels.shape[1] // _CELLS
    cells = pixels.reshape(_CELLS, tall, _CELLS, wide, 3).swapaxes(1, 2).reshape(-1, tall, wide, 3)
    shuffled = cells[rng.permutation(len(cells))].reshape(_CELLS, _CELLS, tall, wide, 3).swapaxes(1, 2)
    return shuffled.reshape(pixels.shape)[:height, :width]


def _gamma(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """One exponent a channel."""
    exponents = rng.uniform(0.5, 2.0, size=3)
    return image.point([round(255 * (level / 255) ** exponent) for exponent in exponents for level in range(256)])


def _brightness(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The V of HSV or the Y of YCbCr, multiplied and added to in random order."""
    space, channel = (("HSV", 2), ("YCbCr", 0))[rng.integers(2)]
    factor, offset = rng.uniform(0.8, 1.2), rng.integers(-30, 31)
    shift = offset if rng.random() < 0.5 else factor * offset
    bands = list(image.convert(space).split())
    bands[channel] = bands[channel].point([min(max(round(level * factor + shift), 0), 255) for level in range(256)])
    return Image.merge(space, bands).convert("RGB")


def _sharpness(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(rng.uniform(0.0, 2.0))


def _hue_saturation(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    shift = rng.integers(-50, 51, size=2)
    hsv = np.array(image.convert("HSV"), dtype=np.int16)
    hsv[..., 0] = (hsv[..., 0] + shift[0]) % 256
    hsv[..., 1] = np.clip(hsv[..., 1] + shift[1], 0, 255)
    return Image.fromarray(hsv.astype(np.uint8), mode="HSV").convert("RGB")


def _solarize(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.solarize(image, int(rng.integers(32, 129))) if rng.random() < 0.5 else image


def _posterize(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.posterize(image, int(rng.integers(1, 9)))


def _rotate(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.rotate(rng.uniform(-45, 45), Image.Resampling.BILINEAR)


def _invert(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return ImageOps.invert(image)


def _autocontrast(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """One cutoff, in percent of the pixels, for all channels."""
    return ImageOps.autocontrast(image, cutoff=int(rng.integers(0, 21)))


def _equalize(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return ImageOps.equalize(image)


ALTERATIONS: tuple[Alteration, ...] = (
    _gamma,
    _brightness,
    _sharpness,
    _hue_saturation,
    _solarize,
    _posterize,
    _invert,
    _autocontrast,
    _equalize,
    _rotate,
)
