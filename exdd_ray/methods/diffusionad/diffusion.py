"""One-step denoising from two noise scales with norm guidance (DiffusionAD), and many-step DDIM to compare with.

Symbols: x_0 an image, x_t its noised version, eps the noise, abar_t the cumulative product of 1 - beta up to step t.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from exdd_ray.methods.diffusionad.config import TIMESTEPS

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_t [B x C x H x W], t [B]) -> predicted noise, of x_t's shape."""


@dataclass(frozen=True)
class Reconstruction:
    """What one step gives.

    Attributes:
        image: x_0 [B x C x H x W] with norm guidance, in -1..1.
        errors: [2 x B] mean squared errors of the predicted noise, weak scale first.
    """

    image: Tensor
    errors: Tensor


@lru_cache(maxsize=1)
def alpha_bars() -> Tensor:
    """abar [1000] of the linear schedule, beta from 1e-4 to 0.02 (Ho et al., 2020)."""
    return _ddim_scheduler().alphas_cumprod


def noised(x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, for steps t [B]."""
    signal, spread = _roots(t)
    return signal * x_0 + spread * noise


def denoised(x_t: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_0 = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t), clamped to -1..1."""
    signal, spread = _roots(t)
    return ((x_t - spread * noise) / signal).clamp(-1, 1)


def guided_noise(x_weak: Tensor, noise: Tensor, x_0_strong: Tensor, t: Tensor, weight: float) -> Tensor:
    """eps - w sqrt(1 - abar_t) (x~_t - x_t): the predicted noise, led towards what the strong scale shows as normal.

    Args:
        x_weak: x_t at the weak scale.
        noise: predicted for it; x~_t is the strong scale's reconstruction, noised again with it.
        x_0_strong: reconstruction from the strong scale.
        t: [B] steps of the weak scale.
        weight: w.
    """
    _, spread = _roots(t)
    return noise - weight * spread * (noised(x_0_strong, noise, t) - x_weak)


def reconstruct(
    denoiser: Denoiser, x_0: Tensor, noise: Tensor, weak: Tensor, strong: Tensor, weight: float
) -> Reconstruction:
    """Norm-guided one-step reconstruction: both scales go through the network in one call.

    Args:
        noise: [2 x B x C x H x W], of the weak scale and of the strong one.
        weak, strong: [B] steps.
        weight: of the guidance.
    """
    x_weak, x_strong = noised(x_0, noise[0], weak), noised(x_0, noise[1], strong)
    predicted = denoiser(torch.cat([x_weak, x_strong]), torch.cat([weak, strong])).float()
    errors = (predicted - noise.flatten(0, 1)).square().flatten(1).mean(dim=1)
    eps_weak, eps_strong = predicted.chunk(2)
    x_0_strong = denoised(x_strong, eps_strong, strong)
    guided = guided_noise(x_weak, eps_weak, x_0_strong, weak, weight)
    return Reconstruction(denoised(x_weak, guided, weak), errors.view(2, -1))


def reconstruct_single(denoiser: Denoiser, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """One-step reconstruction from one noise scale, without guidance."""
    x_t = noised(x_0, noise, t)
    return denoised(x_t, denoiser(x_t, t).float(), t)


def reconstruct_ddim(denoiser: Denoiser, x_0: Tensor, noise: Tensor, start: int, steps: int) -> Tensor:
    """Reconstruction by deterministic DDIM (Song et al., 2021) from step `start` down to 0 in equal strides.

    `steps` must divide `start`.
    """
    stride = start // steps
    scheduler = _ddim_scheduler(num_train_timesteps=start, trained_betas=_betas(start), steps_offset=stride)
    scheduler.set_timesteps(steps)
    result = x_t = noised(x_0, noise, torch.full((len(x_0),), start, device=x_0.device))
    for t in scheduler.timesteps:
        eps = denoiser(x_t, t.to(x_0.device).expand(len(x_0))).float()
        x_t, result = scheduler.step(eps, int(t), x_t, return_dict=False)
    return result


def _betas(last: int) -> list[float]:
    betas: list[float] = _ddim_scheduler().betas[: last + 1].tolist()
    return betas


def _ddim_scheduler(**options: Any) -> Any:
    from diffusers import DDIMScheduler

    schedule = {"num_train_timesteps": TIMESTEPS, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
    return DDIMScheduler(**{**schedule, **options})


def _roots(t: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(abar_t) and sqrt(1 - abar_t), [B x 1 x 1 x 1]."""
    bars = alpha_bars().to(t.device)[t].view(-1, 1, 1, 1)
    return bars.sqrt(), (1 - bars).sqrt()
