"""DAGM 2007 competition: weakly supervised learning for industrial optical inspection (Wieler, Hahn, Hamprecht)."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import GOOD, CatalogRow, build_catalog
from exdd_ray.data.datasets.layout import category_folders, find_mask, index_stems
from exdd_ray.data.datasets.spec import DatasetSpec, Expected
from exdd_ray.data.files import found_text, list_images
from exdd_ray.errors import DataError

NAME = "dagm"
_CATEGORIES = tuple(f"Class{n}" for n in range(1, 11))
_DEVELOPMENT_CLASSES = 6


def load(root: Path, category: str | None) -> pa.Table:
    """`Class<n>/{Train,Test}/<id>.PNG`; a defective image has `Label/<id>_label.PNG`, an ellipse around its defect."""
    folders = category_folders(root, _CATEGORIES, category)
    return build_catalog(row for folder in folders for split in ("train", "test") for row in _scan(root, folder, split))


def _scan(root: Path, folder: Path, split: str) -> Iterator[CatalogRow]:
    images = folder / split.capitalize()
    if not images.is_dir():
        raise DataError(f"{folder}: expected a folder {images.name}/, {found_text(folder)}")
    masks = index_stems(list_images(images / "Label"))
    for image in list_images(images):
        mask = find_mask(masks, image.stem, endings=("_label",))
        yield CatalogRow(
            id=image.relative_to(root).as_posix(),
            dataset=NAME,
            category=folder.name,
            split=split,
            label=int(mask is not None),
            defect=GOOD if mask is None else "defect",
            image=str(image),
            mask=None if mask is None else str(mask),
        )


def _expected() -> Iterator[Expected]:
    for number, name in enumerate(_CATEGORIES, start=1):
        scale = 1 if number <= _DEVELOPMENT_CLASSES else 2
        yield Expected(category=name, split="train", label=None, images=575 * scale)
        yield Expected(category=name, split="test", label=None, images=575 * scale)
        yield Expected(category=name, split=None, label=1, images=150 * scale)


SPEC = DatasetSpec(
    name=NAME,
    title="DAGM 2007 optical inspection",
    load=load,
    categories=_CATEGORIES,
    markers=tuple(f"{name}/Train" for name in _CATEGORIES),
    expected=tuple(_expected()),
    licence="CC BY 4.0",
    homepage="https://zenodo.org/records/12750201",
    note="Download Class1.zip to Class10.zip there and unpack them so that the root has Class1/ to Class10/.",
)
