"""Magnetic tile surface defects (Huang, Qiu, Yuan 2020)."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import GOOD, UNSPLIT, CatalogRow, build_catalog
from exdd_ray.data.datasets.layout import index_stems
from exdd_ray.data.datasets.spec import DatasetSpec, Expected, Source
from exdd_ray.data.files import list_folders, list_images

NAME = "magnetic_tile"
_PREFIX = "MT_"
_NORMAL = "free"


def load(root: Path, _category: str | None) -> pa.Table:
    """`MT_<kind>/Imgs/<id>.jpg` with a mask `<id>.png` beside it; `MT_Free` is normal; all `unsplit`."""
    return build_catalog(
        row for folder in list_folders(root) if folder.name.startswith(_PREFIX) for row in _scan(folder)
    )


def _scan(folder: Path) -> Iterator[CatalogRow]:
    kind = folder.name.removeprefix(_PREFIX).lower()
    defective = kind != _NORMAL
    files = list_images(folder / "Imgs")
    masks = index_stems(path for path in files if path.suffix.lower() == ".png")
    for image in (path for path in files if path.suffix.lower() != ".png"):
        mask = masks.get(image.stem) if defective else None
        yield CatalogRow(
            id=image.relative_to(folder.parent).as_posix(),
            dataset=NAME,
            category=NAME,
            split=UNSPLIT,
            label=int(defective),
            defect=kind if defective else GOOD,
            image=str(image),
            mask=None if mask is None else str(mask),
        )


SPEC = DatasetSpec(
    name=NAME,
    title="Magnetic tile surface defects",
    load=load,
    categories=(NAME,),
    markers=("MT_*/Imgs",),
    expected=(
        Expected(category=NAME, split=None, label=0, images=952),
        Expected(category=NAME, split=None, label=1, images=392),
    ),
    licence="none stated; the authors ask for a citation",
    homepage="https://github.com/abin24/Magnetic-tile-defect-datasets.",
    sources=(
        Source(
            url="https://github.com/abin24/Magnetic-tile-defect-datasets./archive/refs/heads/master.zip",
            filename="magnetic-tile-defect-datasets.zip",
        ),
    ),
    related="images show the same tile at several exposures",
    note="Four masks of MT_Uneven are empty as published. Tiles were photographed at several exposures: a random split "
    "puts pictures of one tile into train and test.",
)
