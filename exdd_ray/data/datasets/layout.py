"""What the dataset loaders share: listing folders, pairing masks with images, the layout of MVTec AD."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import GOOD, CatalogRow, build_catalog
from exdd_ray.data.images import read_mask
from exdd_ray.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
MASK_ENDINGS = ("", "_mask", "_GT", "_gt", "_label")
_IO_THREADS = 8


def is_image(path: Path) -> bool:
    """By its extension, in either case; hidden files are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def list_images(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted; empty for a folder that does not exist."""
    return sorted(path for path in folder.iterdir() if is_image(path)) if folder.is_dir() else []


def list_folders(folder: Path) -> list[Path]:
    """Folders directly in a folder, sorted, without hidden ones; empty for a folder that does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def found_text(folder: Path) -> str:
    """The first entries of a folder, for error messages."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    return "found " + (", ".join(islice(names, 6)) + (", ..." if len(names) > 6 else "") if names else "nothing")


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


def scan_mvtec_like(
    root: Path, folder: Path, *, dataset: str, category: str, normal: Sequence[str] = (GOOD,)
) -> Iterator[CatalogRow]:
    """Rows of one folder with `train/<kind>`, `test/<kind>` and the masks in `ground_truth/<kind>`.

    Args:
        root: ids are relative to it.
        folder: of the category.
        dataset: its name.
        category: its name.
        normal: kinds that are not defects.

    Raises:
        DataError: images lie directly in `train` or `test`, or a mask is ambiguous or fits two images.
    """
    taken: dict[Path, Path] = {}
    for split in ("train", "test"):
        if loose := list_images(folder / split):
            raise DataError(f"{loose[0]}: images must lie in a folder named by their kind, as {split}/{normal[0]}/")
        for kind in list_folders(folder / split):
            defective = kind.name not in normal
            masks = index_stems(list_images(folder / "ground_truth" / kind.name)) if defective else {}
            for image in list_images(kind):
                mask = find_mask(masks, image.stem)
                if mask is not None and taken.setdefault(mask, image) != image:
                    raise DataError(f"{mask}: would be the mask of both {taken[mask]} and {image}")
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


def load_mvtec_like(
    root: Path, category: str | None, *, dataset: str, categories: Sequence[str], normal: Sequence[str] = (GOOD,)
) -> pa.Table:
    """Catalog of a dataset with one MVTec-like folder a category. Raises DataError where train or test is missing."""
    rows: list[CatalogRow] = []
    for folder in category_folders(root, categories, category):
        for split in ("train", "test"):
            if not (folder / split).is_dir():
                raise DataError(f"{folder}: expected a folder {split}/, {found_text(folder)}")
        rows += scan_mvtec_like(root, folder, dataset=dataset, category=folder.name, normal=normal)
    return build_catalog(rows)
