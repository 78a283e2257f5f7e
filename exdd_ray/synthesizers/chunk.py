"""A chunk of synthetic samples: the unit of work, and one artifact: images, masks and an index of their origin.

Sample i of a prompt depends on the seed, the prompt and i alone, so that fewer are a prefix of more, and any number of
workers makes the same ones. Several prompts take turns: the i of each is its own.
"""

import hashlib
import importlib.metadata
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from exdd_ray.config.base import Size
from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.images import read_pair
from exdd_ray.errors import DataError, ImageError, UserError
from exdd_ray.store.artifact import Artifact, Recipe, Store
from exdd_ray.store.contents import content_digests
from exdd_ray.synthesizers.cutpaste.config import CutPasteConfig
from exdd_ray.synthesizers.cutpaste.cutpaste import cut_paste
from exdd_ray.synthesizers.filters import THUMBNAIL, Change, fingerprint, measure_change
from exdd_ray.synthesizers.foreground import foreground
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.inpaint.masks import PickedMask, pick_mask, resize_mask
from exdd_ray.synthesizers.inpaint.model import model_digest
from exdd_ray.synthesizers.per_region.blend import blend_region
from exdd_ray.synthesizers.per_region.config import PerRegionConfig

CHUNK = 10
DRAWS = 10  # of a background, before a sample is given up
INDEX = "index.parquet"
_PACKAGES = ("exdd-ray", "torch", "diffusers", "transformers")
_TEXTS = ("prompt", "seed", "background", "mask_source", "model", "revision", "versions", "fault")
_SCHEMA = pa.schema(
    {
        "number": pa.int64(),
        **dict.fromkeys(_TEXTS, pa.string()),
        "inside": pa.float64(),
        "outside": pa.float64(),
        "fingerprint": pa.binary(),
        "skipped": pa.list_(pa.string()),
    }
)

Drawn = TypeVar("Drawn")
Synthesizer = PerRegionConfig | CutPasteConfig | InpaintConfig


@dataclass(frozen=True)
class ChunkJob:
    """CHUNK samples of one prompt (empty for a synthesizer without prompts), and the recipe that names them.

    Attributes:
        files: textures or masks of a folder that samples draw from, as they were listed for the recipe.
        revision: of the model; empty for a synthesizer without one.
    """

    config: Synthesizer
    prompt: str
    start: int
    seed: int
    backgrounds: tuple[CatalogRow, ...]
    positives: tuple[CatalogRow, ...]
    recipe: Recipe
    files: tuple[str, ...] = ()
    revision: str = ""

    @property
    def numbers(self) -> range:
        """The samples' i."""
        return range(self.start, self.start + CHUNK)

    def beginning_at(self, start: int) -> "ChunkJob":
        """Another chunk of the same prompt."""
        recipe = replace(self.recipe, config={**self.recipe.config, "start": start})
        return replace(self, start=start, recipe=recipe)

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
        mask_source: the shape or file that its mask is from.
        image, mask: uint8 [H x W x 3] and bool [H x W]; None where it failed.
        change: what the painting changed; None where it failed.
        fault: why it failed; empty where it did not.
        skipped: why backgrounds that were drawn before this one could not be used.
    """

    number: int
    background: str
    mask_source: str = ""
    image: np.ndarray | None = None
    mask: np.ndarray | None = None
    change: Change | None = None
    fault: str = ""
    skipped: tuple[str, ...] = ()


Painted = tuple[Sequence[Sample], int]  # the samples of a chunk, and how many were painted at once
Advance = Callable[[int], None]
ChunkRunner = Callable[[Store, Sequence[ChunkJob], Advance], None]


def make_chunks(store: Store, jobs: Sequence[ChunkJob]) -> list[Artifact]:
    """The artifacts of chunks: `000000.png` and `000000_mask.png` of the samples, and `index.parquet`.

    Those that the store lacks are painted together, so that a batch may be larger than a chunk.
    """
    found = {job.recipe.key: store.find(job.recipe.key) for job in jobs}
    missing = [job for job in jobs if found[job.recipe.key] is None]
    for job, (samples, batch) in zip(missing, _painted(missing), strict=True):
        found[job.recipe.key] = store.make(job.recipe, partial(_build, job, samples, batch))
    return [artifact for artifact in found.values() if artifact is not None]


def contents(
    backgrounds: Sequence[CatalogRow], positives: Sequence[CatalogRow], files: Sequence[str]
) -> tuple[str, ...]:
    """What a recipe names of the images and masks that samples are made from: their bytes, and how they are read."""
    images = [row.image for row in backgrounds] + [str(row.mask) for row in positives]
    views = [row.view for row in backgrounds] + [f"{row.view} above {row.mask_threshold}" for row in positives]
    seen = (f"{content}{view}" for content, view in zip(content_digests(images), views, strict=True))
    return (*seen, *content_digests(files))


def in_groups(jobs: Sequence[ChunkJob]) -> list[Sequence[ChunkJob]]:
    """The chunks that are made together: as many as fill a batch of the model."""
    config = jobs[0].config
    together = -(-config.run.batch // CHUNK) if isinstance(config, InpaintConfig) else 1
    return [jobs[start : start + together] for start in range(0, len(jobs), together)]


def sample_seed(seed: int, prompt: str, number: int) -> int:
    """The seed of a sample's own noise."""
    name = hashlib.blake2b(f"{seed}\n{number}\n{prompt}".encode(), digest_size=7)
    return int.from_bytes(name.digest())


