"""The datasets that can be loaded. A new one is a module with a SPEC, named in the tuple below."""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from exdd_ray.data.catalog import select_rows
from exdd_ray.data.datasets import (
    autovi,
    btad,
    dagm,
    elpv,
    folder,
    kolektor,
    kolektor_folds,
    ksdd2,
    magnetic_tile,
    mpdd,
    mvtec_ad,
    mvtec_ad_2,
    mvtec_loco,
    real_iad,
    real_iad_sv,
    vad,
    visa,
)
from exdd_ray.data.datasets.layout import NORMAL_KINDS
from exdd_ray.data.datasets.spec import DatasetSpec
from exdd_ray.data.files import found_text
from exdd_ray.errors import DataError

_MODULES = (
    *(ksdd2, kolektor, mvtec_ad, visa, magnetic_tile, dagm, mpdd, btad, kolektor_folds),
    *(mvtec_ad_2, mvtec_loco, real_iad, real_iad_sv, autovi, vad, elpv),
    folder,
)
DATASETS: dict[str, DatasetSpec] = {module.SPEC.name: module.SPEC for module in _MODULES}


def load_dataset(name: str, root: str | Path, category: str | None = None) -> pa.Table:
    """Catalog of a dataset on disk.

    Args:
        name: a key of DATASETS.
        root: the dataset's folder, in the layout in which its publisher ships it.
        category: one of a dataset's several; None loads all that are in the folder.

    Raises:
        DataError: unknown name or category (the nearest one is suggested), missing folder, another layout, no image, a
            train split without a normal image, one mask for two images.
        ImageError: a mask that the dataset's labels depend on cannot be read.
    """
    spec = find_dataset(name)
    if category is not None and spec.categories and category not in spec.categories:
        raise DataError(f"dataset {name} has no category {category!r}{_nearest(category, spec.categories)}")
    base = Path(root).expanduser().resolve()
    check_root(base)
    if spec.markers and not _matches(base, spec):
        expected = ", ".join(spec.markers[:3]) + (", ..." if len(spec.markers) > 3 else "")
        raise DataError(f"{base}: not the layout of {name}: expected {expected}; {found_text(base)}")
    catalog = _loaded(spec, base, category)
    if catalog.num_rows == 0:
        raise DataError(f"{base}: no image of dataset {name}; {found_text(base)}")
    _check_training(base, catalog)
    _check_masks(catalog)
    return catalog


def _loaded(spec: DatasetSpec, root: Path, category: str | None) -> pa.Table:
    try:
        return spec.load(root, category)
    except DataError as error:
        known = guess_dataset(root) if spec is folder.SPEC else folder.NAME
        if known == folder.NAME:
            raise
        raise DataError(f"{error}; by its layout the root is that of dataset.name={known}") from error


def check_root(root: Path) -> None:
    """Raise DataError where a dataset's root is missing or no folder."""
    if not root.exists():
        raise DataError(f"{root}: no such folder")
    if not root.is_dir():
        raise DataError(f"{root}: a file; a dataset's root is the folder that its images are in")


def find_dataset(name: str) -> DatasetSpec:
    """Spec of a dataset. Raises DataError for an unknown name, with the nearest one."""
    if name not in DATASETS:
        raise DataError(f"no dataset {name!r}{_nearest(name, DATASETS)}")
    return DATASETS[name]


def default_root(name: str) -> Path:
    """Where a dataset is looked for and downloaded to: `EXDD_DATA/<name>`, or `data/<name>` where that is unset."""
    return Path(os.environ.get("EXDD_DATA") or "data") / name


def guess_dataset(root: Path) -> str:
    """Name of the dataset whose layout a folder has; `folder` where it is none of the known ones."""
    return next((name for name, spec in DATASETS.items() if spec.markers and _matches(root, spec)), folder.NAME)


def _check_training(root: Path, catalog: pa.Table) -> None:
    """Refuse a training split of defects only, as one whose normal images lie in a folder of a name not known."""
    train = select_rows(catalog, split="train")
    for category in pc.unique(train["category"]).to_pylist():
        part = train.filter(pc.equal(train["category"], category))
        if not select_rows(part, label=0).num_rows:
            kinds = ", ".join(sorted(set(part["defect"].to_pylist())))
            raise DataError(
                f"{root}: {category}: the train split has no normal image, only {kinds}: normal images must lie in a "
                f"folder named {' or '.join(sorted(NORMAL_KINDS))} (any case)"
            )


def _check_masks(catalog: pa.Table) -> None:
    taken: dict[str, str] = {}
    for image, mask in zip(catalog["image"].to_pylist(), catalog["mask"].to_pylist(), strict=True):
        if mask is not None and taken.setdefault(mask, image) != image:
            raise DataError(f"{mask}: would be the mask of both {taken[mask]} and {image}")


def _matches(root: Path, spec: DatasetSpec) -> bool:
    return any(next(root.glob(pattern), None) is not None for pattern in spec.markers)


def _nearest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(word.lower(), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
