"""Real-IAD dataset (Wang et al. 2024), with the publishers' split of all five views."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ValidationError

from exdd_ray.data.catalog import GOOD, CatalogRow, build_catalog
from exdd_ray.data.datasets.spec import DatasetSpec
from exdd_ray.data.files import found_text, list_folders
from exdd_ray.errors import DataError

_LISTS = "realiad_jsons"
_IMAGES = re.compile(r"realiad_(\d+|raw)")  # at a size in pixels, or at that of the camera
_CATEGORIES = (
    *("audiojack", "bottle_cap", "button_battery", "end_cap", "eraser", "fire_hood", "mint", "mounts", "pcb"),
    *("phone_battery", "plastic_nut", "plastic_plug", "porcelain_doll", "regulator", "rolled_strip_base"),
    *("sim_card_set", "switch", "tape", "terminalblock", "toothbrush", "toy", "toy_brick", "transistor1", "u_block"),
    *("usb", "usb_adaptor", "vcpill", "wooden_beads", "woodstick", "zipper"),
)
_KINDS = {
    "AK": "pit",
    "BX": "deformation",
    "CH": "abrasion",
    "HS": "scratch",
    "PS": "damage",
    "QS": "missing_parts",
    "YW": "foreign_objects",
    "ZW": "contamination",
}


class _Sample(BaseModel):
    category: str
    anomaly_class: str
    image_path: str
    mask_path: str | None


class _Meta(BaseModel):
    prefix: str
    normal_class: str


class _Lists(BaseModel):
    """One of the publishers' files: the images of a category's splits."""

    meta: _Meta
    train: tuple[_Sample, ...]
    test: tuple[_Sample, ...]


def load_listed(root: Path, category: str | None, *, dataset: str, lists: str) -> pa.Table:
    """Catalog by one of the publishers' sets of lists: `<lists>/<category>.json`, images in `realiad_1024/<category>`.

    Args:
        root: has the lists and the images at one size (1024, 512, 256 or raw); or is the folder of the images at one
            size, beside the lists.
        category: to load; None loads all of which there are images.
        dataset: its name.
        lists: name of the folder of the lists; it lies in the root or, as the archive has it, in `realiad_jsons`.

    Raises:
        DataError: no lists, no images, images at several sizes, or a list that is not one of the publishers'.
    """
    images = _images(root)
    folders = [folder for folder in (images.parent / lists, images.parent / _LISTS / lists) if _has_lists(folder)]
    if not folders:
        raise DataError(
            f"{images.parent}: expected a folder {lists}/ with <category>.json; {found_text(images.parent)}"
        )
    names = [category] if category is not None else [name for name in _CATEGORIES if (images / name).is_dir()]
    return build_catalog(row for name in names for row in _rows(images, folders[0] / f"{name}.json", name, dataset))


def _images(root: Path) -> Path:
    """The folder with the images at the one size that is meant."""
    if _IMAGES.fullmatch(root.name):
        return root
    found = [folder for folder in list_folders(root) if _IMAGES.fullmatch(folder.name)]
    if not found:
        raise DataError(f"{root}: expected a folder realiad_1024/ with the images; {found_text(root)}")
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise DataError(f"{root}: images at several sizes ({names}): give one of them as the root, as {found[0]}")
    return found[0]


def _has_lists(folder: Path) -> bool:
    return next(folder.glob("*.json"), None) is not None


def _rows(images: Path, path: Path, category: str, dataset: str) -> Iterator[CatalogRow]:
    lists = _read(path)
    if not (images / category).is_dir():
        raise DataError(f"{images}: expected a folder {category}/, {found_text(images)}")
    for split, samples in (("train", lists.train), ("test", lists.test)):
        for sample in samples:
            # As the publishers' own code has it.
            defective = sample.anomaly_class != lists.meta.normal_class and sample.mask_path is not None
            yield CatalogRow(
                id=f"{category}/{sample.image_path}",
                dataset=dataset,
                category=category,
                split=split,
                label=int(defective),
                defect=_KINDS.get(sample.anomaly_class, sample.anomaly_class) if defective else GOOD,
                image=str(images / lists.meta.prefix / sample.image_path),
                mask=str(images / lists.meta.prefix / sample.mask_path) if defective and sample.mask_path else None,
            )


def _read(path: Path) -> _Lists:
    try:
        return _Lists.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise DataError(f"{path}: not a list of Real-IAD: {where}{': ' * bool(where)}{fault['msg']}") from error


def listed_spec(name: str, title: str, lists: str, note: str) -> DatasetSpec:
    """The dataset by one of the publishers' sets of lists (see load_listed)."""
    return DatasetSpec(
        name=name,
        title=title,
        load=partial(load_listed, dataset=name, lists=lists),
        categories=_CATEGORIES,
        markers=tuple(f"{place}{lists}/*.json" for place in ("", f"{_LISTS}/", "../", f"../{_LISTS}/")),
        licence="CC BY-NC-SA 4.0 (no commercial use)",
        homepage="https://realiad4ad.github.io/Real-IAD/",
        note=f"The publishers ask for a form: unpack realiad_jsons.zip and images of one size into the root. {note}",
    )


SPEC = listed_spec(
    "real_iad",
    "Real-IAD, all five views",
    _LISTS,
    "The lists with defects among the normal training images (realiad_jsons_fuiad_*) are not read.",
)
