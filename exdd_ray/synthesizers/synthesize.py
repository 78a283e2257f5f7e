"""Synthetic defects as a catalog: planned in chunks, made where the store lacks them, filtered."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import torch

from exdd_ray.banks.tiles import one_thread_each
from exdd_ray.config.base import identity, without
from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.device import CPU
from exdd_ray.errors import DataError
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Artifact, Recipe, Store
from exdd_ray.synthesizers.chunk import (
    CHUNK,
    Advance,
    ChunkJob,
    ChunkRunner,
    Synthesizer,
    contents,
    in_groups,
    make_chunks,
)
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.inpaint.masks import library_files
from exdd_ray.synthesizers.inpaint.model import device_of, model_digest, pinned, precision_of, revision_of
from exdd_ray.synthesizers.per_region.config import PerRegionConfig
from exdd_ray.synthesizers.per_region.sources import texture_files
from exdd_ray.synthesizers.taken import Taken, next_chunks, take
from exdd_ray.synthesizers.union import samples_of_prompts

VERSION = 4
ORIGIN = ("background", "mask_source", "model", "revision", "versions")


@runtime_checkable
class PlacedRunner(Protocol):
    """A ChunkRunner that computes elsewhere, and knows what the device `auto` is there."""

    def __call__(self, store: Store, jobs: Sequence[ChunkJob], advance: Advance) -> None:
        """Make the chunks."""

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""


@dataclass(frozen=True)
class SyntheticSample:
    """A sample in the store: its catalog row, and where it is from.

    Attributes:
        mask_source: the shape or file of its mask.
        model, revision: that painted it; empty where none did.
        versions: of the packages that made it.
        bit_depth: of the background's file, as its catalog row has it.
    """

    row: CatalogRow
    prompt: str
    seed: int
    background: str
    mask_source: str = ""
    model: str = ""
    revision: str = ""
    versions: str = ""
    bit_depth: int | None = None


@dataclass(frozen=True)
class Synthesis:
    """What a synthesizer made.

    Attributes:
        samples: the good ones; the prompts take turns.
        dropped: reason -> how many samples failed or were filtered out for it; others were drawn instead.
        fresh: samples that the store did not have.
        skipped: reason -> how many times another background was drawn for it.
        lacking: samples that were asked for, and for which no good one was found.
        drawn: prompt -> how many samples were drawn; where it is not named, as many as were asked for.
    """

    samples: tuple[SyntheticSample, ...]
    dropped: dict[str, int]
    fresh: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    lacking: int = 0
    drawn: Mapping[str, int] = field(default_factory=dict)

    @property
    def catalog(self) -> pa.Table:
        """The good samples as training defects."""
        return build_catalog([made.row for made in self.samples])

    @property
    def remark(self) -> tuple[str, ...]:
        """What a reader must know of it: samples that were dropped, backgrounds that were of no use."""
        remarks = []
        if self.dropped:
            reasons = "; ".join(f"{count}: {reason}" for reason, count in self.dropped.items())
            instead = f"; {self.lacking} are lacking" if self.lacking else ", and others made instead"
            remarks.append(f"{sum(self.dropped.values())} synthetic samples dropped ({reasons}){instead}")
        if self.skipped:
            first, times = next(iter(self.skipped)), sum(self.skipped.values())
            remarks.append(f"backgrounds of no use were drawn {times} times, and others instead; the first: {first}")
        return tuple(remarks)


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
    """`config.count` synthetic defects on backgrounds drawn from normal images; several prompts take turns.

    They are made in chunks of CHUNK samples, each an artifact: a larger count, or a run that was cut off, makes only
    what is missing. For samples that are dropped the next ones are taken, as many again at most: what few take is the
    beginning of what many take.

    Args:
        positives: training defects; for masks drawn from them.
        run: makes the missing chunks; None takes this process's threads. A PlacedRunner decides what
            `run.device=auto` is.

    Raises:
        DataError: no normal image, or no sample that could be made.
        ConfigError, UserError: a model that cannot be had, or settings that it does not take.
    """
    if isinstance(run, PlacedRunner):
        config = on_device(config, run.device)
    jobs, fresh = plan_chunks(config, normal, positives, seed), 0
    more, taken = jobs, dict[str, Taken]()
    while more:
        missing = [job for job in more if store.find(job.recipe.key) is None]
        if missing:
            with progress(f"{config.kind} synthesis, images", CHUNK * len(missing)) as advance:
                (run or run_on_threads)(store, missing, advance)
        fresh += CHUNK * len(missing)
        taken = {prompt: take(config, prompt, jobs, store) for prompt in samples_of_prompts(config)}
        more = next_chunks(config, taken, jobs)
        jobs = [*jobs, *more]
    return replace(_assembled(config, taken), fresh=fresh)


def on_device(config: Synthesizer, device: str | None) -> Synthesizer:
    """The config with what `run.device=auto` is where it is painted; None is this process."""
    if device is None or not isinstance(config, InpaintConfig) or config.run.device != "auto":
        return config
    return config.model_copy(update={"run": config.run.model_copy(update={"device": device})})


def plan_chunks(config: Synthesizer, normal: pa.Table, positives: pa.Table, seed: int) -> list[ChunkJob]:
    """The chunks that are needed at least, with their recipes; images are hashed, not decoded.

    A hub's model is pinned to its commit.

    Raises DataError without a normal image.
    """
    backgrounds = tuple(catalog_rows(normal))
    if not backgrounds:
        raise DataError("no normal image to paint defects on")
    masked: tuple[CatalogRow, ...] = ()
    if isinstance(config, InpaintConfig) and config.masks.source == "positives":
        masked = tuple(row for row in catalog_rows(positives) if row.mask is not None)
        if not masked:
            raise DataError("masks.source=positives needs a training defect that has a mask; there is none")
    revision = ""
    if isinstance(config, InpaintConfig):
        config, revision = pinned(config), revision_of(config)
    how, files = _what(config, seed), _sources(config)
    inputs = contents(backgrounds, masked, files)
    return [
        ChunkJob(
            config,
            prompt,
            start,
            seed,
            backgrounds,
            masked,
            Recipe("synthesis", VERSION, {**how, "prompt": prompt, "start": start}, inputs),
            files,
            revision,
        )
        for prompt, count in samples_of_prompts(config).items()
        for start in range(0, count, CHUNK)
    ]


def run_on_threads(store: Store, jobs: Sequence[ChunkJob], advance: Advance) -> None:
    """Make chunks in this process: a batch's a thread on a CPU, one batch after another on a GPU."""
    alone = isinstance(jobs[0].config, InpaintConfig) and device_of(jobs[0].config.run) != CPU
    with one_thread_each() as threads:
        workers = 1 if alone else threads
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for made in pool.map(lambda group: make_chunks(store, group), in_groups(jobs)):
                advance(CHUNK * len(made))


