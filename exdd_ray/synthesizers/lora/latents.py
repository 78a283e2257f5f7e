"""Images to learn as the denoiser sees them: encoded once, as their networks are not trained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from exdd_ray.synthesizers.lora.instances import Instance
from exdd_ray.synthesizers.painting.denoiser import moments_of, takes_mask

_TOGETHER = 8


@dataclass(frozen=True)
class LatentInstance:
    """An image to learn, encoded.

    Attributes:
        moments: mean and deviation of its latents [2C x h x w], scaled as the denoiser takes them.
        mask: 1 where the model may paint [1 x h x w].
        surroundings: latents of the image without what the mask hides [C x h x w]; None where the denoiser takes none.
        prompt, weight: of the image.
    """

    moments: Tensor
    mask: Tensor
    surroundings: Tensor | None
    prompt: str
    weight: float

    def sample(self, noise: torch.Generator) -> Tensor:
        """One draw of its latents [C x h x w]."""
        mean, deviation = self.moments.chunk(2)
        return mean + deviation * torch.randn(mean.shape, generator=noise)


@torch.no_grad()
def encoded(images: Sequence[Instance], pipeline: Any) -> list[LatentInstance]:
    """All images in their order, encoded a few at a time, on the CPU; what is in the list many times, once."""
    sizes: dict[torch.Size, dict[int, Instance]] = {}
    for one in images:
        sizes.setdefault(one.image.shape, {})[id(one)] = one
    found: dict[int, LatentInstance] = {}
    for alike in sizes.values():
        waiting = iter(alike.values())
        while group := list(islice(waiting, _TOGETHER)):
            found |= zip(map(id, group), _encoded(group, pipeline), strict=True)
    return [found[id(one)] for one in images]


def _encoded(alike: Sequence[Instance], pipeline: Any) -> Iterator[LatentInstance]:
    images, masks = (torch.cat(list(parts)) for parts in zip(*((one.image, one.mask) for one in alike), strict=True))
    moments = moments_of(pipeline, images)
    hidden = moments_of(pipeline, images * (masks < 0.5)).chunk(2, dim=1)[0] if takes_mask(pipeline) else None
    small = functional.interpolate(masks, size=moments.shape[2:])
    for at, one in enumerate(alike):
        yield LatentInstance(moments[at], small[at], None if hidden is None else hidden[at], one.prompt, one.weight)
