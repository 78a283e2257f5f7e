"""The training samples as the denoiser sees them, encoded once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from exdd_ray.progress import Progress, silent
from exdd_ray.weights.miniature.autoencoder import to_tensor
from exdd_ray.weights.miniature.training_samples import Samples

CHUNK = 32


@dataclass(frozen=True)
class LatentSamples:
    """Latents of N samples on a grid of h x w cells, unscaled.

    Attributes:
        images: mean and deviation of the images' latents, float16 `[N x 8 x h x w]`.
        surroundings: the same of the images without what the mask hides.
        masks: 1 where to paint, float16 `[N x 1 x h x w]`.
        kinds: indices in LABELS `[N]`.
        materials: indices in BACKGROUNDS `[N]`.
    """

    images: Tensor
    surroundings: Tensor
    masks: Tensor
    kinds: NDArray[np.uint8]
    materials: NDArray[np.uint8]


@torch.no_grad()
def encode_samples(vae: Any, samples: Samples, *, progress: Progress = silent) -> LatentSamples:
    """Encodes as StableDiffusionInpaintPipeline does: the hidden part is grey, the mask is shrunk to the nearest."""
    images: list[Tensor] = []
    surroundings: list[Tensor] = []
    masks: list[Tensor] = []
    with progress("encoding", len(samples.images)) as advance:
        for begin in range(0, len(samples.images), CHUNK):
            image = to_tensor(samples.images[begin : begin + CHUNK])
            mask = torch.from_numpy(samples.masks[begin : begin + CHUNK])[:, None].float()
            images.append(_moments(vae, image))
            surroundings.append(_moments(vae, image * (mask < 0.5)))
            masks.append(functional.interpolate(mask, size=images[-1].shape[2:]).half())
            advance(len(image))
    return LatentSamples(torch.cat(images), torch.cat(surroundings), torch.cat(masks), samples.kinds, samples.materials)


def _moments(vae: Any, images: Tensor) -> Tensor:
    distribution = vae.encode(images.contiguous(memory_format=torch.channels_last)).latent_dist
    return torch.cat([distribution.mean, distribution.std], dim=1).half()


def sample_latents(moments: Tensor, noise: torch.Generator) -> Tensor:
    """One draw `[N x 4 x h x w]` from latents given by mean and deviation `[N x 8 x h x w]`."""
    mean, deviation = moments.float().chunk(2, dim=1)
    return mean + deviation * torch.randn(mean.shape, generator=noise)
