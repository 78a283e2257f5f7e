"""Embedding: patch vectors of a catalog's images, made once per image content, backbone and size.

The unit of work is a slice of SLICE consecutive images, computed on one thread and stored as one artifact, so that any
number of threads, processes or machines give the same bits, and what was made is found again after a crash.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from exdd_ray.banks.tiles import one_thread_each
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.config.base import Size, identity
from exdd_ray.data.catalog import REAL, CatalogRow, catalog_rows
from exdd_ray.data.images import read_pair
from exdd_ray.device import CPU, compute_device
from exdd_ray.errors import DataError, ImageError, UserError
from exdd_ray.features.aggregate import aggregate
from exdd_ray.features.backbone import Backbone, folded, load_backbone, normalisation, weights_digest
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.memory import limit_heap, return_freed_memory
from exdd_ray.features.prepare import prepare_image
from exdd_ray.progress import Progress, silent
from exdd_ray.store.arrays import read_arrays, write_arrays
from exdd_ray.store.artifact import Artifact, Recipe, Store
from exdd_ray.store.contents import content_digests
from exdd_ray.store.hashes import digest

SLICE = 16
VERSION = 6
_FORWARD = 2  # images in one forward pass on a CPU: the activations of more leave its caches, and fill the memory
_VECTORS = "vectors.arrow"
_ALONE: AbstractContextManager[Any] = nullcontext()

ImageName = tuple[str, str]  # file, and hash of its content with what of it is looked at, and how
SliceRunner = Callable[[Store, Sequence["SliceJob"], Callable[[int], None]], None]


@dataclass(frozen=True)
class SliceJob:
    """One slice to embed: its rows, how, and the recipe that names the result."""

    rows: tuple[CatalogRow, ...]
    features: FeaturesConfig
    recipe: Recipe
    device: str = CPU


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
    """

    key: str
    space: str
    store: Store
    jobs: tuple[SliceJob, ...]
    readable: np.ndarray
    reasons: Mapping[int, str]
    grid: Size
    dim: int
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

    def _slice(self, number: int) -> np.ndarray:
        if number not in self._slices:
            artifact = make_slice(self.store, self.jobs[number])
            self._slices[number] = read_arrays(artifact.file(_VECTORS))["vectors"]
        return self._slices[number]


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
    run: SliceRunner | None = None,
    device: str | None = None,
    progress: Progress = silent,
) -> Embedding:
    """Embed every image of a catalog; only slices that the store lacks are computed.

    Args:
        run: computes the missing slices; None takes this process's threads.
        device: of those who compute them, which a cluster may have and this process not; None is this process's.

    Raises:
        DataError: the catalog is empty, or no image of it is readable.
        UserError: workers embedded into another folder than this process's store.
    """
    jobs = plan_slices(catalog, features, device or compute_device())
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


def plan_slices(catalog: pa.Table, features: FeaturesConfig, device: str = CPU) -> list[SliceJob]:
    """The slices of a catalog with their recipes; images are hashed, not decoded."""
    rows = catalog_rows(catalog)
    names = image_names(rows)
    how: dict[str, Any] = {
        "features": identity(features),
        "weights": weights_digest(features),
        "normalisation": normalisation(features.backbone),
    }
    if device != CPU:
        how["device"] = device
    jobs = []
    for start in range(0, len(rows), SLICE):
        part = tuple(rows[start : start + SLICE])
        inputs = tuple(content for _, content in names[start : start + SLICE])
        jobs.append(SliceJob(part, features, Recipe("embed", VERSION, how, inputs), device))
    return jobs


def image_names(rows: Sequence[CatalogRow]) -> list[ImageName]:
    """What images are known by: an id says nothing of what is in a file."""
    contents = content_digests([row.image for row in rows])
    return [(row.image, f"{content}{row.view}") for row, content in zip(rows, contents, strict=True)]


def feature_space(features: FeaturesConfig) -> tuple[str, ...]:
    """What, with the weights, makes two images' vectors comparable."""
    return (features.backbone, *features.layers, features.aggregator, features.precision)


