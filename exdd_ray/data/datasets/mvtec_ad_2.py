"""MVTec AD 2 dataset (Heckler-Kram et al. 2025)."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import VALIDATION, CatalogRow, build_catalog
from exdd_ray.data.datasets.layout import category_folders, require_folders, scan_kinds
from exdd_ray.data.datasets.spec import DatasetSpec, expected_counts

NAME = "mvtec_ad_2"
_SPLITS = {"train": "train", "validation": VALIDATION, "test_public": "test"}
_COUNTS = {  # train, validation, normal public test and defective public test images
    "can": (412, 46, 72, 90),
    "fabric": (387, 43, 66, 90),
    "fruit_jelly": (263, 37, 20, 60),
    "rice": (313, 35, 42, 90),
    "sheet_metal": (137, 19, 24, 90),
    "vial": (291, 41, 35, 105),
    "wallplugs": (293, 33, 60, 90),
    "walnuts": (432, 48, 60, 90),
}
_CATEGORIES = tuple(_COUNTS)


def load(root: Path, category: str | None) -> pa.Table:
    """`<category>/train/good`, `validation/good` and `test_public/{good,bad}`, masks in `test_public/ground_truth/bad`.

    The images of `test_private` and `test_private_mixed` have no labels, which the publisher's server keeps: they are
    not read.
    """
    folders = category_folders(root, _CATEGORIES, category)
    return build_catalog(row for folder in folders for row in _scan(root, folder))


def _scan(root: Path, folder: Path) -> Iterator[CatalogRow]:
    require_folders(folder, tuple(_SPLITS))
    for name, split in _SPLITS.items():
        place = folder / name
        yield from scan_kinds(root, place, place / "ground_truth", split=split, dataset=NAME, category=folder.name)


SPEC = DatasetSpec(
    name=NAME,
    title="MVTec AD 2, public test images",
    load=load,
    categories=_CATEGORIES,
    markers=tuple(f"{name}/test_public" for name in _CATEGORIES),
    expected=tuple(
        entry
        for name, (train, validation, normal, defect) in _COUNTS.items()
        for entry in expected_counts(name, train=train, validation=validation, test_normal=normal, test_defect=defect)
    ),
    licence="CC BY-NC-SA 4.0 (no commercial use)",
    homepage="https://www.mvtec.com/company/research/datasets/mvtec-ad-2",
    note="The publisher asks for a form: download mvtec_ad_2.tar.gz there and unpack it into the root. Figures are of "
    "test_public; those of test_private and test_private_mixed come from the publisher's server alone.",
)
