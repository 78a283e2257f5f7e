"""What several patch-bank detectors need in common, made at once: one coreset order and one search for all sizes."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from exdd_ray.banks.memory_bank import MemoryBank, Points, make_banks, order_family
from exdd_ray.features.embedder import Embedder, Samples
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.nearest import search_nested
from exdd_ray.methods.patch_bank.normal import calibration_rows, normal_points, normal_samples, others, own_images


def prepare_patch_banks(configs: Sequence[PatchBankConfig], train: pa.Table, embedder: Embedder, seed: int) -> None:
    """Puts the negative banks of detectors, and the distances to them, into the store, as each would make them itself.

    Args:
        configs: with the same features and rotations; those of one order of vectors are served together.
        train: its normal images are trained on.
        seed: of the coresets' first picks.

    Raises DataError as `fit_patch_bank`.
    """
    samples, rotations = normal_samples(train, embedder), configs[0].bank.rotations
    for part, points in zip(samples.parts, normal_points(samples, embedder, rotations), strict=True):
        _prepare(configs, part, points, embedder, seed)


def _prepare(
    configs: Sequence[PatchBankConfig], samples: Samples, points: Points, embedder: Embedder, seed: int
) -> None:
    banks = make_banks(points, [config.bank.negative for config in configs], seed, embedder.store, embedder.progress)
    orders: dict[str, list[tuple[PatchBankConfig, MemoryBank]]] = {}
    for config, bank in zip(configs, banks, strict=True):
        family = f"{order_family(config.bank.negative)} {config.search.model_dump_json()}"
        orders.setdefault(family, []).append((config, bank))
    for group in orders.values():
        _search(group, samples, embedder)


def _search(group: Sequence[tuple[PatchBankConfig, MemoryBank]], samples: Samples, embedder: Embedder) -> None:
    """All images beside the trained ones in all banks; the held-out ones in those whose detectors calibrate on them."""
    if len({bank.key for _, bank in group}) < 2:
        return
    store, progress, search = embedder.store, embedder.progress, group[0][0].search
    banks = {bank.key: bank for _, bank in group}
    search_nested(
        samples.embedding,
        others(samples),
        list(banks.values()),
        search,
        store,
        progress,
        "test images, normal banks",
        remote=embedder.search,
    )
    rows: dict[bytes, dict[str, MemoryBank]] = {}
    for config, bank in group:
        if config.calibrates:
            rows.setdefault(calibration_rows(config, samples).tobytes(), {})[bank.key] = bank
    for at, held in rows.items():
        largest = max(held.values(), key=lambda bank: len(bank.vectors))
        search_nested(
            samples.embedding,
            np.frombuffer(at, dtype=np.int64),
            list(held.values()),
            search,
            store,
            progress,
            "held-out normal images",
            own_images=own_images(largest, samples),
            remote=embedder.search,
        )
