"""Metal Parts Defect Detection dataset (Jezek et al. 2021)."""

from pathlib import Path

import pyarrow as pa

from exdd_ray.data.datasets.layout import load_mvtec_like
from exdd_ray.data.datasets.spec import DatasetSpec, expected_counts

NAME = "mpdd"
_COUNTS = {  # train, normal test and defective test images
    "bracket_black": (289, 32, 47),
    "bracket_brown": (185, 26, 51),
    "bracket_white": (110, 30, 30),
    "connector": (128, 30, 14),
    "metal_plate": (54, 26, 71),
    "tubes": (122, 32, 69),
}
_CATEGORIES = tuple(_COUNTS)


def load(root: Path, category: str | None) -> pa.Table:
    """`<category>/train/good`, `test/<defect>` and `ground_truth/<defect>/<id>_mask.png`, as MVTec AD."""
    return load_mvtec_like(root, category, dataset=NAME, categories=_CATEGORIES)


SPEC = DatasetSpec(
    name=NAME,
    title="Metal Parts Defect Detection",
    load=load,
    categories=_CATEGORIES,
    markers=tuple(f"{name}/train/good" for name in _CATEGORIES),
    expected=tuple(
        entry
        for name, (train, normal, defect) in _COUNTS.items()
        for entry in expected_counts(name, train=train, test_normal=normal, test_defect=defect)
    ),
    licence="none stated by the publisher's page; a citation is asked for",
    homepage="https://github.com/stepanje/MPDD",
    note="The publisher shares a folder without a lasting address: download it there and unpack it into the root.",
)
