"""Synthetic defects as a catalog: planned in chunks, made where the store lacks them, filtered."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import pyarrow as pa
import torch

from exdd_ray.banks.tiles import one_thread_each
from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.device import CPU
from exdd_ray.errors import DataError, told_of
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Artifact, Store
from exdd_ray.synthesizers.chunk import in_groups, make_chunks, trained_for
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.device import device_of
from exdd_ray.synthesizers.fits import FitRunner, lacking_fits, train_all, train_here
from exdd_ray.synthesizers.job import CHUNK, Advance, AnyJob, ChunkRunner
from exdd_ray.synthesizers.leaves import Leaf, turns
from exdd_ray.synthesizers.plan import plan_parts
from exdd_ray.synthesizers.synthesizer import Resources
from exdd_ray.synthesizers.table import run_of, samples_of_prompts, synthesizer_of
from exdd_ray.synthesizers.taken import Taken, next_chunks, take

ORIGIN = ("background", "mask_source", "model", "revision", "versions")


@dataclass(frozen=True)
class SyntheticSample:
    """A sample in the store: its catalog row, and where it is from.

    Attributes:
        mask_source: the shape or file of its mask.
        model, revision: that painted it; empty where none did.
        versions: of the packages that made it.
        part: of the mixture that it is a sample of; empty where it is of none.
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
    part: str = ""


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
        parts: name -> what each part of a mixture made; empty where there is none.
        remarks: what a reader must know of what was trained for it.
    """

    samples: tuple[SyntheticSample, ...]
    dropped: dict[str, int]
    fresh: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    lacking: int = 0
    drawn: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, "Synthesis"] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def catalog(self) -> pa.Table:
        """The good samples as training defects."""
        return build_catalog([made.row for made in self.samples])

    @property
    def remark(self) -> tuple[str, ...]:
        """What a reader must know of it: samples that were dropped, backgrounds that were of no use."""
        if self.parts:
            return tuple(f"{part}: {remark}" for part, made in self.parts.items() for remark in made.remark)
        remarks = list(self.remarks)
        if self.dropped:
            reasons = "; ".join(f"{count}: {reason}" for reason, count in self.dropped.items())
            instead = f"; {self.lacking} are lacking" if self.lacking else ", and others made instead"
            remarks.append(f"{sum(self.dropped.values())} synthetic samples dropped ({reasons}){instead}")
        if self.skipped:
            first, times = next(iter(self.skipped)), sum(self.skipped.values())
            remarks.append(f"backgrounds of no use were drawn {times} times, and others instead; the first: {first}")
        return tuple(remarks)


def synthesize(
    config: SynthesizerConfig,
    normal: pa.Table,
    defects: pa.Table,
    seed: int,
    store: Store,
    *,
    masks: pa.Table | None = None,
    run: ChunkRunner | None = None,
    progress: Progress = silent,
    train: FitRunner = train_here,
) -> Synthesis:
    """`config.count` synthetic defects on backgrounds drawn from normal images; parts and prompts take turns.

    They are made in chunks of CHUNK samples, each an artifact: a larger count, or a run that was cut off, makes only
    what is missing. For samples that are dropped the next ones are taken, as many again at most: what few take is the
    beginning of what many take. The samples of a mixture are those that its parts make alone.

    Args:
        defects: training defects; read where the synthesizer needs some.
        masks: defects whose masks alone may be taken; None is the training defects.
        run: makes the missing chunks; None takes this process's threads.
        train: trains what the synthesizer trains first.

    Raises:
        DataError: no normal image, no defect where one is needed, or no sample that could be made.
        ConfigError, UserError: a model that cannot be had, or settings that it does not take.
    """
    made, parts = {}, plan_parts(config, normal, defects, seed, masks)
    resources = Resources(store, progress, run or run_on_threads)
    train_all(lacking_fits(parts, store), resources, train)
    for leaf, jobs in parts:
        with told_of(leaf.part):
            made[leaf.part] = _synthesis_of(leaf, jobs, resources)
    return made[""] if "" in made else _mixed(config, made)


def _synthesis_of(leaf: Leaf, jobs: Sequence[AnyJob], resources: Resources) -> Synthesis:
    config, store, fresh = leaf.config, resources.store, 0
    more, taken = jobs, dict[str, Taken]()
    while more:
        missing = [job for job in more if store.find(job.recipe.key) is None]
        if missing:
            with resources.progress(f"{leaf.name} synthesis, images", CHUNK * len(missing)) as advance:
                resources.paint(store, missing, advance)
        fresh += CHUNK * len(missing)
        taken = {prompt: take(config, prompt, jobs, store) for prompt in samples_of_prompts(config)}
        more = next_chunks(config, taken, jobs)
        jobs = [*jobs, *more]
    return replace(_assembled(leaf, taken), fresh=fresh, remarks=_remarks_of_training(jobs, store))


def _mixed(config: SynthesizerConfig, parts: Mapping[str, Synthesis]) -> Synthesis:
    """The samples of the parts in turns; a turn of one that lacks samples is left out."""
    each = [iter(made.samples) for made in parts.values()]
    samples = [sample for leaf in turns(config) for sample in islice(each[leaf], 1)]
    return Synthesis(
        tuple(samples),
        dict(sum((Counter(made.dropped) for made in parts.values()), Counter[str]())),
        fresh=sum(made.fresh for made in parts.values()),
        skipped=dict(sum((Counter(made.skipped) for made in parts.values()), Counter[str]())),
        lacking=sum(made.lacking for made in parts.values()),
        parts=parts,
    )


def _remarks_of_training(jobs: Sequence[AnyJob], store: Store) -> tuple[str, ...]:
    """What a reader must know of what was trained; by the prompt, where each has its own."""
    trained = {job.training.key: job for job in reversed(jobs) if job.training is not None}
    remarks = list[str]()
    for job in reversed(trained.values()):
        training = synthesizer_of(job.config).training
        assert training is not None
        whose = f"{job.prompt}: " if len(trained) > 1 else ""
        remarks += [whose + remark for remark in training.remarks(replace(job, trained=trained_for(job, store)))]
    return tuple(remarks)


def run_on_threads(store: Store, jobs: Sequence[AnyJob], advance: Advance) -> None:
    """Make chunks in this process: a batch's a thread on a CPU, one batch after another on a GPU."""
    run = run_of(jobs[0].config)
    alone = run is not None and device_of(run) != CPU
    with one_thread_each() as threads:
        workers = 1 if alone else threads
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for made in pool.map(lambda group: make_chunks(store, group), in_groups(jobs)):
                advance(CHUNK * len(made))


