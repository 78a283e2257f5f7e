"""What DiffusionAD trains on: normal images, half of them with a synthetic anomaly, and their noise; all from seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from exdd_ray.methods.diffusionad.config import DiffusionADConfig
from exdd_ray.synthesizers.per_region.blend import blend_region
from exdd_ray.synthesizers.per_region.config import PerRegionConfig

_HELD_OUT = (1, 0)  # where a training sample's seed has its step and place


@dataclass(frozen=True)
class Sample:
    """A training sample.

    Attributes:
        image: uint8 [S x S x 3].
        mask: bool [S x S] of its anomaly; empty for a normal sample.
        noise: float32 [2 x 3 x S x S] of the weak and the strong scale.
        weak, strong: diffusion steps.
        weight: of its noise error in the loss (see noise_loss).
    """

    image: np.ndarray
    mask: np.ndarray
    noise: np.ndarray
    weak: int
    strong: int
    weight: float = 0.0


def draw_batch(
    normal: np.ndarray, config: DiffusionADConfig, seed: int, step: int, textures: Sequence[str] | None = None
) -> list[Sample]:
    """The samples of a step, each from (seed, step, place) alone: an image at random, normal or made anomalous.

    Args:
        normal: uint8 [n x S x S x 3].
        textures: as those of `blend_region`.
    """
    rngs = [np.random.default_rng([seed, 0, step, place]) for place in range(config.training.batch)]
    samples = [_draw(normal, config, rng, textures) for rng in rngs]
    clean = sum(not sample.mask.any() for sample in samples)
    return [
        sample if sample.mask.any() else replace(sample, weight=config.training.batch / clean) for sample in samples
    ]


def draw_validation(
    held_out: np.ndarray, config: DiffusionADConfig, seed: int, textures: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [2n x S x S x 3] and masks bool [2n x S x S]: n held-out images, then each with an anomaly.

    Args:
        textures: as those of `blend_region`.
    """
    anomalous = [
        blend_region(image, _recipe(config), np.random.default_rng([seed, *_HELD_OUT, number]), textures)
        for number, image in enumerate(held_out)
    ]
    images = np.concatenate([held_out, np.stack([image for image, _ in anomalous])])
    masks = np.concatenate([np.zeros(held_out.shape[:3], dtype=bool), np.stack([mask for _, mask in anomalous])])
    return images, masks


def _draw(
    normal: np.ndarray, config: DiffusionADConfig, rng: np.random.Generator, textures: Sequence[str] | None
) -> Sample:
    image = normal[rng.integers(len(normal))]
    mask = np.zeros(image.shape[:2], dtype=bool)
    if rng.random() < config.anomalies.share:
        image, mask = blend_region(image, _recipe(config), rng, textures)
    (weak, strong), size = (config.diffusion.weak, config.diffusion.strong), image.shape[:2]
    return Sample(
        image=image,
        mask=mask,
        noise=rng.standard_normal((2, 3, *size), dtype=np.float32),
        weak=int(rng.integers(weak[0], weak[1], endpoint=True)),
        strong=int(rng.integers(strong[0], strong[1], endpoint=True)),
    )


def _recipe(config: DiffusionADConfig) -> PerRegionConfig:
    anomalies = config.anomalies
    return PerRegionConfig(
        preset="diffusionad",
        textures=anomalies.textures,
        texture_share=anomalies.texture_share,
        foreground=anomalies.foreground,
    )
