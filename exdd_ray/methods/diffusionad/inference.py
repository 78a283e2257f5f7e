"""Anomaly maps and image scores of DiffusionAD."""

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from exdd_ray.methods.diffusionad.config import DiffusionADConfig
from exdd_ray.methods.diffusionad.diffusion import reconstruct, reconstruct_ddim, reconstruct_single
from exdd_ray.methods.diffusionad.networks import CHANNELS, Networks
from exdd_ray.progress import Advance
from exdd_ray.training.gradients import no_memory_for

TOP_PIXELS = 50

NoiseOf = Callable[[int], np.ndarray]
"""Position of an image -> its noise float32 [2 x 3 x S x S]."""


def scaled(pixels: np.ndarray, image_range: str) -> Tensor:
    """Images uint8 [n x H x W x 3] as the networks see them: float32 [n x 3 x H x W], -1..1 (`signed`) or 0..1."""
    unit = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255
    return unit * 2 - 1 if image_range == "signed" else unit


def anomaly_maps(
    networks: Networks, pixels: np.ndarray, noise_of: NoiseOf, config: DiffusionADConfig, advance: Advance
) -> np.ndarray:
    """Anomaly maps float32 [n x S x S] in 0..1 of images uint8 [n x S x S x 3]. Raises TrainingError out of memory."""
    maps = []
    for start in range(0, len(pixels), config.inference.batch):
        part = pixels[start : start + config.inference.batch]
        noise = np.stack([noise_of(start + i) for i in range(len(part))], axis=1)
        with no_memory_for("anomaly maps", "lower detector.inference.batch"):
            maps.append(_segmented(networks, part, noise, config))
        advance(len(part))
    return np.concatenate(maps)


def image_scores(maps: np.ndarray) -> np.ndarray:
    """Mean of the 50 largest values of each map [n x S x S]: [n]."""
    flat = maps.reshape(len(maps), -1)
    return np.partition(flat, -TOP_PIXELS, axis=1)[:, -TOP_PIXELS:].mean(axis=1)


def seeded_noise(seed: int, names: Sequence[str], size: int) -> NoiseOf:
    """Noise that follows from the seed and the name of the image."""

    def draw(at: int) -> np.ndarray:
        return _normal(np.random.default_rng([seed, zlib.crc32(names[at].encode())]), size)

    return draw


def random_noise(size: int) -> NoiseOf:
    """Noise that never repeats."""
    rng = np.random.default_rng()
    return lambda _: _normal(rng, size)


def reconstruction(networks: Networks, images: Tensor, noise: Tensor, config: DiffusionADConfig) -> Tensor:
    """The images [B x 3 x S x S] without their anomalies, by the mode of `config.inference`.

    Args:
        noise: [2 x B x 3 x S x S]; `single_scale` uses the first, `ddim` the second.
    """
    diffusion, inference = config.diffusion, config.inference
    weak, strong = (torch.full((len(images),), t, device=images.device) for t in _test_steps(config))
    if inference.mode == "single_scale":
        return reconstruct_single(networks.denoise, images, noise[0], weak)
    if inference.mode == "ddim":
        return reconstruct_ddim(networks.denoise, images, noise[1], diffusion.strong_test, inference.ddim_steps)
    return reconstruct(networks.denoise, images, noise, weak, strong, diffusion.guidance).image


def _test_steps(config: DiffusionADConfig) -> tuple[int, int]:
    return config.diffusion.weak_test, config.diffusion.strong_test


def _segmented(networks: Networks, pixels: np.ndarray, noise: np.ndarray, config: DiffusionADConfig) -> np.ndarray:
    device = networks.device
    images = scaled(pixels, config.diffusion.image_range).to(device)
    low = config.training.precision == "bfloat16"
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=low):
        found = reconstruction(networks, images, torch.from_numpy(noise).to(device), config)
        return networks.segment(images, found)[:, 0].cpu().numpy()


def _normal(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.standard_normal((2, CHANNELS, size, size), dtype=np.float32)
