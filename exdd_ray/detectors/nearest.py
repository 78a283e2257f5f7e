"""Distances of images' patches to a memory bank, as artifacts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from exdd_ray.banks.indexes import build_index
from exdd_ray.banks.search import prepare_bank, search, search_prepared
from exdd_ray.config.detector import SearchConfig
from exdd_ray.detectors.bank import MemoryBank
from exdd_ray.detectors.samples import Samples, Searcher
from exdd_ray.device import compute_device
from exdd_ray.errors import DataError
from exdd_ray.features.embed import Embedding
from exdd_ray.progress import Advance, Progress
from exdd_ray.scoring.distances import BankDistances
from exdd_ray.store.arrays import read_arrays, write_arrays
from exdd_ray.store.artifact import Recipe, Store, digest

VERSION = 2
_FILE = "nearest.arrow"
_IMAGES = 16


def nearest(
    embedding: Embedding,
    at: np.ndarray,
    bank: MemoryBank,
    config: SearchConfig,
    store: Store,
    progress: Progress,
    label: str,
    *,
    own_images: np.ndarray | None = None,
    elsewhere: Searcher | None = None,
) -> BankDistances:
    """Nearest bank vector of every patch of n images.

    Args:
        at: [n] the images' positions in the embedding.
        own_images: [M] for each bank vector the position of the image that it came from; given, an image ignores its
            own vectors, as if it had been held out of the bank.
        elsewhere: searches exactly, where no image ignores vectors; None is in this process.

    Raises DataError for a bank of other features.
    """
    if bank.space != embedding.space:
        raise DataError(f"bank {bank.key} was built from other features than these images' (backbone or layers differ)")
    how: dict[str, Any] = {"held_out": None if own_images is None else digest(own_images.tolist())}
    if config.index != "exact" and own_images is None:
        how["index"] = config.index
    recipe = Recipe("nearest", VERSION, how, (embedding.key, digest(at.tolist()), bank.key))

    def build(folder: Path) -> None:
        title = f"{label}: nearest of {len(bank.vectors)} vectors"
        if elsewhere is not None and own_images is None and config.index == "exact":
            patches = embedding.vectors(at)
            with progress(title, len(patches)) as advance:
                whole = elsewhere(store, bank.key, embedding.space, patches, advance)
            distances, indices = whole.distances[0], whole.indices[0]
        else:
            with progress(title, len(at)) as advance:
                distances, indices = _image_by_image(embedding, at, _finder(bank, config, own_images), advance)
        shape = (len(at), embedding.patches)
        columns = {"nearest": distances.reshape(shape), "indices": indices.astype(np.int32).reshape(shape)}
        write_arrays(folder / _FILE, columns)

    return BankDistances(**read_arrays(store.make(recipe, build).file(_FILE)))


Finder = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _image_by_image(
    embedding: Embedding, at: np.ndarray, find: Finder, advance: Advance
) -> tuple[np.ndarray, np.ndarray]:
    found, patches = [], embedding.vectors(at)
    for start in range(0, len(at), _IMAGES):
        images = at[start : start + _IMAGES]
        rows = np.arange(start * embedding.patches, (start + len(images)) * embedding.patches)
        found.append(find(patches.take(rows), np.repeat(images, embedding.patches)))
        advance(len(images))
    distances, indices = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return distances, indices


def _finder(bank: MemoryBank, config: SearchConfig, own_images: np.ndarray | None) -> Finder:
    """From vectors [q x D] and their images' positions [q] to distances and indices [q x 1]; the bank prepared once."""
    if config.index != "exact" and own_images is None:
        index = build_index(config.index, bank.vectors)
        return lambda vectors, _: index.search(vectors, 1)
    prepared = prepare_bank(bank.vectors, groups=own_images, precision=config.precision, device=compute_device())

    def find(vectors: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        groups = None if own_images is None else images
        found = search_prepared(vectors, prepared, 1, groups=groups, memory_mib=config.memory_mib)
        return found.distances[0], found.indices[0]

    return find


def neighbour_distances(
    samples: Samples, patches: np.ndarray, found: BankDistances, bank: MemoryBank, count: int, store: Store
) -> np.ndarray:
    """Distances [n x count] from one test patch an image to the bank vectors nearest to its own nearest one, m*.

    m* itself comes first. These are what Eq. 7 of PatchCore sums over.

    Args:
        patches: [n] which patch of each image.
        count: neighbours of m*, itself among them; at most M are given.
    """
    count = min(count, len(bank.vectors))
    how = {"count": count, "patches": digest(patches.tolist())}
    recipe = Recipe("neighbours", VERSION, how, (samples.key, bank.key))

    def build(folder: Path) -> None:
        nearest_to = found.indices[np.arange(len(patches)), patches]
        around = search(bank.vectors[nearest_to], bank.vectors, count, device=compute_device()).indices[0]
        tests = np.stack([samples.embedding.image(row)[p] for row, p in zip(samples.at, patches, strict=True)])
        apart = bank.vectors[around].astype(np.float64) - tests[:, None].astype(np.float64)
        write_arrays(folder / _FILE, {"distances": np.linalg.norm(apart, axis=2)})

    return read_arrays(store.make(recipe, build).file(_FILE))["distances"]
