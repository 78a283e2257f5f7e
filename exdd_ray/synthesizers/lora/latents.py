"""Images to learn as the denoiser sees them: encoded once, as their networks are not trained."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
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
def encoded(images: Iterable[Instance], pipeline: Any) -> list[LatentInstance]:
    """All images in order, encoded a few of a size at a time, on the CPU; one given again and again in a row, once.

    The pixels of a few are held, not of all.
    """
    found: dict[int, LatentInstance] = {}
    waiting: dict[torch.Size, dict[int, Instance]] = {}
    times = []

    def encode(size: torch.Size) -> None:
        group = waiting.pop(size)
        found.update(zip(group, _encoded(list(group.values()), pipeline), strict=True))

    for place, (_, alike) in enumerate(groupby(images, key=id)):
        one = next(alike)
        times.append(1 + sum(1 for _ in alike))
        size = one.image.shape
        waiting.setdefault(size, {})[place] = one
        if len(waiting[size]) == _TOGETHER:
            encode(size)
    for size in list(waiting):
        encode(size)
    return [found[place] for place, count in enumerate(times) for _ in range(count)]


def _encoded(alike: Sequence[Instance], pipeline: Any) -> Iterator[LatentInstance]:
    images, masks = (torch.cat(list(parts)) for parts in zip(*((one.image, one.mask) for one in alike), strict=True))
    moments = moments_of(pipeline, images)
    hidden = moments_of(pipeline, images * (masks < 0.5)).chunk(2, dim=1)[0] if takes_mask(pipeline) else None
    small = functional.interpolate(masks, size=moments.shape[2:])
    for at, one in enumerate(alike):
        yield LatentInstance(moments[at], small[at], None if hidden is None else hidden[at], one.prompt, one.weight)
