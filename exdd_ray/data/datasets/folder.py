"""A folder of one's own images, in one of three layouts."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import GOOD, UNSPLIT, VALIDATION, CatalogRow, build_catalog
from exdd_ray.data.datasets.layout import (
    DEFECT_KINDS,
    MASK_ENDINGS,
    NORMAL_KINDS,
    find_folder,
    find_mask,
    index_stems,
    is_normal,
    scan_mvtec_like,
)
from exdd_ray.data.datasets.spec import DatasetSpec
from exdd_ray.data.files import found_text, is_image, list_folders, list_images, walk_files
from exdd_ray.errors import DataError

NAME = "folder"
_LAYOUTS = "train/good + test/<defect> [+ ground_truth/<defect>], or normal/ + defect/ [+ masks/], or images only"


def load(root: Path, category: str | None) -> pa.Table:
    """Catalog of the first layout that the root has.

    1. `train/good`, `test/good`, `test/<defect>`, masks in `ground_truth/<defect>` (as MVTec AD; `train/<defect>` holds
       defects to train on, `validation/<kind>` images to choose by). Images in `test/` itself have no label: they get
       scores, and nothing is measured.
    2. `normal/` and `defect/` (or `defect/<kind>/`), masks in `masks/` (or `masks/<kind>/`) or beside the images;
       all `unsplit`.
    3. Images only: all normal, `unsplit`.

    Names are read in any case; `good`, `ok` and `normal` are one, and so are `defect`, `defective`, `bad`, `ng`, `nok`
    and others (DEFECT_KINDS). A mask has its image's name, with or without one of the endings _mask, _GT, _gt, _label,
    and any image extension; it must then have an ending where it lies beside the image. In the first layout it may be
    a folder of that name with several masks, as MVTec LOCO AD has them. A defect without a mask keeps its image label
    only.

    Raises:
        DataError: none of the layouts; or an image file that has no place in the layout, as a mask without its image.
    """
    if category not in {None, NAME}:
        raise DataError(f"{root}: a folder has the one category {NAME!r}, not {category!r}")
    if find_folder(root, {"train"}):
        rows = list(scan_mvtec_like(root, root, dataset=NAME, category=NAME, splits=("train", VALIDATION, "test")))
    elif normal := find_folder(root, NORMAL_KINDS):
        rows = list(chain(_scan_normal(root, normal), _scan_defects(root)))
    elif list_images(root):
        rows = list(_scan_normal(root, root))
    else:
        raise DataError(f"{root}: {_inner_datasets(root)}expected {_LAYOUTS}; {found_text(root)}")
    _check_all_used(root, rows)
    return build_catalog(rows)


def _inner_datasets(root: Path) -> str:
    inner = [folder for folder in list_folders(root) if find_folder(folder, {"train"} | NORMAL_KINDS)]
    if not inner:
        return ""
    names = ", ".join(folder.name for folder in inner[:4]) + ", ..." * (len(inner) > 4)
    return f"its folders ({names}) are datasets of their own: give one of them, as {inner[0]}; "


def _scan_normal(root: Path, folder: Path) -> Iterator[CatalogRow]:
    images, masks = _part_masks(folder)
    if masks:
        raise DataError(f"{next(iter(masks.values()))}: looks like a mask, but images here are normal: use defect/")
    return (_row(root, image) for image in images)


def _scan_defects(root: Path) -> Iterator[CatalogRow]:
    defects, separate = find_folder(root, DEFECT_KINDS), find_folder(root, {"masks"})
    if defects is None:
        return
    for folder in [defects, *list_folders(defects)]:
        images, masks = _part_masks(folder)
        if separate is not None:
            masks |= index_stems(list_images(find_folder(separate, {folder.name.lower()}) or separate))
        for image in images:
            yield _row(root, image, defect=folder.name, mask=find_mask(masks, image.stem))


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
    unused = [path for path in walk_files(root) if is_image(path) and not used & {str(path), str(path.parent)}]
    # The masks of normal images are empty by definition.
    unused = [path for path in unused if not _is_normal_mask(path.relative_to(root))]
    if unused:
        raise DataError(f"{unused[0]}: has no place in the layout ({len(unused)} such files); expected {_LAYOUTS}")


def _is_normal_mask(path: Path) -> bool:
    where, *kind = path.parts[:-1] or ("",)
    return where.lower() in {"ground_truth", "masks"} and len(kind) in {1, 2} and is_normal(kind[0])


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
