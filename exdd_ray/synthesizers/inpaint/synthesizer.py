"""Inpainting, as the table of synthesizers lists it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from exdd_ray.config.base import Size
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.synthesizer import Model, NeededDefects, Synthesizer

if TYPE_CHECKING:
    from exdd_ray.synthesizers.job import ChunkJob, Painted


def _make(jobs: "Sequence[ChunkJob[InpaintConfig]]") -> "Iterator[Painted]":
    from exdd_ray.synthesizers.painting.samples import painted_samples

    return painted_samples(jobs)


def _defects(config: InpaintConfig) -> NeededDefects | None:
    return NeededDefects("masks.source=positives", pixels=False) if config.masks.source == "positives" else None


def _files(config: InpaintConfig) -> tuple[str, ...]:
    from exdd_ray.synthesizers.painting.masks import library_files

    return library_files(config.masks.folder) if config.masks.folder else ()


def _model(config: InpaintConfig) -> Model:
    from exdd_ray.synthesizers.painting.model import model_digest, revision_of

    return Model(config.model, revision_of(config), model_digest(config))


def _pinned(config: InpaintConfig) -> InpaintConfig:
    from exdd_ray.synthesizers.painting.model import pinned

    return pinned(config)


def _remarks(config: InpaintConfig, working_size: Size | None) -> tuple[str, ...]:
    from exdd_ray.synthesizers.painting.remarks import remarks

    return remarks(config, working_size)


SYNTHESIZER = Synthesizer(
    config=InpaintConfig,
    version=4,
    make=_make,
    prompts=lambda config: config.prompts,
    defects=_defects,
    files=_files,
    model=_model,
    run=lambda config: config.run,
    pinned=_pinned,
    remarks=_remarks,
)
