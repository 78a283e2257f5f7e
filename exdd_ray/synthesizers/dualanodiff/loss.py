"""The loss: both branches of a pair are denoised together at one time, from noises of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from exdd_ray.synthesizers.dualanodiff.pairs import LatentPair
from exdd_ray.synthesizers.painting.denoiser import Condition, conditioning, target_of


@dataclass(frozen=True)
class DrawnPair:
    """A pair of a step, and the seed of its noises and its time."""

    pair: LatentPair
    seed: int


def pair_loss(drawn: Sequence[DrawnPair], conditions: Sequence[Condition], pipeline: Any) -> Tensor:
    """The mean squared error of what the denoiser predicts of whole images and of their parts, which weigh alike.

    Args:
        conditions: of each branch: whole images, their parts, and backgrounds where there are such.
    """
    device, schedule = pipeline.unet.device, pipeline.scheduler
    clean, noise, times = _noised(drawn, schedule.config.num_train_timesteps)
    given = schedule.add_noise(clean, noise, times)
    wanted = target_of(schedule, clean, noise, times)
    each = [one for one in conditions for _ in drawn]
    predicted = denoised(given, times, each, seen_around([one.pair for one in drawn]), pipeline)
    pairs = 2 * len(drawn)  # a background is looked at, not learnt
    return functional.mse_loss(predicted[:pairs].float(), wanted[:pairs].to(device))


def seen_around(pairs: Sequence[LatentPair]) -> Tensor | None:
    """What an inpainting base takes beside the latents of N pairs, branch by branch [bN x 1+C x h x w]."""
    each = [one.surroundings for one in pairs if one.surroundings is not None]
    return by_branch(each) if each else None


def denoised(
    given: Tensor, times: Tensor, conditions: Sequence[Condition], surroundings: Tensor | None, pipeline: Any
) -> Tensor:
    """What the denoiser predicts of latents [bN x C x h x w] at times [bN], under a condition each."""
    unet = pipeline.unet
    given = given.to(unet.device)
    if surroundings is not None:
        given = torch.cat([given, surroundings.to(given)], dim=1)
    how = conditioning(conditions, given, pipeline)
    predicted: Tensor = unet(given.to(unet.dtype), times.to(unet.device), **how).sample
    return predicted


def _noised(drawn: Sequence[DrawnPair], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Latents and noises [bN x C x h x w], and times [bN], alike in a pair; each from its seed, on the CPU."""
    clean, noise, times = [], [], []
    for one in drawn:
        generator = torch.Generator().manual_seed(one.seed)
        clean.append(one.pair.sample(generator))
        noise.append(torch.randn(clean[-1].shape, generator=generator))
        times.append(torch.randint(count, (), generator=generator))
    branches = len(clean[0])
    return by_branch(clean), by_branch(noise), torch.stack(times).repeat(branches)


def by_branch(pairs: Sequence[Tensor]) -> Tensor:
    """[bN x C x h x w] of N times [b x C x h x w]: first all whole images, then all parts."""
    return torch.stack(list(pairs), dim=1).flatten(0, 1)
