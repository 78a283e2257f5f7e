"""Banks that grow and shrink: every edit is a new artifact, the old bank stays what it was."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from exdd_ray.banks.memory_bank import FILE, MemoryBank, check_finite, open_bank
from exdd_ray.errors import DataError
from exdd_ray.store.arrays import write_arrays
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.store.hashes import digest

VERSION = 2
_COLUMNS = ("vectors", "points", "radii", "batch")


def add_to_bank(bank: MemoryBank, vectors: np.ndarray, space: str, batch: str, store: Store) -> MemoryBank:
    """A new bank with vectors [m x D] appended, all of them, under the name of a new batch.

    Raises DataError for vectors of another space or dimension, or not finite, and for a batch name that is taken.
    """
    _same_space(bank, space)
    if vectors.ndim != 2 or vectors.shape[1] != bank.vectors.shape[1]:
        raise DataError(f"vectors of shape {vectors.shape} cannot join a bank of {bank.vectors.shape[1]} dimensions")
    vectors = vectors.astype(np.float32)
    check_finite("vectors to add", vectors)
    if batch in bank.batches:
        raise DataError(f"the bank has a batch {batch!r} already")
    count = len(vectors)
    added = {
        "vectors": vectors,
        "points": np.arange(count),
        "radii": np.full(count, np.nan, dtype=np.float32),
        "batch": np.full(count, len(bank.batches), dtype=np.int32),
    }
    columns = {name: np.concatenate([getattr(bank, name), added[name]]) for name in _COLUMNS}
    named = digest([batch, hashlib.blake2b(np.ascontiguousarray(vectors).data).hexdigest()])
    return _write(bank, columns, (*bank.batches, batch), ("add", bank.key, named), store)


def merge_banks(first: MemoryBank, second: MemoryBank, store: Store) -> MemoryBank:
    """A new bank with the vectors of both, the first's before the second's.

    A batch whose name both have is named after its bank too (`normal of 1a2b3c4d`), so that it can still be removed.

    Raises DataError for banks of two spaces, and for a bank and itself.
    """
    _same_space(first, second.space)
    if first.key == second.key:
        raise DataError(f"bank {first.key} cannot be merged with itself")
    both = set(first.batches) & set(second.batches)
    batches = tuple(_named_after(bank, batch, both) for bank in (first, second) for batch in bank.batches)
    columns = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in _COLUMNS}
    columns["batch"] = np.concatenate([first.batch, second.batch + np.int32(len(first.batches))])
    return _write(first, columns, batches, ("merge", first.key, second.key), store)


def remove_batch(bank: MemoryBank, batch: str, store: Store) -> MemoryBank:
    """A new bank without the vectors of a batch. Raises DataError for an unknown batch, or the only one."""
    if batch not in bank.batches:
        raise DataError(f"the bank has no batch {batch!r}: it has {', '.join(bank.batches)}")
    number = bank.batches.index(batch)
    keep = bank.batch != number
    if not keep.any():
        raise DataError(f"without the batch {batch!r} the bank would be empty")
    columns = {name: getattr(bank, name)[keep] for name in _COLUMNS}
    columns["batch"] = columns["batch"] - (columns["batch"] > number).astype(np.int32)
    return _write(bank, columns, tuple(b for b in bank.batches if b != batch), ("remove", bank.key, batch), store)


def _named_after(bank: MemoryBank, batch: str, both: set[str]) -> str:
    return f"{batch} of {bank.key.rpartition('-')[2][:8]}" if batch in both else batch


def _same_space(bank: MemoryBank, space: str) -> None:
    if bank.space != space:
        raise DataError(
            f"bank {bank.key} was built from other features: backbone, weights, layers or aggregator differ"
        )


def _write(
    bank: MemoryBank, columns: dict[str, np.ndarray], batches: tuple[str, ...], inputs: tuple[str, ...], store: Store
) -> MemoryBank:
    def build(folder: Path) -> dict[str, Any]:
        write_arrays(folder / FILE, columns)
        return {"space": bank.space, "batches": batches}

    return open_bank(store, store.make(Recipe("bank", VERSION, {"edit": inputs[0]}, inputs[1:]), build).key)
