"""The samples of chunks: pairs painted on windows of normal images, their masks, and what is wrong with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from exdd_ray.config.base import Size
from exdd_ray.store.contents import content_digest
from exdd_ray.synthesizers.draw import on_a_background
from exdd_ray.synthesizers.dualanodiff.adapter import FILE
from exdd_ray.synthesizers.dualanodiff.boxes import drawn_box
from exdd_ray.synthesizers.dualanodiff.config import DualConfig
from exdd_ray.synthesizers.dualanodiff.masks import changed_region, fault_of, part_mask
from exdd_ray.synthesizers.dualanodiff.paint import PairPainter, PairScene, pair_painter
from exdd_ray.synthesizers.dualanodiff.pairs import Window, resized, window_anywhere
from exdd_ray.synthesizers.filters import measure_change
from exdd_ray.synthesizers.job import ChunkJob, Painted, Sample

_SOURCE = "anomalous part"


@dataclass(frozen=True)
class _Place:
    """A place to paint: a window of an image uint8 [H x W x 3], and a box in it bool [h x w], of the model's size."""

    image: np.ndarray
    window: Window
    box: np.ndarray


def pair_samples(jobs: Sequence[ChunkJob[DualConfig]]) -> Iterator[Painted]:
    """The samples of chunks of one config, chunk by chunk: each kind of defect has an adapter of its own."""
    for job in jobs:
        painter = _painter(job)
        begun = [_begin(job, number, painter) for number in job.numbers]
        scenes = [_scene(job, sample.number, place) for sample, place in begun if place is not None]
        batches = list(painter.paint(scenes))
        painted = zip(scenes, (pair for pairs, _ in batches for pair in pairs), strict=True)
        samples = [
            sample if place is None else _finish(sample, place, *next(painted), painter) for sample, place in begun
        ]
        yield samples, batches[-1][1] if batches else job.config.run.batch


def _painter(job: ChunkJob[DualConfig]) -> PairPainter:
    if job.config.adapter is not None:
        file = job.config.adapter.expanduser()
        return pair_painter(job.config, file, content_digest(file))
    assert job.trained is not None
    return pair_painter(job.config, job.trained.file(FILE), job.trained.key)


def _begin(job: ChunkJob[DualConfig], number: int, painter: PairPainter) -> tuple[Sample, _Place | None]:
    """A sample with its place, or with the fault for which it has none."""

    def draw(background: np.ndarray, rng: np.random.Generator) -> _Place:
        size = (background.shape[0], background.shape[1])
        window = window_anywhere(size, job.config.window, rng)
        return _Place(background, window, drawn_box(painter.boxes, job.config.size, rng))

    return on_a_background(job, number, draw, job.config.working_size)


def _scene(job: ChunkJob[DualConfig], number: int, place: _Place) -> PairScene:
    background = resized(place.image[place.window], job.config.size)
    return PairScene(background, place.box, job.sample_seed(number))


def _finish(sample: Sample, place: _Place, scene: PairScene, pair: np.ndarray, painter: PairPainter) -> Sample:
    config = painter.config
    if not np.isfinite(pair).all():
        return replace(sample, fault="the model made NaN values")
    whole, part = pair.astype(np.uint8)
    small = part_mask(part, painter.tuning.backdrop, config.mask)
    changed = changed_region(scene.background, whole, config.mask) if config.shows_change else None
    if fault := fault_of(small, changed, config.mask):
        return replace(sample, fault=fault)
    there = place.image[place.window].shape[:2]
    mask, image = np.zeros(place.image.shape[:2], dtype=bool), place.image.copy()
    mask[place.window] = _levels_at(small, (there[0], there[1]))
    within = mask if config.composite else np.ones_like(mask)
    painted = np.zeros_like(image)
    painted[place.window] = resized(whole, (there[0], there[1]))
    image[within] = painted[within]
    change = measure_change(place.image, image, mask) if config.composite else None
    return replace(sample, image=image, mask=mask, mask_source=_SOURCE, change=change)


def _levels_at(mask: np.ndarray, size: Size) -> np.ndarray:
    """A mask bool [h x w] at (height, width), by the nearest pixel."""
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.NEAREST)) > 0
