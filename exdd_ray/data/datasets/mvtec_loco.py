"""MVTec LOCO AD dataset: logical constraints (Bergmann et al. 2022)."""

from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import VALIDATION, with_reading
from exdd_ray.data.datasets.layout import load_mvtec_like
from exdd_ray.data.datasets.spec import DatasetSpec, expected_counts

NAME = "mvtec_loco"
_COUNTS = {  # train, validation, normal test and defective test images
    "breakfast_box": (351, 62, 102, 173),
    "juice_bottle": (335, 54, 94, 236),
    "pushpins": (372, 69, 138, 172),
    "screw_bag": (360, 60, 122, 219),
    "splicing_connectors": (360, 60, 119, 193),  # as the archive has them: the paper counts 354 and 59
}
_CATEGORIES = tuple(_COUNTS)


def load(root: Path, category: str | None) -> pa.Table:
    """`<category>/train/good`, `validation/good`, `test/{good,logical_anomalies,structural_anomalies}` and the masks.

    An image's masks lie in a folder of its own, `ground_truth/<kind>/<id>/000.png`, one a defect; their values are the
    numbers of kinds of defects: every non-zero pixel is defective.
    """
    splits = ("train", VALIDATION, "test")
    return with_reading(load_mvtec_like(root, category, dataset=NAME, categories=_CATEGORIES, splits=splits), 0, None)


SPEC = DatasetSpec(
    name=NAME,
    title="MVTec LOCO AD, logical and structural defects",
    load=load,
    categories=_CATEGORIES,
    markers=tuple(f"{name}/train/good" for name in _CATEGORIES),
    expected=tuple(
        entry
        for name, (train, validation, normal, defect) in _COUNTS.items()
        for entry in expected_counts(name, train=train, validation=validation, test_normal=normal, test_defect=defect)
    ),
    licence="CC BY-NC-SA 4.0 (no commercial use)",
    homepage="https://www.mvtec.com/company/research/datasets/mvtec-loco",
    note="The publisher asks for a form: download mvtec_loco_anomaly_detection.tar.xz there and unpack it into the "
    "root. It measures by saturated overlap (sPRO), with a threshold for each kind of defect, and not by AUPRO.",
)
