"""What the dataset loaders share: the names of kinds, pairing masks with images, the layout of MVTec AD."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import GOOD, UNLABELLED, CatalogRow, build_catalog
from exdd_ray.data.files import found_text, list_folders, list_images
from exdd_ray.data.masks import read_mask
from exdd_ray.errors import DataError

NORMAL_KINDS = frozenset({GOOD, "ok", "normal"})
DEFECT_KINDS = frozenset({"defect", "defects", "defective", "bad", "ng", "nok", "ko", "abnormal", "anomaly"})
MASK_ENDINGS = ("", "_mask", "_GT", "_gt", "_label")
_IO_THREADS = 8


def is_normal(kind: str) -> bool:
    """Whether a folder of this name holds normal images: good, ok or normal, in any case."""
    return kind.lower() in NORMAL_KINDS


def find_folder(root: Path, names: Collection[str]) -> Path | None:
    """The folder directly in a root that has one of the names, in any case. Raises DataError where there are two."""
    found = [folder for folder in list_folders(root) if folder.name.lower() in names]
    if len(found) > 1:
        raise DataError(f"{root}: {found[0].name}/ and {found[1].name}/ stand for the same: put their images into one")
    return found[0] if found else None


def category_folders(root: Path, categories: Sequence[str], category: str | None) -> list[Path]:
    """Folders of the category asked for, or of all official ones that are there. Raises DataError for a missing one."""
    folders = [root / name for name in ([category] if category is not None else categories)]
    present = [folder for folder in folders if folder.is_dir()]
    if not present:
        raise DataError(f"{root}: expected a folder {folders[0].name}/, {found_text(root)}")
    return present


def index_stems(paths: Iterable[Path]) -> dict[str, Path]:
    """Paths by file name without extension, folders by name. Raises DataError where two have the same."""
    index: dict[str, Path] = {}
    for path in paths:
        stem = path.name if path.is_dir() else path.stem
        if stem in index:
            raise DataError(f"{path.parent}: {index[stem].name} and {path.name} cannot both be the mask of one image")
        index[stem] = path
    return index


def find_mask(masks: dict[str, Path], stem: str, endings: Sequence[str] = MASK_ENDINGS) -> Path | None:
    """Mask of an image, by the same name with or without an ending. Raises DataError where two files match."""
    matches = [masks[stem + ending] for ending in endings if stem + ending in masks]
    if len(matches) > 1:
        raise DataError(f"{matches[0].parent}: {matches[0].name} and {matches[1].name} are both masks of {stem}")
    return matches[0] if matches else None


def any_defect(masks: Sequence[Path]) -> list[bool]:
    """Whether each mask has a non-zero pixel. This opens the files: for datasets whose labels are nowhere else."""
    with ThreadPoolExecutor(_IO_THREADS) as pool:
        return list(pool.map(lambda path: bool(read_mask(str(path), 0).any()), masks))


def scan_mvtec_like(
    root: Path,
    folder: Path,
    *,
    dataset: str,
    category: str,
    splits: Sequence[str] = ("train", "test"),
) -> Iterator[CatalogRow]:
    """Rows of one folder with `<split>/<kind>` and the masks in `ground_truth/<kind>`, in any case.

    An image's mask is a file of its name or a folder of its name with several. Images that all lie in `test` itself are
    not labelled.

    Args:
        root: ids are relative to it.
        folder: of the category.
        dataset: its name.
        category: its name.
        splits: names of the folders to read and of the splits that they are; one may be missing.

    Raises:
        DataError: images lie directly in `train`, or in `test` beside its kinds; or a mask is ambiguous.
    """
    truth = find_folder(folder, {"ground_truth"})
    for split in splits:
        place = find_folder(folder, {split})
        if place is None:
            continue
        if loose := list_images(place):
            if split != "test" or list_folders(place):
                raise DataError(f"{loose[0]}: images must lie in a folder named by their kind, as {place.name}/{GOOD}/")
            yield from (_unlabelled(root, image, dataset, category) for image in loose)
        yield from scan_kinds(root, place, truth, split=split, dataset=dataset, category=category)


def scan_kinds(
    root: Path, place: Path, truth: Path | None, *, split: str, dataset: str, category: str
) -> Iterator[CatalogRow]:
    """Rows of a folder with one for each kind of image: `good`, `ok` or `normal` is normal, any other a defect.

    Args:
        root: ids are relative to it.
        place: the folder.
        truth: has the masks of a kind in a folder of the same name; None where there are no masks.
        split: that all are in.
        dataset: its name.
        category: its name.

    Raises:
        DataError: a mask is ambiguous.
    """
    for kind in (folder for folder in list_folders(place) if folder != truth):
        defective = not is_normal(kind.name)
        marked = find_folder(truth, {kind.name.lower()}) if truth and defective else None
        masks = index_stems([*list_images(marked), *list_folders(marked)]) if marked else {}
        for image in list_images(kind):
            mask = find_mask(masks, image.stem)
            yield CatalogRow(
                id=image.relative_to(root).as_posix(),
                dataset=dataset,
                category=category,
                split=split,
                label=int(defective),
                defect=kind.name if defective else GOOD,
                image=str(image),
                mask=None if mask is None else str(mask),
            )


def _unlabelled(root: Path, image: Path, dataset: str, category: str) -> CatalogRow:
    return CatalogRow(
        id=image.relative_to(root).as_posix(),
        dataset=dataset,
        category=category,
        split="test",
        label=UNLABELLED,
        defect="unlabelled",
        image=str(image),
    )


def load_mvtec_like(
    root: Path,
    category: str | None,
    *,
    dataset: str,
    categories: Sequence[str],
    splits: Sequence[str] = ("train", "test"),
) -> pa.Table:
    """Catalog of a dataset with one MVTec-like folder a category. Raises DataError where one of its splits is missing.

    Args:
        root: of the dataset.
        category: to load; None loads all that are there.
        dataset: its name.
        categories: all names.
        splits: as scan_mvtec_like.
    """
    rows: list[CatalogRow] = []
    for folder in category_folders(root, categories, category):
        require_folders(folder, splits)
        rows += scan_mvtec_like(root, folder, dataset=dataset, category=folder.name, splits=splits)
    return build_catalog(rows)


def require_folders(folder: Path, names: Sequence[str]) -> None:
    """Raise DataError where one of the folders that a layout has is missing."""
    for name in names:
        if not (folder / name).is_dir():
            raise DataError(f"{folder}: expected a folder {name}/, {found_text(folder)}")
