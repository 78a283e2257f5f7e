"""The loss of a denoiser on encoded images: DreamBooth's, weighted by min-SNR and by the mask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from exdd_ray.synthesizers.lora.latents import LatentInstance
from exdd_ray.synthesizers.painting.denoiser import Condition, conditioning, takes_mask, target_of

Conditions = Mapping[str, Condition]


@dataclass(frozen=True)
class Drawn:
    """An image of a step, the prompt that it is learnt with, and the seed of its noise and time."""

    image: LatentInstance
    prompt: str
    seed: int


def denoising_loss(
    drawn: Sequence[Drawn], conditions: Conditions, pipeline: Any, *, min_snr: float | None, outside: float
) -> Tensor:
    """The mean over images of the weighted squared error of what the denoiser predicts.

    Images of one size are denoised together.
    """
    total = torch.zeros((), device=pipeline.unet.device)
    for size in sorted({one.image.moments.shape for one in drawn}):
        alike = [one for one in drawn if one.image.moments.shape == size]
        total = total + _losses(alike, conditions, pipeline, min_snr, outside).sum()
    return total / len(drawn)


def snr_weights(schedule: Any, times: Tensor, gamma: float | None) -> Tensor:
    """What the min-SNR weighting makes of the error of what is predicted [N] (Hang et al., 2023); ones without gamma.

    min(SNR, gamma) of the image's own error: over SNR where noise is predicted, over SNR + 1 where v is.
    """
    if gamma is None:
        return torch.ones(len(times))
    signal = schedule.alphas_cumprod[times]
    ratio = signal / (1 - signal)
    if schedule.config.prediction_type == "epsilon":
        return torch.where(ratio > gamma, gamma / ratio, 1.0)  # of no signal at all, too
    kept = ratio.clamp(max=gamma)
    return kept / (ratio + 1) if schedule.config.prediction_type == "v_prediction" else kept


def _losses(
    drawn: Sequence[Drawn], conditions: Conditions, pipeline: Any, min_snr: float | None, outside: float
) -> Tensor:
    device, schedule = pipeline.unet.device, pipeline.scheduler
    clean, noise, times = _noised(drawn, schedule.config.num_train_timesteps)
    given = schedule.add_noise(clean, noise, times)
    wanted = target_of(schedule, clean, noise, times)
    masks = torch.stack([one.image.mask for one in drawn])
    if takes_mask(pipeline):
        surroundings = torch.stack([one.image.surroundings for one in drawn if one.image.surroundings is not None])
        given = torch.cat([given, masks, surroundings], dim=1)
    how = conditioning([conditions[one.prompt] for one in drawn], given, pipeline)
    predicted = pipeline.unet(given.to(device, pipeline.unet.dtype), times.to(device), **how).sample
    places = masks + outside * (1 - masks)
    places = places / places.mean(dim=(1, 2, 3), keepdim=True)
    error = functional.mse_loss(predicted.float(), wanted.to(device), reduction="none") * places.to(device)
    weights = snr_weights(schedule, times, min_snr) * torch.tensor([one.image.weight for one in drawn])
    return error.mean(dim=(1, 2, 3)) * weights.to(device)


def _noised(drawn: Sequence[Drawn], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Latents and noise [N x C x h x w], and times [N]; each image's from its own seed, on the CPU."""
    clean, noise, times = [], [], []
    for one in drawn:
        generator = torch.Generator().manual_seed(one.seed)
        clean.append(one.image.sample(generator))
        noise.append(torch.randn(clean[-1].shape, generator=generator))
        times.append(torch.randint(count, (), generator=generator))
    return torch.stack(clean), torch.stack(noise), torch.stack(times)
