"""Pasted defects, as the table of synthesizers lists them."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from exdd_ray.synthesizers.pasted.config import PastedConfig
from exdd_ray.synthesizers.synthesizer import NeededDefects, Synthesizer

if TYPE_CHECKING:
    from exdd_ray.synthesizers.job import ChunkJob, Painted


def _make(jobs: "Sequence[ChunkJob[PastedConfig]]") -> "Iterator[Painted]":
    from exdd_ray.synthesizers.draw import one_by_one
    from exdd_ray.synthesizers.pasted.paste import paste

    return one_by_one(jobs, paste)


SYNTHESIZER = Synthesizer(
    config=PastedConfig,
    version=2,
    make=_make,
    defects=lambda _: NeededDefects("synthesizer.kind=pasted", pixels=True),
)
