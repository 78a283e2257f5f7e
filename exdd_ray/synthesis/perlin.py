"""Random region masks from thresholded Perlin noise (DRAEM; MemSeg; DiffusionAD)."""

import numpy as np
from PIL import Image

from exdd_ray.config.detector import Size
from exdd_ray.errors import DataError
from exdd_ray.procedural.noise import perlin_noise

_LARGEST_POWER = 5
_TRIES = 50


def perlin_mask(size: Size, rng: np.random.Generator) -> np.ndarray:
    """A random mask bool [H x W], neither empty nor full.

    Noise with 2**U{0..5} cells an axis, turned by up to 90 degrees either way, above half of its range.

    Raises:
        DataError: no such mask in 50 tries (the image is too small).
    """
    for _ in range(_TRIES):
        mask = _draw(size, rng)
        if mask.any() and not mask.all():
            return mask
    raise DataError(f"no region mask fits into an image of {size[1]} x {size[0]} pixels")


def _draw(size: Size, rng: np.random.Generator) -> np.ndarray:
    cells = 2 ** rng.integers(0, _LARGEST_POWER + 1, size=2)
    noise = perlin_noise(size, rng, cell=(size[0] / cells[0], size[1] / cells[1]))
    noise = noise / (np.abs(noise).max() or 1)
    turned = Image.fromarray(noise.astype(np.float32)).rotate(rng.uniform(-90, 90), Image.Resampling.BILINEAR)
    return np.asarray(turned) > 0.5
