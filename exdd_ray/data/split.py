"""Who is trained on, who is held out to choose by and who is tested, where the dataset does not say all of it."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from exdd_ray.data.catalog import UNSPLIT, VALIDATION, CatalogRow, build_catalog, catalog_rows, select_rows
from exdd_ray.data.config import Draw
from exdd_ray.errors import DataError, told_of

_DEFECT_DRAW = 1  # second word of the seed: the draw of defects does not depend on that of the normal images
_VALIDATION_DRAW = 2


def split_catalog(
    catalog: pa.Table,
    *,
    train_fraction: float,
    defects: int | None,
    seed: int,
    validation_fraction: float = 0.0,
    validation_defects: int = 0,
    draw: Draw = "random",
) -> pa.Table:
    """Catalog with every row in `train`, `validation` or `test`; each category is split as if it were alone.

    Of the unsplit rows, a random train_fraction of the normal ones (rounded down) is for training; the other normal
    ones and all defects are for testing. Rows that the dataset itself has split stay where they are, but for defects:
    where the dataset has defects in train, a random `defects` of them stay and the others are left out; where it has
    none, a random `defects` move from test to train. Draws are nested: those of 5 are among those of 20. The defects
    for validation are drawn from the same, and are the same ones for every number of defects to train on. Where the
    dataset has normal validation images of its own, no others are held out.

    Args:
        catalog: of one or more categories.
        train_fraction: of the unsplit normal images.
        defects: to train on, in each category; None keeps the dataset's own.
        seed: of all draws.
        validation_fraction: of the normal training images, rounded up; of no account where the dataset has its own.
        validation_defects: in each category.
        draw: `first_third` trains on the first third of each kind's defects, sorted by id and rounded down; `masked`
            draws of the defects with a mask alone, which are held out by no more than their share of all.

    Raises:
        DataError: more defects asked for than there are; no normal image left to train on.
    """
    rows = catalog_rows(catalog)
    placed: list[CatalogRow] = []
    for category in sorted({row.category for row in rows}):
        members = sorted((row for row in rows if row.category == category), key=lambda row: row.id)
        members = _hold_out_normals(_place_unsplit(members, train_fraction, seed), validation_fraction, seed)
        if not any(row.split == "train" and row.label == 0 for row in members):
            raise DataError(f"category {category}: no normal image to train on (train_fraction {train_fraction})")
        if draw == "first_third" or defects is not None or validation_defects:
            members = _choose_defects(members, defects, validation_defects, seed, draw)
        placed += members
    return build_catalog(placed)


def positives_from_test(before: pa.Table, after: pa.Table) -> int:
    """Defects that a split trains on though the dataset itself has them in test, or in no split."""
    return len(_train_defects(after) - _train_defects(before))


def _place_unsplit(rows: Sequence[CatalogRow], train_fraction: float, seed: int) -> list[CatalogRow]:
    normal = [row.id for row in rows if row.split == UNSPLIT and row.label == 0]
    # A fraction such as 0.29 of 100 is a hair below 29 in binary.
    count = math.floor(train_fraction * len(normal) + 1e-9)
    train = {normal[i] for i in np.random.default_rng(seed).permutation(len(normal))[:count]}
    return [replace(row, split="train" if row.id in train else "test") if row.split == UNSPLIT else row for row in rows]


def _hold_out_normals(rows: Sequence[CatalogRow], fraction: float, seed: int) -> list[CatalogRow]:
    if any(row.split == VALIDATION and row.label == 0 for row in rows):
        return list(rows)
    normal = [row.id for row in rows if row.split == "train" and row.label == 0]
    order = np.random.default_rng([seed, _VALIDATION_DRAW]).permutation(len(normal))
    held_out = {normal[i] for i in order[: math.ceil(fraction * len(normal) - 1e-9)]}
    return [replace(row, split=VALIDATION) if row.id in held_out else row for row in rows]


def _choose_defects(
    rows: Sequence[CatalogRow], defects: int | None, validation: int, seed: int, draw: Draw
) -> list[CatalogRow]:
    """Train on the first of an order of defects, validate on its last."""
    official = [row.id for row in rows if row.split == "train" and row.label == 1]
    available = official or [row.id for row in rows if row.split == "test" and row.label == 1]
    order = [available[i] for i in np.random.default_rng([seed, _DEFECT_DRAW]).permutation(len(available))]
    if draw == "first_third":
        thirds = _first_thirds(rows, set(available))
        order, defects = thirds + [one for one in order if one not in thirds], len(thirds)
    count = len(official) - validation if defects is None and official else defects or 0
    if count < 0 or count + validation > len(available):
        where, held = "train" if official else "test", f" and {validation} to validate on" if validation else ""
        raise DataError(
            f"category {rows[0].category}: {max(count, 0)} defects to train on{held}, but the {where} split has "
            f"{len(available)}"
        )
    if draw == "masked" and available:
        with told_of(f"category {rows[0].category}"):
            order = _masked_first(order, {row.id for row in rows if row.mask is not None}, count, validation)
    split = dict.fromkeys(order[:count], "train") | dict.fromkeys(order[len(order) - validation :], VALIDATION)
    left_out = set(official) - set(split)
    kept = (row for row in rows if row.id not in left_out)
    return [replace(row, split=split[row.id]) if row.id in split else row for row in kept]


def masked_share(held_out: int, masked: int, available: int) -> int:
    """Of defects that are held out those with a mask, where so many of the available ones have one."""
    return round(held_out * masked / available)


def _masked_first(order: Sequence[str], masked: set[str], count: int, validation: int) -> list[str]:
    """An order of defects with those that have a mask first, but for their share of those held out, the last."""
    marked, others = ([one for one in order if (one in masked) is has] for has in (True, False))
    cut = len(marked) - masked_share(validation, len(marked), len(order))
    if count > cut:
        held = f", beside those of {validation} to validate on" if validation else ""
        raise DataError(f"{count} defects with a mask to train on, but there are {cut}{held}")
    return [*marked[:cut], *others, *marked[cut:]]


def _first_thirds(rows: Sequence[CatalogRow], available: set[str]) -> list[str]:
    """Ids of the first third of each kind of the available defects, in the order of the rows."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        if row.id in available:
            kinds.setdefault(row.defect, []).append(row.id)
    return [one for ids in kinds.values() for one in ids[: len(ids) // 3]]


def tested_copies(catalog: pa.Table, contents: Sequence[str]) -> np.ndarray:
    """[N] whether a row is trained on or held out though another row of the same bytes is tested.

    Args:
        catalog: N split rows.
        contents: hashes of their image files.
    """
    splits = catalog["split"].to_pylist()
    tested = {content for content, split in zip(contents, splits, strict=True) if split == "test"}
    pairs = zip(contents, splits, strict=True)
    return np.array([split != "test" and content in tested for content, split in pairs], dtype=bool)


def _train_defects(catalog: pa.Table) -> set[str]:
    return set(select_rows(catalog, split="train", label=1)["id"].to_pylist())
