"""Valeo Anomaly Dataset (Baitieva et al. 2024)."""

from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import build_catalog
from exdd_ray.data.datasets.layout import require_folders, scan_mvtec_like
from exdd_ray.data.datasets.spec import DatasetSpec, Expected

NAME = "vad"


def load(root: Path, _category: str | None) -> pa.Table:
    """`train/{good,bad}` and `test/{good,bad,bad_unseen_defects}`; there are no masks.

    The defects of `bad_unseen_defects` are of kinds that are not in train.
    """
    require_folders(root, ("train", "test"))
    return build_catalog(scan_mvtec_like(root, root, dataset=NAME, category=NAME))


SPEC = DatasetSpec(
    name=NAME,
    title="Valeo Anomaly Dataset (VAD)",
    load=load,
    categories=(NAME,),
    markers=("test/bad_unseen_defects",),
    expected=tuple(
        Expected(category=NAME, split=split, label=label, images=images)
        for split, label, images in (("train", 0, 2000), ("train", 1, 1000), ("test", 0, 1000), ("test", 1, 1000))
    ),
    licence="CC BY-NC-SA 4.0 (no commercial use)",
    homepage="https://github.com/abc-125/vad",
    note="The publisher shares an archive without a lasting address: download it there and unpack it so that the root "
    "has train/ and test/. dataset.split.defects=0 is the one-class protocol.",
)
