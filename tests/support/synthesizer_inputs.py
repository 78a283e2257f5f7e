"""Normal and defective images for the tests that every synthesizer goes through, and settings that make them quick."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from inpaint_inputs import SIZE, make_ceramic
from PIL import Image

from exdd_ray.data.catalog import build_catalog, catalog_rows
from exdd_ray.data.images import read_image
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.table import synthesizers

INPAINT = {"steps": 2, "prompts": ("scratch", "hole"), "size": (32, 32)}
PARTS = [
    {"share": 0.6, "synthesizer": {"kind": "per_region", "filters": None}},
    {"share": 0.4, "synthesizer": {"kind": "inpaint", "filters": None, **INPAINT}},
]
LORA = {
    "steps": 2,
    "size": (32, 32),
    "tuning": {"epochs": 2, "keep_every": 1, "repeats": 2, "training": {"batch": 2}},
}
DUAL = {
    "steps": 2,
    "size": (32, 32),
    "window": (32, 32),
    "mask": {"level": 1, "blur": 0, "closing": 0, "covers": 0},
    "tuning": {"steps": 4, "repeats": 2, "rank": 2, "shared_rank": 2, "text_rank": 2, "training": {"batch": 2}},
}
QUICK: dict[str, dict[str, object]] = {
    "inpaint": INPAINT,
    "lora": LORA,
    "dualanodiff": DUAL,
    "mixture": {"parts": PARTS},
}


def quick(kind: str, **given: object) -> SynthesizerConfig:
    """A config of a synthesizer that makes samples in a moment, all of which are kept."""
    return synthesizers()[kind].config.model_validate({"filters": None, **QUICK.get(kind, {}), **given})


def make_images(folder: Path) -> tuple[pa.Table, pa.Table]:
    """Writes three normal images, and two with a dark spot and its mask."""
    folder.mkdir(parents=True, exist_ok=True)
    normal = make_ceramic(folder)
    defects = []
    for number, row in enumerate(catalog_rows(normal)[:2]):
        image, mask = read_image(row.image), np.zeros(SIZE, dtype=bool)
        mask[20 + number : 31, 40:55] = True
        image[mask] //= 3
        names = [str(folder / f"defect {number}{end}.png") for end in ("", " mask")]
        for pixels, name in zip((image, mask.astype(np.uint8) * 255), names, strict=True):
            Image.fromarray(pixels).save(name)
        defects.append(replace(row, id=f"defect {number}", label=1, defect="spot", image=names[0], mask=names[1]))
    return normal, build_catalog(defects)
