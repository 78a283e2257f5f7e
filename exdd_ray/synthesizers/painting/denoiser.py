"""A pipeline's networks one by one: latents of images, encodings of prompts, what the denoiser takes and predicts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from exdd_ray.errors import ConfigError
from exdd_ray.store.hashes import digest
from exdd_ray.synthesizers.painting.config import DiffusionConfig
from exdd_ray.synthesizers.painting.model import fresh_pipeline
from exdd_ray.training.config import TrainConfig

TRANSFORMER = ("Transformer2DModel",)
CONVOLUTIONAL = ("ResnetBlock2D", "Downsample2D", "Upsample2D")


@dataclass(frozen=True)
class Condition:
    """A prompt as the denoiser takes it: its encoding [L x D], and SDXL's pooled one [P]."""

    embedding: Tensor
    pooled: Tensor | None


def encoders(pipeline: Any) -> list[str]:
    """Names of the pipeline's text encoders."""
    return [part for part in ("text_encoder", "text_encoder_2") if getattr(pipeline, part, None) is not None]


def layers_in(network: nn.Module, blocks: tuple[str, ...]) -> Iterator[tuple[str, nn.Module]]:
    """Linear layers and convolutions within blocks of these classes, each once."""
    seen = set()
    for outer, block in network.named_modules():
        if type(block).__name__ in blocks:
            for inner, layer in block.named_modules():
                name = f"{outer}.{inner}"
                if isinstance(layer, nn.Linear | nn.Conv2d) and name not in seen:
                    seen.add(name)
                    yield name, layer


def takes_mask(pipeline: Any) -> bool:
    """Whether the denoiser is given the mask and the surroundings, as one for inpainting is."""
    return bool(pipeline.unet.config.in_channels > pipeline.vae.config.latent_channels)


def moments_of(pipeline: Any, images: Tensor) -> Tensor:
    """Mean and deviation of the latents [N x 2C x h x w] of images [N x 3 x H x W], for the denoiser, on the CPU."""
    vae = pipeline.vae
    distribution = vae.encode(images.to(vae.device, vae.dtype)).latent_dist
    moments = torch.cat([distribution.mean, distribution.std], dim=1).float().cpu()
    return moments * vae.config.scaling_factor


def encode_prompts(pipeline: Any, prompts: Sequence[str], clip_skip: int) -> list[Condition]:
    """Prompts as the pipeline encodes them, together; gradients flow where encoders are trained."""
    found = pipeline.encode_prompt(
        prompt=list(prompts),
        device=pipeline.unet.device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=False,
        clip_skip=clip_skip or None,
    )
    pooled = found[2] if len(found) > 2 else [None] * len(prompts)  # SDXL's second encoder
    return [Condition(*both) for both in zip(found[0], pooled, strict=True)]


def encode_nothing(pipeline: Any, clip_skip: int) -> Condition:
    """No prompt, as guidance compares one with it: the empty text, or zeros where the model wants such (SDXL)."""
    (found,) = encode_prompts(pipeline, [""], clip_skip)
    if not pipeline.config.get("force_zeros_for_empty_prompt", False):
        return found
    return Condition(
        torch.zeros_like(found.embedding), None if found.pooled is None else torch.zeros_like(found.pooled)
    )


def target_of(schedule: Any, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """What the denoiser is to predict: the noise, the image, or v (Salimans & Ho, 2022)."""
    kind = schedule.config.prediction_type
    if kind == "epsilon":
        return noise
    target: Tensor = clean if kind == "sample" else schedule.get_velocity(clean, noise, times)
    return target


def clean_of(schedule: Any, noisy: Tensor, predicted: Tensor, time: Tensor) -> Tensor:
    """The clean latents that a prediction says are under noisy ones of a time, as the denoiser is given them."""
    signal = schedule.alphas_cumprod.to(noisy.device)[time.long()]
    kind = schedule.config.prediction_type
    if kind == "epsilon":
        return (noisy - (1 - signal).sqrt() * predicted) / signal.sqrt()
    clean: Tensor = predicted if kind == "sample" else signal.sqrt() * noisy - (1 - signal).sqrt() * predicted
    return clean


def conditioning(conditions: Sequence[Condition], given: Tensor, pipeline: Any) -> dict[str, Any]:
    """What the denoiser takes beside its images [N x C x h x w]: a condition of each."""
    unet = pipeline.unet
    how: dict[str, Any] = {"encoder_hidden_states": torch.stack([one.embedding for one in conditions]).to(unet.dtype)}
    if conditions[0].pooled is not None:
        scale = pipeline.image_processor.config.vae_scale_factor
        side = [scale * given.shape[2], scale * given.shape[3]]
        times = torch.tensor([[*side, 0, 0, *side]] * len(conditions), device=unet.device, dtype=unet.dtype)
        pooled = torch.stack([one.pooled for one in conditions if one.pooled is not None]).to(unet.dtype)
        how["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": times}
    return how


def noise_seed(seed: int, step: int, place: int) -> int:
    """The seed of the noise of an image in a step."""
    return int(digest([seed, step, place])[:15], 16)


def pipeline_to_train(config: DiffusionConfig, training: TrainConfig) -> Any:
    """A pipeline of its own, in the training's precision and on its device, with the noise of DDPM.

    Raises ConfigError for a model without UNet, and as `load_pipeline`.
    """
    from diffusers import DDPMScheduler

    how = {"device": training.device, "precision": training.precision, "memory": "full", "compile": False}
    run = config.run.model_copy(update=how)
    pipeline = fresh_pipeline(config.model_copy(update={"run": run, "scheduler": "model"}))
    if getattr(pipeline, "unet", None) is None:
        raise ConfigError(
            f"{config.model} has no UNet: synthesizer.kind={config.kind} tunes Stable Diffusion 1, 2 and XL"
        )
    pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)  # samplers' own may add noise their way
    return pipeline


def compute_activations_anew(pipeline: Any, *, encoders_too: bool) -> None:
    """Have the backward pass compute the activations of the UNet, and of the text encoders, again: less memory."""
    pipeline.unet.enable_gradient_checkpointing()
    for part in encoders(pipeline) if encoders_too else ():
        encoder = getattr(pipeline, part).train()  # transformers keeps all activations in evaluation mode
        encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
