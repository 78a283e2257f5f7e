"""Slices of an embedding: SLICE consecutive images, computed on one thread and stored as one artifact.

Any number of threads, processes or machines give the same bits, and what was made is found again after a crash.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from exdd_ray.banks.tiles import one_thread_each
from exdd_ray.config.base import Size, identity
from exdd_ray.data.catalog import REAL, CatalogRow, catalog_rows
from exdd_ray.data.masks import read_pair
from exdd_ray.device import CPU
from exdd_ray.errors import ConfigError, ImageError, UserError
from exdd_ray.features.aggregate import Patches
from exdd_ray.features.backbone import Backbone, folded, load_backbone, normalisation, weights_digest
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.foreground import foreground
from exdd_ray.features.padding import padded, without_padding
from exdd_ray.features.prepare import prepare_image
from exdd_ray.features.tiles import patch_vectors
from exdd_ray.features.timm_models import padded_size
from exdd_ray.features.turn import turned
from exdd_ray.memory import limit_heap
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
    """One slice to embed: its rows, how, and the recipe that names the result.

    Attributes:
        degrees: by which the images are turned.
    """

    rows: tuple[CatalogRow, ...]
    features: FeaturesConfig
    recipe: Recipe
    device: str = CPU
    degrees: float = 0


def plan_slices(
    catalog: pa.Table, features: FeaturesConfig, device: str = CPU, *, degrees: float = 0
) -> list[SliceJob]:
    """The slices of a catalog, its images turned or not, with their recipes; images are hashed, not decoded."""
    rows = catalog_rows(catalog)
    names = image_names(rows)
    how: dict[str, Any] = {
        "features": identity(features),
        "weights": weights_digest(features),
        "normalisation": normalisation(features.backbone),
    }
    if device != CPU:
        how["device"] = device
    if degrees:
        how["degrees"] = degrees
    jobs = []
    for start in range(0, len(rows), SLICE):
        part = tuple(rows[start : start + SLICE])
        inputs = tuple(content for _, content in names[start : start + SLICE])
        jobs.append(SliceJob(part, features, Recipe("embed", VERSION, how, inputs), device, degrees))
    return jobs


def image_names(rows: Sequence[CatalogRow]) -> list[ImageName]:
    """What images are known by: an id says nothing of what is in a file."""
    contents = content_digests([row.image for row in rows])
    return [(row.image, f"{content}{row.view}") for row, content in zip(rows, contents, strict=True)]


def feature_space(features: FeaturesConfig) -> tuple[str, ...]:
    """What, with the weights, makes two images' vectors comparable."""
    kept = () if features.channels is None else (f"{features.channels} channels",)
    options = [name for name in ("final_norm", "unit_length", "layers_apart") if getattr(features, name)]
    return (features.backbone, *features.layers, features.aggregator, features.precision, *kept, *options)


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


def slice_vectors(artifact: Artifact) -> np.ndarray:
    """Vectors [n x P x D] of a slice's readable images, shared with the file."""
    return read_arrays(artifact.file(_VECTORS))["vectors"]


def slice_foreground(artifact: Artifact) -> np.ndarray:
    """Bool [n x P] which patches of a slice's readable images are no background, where features tell."""
    return read_arrays(artifact.file(_VECTORS))["foreground"].astype(bool)


def _build_slice(job: SliceJob, folder: Path, turn: AbstractContextManager[Any]) -> dict[str, Any]:
    with turn:
        arrays, metadata = _computed(job)
    if arrays:
        write_arrays(folder / _VECTORS, arrays)
    return metadata


def _computed(job: SliceJob) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays of a slice's readable images, if there are any, and what the artifact says of them."""
    images: list[np.ndarray] = []
    places: list[int] = []
    reasons: dict[int, str] = {}
    for i, row in enumerate(job.rows):
        try:
            image = _decoded(row, job.features.working_size)
            images.append(prepare_image(turned(image, job.degrees) if job.degrees else image, job.features))
            places.append(i)
        except ImageError as error:
            reasons[i] = error.reason
    _require_unchanged(job)
    metadata: dict[str, Any] = {"rows": len(job.rows), "reasons": reasons}
    if not images:
        return {}, metadata
    arrays, shape = _patches(images, job.features, job.device)
    vectors = arrays["vectors"]
    finite = np.isfinite(vectors).all(axis=(1, 2))
    reasons |= {places[at]: f"its features are not finite in {vectors.dtype}" for at in np.flatnonzero(~finite)}
    kept = arrays if finite.all() else {name: array[finite] for name, array in arrays.items()}
    return kept, metadata | shape