def _build(job: ChunkJob, samples: Sequence[Sample], batch: int, folder: Path) -> dict[str, Any]:
    if contents(job.backgrounds, job.positives, job.files) != job.recipe.inputs:
        raise UserError("images have changed since the synthesis from them was begun: begin it again")
    rows = [_write(sample, job, folder) for sample in samples]
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), folder / INDEX)
    model = f"{job.config.model}@{job.revision}" if isinstance(job.config, InpaintConfig) else ""
    return {"kind": job.config.kind, "model": model, "batch": batch, "versions": _versions()}


@cache
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


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
        "mask_source": sample.mask_source,
        "model": job.config.model if isinstance(job.config, InpaintConfig) else "",
        "revision": job.revision,
        "versions": ", ".join(f"{name} {version}" for name, version in _versions().items()),
        "inside": None if sample.change is None else sample.change.inside,
        "outside": None if sample.change is None else sample.change.outside,
        "fault": sample.fault,
        "fingerprint": print_of,
        "skipped": list(sample.skipped),
    }


def _drawn(
    job: ChunkJob, number: int, draw: Callable[[np.ndarray, np.random.Generator], Drawn], working_size: Size | None
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


def _painted(jobs: Sequence[ChunkJob]) -> Iterator[Painted]:
    if jobs and isinstance(jobs[0].config, InpaintConfig):
        yield from _inpainted(jobs, jobs[0].config)
    else:
        for job in jobs:
            yield [_blended(job, number) for number in job.numbers], 1


def _blended(job: ChunkJob, number: int) -> Sample:
    sample, found = _drawn(job, number, partial(_blend, job), None)
    if found is None:
        return sample
    source = "cutpaste" if isinstance(job.config, CutPasteConfig) else "perlin"
    return replace(sample, mask_source=source, image=found[0], mask=found[1], change=found[2])


def _blend(job: ChunkJob, background: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Change]:
    config = job.config
    if isinstance(config, CutPasteConfig):
        image, mask = cut_paste(background, config, rng)
    else:
        assert isinstance(config, PerRegionConfig)
        image, mask = blend_region(background, config, rng, job.files)
    return image, mask, measure_change(background, image, mask)


def _inpainted(jobs: Sequence[ChunkJob], config: InpaintConfig) -> Iterator[Painted]:
    """The chunks' samples; the scenes of all are painted in one go."""
    begun = [[_begin(job, config, number) for number in job.numbers] for job in jobs]
    painter = _painter(config)
    painted = iter(painter.paint([scene for chunk in begun for _, scene in chunk if scene is not None]))
    for chunk in begun:
        samples = [
            sample if scene is None else _finish(sample, scene.canvas, scene.mask, next(painted), config)
            for sample, scene in chunk
        ]
        yield samples, painter.batch


def _begin(job: ChunkJob, config: InpaintConfig, number: int) -> tuple[Sample, Any]:
    """A sample with its Scene, or with the fault for which it has none."""
    from exdd_ray.synthesizers.inpaint.paint import Scene

    bicubic = config.resample == "bicubic"

    def draw(background: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, PickedMask]:
        canvas = _resized(background, config.canvas, bicubic=bicubic)
        size = (canvas.shape[0], canvas.shape[1])
        ground = foreground(canvas, config.masks.foreground)
        return canvas, pick_mask(
            config.masks,
            size,
            ground,
            job.positives,
            rng,
            library=job.files,
            bicubic=bicubic,
            working_size=config.working_size,
        )

    sample, found = _drawn(job, number, draw, config.working_size)
    if found is None:
        return sample, None
    canvas, picked = found
    scene = Scene(canvas, picked.mask, job.prompt, sample_seed(job.seed, job.prompt, number))
    return replace(sample, mask_source=picked.source), scene


def _finish(
    sample: Sample, canvas: np.ndarray, mask: np.ndarray, result: np.ndarray | str, config: InpaintConfig
) -> Sample:
    if isinstance(result, str):
        return replace(sample, fault=result)
    bicubic, change = config.resample == "bicubic", measure_change(canvas, result, mask)
    small = resize_mask(mask, config.output or (mask.shape[0], mask.shape[1]), bicubic=bicubic)
    if not small.any():
        return replace(sample, change=change, fault="nothing is left of the mask at the size of the output")
    return replace(sample, image=_resized(result, config.output, bicubic=bicubic), mask=small, change=change)


def _resized(image: np.ndarray, size: Size | None, *, bicubic: bool) -> np.ndarray:
    if size is None or image.shape[:2] == tuple(size):
        return image
    how = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), how))


_painters = threading.local()


def _painter(config: InpaintConfig) -> Any:
    """This thread's painter; the last one used is kept."""
    from exdd_ray.synthesizers.inpaint.paint import Painter

    made_of = config, model_digest(config)
    if getattr(_painters, "made_of", None) != made_of:
        _painters.painter, _painters.made_of = Painter(config), made_of
    return _painters.painter
