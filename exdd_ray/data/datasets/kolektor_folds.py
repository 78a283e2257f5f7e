"""KolektorSDD in three folds by part: all images of a part are tested in one fold, and train in the other two."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.datasets import kolektor
from exdd_ray.data.datasets.spec import DatasetSpec, Expected
from exdd_ray.data.weak_labels import read_fold_file
from exdd_ray.errors import DataError

NAME = "kolektor_folds"
SPLIT_FILE = "split_33_33.pyb"
_FOLDS = ("fold1", "fold2", "fold3")


def load(root: Path, category: str | None) -> pa.Table:
    """The images of `kolektor`, once a fold; a fold is a category.

    The publishers' folds are those of `split_33_33.pyb` (of mixed-segdec-net) in the root. Without it the parts take
    turns by their number: other folds than the published ones, of the same kind.
    """
    rows = catalog_rows(kolektor.load(root, None))
    tested = _tested(root, sorted({_part(row) for row in rows}))
    return build_catalog(
        replace(
            row,
            id=f"{fold}/{row.id}",
            dataset=NAME,
            category=fold,
            split="test" if tested[_part(row)] == fold else "train",
        )
        for fold in ([category] if category else _FOLDS)
        for row in rows
    )


def _part(row: CatalogRow) -> str:
    return row.id.split("/")[0]


def _tested(root: Path, parts: list[str]) -> Mapping[str, str]:
    """Part -> the fold in which it is tested. Raises DataError where the split file misses one."""
    if not (root / SPLIT_FILE).is_file():
        return {part: _FOLDS[turn % len(_FOLDS)] for turn, part in enumerate(parts)}
    folds = read_fold_file(root / SPLIT_FILE)
    tested = {name: fold for fold, samples in zip(_FOLDS, folds, strict=False) for name, _ in samples}
    if missing := sorted(set(parts) - set(tested)):
        raise DataError(f"{root / SPLIT_FILE}: tests {missing[0]} in none of {len(folds)} folds")
    return tested


SPEC = DatasetSpec(
    name=NAME,
    title="Kolektor Surface-Defect Dataset, three folds by part",
    load=load,
    categories=_FOLDS,
    markers=kolektor.SPEC.markers,
    expected=tuple(
        Expected(category=fold, split=None, label=label, images=images)
        for fold in _FOLDS
        for label, images in ((0, 347), (1, 52))
    ),
    licence=kolektor.SPEC.licence,
    homepage=kolektor.SPEC.homepage,
    sources=kolektor.SPEC.sources,
    note=f"The published folds are in {SPLIT_FILE} of mixed-segdec-net, which is read from the root; without it parts "
    "take turns by their number.",
)
