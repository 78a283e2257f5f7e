"""A folder of one's own images, in one of three layouts."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import GOOD, UNSPLIT, CatalogRow, build_catalog
from exdd_ray.data.datasets.layout import (
    MASK_ENDINGS,
    find_mask,
    found_text,
    index_stems,
    is_image,
    list_folders,
    list_images,
    scan_mvtec_like,
)
from exdd_ray.data.datasets.spec import DatasetSpec
from exdd_ray.errors import DataError

NAME = "folder"
_NORMAL_KINDS = (GOOD, "ok", "normal")
_NORMAL_MASKS = {(folder, kind) for folder in ("ground_truth", "masks") for kind in _NORMAL_KINDS}
_LAYOUTS = "train/good + test/<defect> [+ ground_truth/<defect>], or normal/ + defect/ [+ masks/], or images only"


def load(root: Path, category: str | None) -> pa.Table:
    """Catalog of the first layout that the root has.

    1. `train/good`, `test/good`, `test/<defect>`, masks in `ground_truth/<defect>` (as MVTec AD; `ok` and `normal`
       also name normal images, and `train/<defect>` holds defects to train on).
    2. `normal/` and `defect/` (or `defect/<kind>/`), masks in `masks/` (or `masks/<kind>/`) or beside the images;
       all `unsplit`.
    3. Images only: all normal, `unsplit`.

    A mask has its image's name, with or without one of the endings _mask, _GT, _gt, _label, and any image extension;
    it must then have an ending where it lies beside the image. A defect without a mask keeps its image label only.

    Raises:
        DataError: none of the layouts; or an image file that has no place in the layout, as a mask without its image.
    """
    if category not in {None, NAME}:
        raise DataError(f"{root}: a folder has the one category {NAME!r}, not {category!r}")
    if (root / "train").is_dir():
        rows = list(scan_mvtec_like(root, root, dataset=NAME, category=NAME, normal=_NORMAL_KINDS))
    elif (root / "normal").is_dir():
        rows = list(chain(_scan_normal(root, root / "normal"), _scan_defects(root)))
    elif list_images(root):
        rows = list(_scan_normal(root, root))
    else:
        raise DataError(f"{root}: expected {_LAYOUTS}; {found_text(root)}")
    _check_all_used(root, rows)
    return build_catalog(rows)


def _scan_normal(root: Path, folder: Path) -> Iterator[CatalogRow]:
    images, masks = _part_masks(folder)
    if masks:
        raise DataError(f"{next(iter(masks.values()))}: looks like a mask, but images here are normal: use defect/")
    return (_row(root, image) for image in images)


def _scan_defects(root: Path) -> Iterator[CatalogRow]:
    for folder in [root / "defect", *list_folders(root / "defect")]:
        images, masks = _part_masks(folder)
        kind = folder.name
        if (root / "masks").is_dir():
            separate = root / "masks" / kind
            masks |= index_stems(list_images(separate if separate.is_dir() else root / "masks"))
        for image in images:
            yield _row(root, image, defect=kind, mask=find_mask(masks, image.stem))


def _part_masks(folder: Path) -> tuple[list[Path], dict[str, Path]]:
    """Images of a folder, and by stem the masks that lie beside them: files named as an image with an ending."""
    files = list_images(folder)
    stems = {path.stem for path in files}
    beside = {stem + ending for stem in stems for ending in MASK_ENDINGS if ending} & stems
    return [path for path in files if path.stem not in beside], index_stems(
        path for path in files if path.stem in beside
    )


def _row(root: Path, image: Path, defect: str | None = None, mask: Path | None = None) -> CatalogRow:
    return CatalogRow(
        id=image.relative_to(root).as_posix(),
        dataset=NAME,
        category=NAME,
        split=UNSPLIT,
        label=int(defect is not None),
        defect=defect or GOOD,
        image=str(image),
        mask=None if mask is None else str(mask),
    )


def _check_all_used(root: Path, rows: list[CatalogRow]) -> None:
    used = {path for row in rows for path in (row.image, row.mask)}
    unused = sorted(path for path in root.rglob("*") if is_image(path) and str(path) not in used)
    # The masks of normal images are empty by definition.
    unused = [path for path in unused if path.relative_to(root).parts[:-1] not in _NORMAL_MASKS]
    if unused:
        raise DataError(f"{unused[0]}: has no place in the layout ({len(unused)} such files); expected {_LAYOUTS}")


SPEC = DatasetSpec(
    name=NAME,
    title="A folder of your own images",
    load=load,
    categories=(),
    markers=(),
    licence="yours",
    homepage="",
    note=f"Layouts: {_LAYOUTS}.",
)
