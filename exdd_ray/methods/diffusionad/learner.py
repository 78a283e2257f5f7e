"""Joint training of DiffusionAD's networks: the segmentation's loss reaches the denoiser through the reconstruction."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from exdd_ray.methods.diffusionad.config import DiffusionADConfig
from exdd_ray.methods.diffusionad.diffusion import reconstruct
from exdd_ray.methods.diffusionad.inference import scaled
from exdd_ray.methods.diffusionad.losses import noise_loss, segmentation_loss
from exdd_ray.methods.diffusionad.networks import Networks
from exdd_ray.methods.diffusionad.training_samples import Sample, draw_batch
from exdd_ray.training.learner import Learner

_SWING = 10


def make_learner(
    networks: Networks,
    normal: np.ndarray,
    config: DiffusionADConfig,
    steps: int,
    seed: int,
    textures: Sequence[str] | None = None,
) -> Learner[Sample]:
    """How the networks learn from normal images uint8 [n x S x S x 3] in so many steps; textures as `draw_batch`'s."""
    optimizers = [
        Adam(networks.unet.parameters(), lr=config.unet_rate),
        Adam(networks.segmentation.parameters(), lr=config.segmentation_rate),
    ]
    return Learner(
        modules=networks.modules,
        optimizers=optimizers,
        schedulers=_schedulers(config, optimizers, steps),
        draw=partial(draw_batch, normal, config, seed, textures=textures),
        loss=lambda samples, _: batch_loss(networks, samples, config),
        seed=seed,
    )


def batch_loss(networks: Networks, samples: Sequence[Sample], config: DiffusionADConfig) -> Tensor:
    """Noise loss + SmoothL1 + 5 focal, the mean over the samples."""
    device, diffusion = networks.device, config.diffusion
    images = scaled(np.stack([sample.image for sample in samples]), diffusion.image_range).to(device)
    masks = torch.from_numpy(np.stack([sample.mask for sample in samples]))[:, None].float().to(device)
    noise = torch.from_numpy(np.stack([sample.noise for sample in samples], axis=1)).to(device)
    weak, strong = (torch.tensor(t, device=device) for t in zip(*((s.weak, s.strong) for s in samples), strict=True))
    weights = torch.tensor([sample.weight for sample in samples], device=device)
    found = reconstruct(networks.denoise, images, noise, weak, strong, diffusion.guidance)
    segmented = networks.segment(images, found.image)
    return noise_loss(found.errors, weights, diffusion.noise_loss) + segmentation_loss(segmented, masks)


def _schedulers(config: DiffusionADConfig, optimizers: Sequence[Optimizer], steps: int) -> list[LRScheduler | None]:
    if config.schedule == "cosine":
        return [CosineAnnealingLR(optimizer, T_max=steps) for optimizer in optimizers]
    if config.schedule == "oscillating":
        return [None, CosineAnnealingLR(optimizers[1], T_max=_SWING)]
    return [None, None]
