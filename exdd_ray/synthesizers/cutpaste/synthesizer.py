"""CutPaste, as the table of synthesizers lists it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from exdd_ray.synthesizers.cutpaste.config import CutPasteConfig
from exdd_ray.synthesizers.synthesizer import Synthesizer

if TYPE_CHECKING:
    import numpy as np

    from exdd_ray.synthesizers.draw import Blended
    from exdd_ray.synthesizers.job import ChunkJob, Painted


def _make(jobs: "Sequence[ChunkJob[CutPasteConfig]]") -> "Iterator[Painted]":
    from exdd_ray.synthesizers.draw import one_by_one

    return one_by_one(jobs, _blend)


def _blend(job: "ChunkJob[CutPasteConfig]", background: "np.ndarray", rng: "np.random.Generator") -> "Blended":
    from exdd_ray.synthesizers.cutpaste.cutpaste import cut_paste
    from exdd_ray.synthesizers.draw import Blended

    return Blended(*cut_paste(background, job.config, rng), mask_source="cutpaste")


SYNTHESIZER = Synthesizer(config=CutPasteConfig, version=4, make=_make)
