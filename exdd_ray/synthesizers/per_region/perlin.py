"""Random region masks from thresholded Perlin noise (DRAEM; MemSeg; DiffusionAD)."""

import numpy as np
from PIL import Image

from exdd_ray.config.base import Size
from exdd_ray.data.procedural.noise import raw_perlin_noise
from exdd_ray.errors import DataError

LEVEL = 0.5
TRIES = 50
COUNTS = 10
_LARGEST_POWER = 5


def region_mask(ground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A Perlin mask cut to the foreground bool [H x W], not empty.

    The cell counts, 2**U{0..5} an axis, are drawn once; noise and turn again until the mask meets the foreground. Where
    DiffusionAD's code gives up, after 50 tries, other cell counts are drawn.

    Raises:
        DataError: none with 10 cell counts.
    """
    for _ in range(COUNTS):
        rows, columns = 2 ** rng.integers(0, _LARGEST_POWER + 1, size=2)
        for _ in range(TRIES):
            mask = perlin_mask((ground.shape[0], ground.shape[1]), (int(rows), int(columns)), rng) & ground
            if mask.any():
                return mask
    tries = COUNTS * TRIES
    raise DataError(f"no Perlin region met the foreground ({ground.mean():.2%} of the image) in {tries} tries")


def perlin_mask(size: Size, cells: Size, rng: np.random.Generator) -> np.ndarray:
    """A random mask bool [H x W], maybe empty: noise times the root of 2, turned by U(-90, 90) degrees, above 0.5.

    Args:
        cells: number of the noise's cells (down, across).
    """
    noise = np.sqrt(2) * raw_perlin_noise(size, rng, cell=(size[0] / cells[0], size[1] / cells[1]))
    turned = Image.fromarray(noise.astype(np.float32)).rotate(rng.uniform(-90, 90), Image.Resampling.BILINEAR)
    return np.asarray(turned) > LEVEL
