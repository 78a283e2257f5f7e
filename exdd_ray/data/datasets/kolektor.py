"""Kolektor Surface-Defect Dataset, the first one (Tabernik, Sela, Skvarc, Skocaj 2020)."""

from pathlib import Path

import pyarrow as pa

from exdd_ray.data.catalog import GOOD, UNSPLIT, CatalogRow, build_catalog
from exdd_ray.data.datasets.layout import any_defect
from exdd_ray.data.datasets.spec import DatasetSpec, Expected, Source
from exdd_ray.data.files import list_images

NAME = "kolektor"
_MASK_ENDING = "_label"


def load(root: Path, _category: str | None) -> pa.Table:
    """`kos01` .. `kos50` with `Part<n>.jpg` and `Part<n>_label.bmp`; all `unsplit`.

    An image is defective where its mask has a non-zero pixel (its label is written nowhere else), so this loader
    opens the masks.
    """
    images = [path for folder in sorted(root.glob("kos*")) for path in list_images(folder) if path.suffix != ".bmp"]
    masks = [path.with_name(path.stem + _MASK_ENDING + ".bmp") for path in images]
    return build_catalog(
        CatalogRow(
            id=image.relative_to(root).as_posix(),
            dataset=NAME,
            category=NAME,
            split=UNSPLIT,
            label=int(defective),
            defect="defect" if defective else GOOD,
            image=str(image),
            mask=str(mask) if defective else None,
            mask_threshold=0,
        )
        for image, mask, defective in zip(images, masks, any_defect(masks), strict=True)
    )


SPEC = DatasetSpec(
    name=NAME,
    title="Kolektor Surface-Defect Dataset",
    load=load,
    categories=(NAME,),
    markers=("kos*/Part*.jpg",),
    expected=(
        Expected(category=NAME, split=None, label=0, images=347),
        Expected(category=NAME, split=None, label=1, images=52),
    ),
    licence="CC BY-NC-SA 4.0 (no commercial use)",
    homepage="https://www.vicos.si/resources/kolektorsdd/",
    sources=(
        Source(
            url="https://go.vicos.si/kolektorsdd",
            filename="KolektorSDD.zip",
            checksum="sha256:65dc621693418585de9c4467d1340ea7958a6181816f0dc2883a1e8b61f9d4dc",
        ),
    ),
    related="images of one folder show the same part",
    note="Images of one kos folder show one part: the published 3-fold split keeps a part together, ours does not.",
)
