"""Which samples are taken: the first good ones of each prompt, so that few are the beginning of many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from exdd_ray.store.artifact import Artifact, Store
from exdd_ray.synthesizers.chunk import INDEX, make_chunks
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.filters import THUMBNAIL, Change, duplicates, judge
from exdd_ray.synthesizers.job import CHUNK, AnyJob
from exdd_ray.synthesizers.table import samples_of_prompts

DUPLICATE = "near-duplicate of an earlier sample"
_DRAWS = 2  # samples drawn at most, of one that is wanted

Entry = tuple[AnyJob, Artifact, dict[str, Any]]  # a row of a chunk's index, and where it is from


@dataclass(frozen=True)
class Taken:
    """Of a prompt's samples, in their order: the good ones as far as they are wanted, and why those between are not.

    Attributes:
        drawn: index rows of all of them, the last of which is the last good one, or the last that may be drawn.
    """

    good: list[Entry]
    faults: list[str]
    drawn: list[dict[str, Any]]


def take(config: SynthesizerConfig, prompt: str, jobs: Sequence[AnyJob], store: Store) -> Taken:
    """Of the chunks that there are, what is wanted of a prompt; chunks that the store lacks are made."""
    wanted, taken = samples_of_prompts(config)[prompt], Taken([], [], [])
    entries: list[Entry] = []
    for job in (job for job in jobs if job.prompt == prompt):
        (artifact,) = make_chunks(store, [job])
        entries += [(job, artifact, row) for row in pq.read_table(artifact.file(INDEX)).to_pylist()]
    faults = _faults(config, [row for _, _, row in entries])
    for entry, fault in zip(entries[: _DRAWS * wanted], faults, strict=False):
        if len(taken.good) == wanted:
            break
        taken.drawn.append(entry[2])
        if fault:
            taken.faults.append(fault)
        else:
            taken.good.append(entry)
    return taken


def next_chunks(config: SynthesizerConfig, taken: Mapping[str, Taken], jobs: Sequence[AnyJob]) -> list[AnyJob]:
    """For prompts that lack samples as many chunks as might fill them, while more may be drawn."""
    last = {job.prompt: job for job in jobs}
    found = []
    for prompt, wanted in samples_of_prompts(config).items():
        for start in range(0, wanted - len(taken[prompt].good), CHUNK):
            number = last[prompt].start + CHUNK + start
            if number < _DRAWS * wanted:
                found.append(last[prompt].beginning_at(number))
    return found


def _faults(config: SynthesizerConfig, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Why each sample of a prompt is dropped; empty for a good one. It depends on itself and those before it."""
    faults = [str(row["fault"]) for row in rows]
    if config.filters is None:
        return faults
    for i, row in enumerate(rows):
        if not faults[i] and row["inside"] is not None:
            faults[i] = judge(Change(row["inside"], row["outside"]), config.filters)
    good = [i for i, fault in enumerate(faults) if not fault]
    prints = np.frombuffer(b"".join(rows[i]["fingerprint"] for i in good), dtype=np.uint8)
    for i, twice in zip(
        good, duplicates(prints.reshape(-1, THUMBNAIL, THUMBNAIL), config.filters.duplicate), strict=True
    ):
        faults[i] = DUPLICATE if twice else ""
    return faults
