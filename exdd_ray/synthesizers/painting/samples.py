"""The samples of chunks by inpainting: masks are drawn one by one, the scenes of all chunks painted in batches."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from PIL import Image

from exdd_ray.config.base import Size
from exdd_ray.data.masks import grown
from exdd_ray.synthesizers.draw import on_a_background
from exdd_ray.synthesizers.filters import measure_change
from exdd_ray.synthesizers.foreground import foreground
from exdd_ray.synthesizers.job import ChunkJob, Painted, Sample
from exdd_ray.synthesizers.painting.adapter import Adapter
from exdd_ray.synthesizers.painting.config import PaintConfig
from exdd_ray.synthesizers.painting.masks import PickedMask, pick_mask, resize_mask
from exdd_ray.synthesizers.painting.model import model_digest
from exdd_ray.synthesizers.painting.paint import Painter, Scene

C = TypeVar("C", bound=PaintConfig)


def painted_samples(jobs: Sequence[ChunkJob[C]], adapter: Adapter | None = None) -> Iterator[Painted]:
    """The samples of chunks of one config; the scenes of all are painted in one go, with an adapter where one is."""
    config = jobs[0].config
    begin = _begin_whole if config.whole else _begin
    begun = [[begin(job, number) for number in job.numbers] for job in jobs]
    painter = _painter(config, adapter)
    painted = iter(painter.paint([scene for chunk in begun for _, scene in chunk if scene is not None]))
    for chunk in begun:
        samples = [
            sample if scene is None else _finish(sample, scene, next(painted), config) for sample, scene in chunk
        ]
        yield samples, painter.batch


def _begin_whole(job: ChunkJob[C], number: int) -> tuple[Sample, Scene]:
    """A sample that is painted from nothing."""
    size = job.config.canvas or job.config.size
    grey, everywhere = np.full((*size, 3), 127, dtype=np.uint8), np.ones(size, dtype=bool)
    return Sample(number, ""), Scene(grey, everywhere, job.prompt, job.sample_seed(number))


def _begin(job: ChunkJob[C], number: int) -> tuple[Sample, Scene | None]:
    """A sample with its scene, or with the fault for which it has none."""
    config = job.config
    bicubic = config.resample == "bicubic"

    def draw(background: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, PickedMask]:
        canvas = _resized(background, config.canvas, bicubic=bicubic)
        size = (canvas.shape[0], canvas.shape[1])
        ground = foreground(canvas, config.masks.foreground)
        return canvas, pick_mask(
            config.masks,
            size,
            ground,
            job.defects,
            rng,
            library=job.files,
            bicubic=bicubic,
            working_size=config.working_size,
        )

    sample, found = on_a_background(job, number, draw, config.working_size)
    if found is None:
        return sample, None
    canvas, picked = found
    where = grown(picked.mask, config.margin)
    scene = Scene(canvas, where, job.prompt, job.sample_seed(number))
    return replace(sample, mask=picked.mask, mask_source=picked.source), scene


def _finish(sample: Sample, scene: Scene, result: np.ndarray | str, config: PaintConfig) -> Sample:
    if isinstance(result, str):
        return replace(sample, mask=None, fault=result)
    bicubic = config.resample == "bicubic"
    if config.whole:
        return replace(sample, image=_resized(result, config.output, bicubic=bicubic))
    assert sample.mask is not None
    change = measure_change(scene.canvas, result, scene.mask)
    height, width = scene.mask.shape
    small = resize_mask(sample.mask, config.output or (height, width), bicubic=bicubic)
    if not small.any():
        return replace(sample, mask=None, change=change, fault="nothing is left of the mask at the size of the output")
    return replace(sample, image=_resized(result, config.output, bicubic=bicubic), mask=small, change=change)


def _resized(image: np.ndarray, size: Size | None, *, bicubic: bool) -> np.ndarray:
    if size is None or image.shape[:2] == tuple(size):
        return image
    how = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), how))


_painters = threading.local()


def _painter(config: PaintConfig, adapter: Adapter | None) -> Painter:
    """This thread's painter; the last one used is kept."""
    made_of = config, model_digest(config), None if adapter is None else adapter.key
    if getattr(_painters, "made_of", None) != made_of:
        _painters.painter, _painters.made_of = Painter(config, adapter), made_of
    painter: Painter = _painters.painter
    return painter
