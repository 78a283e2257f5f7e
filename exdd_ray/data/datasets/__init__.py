"""The datasets that can be loaded. A new one is a module with a SPEC, named in the tuple below."""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.datasets import btad, dagm, folder, kolektor, ksdd2, magnetic_tile, mpdd, mvtec_ad, visa
from exdd_ray.data.datasets.layout import found_text
from exdd_ray.data.datasets.spec import DatasetSpec
from exdd_ray.errors import DataError

_MODULES = (ksdd2, kolektor, mvtec_ad, visa, magnetic_tile, dagm, mpdd, btad, folder)
DATASETS: dict[str, DatasetSpec] = {module.SPEC.name: module.SPEC for module in _MODULES}


def load_dataset(name: str, root: str | Path, category: str | None = None) -> pa.Table:
    """Catalog of a dataset on disk.

    Args:
        name: a key of DATASETS.
        root: the dataset's folder, in the layout in which its publisher ships it.
        category: one of a dataset's several; None loads all that are in the folder.

    Raises:
        DataError: unknown name or category (the nearest one is suggested), missing folder, another layout, no image.
        ImageError: a mask that the dataset's labels depend on cannot be read.
    """
    spec = find_dataset(name)
    if category is not None and spec.categories and category not in spec.categories:
        raise DataError(f"dataset {name} has no category {category!r}{_nearest(category, spec.categories)}")
    base = Path(root).expanduser().resolve()
    if not base.is_dir():
        raise DataError(f"{base}: no such folder (the root of dataset {name})")
    if spec.markers and not _matches(base, spec):
        expected = ", ".join(spec.markers[:3]) + (", ..." if len(spec.markers) > 3 else "")
        raise DataError(f"{base}: not the layout of {name}: expected {expected}; {found_text(base)}")
    catalog = spec.load(base, category)
    if catalog.num_rows == 0:
        raise DataError(f"{base}: no image of dataset {name}; {found_text(base)}")
    return catalog


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


def _matches(root: Path, spec: DatasetSpec) -> bool:
    return any(next(root.glob(pattern), None) is not None for pattern in spec.markers)


def _nearest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(word.lower(), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
