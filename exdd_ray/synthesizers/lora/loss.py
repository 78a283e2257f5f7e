"""The loss of a denoiser on encoded images: DreamBooth's, weighted by min-SNR and by the mask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from exdd_ray.store.hashes import digest
from exdd_ray.synthesizers.lora.latents import LatentInstance, takes_mask

Conditions = Mapping[str, "Condition"]


@dataclass(frozen=True)
class Condition:
    """A prompt as the denoiser takes it: its encoding [L x D], and SDXL's pooled one [P]."""

    embedding: Tensor
    pooled: Tensor | None


@dataclass(frozen=True)
class Drawn:
    """An image of a step, the prompt that it is learnt with, and the seed of its noise and time."""

    image: LatentInstance
    prompt: str
    seed: int


def noise_seed(seed: int, step: int, place: int) -> int:
    """The seed of the noise of an image in a step."""
    return int(digest([seed, step, place])[:15], 16)


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
    """min(SNR, gamma) / SNR [N], and over SNR + 1 where v is predicted (Hang et al., 2023); ones without gamma."""
    if gamma is None:
        return torch.ones(len(times))
    signal = schedule.alphas_cumprod[times]
    ratio = signal / (1 - signal)
    denominator = ratio + 1 if schedule.config.prediction_type == "v_prediction" else ratio
    return ratio.clamp(max=gamma) / denominator


def encode_prompt(pipeline: Any, prompt: str, clip_skip: int) -> Condition:
    """A prompt as the pipeline encodes it; gradients flow where encoders are trained."""
    found = pipeline.encode_prompt(
        prompt=prompt,
        device=pipeline.unet.device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=False,
        clip_skip=clip_skip or None,
    )
    pooled = found[2][0] if len(found) > 2 else None  # SDXL's second encoder
    return Condition(found[0][0], pooled)


def _losses(
    drawn: Sequence[Drawn], conditions: Conditions, pipeline: Any, min_snr: float | None, outside: float
) -> Tensor:
    device, schedule = pipeline.unet.device, pipeline.scheduler
    clean, noise, times = _noised(drawn, schedule.config.num_train_timesteps)
    given = schedule.add_noise(clean, noise, times)
    wanted = _target(schedule, clean, noise, times)
    masks = torch.stack([one.image.mask for one in drawn])
    if takes_mask(pipeline):
        surroundings = torch.stack([one.image.surroundings for one in drawn if one.image.surroundings is not None])
        given = torch.cat([given, masks, surroundings], dim=1)
    how = _conditioning([conditions[one.prompt] for one in drawn], given, pipeline)
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


def _target(schedule: Any, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """What the denoiser predicts: the noise, the image, or v (Salimans & Ho, 2022)."""
    kind = schedule.config.prediction_type
    if kind == "epsilon":
        return noise
    target: Tensor = clean if kind == "sample" else schedule.get_velocity(clean, noise, times)
    return target


def _conditioning(conditions: Sequence[Condition], given: Tensor, pipeline: Any) -> dict[str, Any]:
    unet = pipeline.unet
    how: dict[str, Any] = {"encoder_hidden_states": torch.stack([one.embedding for one in conditions]).to(unet.dtype)}
    if conditions[0].pooled is not None:
        scale = pipeline.image_processor.config.vae_scale_factor
        side = [scale * given.shape[2], scale * given.shape[3]]
        times = torch.tensor([[*side, 0, 0, *side]] * len(conditions), device=unet.device, dtype=unet.dtype)
        pooled = torch.stack([one.pooled for one in conditions if one.pooled is not None]).to(unet.dtype)
        how["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": times}
    return how
