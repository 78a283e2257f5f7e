"""Training of the autoencoder: images to half of their side and back, with their texture kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from exdd_ray.features.backbone import load_backbone
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.weights.surface_resnet18.batches import IMAGENET_MEAN, IMAGENET_STD

WARM_UP = 50
DECAY_SHARE = 0.3


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe:
    """Constants of the training.

    Attributes:
        batch: images a step.
        rate: highest learning rate.
        perceptual: weight of the distance of the backbone's features.
        tone: weight of the squared difference of the colours, each the mean of 4 x 4 pixels.
        grain: weight of the difference in the local strength of fine texture.
        tinted: share of images in another tint.
        divergence: weight of the latents' Kullback-Leibler divergence from a normal distribution.
        seed: of the batches and of the latents' noise.
    """

    batch: int = 8
    rate: float = 2e-3
    perceptual: float = 0.3
    tone: float = 3.0
    grain: float = 0.5
    tinted: float = 0.3
    divergence: float = 1e-6
    seed: int = 0


@dataclass(frozen=True)
class StepState:
    """A step done and its loss."""

    step: int
    loss: float


class PerceptualDistance(nn.Module):
    """Distance of two images in the bundled backbone's features, each position's vector at unit length.

    As LPIPS (Zhang et al., CVPR 2018) without its learned weights.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.backbone = load_backbone(FeaturesConfig(layers=("relu", "layer1", "layer2")))
        self.register_buffer("mean", 2 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) - 1)
        self.register_buffer("deviation", 2 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Images `[N x 3 x H x W]` in -1..1 to distances `[N]`."""
        both = (torch.cat([first, second]) - self.mean) / self.deviation
        distance = torch.zeros(len(first))
        for level in self.backbone(both.contiguous(memory_format=torch.channels_last)):
            one, other = functional.normalize(level, dim=1).chunk(2)
            distance = distance + (one - other).square().sum(dim=1).mean(dim=(1, 2))
        return distance


def learning_rate(step: int, steps: int, *, warm_up: int = WARM_UP) -> float:
    """Share of the highest rate at a step: linear warm-up, constant, linear decay over the last DECAY_SHARE."""
    remaining = (steps - step) / max(DECAY_SHARE * steps, 1.0)
    return min((step + 1) / warm_up, 1.0, max(remaining, 0.01))


def train_autoencoder(
    vae: Any, images: NDArray[np.uint8], recipe: AutoencoderRecipe, *, steps: int
) -> Iterator[StepState]:
    """Trains on images `[N x S x S x 3]`, turned and mirrored at random; yields each step."""
    rng = np.random.default_rng([recipe.seed, 6])
    noise = torch.Generator().manual_seed(recipe.seed)
    perceptual = PerceptualDistance()
    vae.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=1e-4)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * learning_rate(step, steps)
        batch = _varied(to_tensor(images[rng.integers(len(images), size=recipe.batch)]), recipe.tinted, rng)
        loss = _loss(vae, perceptual, batch, noise, recipe)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        yield StepState(step + 1, loss.item())
    vae.eval()


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Images uint8 `[N x H x W x 3]` to `[N x 3 x H x W]` in -1..1, channels last."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _varied(images: Tensor, tinted: float, rng: np.random.Generator) -> Tensor:
    """The batch turned or mirrored, some images in another tint: else grey would be the best guess of any colour."""
    turned = torch.rot90(images, int(rng.integers(4)), (2, 3))
    turned = turned.flip(3) if rng.uniform() < 0.5 else turned
    strength = np.where(rng.uniform(size=(len(images), 1, 1, 1)) < tinted, 0.4, 0.0)
    gain = torch.from_numpy(np.exp(strength * rng.normal(size=(len(images), 3, 1, 1)))).float()
    coloured = ((turned + 1) * gain - 1).clamp(-1, 1)
    return coloured.contiguous(memory_format=torch.channels_last)


def _loss(
    vae: Any, perceptual: PerceptualDistance, images: Tensor, noise: torch.Generator, recipe: AutoencoderRecipe
) -> Tensor:
    """The weighted sum of all losses."""
    latents = vae.encode(images).latent_dist
    decoded = vae.decode(latents.sample(noise)).sample
    loss = functional.l1_loss(decoded, images) + recipe.perceptual * perceptual(decoded, images).mean()
    loss = loss + recipe.grain * functional.l1_loss(grain_strength(decoded), grain_strength(images))
    tones = functional.avg_pool2d(images, 4)
    loss = loss + recipe.tone * functional.mse_loss(functional.avg_pool2d(decoded, 4), tones)
    return loss + recipe.divergence * latents.kl().mean()


def grain_strength(images: Tensor) -> Tensor:
    """Standard deviation of what a 3x3 mean takes away, in windows of 8 pixels: `[N x 3 x H/4 - 1 x W/4 - 1]`.

    A mere pixel loss would rather paint no grain than the wrong one.
    """
    fine = images - functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    return (functional.avg_pool2d(fine.square(), 8, stride=4) + 1e-5).sqrt()


@torch.no_grad()
def latent_moments(vae: Any, images: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of these images' latents, both `[4]`."""
    parts = np.array_split(images, max(len(images) // 32, 1))
    means = torch.cat([vae.encode(to_tensor(part)).latent_dist.mean for part in parts])
    return means.mean(dim=(0, 2, 3)), means.std(dim=(0, 2, 3))


@torch.no_grad()
def standardize_latents(vae: Any, mean: Tensor, deviation: Tensor) -> None:
    """Changes the scale of the latents, so that each channel has mean 0 and deviation 1, and of what decodes them.

    The noise of the diffusion then hides all channels alike, and the scaling factor is 1.
    """
    count = len(mean)
    vae.quant_conv.weight[:count] /= deviation.view(-1, 1, 1, 1)
    vae.quant_conv.bias[:count] = (vae.quant_conv.bias[:count] - mean) / deviation
    vae.quant_conv.bias[count:] -= 2 * deviation.log()
    vae.post_quant_conv.bias += (vae.post_quant_conv.weight * mean.view(1, -1, 1, 1)).sum(dim=(1, 2, 3))
    vae.post_quant_conv.weight *= deviation.view(1, -1, 1, 1)
    vae.register_to_config(scaling_factor=1.0)
