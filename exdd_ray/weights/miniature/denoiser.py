"""Training of the denoiser and, jointly, of the text encoder that tells it what to paint."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exdd_ray.weights.miniature.autoencoder import StepState, learning_rate
from exdd_ray.weights.miniature.captions import make_caption
from exdd_ray.weights.miniature.latents import LatentSamples, sample_latents
from exdd_ray.weights.miniature.networks import TOKENS, Parts, make_scheduler
from exdd_ray.weights.miniature.training_samples import BACKGROUNDS, LABELS

WARM_UP = 150


@dataclass(frozen=True, kw_only=True)
class DenoiserRecipe:
    """Constants of the training.

    Attributes:
        batch: samples a step.
        rate: highest learning rate.
        unprompted: share of samples without a caption, for classifier-free guidance (Ho & Salimans, 2022).
        outside: weight of the loss outside the mask; inside it is 1.
        average: decay of the weights' moving average, which is the model that is kept.
        seed: of batches, captions, noise and times.
    """

    batch: int = 32
    rate: float = 1e-3
    unprompted: float = 0.12
    outside: float = 0.25
    average: float = 0.998
    seed: int = 0


class DenoiserTrainer:
    """Trains the parts' UNet and text encoder; the parts given are changed, `averaged` holds the ones to keep."""

    def __init__(self, parts: Parts, latents: LatentSamples, recipe: DenoiserRecipe) -> None:
        self.parts = parts
        self.latents = latents
        self.recipe = recipe
        counts = np.bincount(latents.kinds, minlength=len(LABELS))
        self.odds = 1 / counts[latents.kinds] / np.count_nonzero(counts)  # every label is drawn as often as any other
        self.networks = nn.ModuleList([parts.unet.train(), parts.text_encoder.train()])
        parts.unet.to(memory_format=torch.channels_last)
        self.average = deepcopy(self.networks).requires_grad_(False).eval()
        scheduler = make_scheduler()
        self.signal = scheduler.alphas_cumprod.sqrt()
        self.noise = (1 - scheduler.alphas_cumprod).sqrt()
        self.weights = list(self.networks.parameters())
        self.optimizer = torch.optim.AdamW(self.weights, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=1e-3)

    def run(self, *, steps: int) -> Iterator[StepState]:
        """Trains for this many steps, the learning rate following them; yields each."""
        rng = np.random.default_rng([self.recipe.seed, 7])
        noise = torch.Generator().manual_seed(self.recipe.seed)
        for step in range(steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.rate * learning_rate(step, steps, warm_up=WARM_UP)
            loss = self._loss(rng, noise)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.weights, 1.0)
            self.optimizer.step()
            self._update_average(min(self.recipe.average, (step + 1) / (step + 10)))
            yield StepState(step + 1, loss.item())

    def averaged(self) -> Parts:
        """The parts with the moving average of their weights."""
        unet, text_encoder = deepcopy(self.average)
        return replace(self.parts, unet=unet.to(memory_format=torch.contiguous_format), text_encoder=text_encoder)

    def _loss(self, rng: np.random.Generator, noise: torch.Generator) -> Tensor:
        """Mean squared error of v, weighted by place (Salimans & Ho, 2022: v = a eps - s x)."""
        chosen = rng.choice(len(self.odds), size=self.recipe.batch, p=self.odds)
        scale = self.parts.vae.config.scaling_factor
        clean = scale * sample_latents(self.latents.images[chosen], noise)
        surroundings = scale * sample_latents(self.latents.surroundings[chosen], noise)
        mask = self.latents.masks[chosen].float()
        times = self._times(rng)
        signal, sigma = self.signal[times].view(-1, 1, 1, 1), self.noise[times].view(-1, 1, 1, 1)
        grain = torch.randn(clean.shape, generator=noise)
        given = torch.cat([signal * clean + sigma * grain, mask, surroundings], dim=1)
        given = given.contiguous(memory_format=torch.channels_last)
        wanted = signal * grain - sigma * clean
        weight = mask + self.recipe.outside * (1 - mask)
        weight = weight / (weight.sum() * clean.shape[1])
        unet, text_encoder = self.networks
        predicted = unet(given, times, text_encoder(self._tokens(chosen, rng))[0]).sample
        return (weight * (predicted - wanted).square()).sum()

    def _times(self, rng: np.random.Generator) -> Tensor:
        """Times spread evenly over the schedule, `[N]`."""
        count = self.recipe.batch
        return torch.from_numpy(((rng.permutation(count) + rng.uniform(size=count)) / count * 1000).astype(np.int64))

    def _tokens(self, chosen: Any, rng: np.random.Generator) -> Tensor:
        captions = [
            ""
            if rng.uniform() < self.recipe.unprompted
            else make_caption(LABELS[self.latents.kinds[number]], BACKGROUNDS[self.latents.materials[number]], rng)
            for number in chosen
        ]
        encoded = self.parts.tokenizer(captions, padding="max_length", max_length=TOKENS, truncation=True)
        return torch.tensor(encoded.input_ids)

    @torch.no_grad()
    def _update_average(self, decay: float) -> None:
        for averaged, current in zip(self.average.parameters(), self.weights, strict=True):
            averaged.lerp_(current, 1 - decay)
