"""A chunk of synthetic samples: the unit of work, and one artifact: images, masks and an index of their origin.

Sample i of a prompt depends on the seed, the prompt and i alone, so that fewer are a prefix of more, and any number of
workers makes the same ones.
"""

import hashlib
import importlib.metadata
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from exdd_ray.config.detector import Size
from exdd_ray.config.synthesis import CutPasteConfig, InpaintConfig, PerRegionConfig
from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.images import read_pair
from exdd_ray.errors import DataError, ImageError
from exdd_ray.store.artifact import Artifact, Recipe, Store
from exdd_ray.synthesis.cutpaste import cut_paste
from exdd_ray.synthesis.filters import THUMBNAIL, fingerprint, judge
from exdd_ray.synthesis.foreground import foreground
from exdd_ray.synthesis.masks import pick_mask
from exdd_ray.synthesis.per_region import blend_region

CHUNK = 10
INDEX = "index.parquet"
_VERSIONS = ("exdd-ray", "torch", "diffusers", "transformers")

Synthesizer = PerRegionConfig | CutPasteConfig | InpaintConfig


@dataclass(frozen=True)
class ChunkJob:
    """CHUNK samples of one prompt (empty for a synthesizer without prompts), and the recipe that names them."""

    config: Synthesizer
    prompt: str
    start: int
    seed: int
    backgrounds: tuple[CatalogRow, ...]
    positives: tuple[CatalogRow, ...]
    recipe: Recipe

    def rng(self, number: int) -> np.random.Generator:
        """The stream of a sample."""
        name = [zlib.crc32(self.prompt.encode())] if self.prompt else []
        return np.random.default_rng([self.seed, *name, number])


@dataclass(frozen=True)
class Sample:
    """A sample as it is made.

    Attributes:
        number: i.
        background: the image that it was made from.
        image, mask: uint8 [H x W x 3] and bool [H x W]; None where it failed.
        fault: why it failed or is to be dropped; empty for a good one.
    """

    number: int
    background: str
    image: np.ndarray | None = None
    mask: np.ndarray | None = None
    fault: str = ""


def make_chunk(store: Store, job: ChunkJob) -> Artifact:
    """The artifact of a chunk: `000000.png` and `000000_mask.png` of its samples, and `index.parquet`."""
    return store.make(job.recipe, lambda folder: _build(job, folder))


def sample_seed(seed: int, prompt: str, number: int) -> int:
    """The seed of a sample's own noise."""
    name = hashlib.blake2b(f"{seed}\n{number}\n{prompt}".encode(), digest_size=7)
    return int.from_bytes(name.digest())


def _build(job: ChunkJob, folder: Path) -> dict[str, Any]:
    samples = _inpainted(job) if isinstance(job.config, InpaintConfig) else _blended(job)
    rows = [_write(sample, job, folder) for sample in samples]
    pq.write_table(pa.Table.from_pylist(rows), folder / INDEX)
    return {"kind": job.config.kind, "versions": {name: importlib.metadata.version(name) for name in _VERSIONS}}


def _write(sample: Sample, job: ChunkJob, folder: Path) -> dict[str, Any]:
    print_of = bytes(THUMBNAIL**2)
    if sample.image is not None and sample.mask is not None:
        Image.fromarray(sample.image).save(folder / f"{sample.number:06d}.png")
        Image.fromarray(sample.mask.astype(np.uint8) * 255).save(folder / f"{sample.number:06d}_mask.png")
        print_of = fingerprint(sample.image, sample.mask).tobytes()
    return {
        "number": sample.number,
        "prompt": job.prompt,
        "seed": str(sample_seed(job.seed, job.prompt, sample.number)),
        "background": sample.background,
        "fault": sample.fault,
        "fingerprint": print_of,
    }


def _numbers(job: ChunkJob) -> range:
    return range(job.start, job.start + CHUNK)


def _background(job: ChunkJob, rng: np.random.Generator) -> CatalogRow:
    return job.backgrounds[int(rng.integers(len(job.backgrounds)))]


def _read(row: CatalogRow) -> np.ndarray:
    return read_pair(replace(row, mask=None))[0]


def _blended(job: ChunkJob) -> Iterator[Sample]:
    for number in _numbers(job):
        rng = job.rng(number)
        row = _background(job, rng)
        try:
            if isinstance(job.config, CutPasteConfig):
                image, mask = cut_paste(_read(row), job.config, rng)
            else:
                assert isinstance(job.config, PerRegionConfig)
                image, mask = blend_region(_read(row), job.config, rng)
        except (DataError, ImageError) as error:
            yield Sample(number, row.image, fault=str(error))
        else:
            yield Sample(number, row.image, image, mask)


def _inpainted(job: ChunkJob) -> list[Sample]:
    from exdd_ray.synthesis.paint import Scene

    config = job.config
    assert isinstance(config, InpaintConfig)
    scenes: dict[int, Scene] = {}
    samples: dict[int, Sample] = {}
    for number in _numbers(job):
        rng = job.rng(number)
        row = _background(job, rng)
        samples[number] = Sample(number, row.image)
        try:
            canvas = _resized(_read(row), config.canvas)
            size = (canvas.shape[0], canvas.shape[1])
            mask = pick_mask(config.masks, size, foreground(canvas, config.masks.foreground), job.positives, rng)
            scenes[number] = Scene(canvas, mask, job.prompt, sample_seed(job.seed, job.prompt, number))
        except (DataError, ImageError) as error:
            samples[number] = Sample(number, row.image, fault=str(error))
    painted = _painter(config).paint(list(scenes.values()))
    for (number, scene), result in zip(scenes.items(), painted, strict=True):
        samples[number] = _judged(samples[number], scene.canvas, scene.mask, result, config)
    return list(samples.values())


def _judged(
    sample: Sample, canvas: np.ndarray, mask: np.ndarray, result: np.ndarray | str, config: InpaintConfig
) -> Sample:
    if isinstance(result, str):
        return replace(sample, fault=result)
    fault = "" if config.filters is None else judge(canvas, result, mask, config.filters)
    small = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(_wide(config.output or mask.shape), 0)) > 0
    if not small.any():
        fault = fault or "nothing is left of the mask at the size of the output"
        small = mask
        return replace(sample, fault=fault)
    return replace(sample, image=_resized(result, config.output), mask=small, fault=fault)


def _wide(size: Sequence[int]) -> tuple[int, int]:
    return size[1], size[0]


def _resized(image: np.ndarray, size: Size | None) -> np.ndarray:
    if size is None or image.shape[:2] == tuple(size):
        return image
    return np.asarray(Image.fromarray(image).resize(_wide(size), Image.Resampling.BILINEAR))


_painters = threading.local()


def _painter(config: InpaintConfig) -> Any:
    """This thread's painter; the last one used is kept."""
    from exdd_ray.synthesis.paint import Painter

    if getattr(_painters, "config", None) != config:
        _painters.painter, _painters.config = Painter(config), config
    return _painters.painter


Advance = Callable[[int], None]
ChunkRunner = Callable[[Store, Sequence[ChunkJob], Advance], None]
