"""Blended latent diffusion (Avrahami et al., 2023): around its part, a whole image is painted as its background is.

Where the part is, is not given by a mask: it is what the other branch paints.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from exdd_ray.synthesizers.dualanodiff.config import BlendConfig


def blended(
    latents: Tensor, foreseen: Tensor, there: Tensor, noise: Tensor, later: Tensor, schedule: Any, config: BlendConfig
) -> Tensor:
    """Noisy latents of pairs [2N x C x h x w], first of whole images, which are as their backgrounds around the parts.

    Args:
        foreseen: what the latents will be as far as the denoiser can tell.
        there: clean latents of backgrounds, and of backdrops.
        noise: of each.
        later: times that are left [T], to the first of which the latents belong; none that belong to clean ones.
    """
    whole, part = latents.chunk(2)
    backgrounds, backdrops = there.chunk(2)
    region = part_region(foreseen.chunk(2)[1], backdrops, config)
    if len(later):
        backgrounds = schedule.add_noise(backgrounds, noise.chunk(2)[0], later[:1].repeat(len(whole)))
    return torch.cat([torch.where(region, whole, backgrounds), part])


def part_region(part: Tensor, backdrop: Tensor, config: BlendConfig) -> Tensor:
    """Where latents of parts [N x C x h x w] differ from the backdrop's, and around: bool [N x 1 x h x w]."""
    apart = (part - backdrop).abs().mean(dim=1, keepdim=True)
    highest = apart.amax(dim=(2, 3), keepdim=True)
    region = apart > (config.share * highest).clamp(min=config.least)
    return functional.max_pool2d(region.float(), 2 * config.margin + 1, stride=1, padding=config.margin) > 0
