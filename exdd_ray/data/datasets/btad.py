"""beanTech Anomaly Detection dataset (Mishra et al. 2021)."""

from pathlib import Path

import pyarrow as pa

from exdd_ray.data.datasets.layout import load_mvtec_like
from exdd_ray.data.datasets.spec import DatasetSpec, Source, expected_counts

NAME = "btad"
_COUNTS = {"01": (400, 21, 49), "02": (399, 30, 200), "03": (1000, 400, 41)}
_CATEGORIES = tuple(_COUNTS)


def load(root: Path, category: str | None) -> pa.Table:
    """`<category>/train/ok`, `test/ok`, `test/ko` and `ground_truth/ko`; images and masks are .png or .bmp, mixed."""
    return load_mvtec_like(root, category, dataset=NAME, categories=_CATEGORIES)


SPEC = DatasetSpec(
    name=NAME,
    title="beanTech Anomaly Detection",
    load=load,
    categories=_CATEGORIES,
    markers=tuple(f"{name}/train/ok" for name in _CATEGORIES),
    expected=tuple(
        entry
        for name, (train, normal, defect) in _COUNTS.items()
        for entry in expected_counts(name, train=train, test_normal=normal, test_defect=defect)
    ),
    licence="not stated where it is downloaded; ask the authors before any other use than research",
    homepage="https://github.com/pankajmishra000/VT-ADL",
    sources=(
        Source(
            url="https://avires.dimi.uniud.it/papers/btad/btad.zip",
            filename="btad.zip",
            checksum="sha256:461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
        ),
    ),
)
