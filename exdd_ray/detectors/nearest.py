"""Distances of images' patches to a memory bank, as artifacts."""

from pathlib import Path

import numpy as np

from exdd_ray.banks.search import search
from exdd_ray.detectors.bank import MemoryBank
from exdd_ray.detectors.samples import Samples
from exdd_ray.device import compute_device
from exdd_ray.errors import DataError
from exdd_ray.features.embed import Embedding
from exdd_ray.progress import Progress
from exdd_ray.scoring.distances import BankDistances
from exdd_ray.store.arrays import read_arrays, write_arrays
from exdd_ray.store.artifact import Recipe, Store, digest

VERSION = 1
_FILE = "nearest.arrow"
_IMAGES = 16


def nearest(
    embedding: Embedding,
    at: np.ndarray,
    bank: MemoryBank,
    store: Store,
    progress: Progress,
    label: str,
    *,
    own_images: np.ndarray | None = None,
) -> BankDistances:
    """Nearest bank vector of every patch of n images.

    Args:
        at: [n] the images' positions in the embedding.
        own_images: [M] for each bank vector the position of the image that it came from; given, an image ignores its
            own vectors, as if it had been held out of the bank.

    Raises DataError for a bank of other features.
    """
    if bank.space != embedding.space:
        raise DataError(f"bank {bank.key} was built from other features than these images' (backbone or layers differ)")
    how = {"held_out": own_images is not None}
    recipe = Recipe("nearest", VERSION, how, (embedding.key, digest(at.tolist()), bank.key))

    def build(folder: Path) -> None:
        distances, indices = [], []
        patches = embedding.vectors(at)
        with progress(f"{label}: nearest of {len(bank.vectors)} vectors", len(at)) as advance:
            for start in range(0, len(at), _IMAGES):
                images = at[start : start + _IMAGES]
                rows = np.arange(start, start + len(images))[:, None] * embedding.patches + np.arange(embedding.patches)
                own = None if own_images is None else (np.repeat(images, embedding.patches), own_images)
                found = search(patches.take(rows.reshape(-1)), bank.vectors, 1, exclude=own, device=compute_device())
                distances.append(found.distances.reshape(rows.shape))
                indices.append(found.indices.astype(np.int32).reshape(rows.shape))
                advance(len(images))
        write_arrays(folder / _FILE, {"nearest": np.concatenate(distances), "indices": np.concatenate(indices)})

    return BankDistances(**read_arrays(store.make(recipe, build).file(_FILE)))


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
        around = search(bank.vectors[nearest_to], bank.vectors, count).indices[0]
        tests = np.stack([samples.embedding.image(row)[p] for row, p in zip(samples.at, patches, strict=True)])
        apart = bank.vectors[around].astype(np.float64) - tests[:, None].astype(np.float64)
        write_arrays(folder / _FILE, {"distances": np.linalg.norm(apart, axis=2)})

    return read_arrays(store.make(recipe, build).file(_FILE))["distances"]
