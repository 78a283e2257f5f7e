"""Per-region synthesis: a Perlin-shaped region of a normal image blended with a foreign source.

MemSeg (Yang et al., 2022) and DiffusionAD (Zhang et al., 2023), after DRAEM (Zavrtanik et al., 2021).
"""

import numpy as np

from exdd_ray.config.synthesis import PerRegionConfig
from exdd_ray.synthesis.perlin import perlin_mask
from exdd_ray.synthesis.sources import structure, texture


def blend_region(image: np.ndarray, config: PerRegionConfig, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A defective image uint8 [H x W x 3] and its mask bool [H x W], from a normal one; all else is unchanged.

    `memseg`: I' = (1-M) I + delta M A + (1-delta) M I with delta ~ U(0.15, 1); `diffusionad`: delta = 1 - U(0.2, 0.8).
    """
    size = (image.shape[0], image.shape[1])
    mask = perlin_mask(size, rng)
    source = texture(size, rng, config.textures) if rng.random() < 0.5 else structure(image, rng)
    delta = rng.uniform(0.15, 1.0) if config.preset == "memseg" else 1 - rng.uniform(0.2, 0.8)
    blended = image.copy()
    mixed = delta * source[mask].astype(np.float32) + (1 - delta) * image[mask].astype(np.float32)
    blended[mask] = np.rint(mixed).astype(np.uint8)
    return blended, mask
