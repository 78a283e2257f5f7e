"""Visual Anomaly dataset (Zou et al. 2022), with its official one-class split."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import GOOD, CatalogRow, build_catalog
from exdd_ray.data.datasets.layout import category_folders
from exdd_ray.data.datasets.spec import DatasetSpec, Source, expected_counts
from exdd_ray.errors import DataError

NAME = "visa"
_SPLIT_FILE = Path("split_csv", "1cls.csv")
_COLUMNS = ["object", "split", "label", "image", "mask"]
_LABELS = {"normal": 0, "anomaly": 1}
_COUNTS = {  # train, normal test and defective test images
    "candle": (900, 100, 100),
    "capsules": (542, 60, 100),
    "cashew": (450, 50, 100),
    "chewinggum": (453, 50, 100),
    "fryum": (450, 50, 100),
    "macaroni1": (900, 100, 100),
    "macaroni2": (900, 100, 100),
    "pcb1": (904, 100, 100),
    "pcb2": (901, 100, 100),
    "pcb3": (905, 101, 100),
    "pcb4": (904, 101, 100),
    "pipe_fryum": (450, 50, 100),
}
_CATEGORIES = tuple(_COUNTS)


def load(root: Path, category: str | None) -> pa.Table:
    """`<category>/Data/Images/{Normal,Anomaly}`, `Data/Masks/Anomaly` and the split in `split_csv/1cls.csv`.

    The masks hold small integers, one for each kind of defect: every non-zero pixel is defective.
    """
    present = {folder.name for folder in category_folders(root, _CATEGORIES, category)}
    return build_catalog(row for row in _read_split(root) if row.category in present)


def _read_split(root: Path) -> Iterator[CatalogRow]:
    path = root / _SPLIT_FILE
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != _COLUMNS:
            raise DataError(f"{path}: expected the columns {','.join(_COLUMNS)}, found {reader.fieldnames}")
        for record in reader:
            yield _row(root, path, reader.line_num, record)


def _row(root: Path, path: Path, line: int, record: dict[str, str]) -> CatalogRow:
    label = _LABELS.get(record["label"])
    if label is None or record["split"] not in {"train", "test"} or not record["image"]:
        raise DataError(f"{path} line {line}: expected train or test, normal or anomaly, an image; found {record}")
    return CatalogRow(
        id=record["image"],
        dataset=NAME,
        category=record["object"],
        split=record["split"],
        label=label,
        defect="anomaly" if label else GOOD,
        image=str(root / record["image"]),
        mask=str(root / record["mask"]) if label and record["mask"] else None,
        mask_threshold=0,
    )


SPEC = DatasetSpec(
    name=NAME,
    title="Visual Anomaly (VisA)",
    load=load,
    categories=_CATEGORIES,
    markers=(_SPLIT_FILE.as_posix(),),
    expected=tuple(
        entry
        for name, (train, normal, defect) in _COUNTS.items()
        for entry in expected_counts(name, train=train, test_normal=normal, test_defect=defect)
    ),
    licence="CC BY 4.0",
    homepage="https://github.com/amazon-science/spot-diff",
    sources=(
        Source(
            url="https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
            filename="VisA_20220922.tar",
            checksum="sha256:2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
        ),
    ),
)
