"""Distances of images' patches to a memory bank, or to several nested ones at once, as artifacts."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from exdd_ray.banks.config import SearchConfig
from exdd_ray.banks.indexes import build_index
from exdd_ray.banks.memory_bank import MemoryBank
from exdd_ray.banks.scoring.distances import BankDistances
from exdd_ray.banks.search import prepare_bank, search, search_prepared
from exdd_ray.device import compute_device
from exdd_ray.errors import DataError
from exdd_ray.features.embed import Embedding
from exdd_ray.features.embedder import Exclude, Samples, Searcher
from exdd_ray.progress import Advance, Progress
from exdd_ray.store.arrays import read_arrays, write_arrays
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.store.hashes import digest

VERSION = 2
NEIGHBOURS_VERSION = 3
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
    remote: Searcher | None = None,
) -> BankDistances:
    """Nearest bank vector of every patch of n images.

    Args:
        at: [n] the images' positions in the embedding.
        own_images: [M] for each bank vector the position of the image that it came from; given, an image ignores its
            own vectors, as if it had been held out of the bank.
        remote: searches exactly; None is in this process.

    Raises DataError for a bank of other features.
    """

    def build(folder: Path) -> None:
        title = f"{label}: nearest of {len(bank.vectors)} vectors"
        if remote is not None and (config.index == "exact" or own_images is not None):
            patches, exclude = embedding.vectors(at), _exclude(embedding, at, own_images)
            with progress(title, len(patches)) as advance:
                whole = remote(store, bank.key, embedding.space, patches, advance, None, exclude)
            distances, indices = whole.distances, whole.indices
        else:
            with progress(title, len(at)) as advance:
                distances, indices = _image_by_image(embedding, at, _finder(bank, config, own_images), advance)
        _write(distances[0], indices[0], embedding.patches, folder)

    return BankDistances(**read_arrays(store.make(_recipe(embedding, at, bank, config, own_images), build).file(_FILE)))


def search_nested(
    embedding: Embedding,
    at: np.ndarray,
    banks: Sequence[MemoryBank],
    config: SearchConfig,
    store: Store,
    progress: Progress,
    label: str,
    *,
    own_images: np.ndarray | None = None,
    remote: Searcher | None = None,
) -> None:
    """Puts what `nearest` gives for each of several banks into the store, by one exact search of the largest.

    Args:
        banks: each the beginning of the next larger one.
        own_images: of the largest.
        remote: as in `nearest`.

    Raises DataError for banks of other features, or that are not each other's beginnings.
    """
    recipes = {len(bank.vectors): _recipe(embedding, at, bank, config, _first(own_images, bank)) for bank in banks}
    largest = max(banks, key=lambda bank: len(bank.vectors))
    for bank in banks:
        if not np.array_equal(bank.vectors, largest.vectors[: len(bank.vectors)]):
            raise DataError(f"bank {bank.key} is not the beginning of bank {largest.key}")
    sizes = sorted(size for size, recipe in recipes.items() if store.peek(recipe.key) is None)
    if len(sizes) < 2 or config.index != "exact":
        return
    title = f"{label}: nearest of {', '.join(map(str, sizes))} vectors"
    if remote is not None:
        patches, exclude = embedding.vectors(at), _exclude(embedding, at, own_images)
        with progress(title, len(patches)) as advance:
            whole = remote(store, largest.key, embedding.space, patches, advance, sizes, exclude)
        distances, indices = whole.distances[..., 0], whole.indices[..., 0]
    else:
        find = _finder(largest, config, own_images, sizes)
        with progress(title, len(at)) as advance:
            distances, indices = _image_by_image(embedding, at, find, advance)
    for number, size in enumerate(sizes):
        store.make(recipes[size], partial(_write, distances[number], indices[number], embedding.patches))


def _exclude(embedding: Embedding, at: np.ndarray, own_images: np.ndarray | None) -> Exclude | None:
    return None if own_images is None else (np.repeat(at, embedding.patches), own_images)


def _first(own_images: np.ndarray | None, bank: MemoryBank) -> np.ndarray | None:
    return None if own_images is None else own_images[: len(bank.vectors)]


def _recipe(
    embedding: Embedding, at: np.ndarray, bank: MemoryBank, config: SearchConfig, own_images: np.ndarray | None
) -> Recipe:
    if bank.space != embedding.space:
        raise DataError(f"bank {bank.key} was built from other features than these images' (backbone or layers differ)")
    how: dict[str, Any] = {"held_out": None if own_images is None else digest(own_images.tolist())}
    if config.index != "exact" and own_images is None:
        how["index"] = config.index
    return Recipe("nearest", VERSION, how, (embedding.key, digest(at.tolist()), bank.key))


def _write(distances: np.ndarray, indices: np.ndarray, patches: int, folder: Path) -> None:
    columns = {"nearest": distances.reshape(-1, patches), "indices": indices.astype(np.int32).reshape(-1, patches)}
    write_arrays(folder / _FILE, columns)


# From vectors [q x D] and their images' positions [q] to distances and indices [S x q], for S nested sizes of a bank.
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
    distances, indices = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    return distances, indices


def _finder(
    bank: MemoryBank, config: SearchConfig, own_images: np.ndarray | None, sizes: Sequence[int] | None = None
) -> Finder:
    """The bank prepared once."""
    if config.index != "exact" and own_images is None:
        index = build_index(config.index, bank.vectors)

        def approximate(vectors: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            distances, indices = index.search(vectors, 1)
            if (indices < 0).any():
                raise DataError(f"search.index={config.index} found no neighbour for a patch: use exact")
            return distances.T, indices.T

        return approximate
    device, precision = compute_device(), config.precision
    prepared = prepare_bank(bank.vectors, sizes=sizes, groups=own_images, precision=precision, device=device)

    def exact(vectors: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        groups = None if own_images is None else images
        found = search_prepared(vectors, prepared, 1, groups=groups, memory_mib=config.memory_mib)
        return found.distances[..., 0], found.indices[..., 0]

    return exact


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
    nearest_to = found.indices[np.arange(len(patches)), patches]
    how = {"count": count, "patches": digest(patches.tolist()), "nearest_to": digest(nearest_to.tolist())}
    recipe = Recipe("neighbours", NEIGHBOURS_VERSION, how, (samples.key, bank.key))

    def build(folder: Path) -> None:
        around = search(bank.vectors[nearest_to], bank.vectors, count, device=compute_device()).indices[0]
        tests = np.stack([samples.embedding.image(row)[p] for row, p in zip(samples.at, patches, strict=True)])
        apart = bank.vectors[around].astype(np.float64) - tests[:, None].astype(np.float64)
        write_arrays(folder / _FILE, {"distances": np.linalg.norm(apart, axis=2)})

    return read_arrays(store.make(recipe, build).file(_FILE))["distances"]
