"""Samples on random backgrounds: another one is drawn where one is of no use."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from exdd_ray.config.base import Size
from exdd_ray.data.masks import read_pair
from exdd_ray.errors import DataError, ImageError
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.filters import Change, measure_change
from exdd_ray.synthesizers.job import ChunkJob, Painted, Sample

DRAWS = 10  # of a background, before a sample is given up

C = TypeVar("C", bound=SynthesizerConfig)
Drawn = TypeVar("Drawn")


class Blended(NamedTuple):
    """A background with a defect uint8 [H x W x 3], its mask bool [H x W], and the shape or file that it is from."""

    image: np.ndarray
    mask: np.ndarray
    mask_source: str


# Makes a defect on a background uint8 [H x W x 3]; raises DataError for one of no use.
Blend = Callable[[ChunkJob[C], np.ndarray, np.random.Generator], Blended]


def one_by_one(jobs: Sequence[ChunkJob[C]], blend: Blend[C]) -> Iterator[Painted]:
    """The samples of chunks by a synthesizer that changes one background after another: its `make`."""
    for job in jobs:
        yield [_blended(job, number, blend) for number in job.numbers], 1


def on_a_background(
    job: ChunkJob[C],
    number: int,
    draw: Callable[[np.ndarray, np.random.Generator], Drawn],
    working_size: Size | None = None,
) -> tuple[Sample, Drawn | None]:
    """A sample on a random background, with what `draw` gives for it; another one where that one is of no use.

    After DRAWS of them the sample has the fault of the first.
    """
    rng, skipped = job.rng(number), []
    for _ in range(DRAWS):
        row = job.backgrounds[int(rng.integers(len(job.backgrounds)))]
        try:
            found = draw(read_pair(replace(row, mask=None), working_size=working_size)[0], rng)
        except ImageError as error:
            skipped.append(str(error))
        except DataError as error:
            skipped.append(f"{row.image}: {error}")
        else:
            return Sample(number, row.image, skipped=tuple(skipped)), found
    return Sample(number, row.image, fault=skipped[0]), None


def _blended(job: ChunkJob[C], number: int, blend: Blend[C]) -> Sample:
    sample, found = on_a_background(job, number, partial(_with_change, job, blend))
    if found is None:
        return sample
    blended, change = found
    return replace(sample, **blended._asdict(), change=change)


def _with_change(
    job: ChunkJob[C], blend: Blend[C], background: np.ndarray, rng: np.random.Generator
) -> tuple[Blended, Change]:
    blended = blend(job, background, rng)
    return blended, measure_change(background, blended.image, blended.mask)