def _what(config: Synthesizer, seed: int) -> dict[str, Any]:
    """What of the config the pixels of a sample depend on."""
    how = {"seed": seed, **without(identity(config), "count", "prompts", "filters")}
    if not isinstance(config, InpaintConfig):
        return how
    how |= {"model": model_digest(config), "precision": precision_of(config.run)}
    if (device := device_of(config.run)) != CPU:
        how["device"] = device
    return how


def _sources(config: Synthesizer) -> tuple[str, ...]:
    """Textures or masks of a folder that samples draw from."""
    if isinstance(config, PerRegionConfig):
        return texture_files(config.textures)
    if isinstance(config, InpaintConfig) and config.masks.folder:
        return library_files(config.masks.folder)
    return ()


def _assembled(config: Synthesizer, taken: Mapping[str, Taken]) -> Synthesis:
    turns = [(place, turn, entry) for turn, one in enumerate(taken.values()) for place, entry in enumerate(one.good)]
    samples = [_made(*entry) for _, _, entry in sorted(turns, key=lambda each: each[:2])]
    dropped = Counter(fault for one in taken.values() for fault in one.faults)
    if config.count and not samples:
        reason, count = dropped.most_common(1)[0]
        raise DataError(f"no synthetic sample is usable: {count} times: {reason}")
    skipped = Counter(reason for one in taken.values() for row in one.drawn for reason in row["skipped"])
    return Synthesis(
        tuple(samples),
        dict(dropped),
        skipped=dict(skipped),
        lacking=config.count - len(samples),
        drawn={prompt: len(one.drawn) for prompt, one in taken.items()},
    )


def _made(job: ChunkJob, artifact: Artifact, index: dict[str, Any]) -> SyntheticSample:
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
    background, mask_source, model, revision, versions = (str(index[name]) for name in ORIGIN)
    seed, depth = int(index["seed"]), like.bit_depth
    return SyntheticSample(row, job.prompt, seed, background, mask_source, model, revision, versions, depth)
