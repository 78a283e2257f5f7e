"""A synthesizer as another package would add it: a config, what it does to an image, and the value that says both."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.draw import Blended, one_by_one
from exdd_ray.synthesizers.job import ChunkJob, Painted
from exdd_ray.synthesizers.synthesizer import Synthesizer


class SpotsConfig(SynthesizerConfig):
    """Dark spots.

    Attributes:
        radius: in pixels.
    """

    kind: Literal["spots"] = "spots"
    preset: Literal["best"] = "best"
    radius: float = Field(4.0, gt=0)


def spot(job: ChunkJob[SpotsConfig], background: np.ndarray, rng: np.random.Generator) -> Blended:
    """A spot of half the brightness, anywhere on a background uint8 [H x W x 3]."""
    rows, columns = np.indices(background.shape[:2])
    centre = rng.uniform((0, 0), background.shape[:2])
    mask = np.hypot(rows - centre[0], columns - centre[1]) < job.config.radius
    image = background.copy()
    image[mask] //= 2
    return Blended(image, mask, "spot")


def make(jobs: Sequence[ChunkJob[SpotsConfig]]) -> Iterator[Painted]:
    """The samples of chunks."""
    return one_by_one(jobs, spot)


SYNTHESIZER = Synthesizer(config=SpotsConfig, version=1, make=make)
