"""Small datasets on disk, in the layouts of their publishers."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from exdd_ray.data.catalog import catalog_rows


def put(path: Path, value: int | None = None, at: tuple[int, int] = (2, 3)) -> Path:
    """An image; with a value, a mask whose one pixel has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if value is None:
        pixels = np.random.default_rng(len(str(path))).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    else:
        pixels = np.zeros((6, 8), np.uint8)
        pixels[at] = value
    Image.fromarray(pixels).save(path)
    return path


def summary(catalog: pa.Table) -> dict[str, tuple[str, int, str, str | None]]:
    """Of each image by its id the split, label, kind and the name of its mask."""
    return {
        row.id: (row.split, row.label, row.defect, None if row.mask is None else Path(row.mask).name)
        for row in catalog_rows(catalog)
    }
