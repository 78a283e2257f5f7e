"""Per-region synthesis: a Perlin-shaped region of a normal image blended with another source.

DRAEM (Zavrtanik et al., 2021), MemSeg (Yang et al., 2022) and DiffusionAD (Zhang et al., 2023) are one recipe with
different constants. All draw the region by the same rule (see region_mask). DiffusionAD takes textures alone for
categories that are textures: that is `texture_share: 1`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from exdd_ray.synthesizers.foreground import foreground
from exdd_ray.synthesizers.per_region.config import PerRegionConfig
from exdd_ray.synthesizers.per_region.perlin import region_mask
from exdd_ray.synthesizers.per_region.sources import alter, structure, texture, texture_files


@dataclass(frozen=True, kw_only=True)
class Blend:
    """The constants of a published recipe.

    Attributes:
        weight: range of the uniform blend weight.
        weighs: what the weight multiplies inside the region; the other has 1 - weight.
        texture_share: probability of a texture as the source; else it is the image's own shuffled structure.
        altered_texture: a texture gets three random alterations, as the structure always does.
    """

    weight: tuple[float, float]
    weighs: Literal["source", "image"]
    texture_share: float
    altered_texture: bool


BLENDS: dict[str, Blend] = {
    "memseg": Blend(weight=(0.15, 1.0), weighs="source", texture_share=0.5, altered_texture=False),
    "diffusionad": Blend(weight=(0.2, 0.8), weighs="image", texture_share=0.5, altered_texture=True),
    # as in the released code; the paper's text says U(0.1, 1) on the source
    "draem": Blend(weight=(0.0, 0.8), weighs="image", texture_share=1.0, altered_texture=True),
}


def blend_region(
    image: np.ndarray, config: PerRegionConfig, rng: np.random.Generator, textures: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A defective image uint8 [H x W x 3] and its mask bool [H x W], from a normal one; all else is unchanged.

    I' = (1-M) I + w M A + (1-w) M I, with the source A and its weight w: delta of MemSeg, 1 - beta of DiffusionAD
    and of DRAEM (eq. 2).

    Args:
        textures: files of the config's folder, as they were listed for a key; None lists them now.

    Raises:
        DataError: an empty foreground, no region on it, or a texture folder without images.
    """
    blend = BLENDS[config.preset]
    mask = region_mask(foreground(image, config.foreground), rng)
    files = texture_files(config.textures) if textures is None else textures
    source = _draw_source(image, config, blend, rng, files)
    weight = rng.uniform(*blend.weight)
    strength = weight if blend.weighs == "source" else 1 - weight
    blended = image.copy()
    mixed = strength * source[mask].astype(np.float32) + (1 - strength) * image[mask].astype(np.float32)
    blended[mask] = np.rint(mixed).astype(np.uint8)
    return blended, mask


def _draw_source(
    image: np.ndarray, config: PerRegionConfig, blend: Blend, rng: np.random.Generator, textures: Sequence[str]
) -> np.ndarray:
    if rng.random() >= texture_share(config):
        return structure(image, rng)
    foreign = texture((image.shape[0], image.shape[1]), rng, textures)
    return alter(foreign, rng) if blend.altered_texture else foreign


def texture_share(config: PerRegionConfig) -> float:
    """Probability of a texture as the source."""
    return BLENDS[config.preset].texture_share if config.texture_share is None else config.texture_share