def _require_unchanged(job: SliceJob) -> None:
    """Raise UserError where an image is not the one that the recipe names."""
    for (image, content), named in zip(image_names(job.rows), job.recipe.inputs, strict=True):
        if content != named:
            raise UserError(f"{image}: has changed since the embedding was begun: embed it again")


def _decoded(row: CatalogRow, working_size: Size | None) -> np.ndarray:
    image, _ = read_pair(replace(row, mask=None), working_size=working_size)
    return image


def _patches(
    images: list[np.ndarray], features: FeaturesConfig, device: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Vectors [n x P x D] of prepared images, and where asked their foreground [n x P], as stored; and their shape.

    The shape is the patch grid, D, and how much of it is each layer's where these are kept apart; of images that may be
    padded also how many pixels the grid covers.
    """
    step = _FORWARD if device == CPU else len(images)
    backbone = _backbone(features, device)
    vectors: np.ndarray | None = None
    front: list[np.ndarray] = []
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=features.precision == "bfloat16"):
        for start in range(0, len(images), step):
            batch = torch.from_numpy(np.stack(images[start : start + step])).to(device)
            patches, covered = embedded(backbone, batch, features)
            found = values_of(patches, features)
            if features.foreground:
                front += [foreground(one, patches.grid) for one in patches.vectors.float().cpu().numpy()]
            if vectors is None:
                vectors = np.empty((len(images), *found.shape[1:]), dtype=features.dtype)
            vectors[start : start + step] = found.float().cpu().numpy()
    assert vectors is not None
    shape = {"grid": patches.grid, "dim": vectors.shape[-1]}
    shape |= {"widths": patches.widths} if features.layers_apart else {}
    shape |= {"covered": covered} if features.pad else {}
    return {"vectors": vectors} | ({"foreground": np.stack(front).astype(np.uint8)} if front else {}), shape


def embedded(backbone: Backbone, images: Tensor, features: FeaturesConfig) -> tuple[Patches, Size]:
    """Patches of normalised images [B x 3 x H x W], and how many (height, width) pixels of these they cover."""
    size = padded_size(features)
    return without_padding(patch_vectors(backbone, padded(images, size), features), features.input_size, size)


def values_of(patches: Patches, features: FeaturesConfig) -> Tensor:
    """The vectors [B x P x D] that are stored of patches: of the channels that are kept, scaled where asked."""
    found = patches.vectors[..., kept_channels(patches.vectors.shape[-1], features.channels)]
    if not features.unit_length:
        return found
    return torch.cat([F.normalize(part, dim=-1) for part in _apart(found, patches, features)], dim=-1)


def _apart(vectors: Tensor, patches: Patches, features: FeaturesConfig) -> tuple[Tensor, ...]:
    """The parts of vectors [B x P x D] that are scaled for themselves: each layer's, or all as one."""
    return vectors.split(patches.widths, dim=-1) if features.layers_apart else (vectors,)


def kept_channels(dim: int, channels: int | None) -> slice | list[int]:
    """Which of a vector's `dim` values are kept: the same ones for every image.

    Raises ConfigError for more than there are.
    """
    if channels is None:
        return slice(None)
    if channels > dim:
        raise ConfigError(f"features.channels={channels} of vectors of {dim}: there are not so many")
    return sorted(np.random.default_rng(0).permutation(dim)[:channels].tolist())


_loaded: dict[str, Backbone] = {}
_loading = threading.Lock()


def _backbone(features: FeaturesConfig, device: str) -> Backbone:
    key = digest([features.model_dump(mode="json"), weights_digest(features), device])
    with _loading:
        if key not in _loaded:
            _loaded.clear()  # one at a time: a process embeds with one backbone after another
            _loaded[key] = folded(load_backbone(features, device))
        return _loaded[key]
