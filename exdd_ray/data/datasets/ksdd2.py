"""Kolektor Surface-Defect Dataset 2 (Bozic, Tabernik, Skocaj 2021)."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import GOOD, CatalogRow, build_catalog
from exdd_ray.data.datasets.layout import any_defect
from exdd_ray.data.datasets.spec import DatasetSpec, Expected, Source
from exdd_ray.data.files import found_text, list_images
from exdd_ray.errors import DataError

NAME = "ksdd2"
_MASK_ENDING = "_GT"
_STRAY = frozenset({"10301 (copy).png", "10301_GT (copy).png"})


def load(root: Path, _category: str | None) -> pa.Table:
    """`train/` and `test/` with `<id>.png` and `<id>_GT.png`.

    Every image has a mask file, and its label is written nowhere else: an image is defective where its mask has a
    non-zero pixel. This loader therefore opens the masks. Two stray copies in the official archive are left out.
    """
    return build_catalog(row for split in ("train", "test") for row in _scan(root, split))


def _scan(root: Path, split: str) -> Iterator[CatalogRow]:
    if not (root / split).is_dir():
        raise DataError(f"{root}: expected a folder {split}/, {found_text(root)}")
    files = [path for path in list_images(root / split) if path.name not in _STRAY]
    images = [path for path in files if not path.stem.endswith(_MASK_ENDING)]
    masks = [path.with_stem(path.stem + _MASK_ENDING) for path in images]
    for image, mask, defective in zip(images, masks, any_defect(masks), strict=True):
        yield CatalogRow(
            id=image.relative_to(root).as_posix(),
            dataset=NAME,
            category=NAME,
            split=split,
            label=int(defective),
            defect="defect" if defective else GOOD,
            image=str(image),
            mask=str(mask) if defective else None,
            mask_threshold=0,
        )


SPEC = DatasetSpec(
    name=NAME,
    title="Kolektor Surface-Defect Dataset 2",
    load=load,
    categories=(NAME,),
    markers=("train/*_GT.png",),
    expected=(
        Expected(category=NAME, split="train", label=0, images=2085),
        Expected(category=NAME, split="train", label=1, images=246),
        Expected(category=NAME, split="test", label=0, images=894),
        Expected(category=NAME, split="test", label=1, images=110),
    ),
    licence="CC BY-NC-SA 4.0 (no commercial use)",
    homepage="https://www.vicos.si/resources/kolektorsdd2/",
    sources=(
        Source(
            url="https://go.vicos.si/kolektorsdd2",
            filename="KolektorSDD2.zip",
            checksum="md5:1ed0f628122776ace4965afa30dfe316",
        ),
    ),
    note="split_weakly_N.pyb in the root: which N of the 246 train positives have a pixel mask (dataset.weak_labels).",
)
