"""MVTec Anomaly Detection dataset (Bergmann et al. 2019)."""

from pathlib import Path

import pyarrow as pa

from exdd_ray.data.datasets.layout import load_mvtec_like
from exdd_ray.data.datasets.spec import DatasetSpec, expected_counts

NAME = "mvtec_ad"
_COUNTS = {  # train, normal test and defective test images
    "bottle": (209, 20, 63),
    "cable": (224, 58, 92),
    "capsule": (219, 23, 109),
    "carpet": (280, 28, 89),
    "grid": (264, 21, 57),
    "hazelnut": (391, 40, 70),
    "leather": (245, 32, 92),
    "metal_nut": (220, 22, 93),
    "pill": (267, 26, 141),
    "screw": (320, 41, 119),
    "tile": (230, 33, 84),
    "toothbrush": (60, 12, 30),
    "transistor": (213, 60, 40),
    "wood": (247, 19, 60),
    "zipper": (240, 32, 119),
}
_CATEGORIES = tuple(_COUNTS)


def load(root: Path, category: str | None) -> pa.Table:
    """`<category>/train/good`, `test/<defect>` and `ground_truth/<defect>/<id>_mask.png`."""
    return load_mvtec_like(root, category, dataset=NAME, categories=_CATEGORIES)


SPEC = DatasetSpec(
    name=NAME,
    title="MVTec Anomaly Detection",
    load=load,
    categories=_CATEGORIES,
    markers=tuple(f"{name}/train/good" for name in _CATEGORIES),
    expected=tuple(
        entry
        for name, (train, normal, defect) in _COUNTS.items()
        for entry in expected_counts(name, train=train, test_normal=normal, test_defect=defect)
    ),
    licence="CC BY-NC-SA 4.0 (no commercial use)",
    homepage="https://www.mvtec.com/company/research/datasets/mvtec-ad",
    note="The publisher asks for a form: download mvtec_anomaly_detection.tar.xz there and unpack it into the root.",
)
