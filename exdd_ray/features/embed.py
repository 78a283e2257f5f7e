"""Embedding: patch vectors of a catalog's images, made once per image content, backbone and size.

It is made in slices (`slices.py`), of which only those are computed that the store lacks.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.config.base import Size
from exdd_ray.device import compute_device
from exdd_ray.errors import DataError, UserError
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.slices import (
    SLICE,
    ImageName,
    SliceJob,
    SliceRunner,
    feature_space,
    make_slice,
    plan_slices,
    run_on_threads,
    slice_foreground,
    slice_vectors,
)
from exdd_ray.memory import return_freed_memory
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Store
from exdd_ray.store.hashes import digest


@dataclass(frozen=True)
class Embedding:
    """Patch vectors of a catalog's images, as slices in the store.

    Attributes:
        key: hash of the slices' keys; names the embedding in the recipes of what is made from it.
        space: names the features; vectors are comparable within one space only.
        readable: [N] whether the image of a row could be decoded.
        reasons: row -> why it could not.
        grid: (height, width) of the patch grid.
        dim: D, length of a vector.
        widths: values of a vector that are of each layer, where these are kept apart; else none.
        covered: (height, width) in pixels of the input that the grid covers, where images may be padded; None is all.
        columns: first and last + 1 of the stored vectors' values that these are; None is all.
    """

    key: str
    space: str
    store: Store
    jobs: tuple[SliceJob, ...]
    readable: np.ndarray
    reasons: Mapping[int, str]
    grid: Size
    dim: int
    widths: tuple[int, ...] = ()
    covered: Size | None = None
    columns: tuple[int, int] | None = None
    _slices: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def patches(self) -> int:
        """P, vectors an image."""
        return self.grid[0] * self.grid[1]

    @cached_property
    def positions(self) -> Mapping[ImageName, int]:
        """Row of each image, known by its file and by what was in it."""
        names = [
            (row.image, content) for job in self.jobs for row, content in zip(job.rows, job.recipe.inputs, strict=True)
        ]
        return {name: row for row, name in enumerate(names)}

    @cached_property
    def _place(self) -> np.ndarray:
        """[N] position of a row's image within its slice, counting readable ones only."""
        counts = [np.cumsum(part) - 1 for part in np.split(self.readable, range(SLICE, len(self.readable), SLICE))]
        return np.concatenate(counts)

    @cached_property
    def parts(self) -> "tuple[Embedding, ...]":
        """One embedding a layer, of its values alone, where layers are kept apart; else this one."""
        if not self.widths:
            return (self,)
        bounds = itertools.pairwise(np.cumsum((0, *self.widths)).tolist())
        return tuple(self._part(layer, first, last) for layer, (first, last) in enumerate(bounds))

    def _part(self, layer: int, first: int, last: int) -> "Embedding":
        key, space = (digest([name, f"layer {layer}"]) for name in (self.key, self.space))
        return replace(self, key=key, space=space, dim=last - first, widths=(), columns=(first, last))

    def closed(self) -> "Embedding":
        """The same embedding with no file open: what another process can be given."""
        return replace(self, store=self.store.again(), _slices={})

    def image(self, row: int) -> np.ndarray:
        """Vectors [P x D] of one row's image, shared with the file. Raises DataError where it was not readable."""
        if not self.readable[row]:
            raise DataError(f"row {row} has no vectors: {self.reasons[row]}")
        return self._slice(row // SLICE)[self._place[row]]

    def vectors(self, rows: Sequence[int] | np.ndarray) -> VectorBlocks:
        """Vectors [len(rows) * P x D] of the rows' images, in their order, without a copy."""
        segments = []
        for row in np.asarray(rows)[~self.readable[np.asarray(rows, dtype=np.int64)]]:
            raise DataError(f"row {row} has no vectors: {self.reasons[int(row)]}")
        for first, last in _runs(rows):
            part = self._slice(first // SLICE)[self._place[first] : self._place[last] + 1]
            segments.append(part.reshape(-1, self.dim))
        return VectorBlocks(segments)

    def foreground(self, rows: np.ndarray) -> np.ndarray:
        """Bool [len(rows) x P] which patches of readable rows' images are no background, where features tell."""
        parts = {number: slice_foreground(make_slice(self.store, self.jobs[number])) for number in set(rows // SLICE)}
        return np.stack([parts[row // SLICE][self._place[row]] for row in rows])

    def _slice(self, number: int) -> np.ndarray:
        if number not in self._slices:
            artifact = make_slice(self.store, self.jobs[number])
            self._slices[number] = slice_vectors(artifact)
        return self._slices[number] if self.columns is None else self._slices[number][..., slice(*self.columns)]


def _runs(rows: Sequence[int] | np.ndarray) -> Iterator[tuple[int, int]]:
    """(first, last) of consecutive rows within one slice."""
    first = last = None
    for row in map(int, rows):
        if first is not None and last is not None and row == last + 1 and row // SLICE == first // SLICE:
            last = row
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = row
    if first is not None and last is not None:
        yield first, last


def embed(
    catalog: pa.Table,
    features: FeaturesConfig,
    store: Store,
    *,
    degrees: float = 0,
    run: SliceRunner | None = None,
    device: str | None = None,
    progress: Progress = silent,
) -> Embedding:
    """Embed every image of a catalog; only slices that the store lacks are computed.

    Args:
        degrees: by which the images are turned first.
        run: computes the missing slices; None takes this process's threads.
        device: of those who compute them, which a cluster may have and this process not; None is this process's.

    Raises:
        DataError: the catalog is empty, or no image of it is readable.
        UserError: workers embedded into another folder than this process's store.
    """
    jobs = plan_slices(catalog, features, device or compute_device(), degrees=degrees)
    if not jobs:
        raise DataError("no image to embed: the catalog is empty")
    missing = [job for job in jobs if store.peek(job.recipe.key) is None]
    if missing:
        with progress(f"embedding with {features.backbone}", sum(len(job.rows) for job in missing)) as advance:
            (run or run_on_threads)(store, missing, advance)
        return_freed_memory()
        if any(store.peek(job.recipe.key) is None for job in missing):
            raise UserError(
                f"{store.root}: what the workers embedded is not there: do they reach the store by this path?"
            )
    return _assembled(store, jobs)


def _assembled(store: Store, jobs: Sequence[SliceJob]) -> Embedding:
    readable: list[bool] = []
    reasons: dict[int, str] = {}
    shapes: set[tuple[Size, int, tuple[int, ...], Size | None]] = set()
    for number, job in enumerate(jobs):
        artifact = store.peek(job.recipe.key) or make_slice(store, job)
        faults = {int(i): reason for i, reason in artifact.metadata["reasons"].items()}
        readable += [i not in faults for i in range(len(job.rows))]
        reasons |= {number * SLICE + i: f"{job.rows[i].image}: {reason}" for i, reason in faults.items()}
        if "dim" in artifact.metadata:
            found = artifact.metadata
            covered = tuple(found["covered"]) if "covered" in found else None
            shapes.add((tuple(found["grid"]), found["dim"], tuple(found.get("widths", ())), covered))
    if not shapes:
        raise DataError(f"no image is readable; the first: {next(iter(reasons.values()))}")
    ((grid, dim, widths, covered),) = shapes
    key = digest([job.recipe.key for job in jobs])
    space = digest([jobs[0].recipe.config["weights"], *feature_space(jobs[0].features)])
    return Embedding(key, space, store, tuple(jobs), np.array(readable), reasons, grid, dim, widths, covered)