def _assembled(leaf: Leaf, taken: Mapping[str, Taken]) -> Synthesis:
    order = [(place, turn, entry) for turn, one in enumerate(taken.values()) for place, entry in enumerate(one.good)]
    samples = [_made(leaf, *entry) for _, _, entry in sorted(order, key=lambda each: each[:2])]
    dropped = Counter(fault for one in taken.values() for fault in one.faults)
    if leaf.config.count and not samples:
        reason, count = dropped.most_common(1)[0]
        raise DataError(f"no synthetic sample is usable: {count} times: {reason}")
    skipped = Counter(reason for one in taken.values() for row in one.drawn for reason in row["skipped"])
    return Synthesis(
        tuple(samples),
        dict(dropped),
        skipped=dict(skipped),
        lacking=leaf.config.count - len(samples),
        drawn={prompt: len(one.drawn) for prompt, one in taken.items()},
    )


def _made(leaf: Leaf, job: AnyJob, artifact: Artifact, index: dict[str, Any]) -> SyntheticSample:
    like, number = job.backgrounds[0], index["number"]
    row = CatalogRow(
        id="/".join(filter(None, (leaf.name, job.prompt, f"{number:06d}"))),
        dataset=like.dataset,
        category=like.category,
        split="train",
        label=1,
        defect=job.prompt or job.config.kind,
        image=str(artifact.file(f"{number:06d}.png")),
        mask=str(artifact.file(f"{number:06d}_mask.png")) if index["mask_source"] else None,
        origin=artifact.key,
    )
    background, mask_source, model, revision, versions = (str(index[name]) for name in ORIGIN)
    seed, depth = int(index["seed"]), like.bit_depth
    return SyntheticSample(
        row, job.prompt, seed, background, mask_source, model, revision, versions, depth, part=leaf.part
    )
