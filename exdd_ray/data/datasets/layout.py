"""What the dataset loaders share: the names of kinds, pairing masks with images, the layout of MVTec AD."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import GOOD, UNLABELLED, CatalogRow, build_catalog
from exdd_ray.data.datasets.files import found_text, list_folders, list_images
from exdd_ray.data.images import read_mask
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
    """Paths by file name without extension. Raises DataError where two differ by their extension only."""
    index: dict[str, Path] = {}
    for path in paths:
        if path.stem in index:
            raise DataError(
                f"{path.parent}: {index[path.stem].name} and {path.name} cannot both be the mask of one image"
            )
        index[path.stem] = path
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


def scan_mvtec_like(root: Path, folder: Path, *, dataset: str, category: str) -> Iterator[CatalogRow]:
    """Rows of one folder with `train/<kind>`, `test/<kind>` and the masks in `ground_truth/<kind>`, in any case.

    Images that all lie in `test` itself are not labelled.

    Args:
        root: ids are relative to it.
        folder: of the category.
        dataset: its name.
        category: its name.

    Raises:
        DataError: images lie directly in `train`, or in `test` beside its kinds; or a mask is ambiguous.
    """
    truth = find_folder(folder, {"ground_truth"})
    for split in ("train", "test"):
        place = find_folder(folder, {split})
        if place is None:
            continue
        if loose := list_images(place):
            if split == "train" or list_folders(place):
                raise DataError(f"{loose[0]}: images must lie in a folder named by their kind, as {place.name}/{GOOD}/")
            yield from (_unlabelled(root, image, dataset, category) for image in loose)
        for kind in list_folders(place):
            defective = not is_normal(kind.name)
            marked = find_folder(truth, {kind.name.lower()}) if truth and defective else None
            masks = index_stems(list_images(marked)) if marked else {}
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


def load_mvtec_like(root: Path, category: str | None, *, dataset: str, categories: Sequence[str]) -> pa.Table:
    """Catalog of a dataset with one MVTec-like folder a category. Raises DataError where train or test is missing."""
    rows: list[CatalogRow] = []
    for folder in category_folders(root, categories, category):
        for split in ("train", "test"):
            if not (folder / split).is_dir():
                raise DataError(f"{folder}: expected a folder {split}/, {found_text(folder)}")
        rows += scan_mvtec_like(root, folder, dataset=dataset, category=folder.name)
    return build_catalog(rows)
