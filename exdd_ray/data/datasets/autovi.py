"""Automotive Visual Inspection dataset (Carvalho et al. 2024)."""

from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import with_reading
from exdd_ray.data.datasets.layout import load_mvtec_like
from exdd_ray.data.datasets.spec import DatasetSpec, Source, expected_counts

NAME = "autovi"
_CHECKSUMS = {
    "engine_wiring": "252590d3249f7fbdf83a7e9b735ef0df175adc218460247e9a63bef1c03d420c",
    "pipe_clip": "955bb17b3a471e23979f46f998a4723acd00cf3afc4d5edf0578dfb6ea80d6c3",
    "pipe_staple": "fb9287f2cc86d660310e9886fdebbe2bd17269e853e29d06d708c6a996df1b18",
    "tank_screw": "48d7193164b36de03cc10c9f7b1b64ea98a0ce7aa57867c8f1d96341c497b4b0",
    "underbody_pipes": "fc1e53336d46fb2317d71e95c011bac012b609f2898fdb02780c920c19a113c7",
    "underbody_screw": "3e9bf6a43033a22c7c9f927a43c392a3b037d22580a27a48d379d4504d9cc6cf",
}
_CATEGORIES = tuple(_CHECKSUMS)
# Train, normal test and defective test images. Of pipe_clip and pipe_staple the paper and the archives differ.
_COUNTS = {
    "engine_wiring": (285, 285, 322),
    "tank_screw": (318, 318, 95),
    "underbody_pipes": (161, 161, 184),
    "underbody_screw": (373, 374, 18),
}


def load(root: Path, category: str | None) -> pa.Table:
    """`<category>/train/good`, `test/<defect>` and the masks in `ground_truth/<defect>/<id>/0000.png`, one a defect.

    A mask's values are the numbers of kinds of defects: every non-zero pixel is defective.
    """
    return with_reading(load_mvtec_like(root, category, dataset=NAME, categories=_CATEGORIES), 0, None)


SPEC = DatasetSpec(
    name=NAME,
    title="Automotive Visual Inspection (AutoVI), first edition",
    load=load,
    categories=_CATEGORIES,
    markers=tuple(f"{name}/train/good" for name in _CATEGORIES),
    expected=tuple(
        entry
        for name, (train, normal, defect) in _COUNTS.items()
        for entry in expected_counts(name, train=train, test_normal=normal, test_defect=defect)
    ),
    licence="CC BY-NC-SA 4.0 (no commercial use)",
    homepage="https://doi.org/10.5281/zenodo.10459003",
    sources=tuple(
        Source(
            url=f"https://zenodo.org/records/10459003/files/{name}.zip?download=1",
            filename=f"autovi_{name}.zip",
            checksum=f"sha256:{checksum}",
        )
        for name, checksum in _CHECKSUMS.items()
    ),
)
