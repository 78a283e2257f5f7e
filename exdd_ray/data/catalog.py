"""The catalog: one row an image, as a pyarrow table. Building one opens no image."""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exdd_ray.errors import DataError

REAL = "real"
GOOD = "good"
UNSPLIT = "unsplit"
UNLABELLED = -1
VALIDATION = "validation"

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("dataset", pa.string()),
        ("category", pa.string()),
        ("split", pa.string()),
        ("label", pa.int8()),
        ("defect", pa.string()),
        ("image", pa.string()),
        ("mask", pa.string()),
        ("mask_threshold", pa.uint16()),
        ("bit_depth", pa.uint8()),
        ("region", pa.list_(pa.int32(), 4)),
        ("origin", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class CatalogRow:
    """One image.

    Attributes:
        id: unique within the catalog, stable across machines (a path relative to the dataset's root).
        split: `train`, `validation`, `test`, or `unsplit` where the dataset publishes no split.
        label: 0 normal, 1 defective, UNLABELLED not known.
        defect: the defect type; `good` for a normal image, `unlabelled` where that is not known.
        image: path of the image file.
        mask: path of the mask file, or of a folder with several that together are the mask; None for a normal image,
            and for a defect with an image label only.
        mask_threshold: a mask pixel is defective when its value is above this (in the file's own range); None takes the
            larger value of a mask with two, and otherwise the upper half of the file's range.
        bit_depth: of the grey values in a 16-bit file; None is all 16.
        region: (x0, y0, x1, y1) in pixels of the decoded image where the row is a crop of it.
        origin: `real`, or the key of the synthesis artifact that made the image.
    """

    id: str
    dataset: str
    category: str
    split: str
    label: int
    defect: str
    image: str
    mask: str | None = None
    mask_threshold: int | None = None
    bit_depth: int | None = None
    region: tuple[int, int, int, int] | None = None
    origin: str = REAL

    @property
    def view(self) -> str:
        """What of the image file is looked at, and how its values are read, for the keys of what is made from it."""
        region = str(list(self.region)) if self.region else ""
        return region if self.bit_depth is None else f"{region} {self.bit_depth} bits"


def build_catalog(rows: Iterable[CatalogRow]) -> pa.Table:
    """Table of SCHEMA, sorted by id. Raises DataError where an id occurs twice."""
    records = [vars(row) for row in sorted(rows, key=lambda row: row.id)]
    for before, after in itertools.pairwise(records):
        if before["id"] == after["id"]:
            raise DataError(f"image id {after['id']!r} occurs twice: {before['image']} and {after['image']}")
    return pa.Table.from_pylist(records, schema=SCHEMA)


def catalog_rows(catalog: pa.Table) -> list[CatalogRow]:
    """The rows as typed records, in the table's order."""
    columns = {name: catalog[name].to_pylist() for name in SCHEMA.names}
    columns["region"] = [None if region is None else tuple(region) for region in columns["region"]]
    return [CatalogRow(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def with_reading(catalog: pa.Table, mask_threshold: int | None, bit_depth: int | None) -> pa.Table:
    """The catalog with another mask threshold, where one is given, and the bit depth of its 16-bit files."""
    for name, value in (("mask_threshold", mask_threshold), ("bit_depth", bit_depth)):
        if value is not None:
            column = pa.array([value] * catalog.num_rows, SCHEMA.field(name).type)
            catalog = catalog.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), column)
    return catalog


def catalog_digest(catalog: pa.Table) -> str:
    """Hash of all rows as they stand; of the files they name, the paths alone."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, catalog.schema) as stream:
        stream.write_table(catalog.combine_chunks())
    return hashlib.blake2b(sink.getvalue(), digest_size=20).hexdigest()


def select_rows(catalog: pa.Table, *, split: str | None = None, label: int | None = None) -> pa.Table:
    """Rows of one split and label; None takes all."""
    keep = np.ones(catalog.num_rows, dtype=bool)
    if split is not None:
        keep &= np.asarray(pc.equal(catalog["split"], split))
    if label is not None:
        keep &= np.asarray(pc.equal(catalog["label"], label))
    return catalog.filter(pa.array(keep))


def row_positions(catalog: pa.Table, ids: Sequence[str]) -> np.ndarray:
    """Positions [N] of ids in the catalog. Raises DataError for an unknown id."""
    position = {key: i for i, key in enumerate(catalog["id"].to_pylist())}
    missing = [key for key in ids if key not in position]
    if missing:
        raise DataError(f"image id {missing[0]!r} is not in the catalog ({len(missing)} missing)")
    return np.asarray([position[key] for key in ids], dtype=np.int64)
