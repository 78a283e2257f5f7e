"""ELPV dataset: electroluminescence images of solar cells (Buerhop-Lutz et al. 2018, Deitsch et al. 2019)."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import GOOD, UNSPLIT, CatalogRow, build_catalog
from exdd_ray.data.datasets.spec import DatasetSpec, Expected, Source
from exdd_ray.data.files import found_text
from exdd_ray.errors import DataError, one_line

NAME = "elpv"
_CATEGORIES = ("mono", "poly")
_PLACES = ("", "src/elpv_dataset/data/", "elpv_dataset/data/")  # by itself, in its repository, in its package
_KINDS = {"0.0": GOOD, "0.3333333333333333": GOOD, "0.6666666666666666": "likely_defective", "1.0": "defective"}


def load(root: Path, category: str | None) -> pa.Table:
    """`images/cell<n>.png` with the lines `<path> <defect probability> <mono or poly>` of `labels.csv`; all `unsplit`.

    The probabilities are an expert's answers: functional (0), functional but unsure (1/3), defective but unsure (2/3),
    defective (1). A cell is defective above 1/2. There are no masks. The two kinds of wafers are the categories.
    """
    places = [root / place for place in _PLACES if (root / place / "labels.csv").is_file()]
    if not places:
        raise DataError(f"{root}: expected labels.csv beside images/, {found_text(root)}")
    return build_catalog(row for row in _rows(places[0]) if category in {None, row.category})


def _rows(folder: Path) -> Iterator[CatalogRow]:
    path = folder / "labels.csv"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {one_line(error)}") from error
    for number, line in enumerate(lines, start=1):
        match line.split():
            case []:
                continue
            case [image, probability, wafer] if probability in _KINDS and wafer in _CATEGORIES:
                kind = _KINDS[probability]
                yield CatalogRow(
                    id=image,
                    dataset=NAME,
                    category=wafer,
                    split=UNSPLIT,
                    label=int(kind != GOOD),
                    defect=kind,
                    image=str(folder / image),
                )
            case _:
                raise DataError(
                    f"{path} line {number}: expected a path, a defect probability (0, 1/3, 2/3, 1) and mono or poly; "
                    f"found {line!r}"
                )


SPEC = DatasetSpec(
    name=NAME,
    title="ELPV solar cells in electroluminescence images",
    load=load,
    categories=_CATEGORIES,
    markers=tuple(f"{place}images/cell[0-9]*.png" for place in _PLACES),
    expected=tuple(
        Expected(category=wafer, split=None, label=label, images=images)
        for wafer, label, images in (("mono", 0, 705), ("mono", 1, 369), ("poly", 0, 1098), ("poly", 1, 452))
    ),
    licence="CC BY-NC-SA 4.0 (no commercial use)",
    homepage="https://github.com/zae-bayern/elpv-dataset",
    sources=(
        Source(
            url="https://github.com/zae-bayern/elpv-dataset/archive/refs/heads/master.zip",
            filename="elpv-dataset.zip",
        ),
    ),
    related="cells were cut from the pictures of 44 modules, and which is from which is not published",
    note="Cells of probability 1/3 (295) are normal, those of 2/3 (106) defective. `pip install elpv-dataset` has the "
    "images too: the root is then its folder elpv_dataset/data.",
)
