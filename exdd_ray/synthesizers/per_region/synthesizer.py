"""Per-region synthesis, as the table of synthesizers lists it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from exdd_ray.config.base import Size
from exdd_ray.synthesizers.per_region.config import PerRegionConfig
from exdd_ray.synthesizers.synthesizer import Synthesizer

if TYPE_CHECKING:
    import numpy as np

    from exdd_ray.synthesizers.draw import Blended
    from exdd_ray.synthesizers.job import ChunkJob, Painted


def _make(jobs: "Sequence[ChunkJob[PerRegionConfig]]") -> "Iterator[Painted]":
    from exdd_ray.synthesizers.draw import one_by_one

    return one_by_one(jobs, _blend)


def _blend(job: "ChunkJob[PerRegionConfig]", background: "np.ndarray", rng: "np.random.Generator") -> "Blended":
    from exdd_ray.synthesizers.draw import Blended
    from exdd_ray.synthesizers.per_region.blend import blend_region

    return Blended(*blend_region(background, job.config, rng, job.files), mask_source="perlin")


def _files(config: PerRegionConfig) -> tuple[str, ...]:
    from exdd_ray.synthesizers.per_region.sources import texture_files

    return texture_files(config.textures)


def _remarks(config: PerRegionConfig, _: Size | None) -> tuple[str, ...]:
    from exdd_ray.data.textures import procedural_textures
    from exdd_ray.synthesizers.per_region.blend import texture_share

    lacking = config.textures is None and texture_share(config) > 0
    return (procedural_textures(f"the recipe {config.preset}", "synthesizer.textures"),) * lacking


SYNTHESIZER = Synthesizer(config=PerRegionConfig, version=4, make=_make, files=_files, remarks=_remarks)