def run_on_threads(store: Store, jobs: Sequence[SliceJob], advance: Callable[[int], None]) -> None:
    """Compute slices side by side, each on one thread; one more may wait for the disk meanwhile."""
    with (
        one_thread_each() as threads,
        ThreadPoolExecutor(threads + 1, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        turn = threading.Semaphore(threads)
        for job, _ in zip(jobs, pool.map(lambda job: make_slice(store, job, turn), jobs), strict=True):
            advance(len(job.rows))


def make_slice(store: Store, job: SliceJob, turn: AbstractContextManager[Any] = _ALONE) -> Artifact:
    """The artifact of one slice: vectors [n x P x D] of its readable images, and the reasons of the others.

    Args:
        turn: is held while the slice is computed, and not while it is written.
    """
    limit_heap()
    for origin in {row.origin for row in job.rows} - {REAL}:
        store.find(origin)  # where synthetic images were painted elsewhere, their files are to be fetched
    with one_thread_each():
        return store.make(job.recipe, lambda folder: _build_slice(job, folder, turn))


def _build_slice(job: SliceJob, folder: Path, turn: AbstractContextManager[Any]) -> dict[str, Any]:
    with turn:
        vectors, metadata = _computed(job)
    if vectors is not None:
        write_arrays(folder / _VECTORS, {"vectors": vectors})
    return metadata


def _computed(job: SliceJob) -> tuple[np.ndarray | None, dict[str, Any]]:
    """Vectors of a slice's readable images, if there are any, and what the artifact says of them."""
    images: list[np.ndarray] = []
    places: list[int] = []
    reasons: dict[int, str] = {}
    for i, row in enumerate(job.rows):
        try:
            images.append(prepare_image(_decoded(row, job.features.working_size), job.features))
            places.append(i)
        except ImageError as error:
            reasons[i] = error.reason
    _require_unchanged(job)
    metadata: dict[str, Any] = {"rows": len(job.rows), "reasons": reasons}
    if not images:
        return None, metadata
    vectors, grid = _patches(images, job.features, job.device)
    finite = np.isfinite(vectors).all(axis=(1, 2))
    reasons |= {places[at]: f"its features are not finite in {vectors.dtype}" for at in np.flatnonzero(~finite)}
    return vectors if finite.all() else vectors[finite], metadata | {"grid": grid, "dim": vectors.shape[-1]}


def _require_unchanged(job: SliceJob) -> None:
    """Raise UserError where an image is not the one that the recipe names."""
    for (image, content), named in zip(image_names(job.rows), job.recipe.inputs, strict=True):
        if content != named:
            raise UserError(f"{image}: has changed since the embedding was begun: embed it again")


def _decoded(row: CatalogRow, working_size: Size | None) -> np.ndarray:
    image, _ = read_pair(replace(row, mask=None), working_size=working_size)
    return image


def _patches(images: list[np.ndarray], features: FeaturesConfig, device: str) -> tuple[np.ndarray, Size]:
    """Vectors [n x P x D] of prepared images, as they are stored, and the patch grid."""
    step = _FORWARD if device == CPU else len(images)
    backbone = _backbone(features, device)
    vectors: np.ndarray | None = None
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=features.precision == "bfloat16"):
        for start in range(0, len(images), step):
            batch = torch.from_numpy(np.stack(images[start : start + step])).to(device)
            patches = aggregate(backbone(batch.contiguous(memory_format=torch.channels_last)), features.aggregator)
            if vectors is None:
                vectors = np.empty((len(images), *patches.vectors.shape[1:]), dtype=features.dtype)
            vectors[start : start + step] = patches.vectors.float().cpu().numpy()
    assert vectors is not None
    return vectors, patches.grid


_loaded: dict[str, Backbone] = {}
_loading = threading.Lock()


def _backbone(features: FeaturesConfig, device: str) -> Backbone:
    key = digest([features.model_dump(mode="json"), weights_digest(features), device])
    with _loading:
        if key not in _loaded:
            _loaded.clear()  # one at a time: a process embeds with one backbone after another
            _loaded[key] = folded(load_backbone(features, device))
        return _loaded[key]


def _assembled(store: Store, jobs: Sequence[SliceJob]) -> Embedding:
    readable: list[bool] = []
    reasons: dict[int, str] = {}
    shapes: set[tuple[Size, int]] = set()
    for number, job in enumerate(jobs):
        artifact = store.peek(job.recipe.key) or make_slice(store, job)
        faults = {int(i): reason for i, reason in artifact.metadata["reasons"].items()}
        readable += [i not in faults for i in range(len(job.rows))]
        reasons |= {number * SLICE + i: f"{job.rows[i].image}: {reason}" for i, reason in faults.items()}
        if "dim" in artifact.metadata:
            shapes.add((tuple(artifact.metadata["grid"]), artifact.metadata["dim"]))
    if not shapes:
        raise DataError(f"no image is readable; the first: {next(iter(reasons.values()))}")
    ((grid, dim),) = shapes
    key = digest([job.recipe.key for job in jobs])
    space = digest([jobs[0].recipe.config["weights"], *feature_space(jobs[0].features)])
    return Embedding(key, space, store, tuple(jobs), np.array(readable), reasons, grid, dim)
