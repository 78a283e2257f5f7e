"""A chunk of synthetic samples: the unit of work, and one artifact: images, masks and an index of their origin."""

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from exdd_ray.data.catalog import CatalogRow
from exdd_ray.errors import UserError
from exdd_ray.store.artifact import Artifact, Store
from exdd_ray.store.contents import content_digests
from exdd_ray.synthesizers.filters import THUMBNAIL, fingerprint
from exdd_ray.synthesizers.job import CHUNK, AnyJob, Painted, Sample
from exdd_ray.synthesizers.segmentation import segmenters
from exdd_ray.synthesizers.synthesizer import NeededDefects
from exdd_ray.synthesizers.table import run_of, synthesizer_of

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


def make_chunks(store: Store, jobs: Sequence[AnyJob]) -> list[Artifact]:
    """The artifacts of chunks: `000000.png` and, of masked samples, `000000_mask.png`; and `index.parquet`.

    Those that the store lacks are painted together, so that a batch may be larger than a chunk.
    """
    found = {job.recipe.key: store.find(job.recipe.key) for job in jobs}
    missing = [job for job in jobs if found[job.recipe.key] is None]
    for job, (samples, batch) in zip(missing, _painted(missing, store), strict=True):
        found[job.recipe.key] = store.make(job.recipe, partial(_build, job, samples, batch))
    return [artifact for artifact in found.values() if artifact is not None]


def in_groups(jobs: Sequence[AnyJob]) -> list[Sequence[AnyJob]]:
    """The chunks that are made together: as many as fill a batch of the model, which is trained for all of them."""
    run = run_of(jobs[0].config)
    together = 1 if run is None else -(-run.batch // CHUNK)
    alike = [list(group) for _, group in groupby(jobs, key=lambda job: job.training)]
    return [group[start : start + together] for group in alike for start in range(0, len(group), together)]


def contents(
    backgrounds: Sequence[CatalogRow],
    defects: Sequence[CatalogRow],
    needed: NeededDefects | None,
    files: Sequence[str],
) -> tuple[str, ...]:
    """What a recipe names of the images and masks that samples are made from: their bytes, and how they are read."""
    images = [(row.image, row.view) for row in backgrounds]
    masks = [(row.mask, f"{row.view} above {row.mask_threshold}") for row in defects if row.mask is not None]
    taken = [(row.image, row.view) for row in defects] if needed is not None and needed.pixels else []
    seen = [*images, *masks, *taken]
    digests = content_digests([file for file, _ in seen])
    return (*(f"{content}{how}" for content, (_, how) in zip(digests, seen, strict=True)), *content_digests(files))


def _painted(jobs: Sequence[AnyJob], store: Store) -> Iterator[Painted]:
    if not jobs:
        return iter(())
    make = synthesizer_of(jobs[0].config).make
    assert make is not None  # chunks are of the parts of a mixture
    return make([replace(job, trained=trained_for(job, store)) for job in jobs])


def trained_for(job: AnyJob, store: Store) -> Artifact | None:
    """What was trained for a chunk; None where nothing is to be. Raises UserError where the store lacks it."""
    if job.training is None:
        return None
    found = store.find(job.training.key)
    if found is None:
        raise UserError(f"{job.config.kind}: what it trains first is not in the store {store.root}")
    return found


def _build(job: AnyJob, samples: Sequence[Sample], batch: int, folder: Path) -> dict[str, Any]:
    needed = synthesizer_of(job.config).defects(job.config)
    files = (*job.files, *segmenters(job.config))
    if contents(job.backgrounds, job.defects, needed, files) != job.recipe.inputs:
        raise UserError("images have changed since the synthesis from them was begun: begin it again")
    rows = [_write(sample, job, folder) for sample in samples]
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), folder / INDEX)
    model = "" if job.model is None else f"{job.model.name}@{job.model.revision}"
    return {"kind": job.config.kind, "model": model, "batch": batch, "versions": _versions()}


@cache
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _write(sample: Sample, job: AnyJob, folder: Path) -> dict[str, Any]:
    print_of = bytes(THUMBNAIL**2)
    if sample.image is not None:
        Image.fromarray(sample.image).save(folder / f"{sample.number:06d}.png")
        whole = np.ones(sample.image.shape[:2], dtype=bool)
        print_of = fingerprint(sample.image, whole if sample.mask is None else sample.mask).tobytes()
    if sample.mask is not None:
        Image.fromarray(sample.mask.astype(np.uint8) * 255).save(folder / f"{sample.number:06d}_mask.png")
    return {
        "number": sample.number,
        "prompt": job.prompt,
        "seed": str(job.sample_seed(sample.number)),
        "background": sample.background,
        "mask_source": sample.mask_source,
        "model": "" if job.model is None else job.model.name,
        "revision": "" if job.model is None else job.model.revision,
        "versions": ", ".join(f"{name} {version}" for name, version in _versions().items()),
        "inside": None if sample.change is None else sample.change.inside,
        "outside": None if sample.change is None else sample.change.outside,
        "fault": sample.fault,
        "fingerprint": print_of,
        "skipped": list(sample.skipped),
    }
