"""Synthetic defects as a catalog: planned in chunks, made where the store lacks them, filtered."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from exdd_ray.banks.tiles import one_thread_each
from exdd_ray.config.synthesis import InpaintConfig, PerRegionConfig
from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.device import CPU
from exdd_ray.errors import DataError
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Artifact, Recipe, Store, file_digest
from exdd_ray.synthesis.chunk import CHUNK, INDEX, Advance, ChunkJob, ChunkRunner, Synthesizer, make_chunk
from exdd_ray.synthesis.filters import THUMBNAIL, duplicates
from exdd_ray.synthesis.masks import library_files
from exdd_ray.synthesis.model import device_of, model_digest, precision_of
from exdd_ray.synthesis.sources import texture_files

VERSION = 2
DUPLICATE = "near-duplicate of an earlier sample"


@dataclass(frozen=True)
class Made:
    """A sample in the store: its catalog row, and where it is from."""

    row: CatalogRow
    prompt: str
    seed: int
    background: str


@dataclass(frozen=True)
class Synthesis:
    """What a synthesizer made.

    Attributes:
        samples: the good ones, prompt by prompt.
        dropped: reason -> how many samples failed or were filtered out for it.
        fresh: samples that the store did not have.
    """

    samples: tuple[Made, ...]
    dropped: dict[str, int]
    fresh: int = 0

    @property
    def catalog(self) -> pa.Table:
        """The good samples as training defects."""
        return build_catalog([made.row for made in self.samples])

    @property
    def remark(self) -> tuple[str, ...]:
        """What a reader must know of it: samples that were dropped."""
        if not self.dropped:
            return ()
        reasons = "; ".join(f"{count}: {reason}" for reason, count in self.dropped.items())
        return (f"{sum(self.dropped.values())} synthetic samples dropped ({reasons})",)


def synthesize(
    config: Synthesizer,
    normal: pa.Table,
    positives: pa.Table,
    seed: int,
    store: Store,
    *,
    run: ChunkRunner | None = None,
    progress: Progress = silent,
) -> Synthesis:
    """`config.count` synthetic defects (of each prompt) on backgrounds drawn from normal images.

    They are made in chunks of CHUNK samples, each an artifact: a larger count, or a run that was cut off, makes only
    what is missing.

    Args:
        positives: training defects; for masks drawn from them.
        run: makes the missing chunks; None takes this process's threads.

    Raises:
        DataError: no normal image, or no sample that could be made.
        ConfigError, UserError: a model that cannot be had, or settings that it does not take.
    """
    jobs = plan_chunks(config, normal, positives, seed)
    missing = [job for job in jobs if store.peek(job.recipe.key) is None]
    if missing:
        with progress(f"{config.kind} synthesis", CHUNK * len(missing)) as advance:
            (run or run_on_threads)(store, missing, advance)
    return replace(_assembled(config, jobs, store), fresh=CHUNK * len(missing))


def plan_chunks(config: Synthesizer, normal: pa.Table, positives: pa.Table, seed: int) -> list[ChunkJob]:
    """The chunks with their recipes; images are hashed, not decoded. Raises DataError without a normal image."""
    backgrounds = tuple(catalog_rows(normal))
    if not backgrounds:
        raise DataError("no normal image to paint defects on")
    masked: tuple[CatalogRow, ...] = ()
    if isinstance(config, InpaintConfig) and config.masks.source == "positives":
        masked = tuple(row for row in catalog_rows(positives) if row.mask is not None)
        if not masked:
            raise DataError("masks.source=positives needs a training defect that has a mask; there is none")
    how, inputs = _what(config, seed), (*_contents(backgrounds, masked), *_sources(config))
    prompts = config.prompts if isinstance(config, InpaintConfig) else ("",)
    return [
        ChunkJob(
            config,
            prompt,
            start,
            seed,
            backgrounds,
            masked,
            Recipe("synthesis", VERSION, {**how, "prompt": prompt, "start": start}, inputs),
        )
        for prompt in prompts
        for start in range(0, config.count, CHUNK)
    ]


def run_on_threads(store: Store, jobs: Sequence[ChunkJob], advance: Advance) -> None:
    """Make chunks in this process: one a thread on a CPU, one after another on a GPU."""
    alone = isinstance(jobs[0].config, InpaintConfig) and device_of(jobs[0].config.run) != CPU
    with one_thread_each() as threads:
        workers = 1 if alone else threads
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(lambda job: make_chunk(store, job), jobs):
                advance(CHUNK)


def _what(config: Synthesizer, seed: int) -> dict[str, Any]:
    how = {"seed": seed, **config.model_dump(mode="json", exclude={"count", "prompts", "textures", "run", "model"})}
    if isinstance(config, InpaintConfig):
        how |= {"model": model_digest(config), "precision": precision_of(config.run)}
        how["masks"] = config.masks.model_dump(mode="json", exclude={"folder"})
        if (device := device_of(config.run)) != CPU:
            how["device"] = device
    return how


def _contents(backgrounds: Sequence[CatalogRow], masked: Sequence[CatalogRow]) -> list[str]:
    files = [row.image for row in backgrounds] + [str(row.mask) for row in masked]
    regions = [f"{row.region}" if row.region else "" for row in (*backgrounds, *masked)]
    with ThreadPoolExecutor(8) as pool:
        return [f"{content}{region}" for content, region in zip(pool.map(_content, files), regions, strict=True)]


def _content(file: str) -> str:
    try:
        return file_digest(Path(file))
    except OSError as error:
        return f"unreadable: {error.strerror}"  # the samples that need it will say so


def _sources(config: Synthesizer) -> list[str]:
    files: tuple[str, ...] = ()
    if isinstance(config, PerRegionConfig) and config.textures:
        files = texture_files(config.textures)
    if isinstance(config, InpaintConfig) and config.masks.folder:
        files = library_files(config.masks.folder)
    return [file_digest(Path(file)) for file in files]


def _assembled(config: Synthesizer, jobs: Sequence[ChunkJob], store: Store) -> Synthesis:
    samples: list[Made] = []
    dropped: Counter[str] = Counter()
    for prompt in dict.fromkeys(job.prompt for job in jobs):
        rows: list[tuple[ChunkJob, Artifact, dict[str, Any]]] = []
        for job in jobs:
            if job.prompt == prompt:
                artifact = make_chunk(store, job)
                index = pq.read_table(artifact.file(INDEX)).to_pylist()
                rows += [(job, artifact, row) for row in index if row["number"] < config.count]
        good = [entry for entry in rows if not entry[2]["fault"]]
        dropped.update(row["fault"] for _, _, row in rows if row["fault"])
        twice = _duplicates(config, [row["fingerprint"] for _, _, row in good])
        dropped.update([DUPLICATE] * int(twice.sum()))
        samples += [_made(*entry) for entry, drop in zip(good, twice, strict=True) if not drop]
    if config.count and not samples:
        reason, count = dropped.most_common(1)[0]
        raise DataError(f"no synthetic sample is usable: {count} times: {reason}")
    return Synthesis(tuple(samples), dict(dropped))


def _duplicates(config: Synthesizer, prints: Sequence[bytes]) -> np.ndarray:
    if not isinstance(config, InpaintConfig) or config.filters is None or not prints:
        return np.zeros(len(prints), dtype=bool)
    thumbnails = np.frombuffer(b"".join(prints), dtype=np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)
    return duplicates(thumbnails, config.filters.duplicate)


def _made(job: ChunkJob, artifact: Artifact, index: dict[str, Any]) -> Made:
    like, number = job.backgrounds[0], index["number"]
    row = CatalogRow(
        id="/".join(filter(None, (job.config.kind, job.prompt, f"{number:06d}"))),
        dataset=like.dataset,
        category=like.category,
        split="train",
        label=1,
        defect=job.prompt or job.config.kind,
        image=str(artifact.file(f"{number:06d}.png")),
        mask=str(artifact.file(f"{number:06d}_mask.png")),
        origin=artifact.key,
    )
    return Made(row, job.prompt, int(index["seed"]), index["background"])
