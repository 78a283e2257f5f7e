"""What a reader must know of a dataset's files before any of its figures: said in every run, found once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import CatalogRow, catalog_rows
from exdd_ray.data.config import DatasetConfig
from exdd_ray.data.datasets import DATASETS, default_root
from exdd_ray.data.files import unread_notes
from exdd_ray.data.values import DeepFacts, MaskFacts, deep_facts, depth_notes, mask_facts, mask_notes
from exdd_ray.errors import ImageError
from exdd_ray.store.artifact import Recipe, Store

VERSION = 1
_READERS = 8


def file_notes(config: DatasetConfig) -> tuple[str, ...]:
    """The remark on files of a dataset's folder that look like images and cannot be read."""
    if config.name not in DATASETS:
        return ()
    root = (config.root or default_root(config.name)).expanduser()
    return unread_notes(root) if root.is_dir() else ()


def value_notes(universe: pa.Table, contents: str, store: Store) -> tuple[str, ...]:
    """Remarks on masks and bit depths of a category whose hash is given; its masks are read once."""

    def build(_: Path) -> dict[str, list[str]]:
        rows = catalog_rows(universe)
        with ThreadPoolExecutor(_READERS) as pool:
            masks = [facts for facts in pool.map(_mask, rows) if facts is not None]
            deep = [facts for facts in pool.map(_deep, rows) if facts is not None]
        return {"notes": [*mask_notes(masks), *depth_notes(deep, rows[0].bit_depth)]}

    return tuple(store.make(Recipe("notes", VERSION, {}, (contents,)), build).metadata["notes"])


def _mask(row: CatalogRow) -> MaskFacts | None:
    try:
        return None if row.mask is None else mask_facts(row)
    except ImageError:  # the detector that needs it will say so
        return None


def _deep(row: CatalogRow) -> DeepFacts | None:
    try:
        return deep_facts(row.image)
    except (ImageError, OSError):  # counted as unreadable elsewhere
        return None
