"""Small datasets on disk, in the layouts of their publishers."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from exdd_ray.data.catalog import catalog_rows
from exdd_ray.data.procedural.surfaces import make_surface


def put(path: Path, value: int | None = None, at: tuple[int, int] = (2, 3)) -> Path:
    """An image; with a value, a mask whose one pixel has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if value is None:
        pixels = np.random.default_rng(len(str(path))).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    else:
        pixels = np.zeros((6, 8), np.uint8)
        pixels[at] = value
    Image.fromarray(pixels).save(path)
    return path


def summary(catalog: pa.Table) -> dict[str, tuple[str, int, str, str | None]]:
    """Of each image by its id the split, label, kind and the name of its mask."""
    return {
        row.id: (row.split, row.label, row.defect, None if row.mask is None else Path(row.mask).name)
        for row in catalog_rows(catalog)
    }


def ad_2(root: Path) -> Path:
    can = root / "can"
    put(can / "train" / "good" / "000_regular.png")
    put(can / "validation" / "good" / "000_regular.png")
    put(can / "test_public" / "good" / "000_overexposed.png")
    for name in ("000_shift_1", "001_regular"):
        put(can / "test_public" / "bad" / f"{name}.png")
        put(can / "test_public" / "ground_truth" / "bad" / f"{name}_mask.png", 255)
    put(can / "test_private" / "000_regular.png")
    put(can / "test_private_mixed" / "000_mixed.png")
    return root


def loco(root: Path) -> Path:
    bag = root / "screw_bag"
    put(bag / "train" / "good" / "000.png")
    put(bag / "validation" / "good" / "000.png")
    put(bag / "test" / "good" / "000.png")
    for kind in ("logical_anomalies", "structural_anomalies"):
        put(bag / "test" / kind / "000.png")
    put(bag / "ground_truth" / "logical_anomalies" / "000" / "000.png", 255, at=(2, 3))
    put(bag / "ground_truth" / "logical_anomalies" / "000" / "001.png", 254, at=(4, 5))
    put(bag / "ground_truth" / "structural_anomalies" / "000" / "000.png", 240)
    return root


def autovi(root: Path) -> Path:
    clip = root / "pipe_clip"
    put(clip / "train" / "good" / "0000.png")
    put(clip / "test" / "good" / "0001.png")
    put(clip / "test" / "unclipped" / "0089.png")
    put(clip / "ground_truth" / "unclipped" / "0089" / "0000.png", 2)
    (clip / "defects_config.json").write_text("[]")
    return root


def vad(root: Path) -> Path:
    for place in ("train/good", "train/bad", "test/good", "test/bad", "test/bad_unseen_defects"):
        put(root / place / "0.png")
    put(root / "low_shot_train" / "10" / "bad" / "0.png")
    return root


FAULTY = "NG/HS/S0002/usb_0002_NG_HS_C1"


def sample(kind: str, image: str, mask: str | None = None) -> dict[str, str | None]:
    return {"category": "usb", "anomaly_class": kind, "image_path": f"{image}.jpg", "mask_path": mask}


def real_iad(root: Path, lists: str = "realiad_jsons", size: str = "realiad_1024") -> Path:
    """Two images of one category; the publishers' lists name those of every category."""
    listed = {
        "meta": {"prefix": "usb/", "normal_class": "OK", "pre_transform": None},
        "train": [sample("OK", "OK/S0001/usb_0001_OK_C1")],
        "test": [
            sample("OK", "OK/S0003/usb_0003_OK_C1"),
            sample("OK", "NG/HS/S0002/usb_0002_NG_HS_C2"),
            sample("HS", FAULTY, f"{FAULTY}_mask.png"),
        ],
    }
    (root / lists).mkdir(parents=True, exist_ok=True)
    for name in ("usb", "zipper"):
        (root / lists / f"{name}.json").write_text(json.dumps(listed))
    for entry in [*listed["train"], *listed["test"]]:
        put(root / size / "usb" / entry["image_path"])
    put(root / size / "usb" / f"{FAULTY}_mask.png", 255)
    return root


def elpv(root: Path, more: Sequence[str] = ()) -> Path:
    """Five cells, and more by their lines' ends."""
    lines = ["0.0 mono", "0.3333333333333333 mono", "0.6666666666666666 mono", "1.0 poly", "0.0 poly", *more]
    for number in range(len(lines)):
        put(root / "images" / f"cell{number:04}.png")
    listed = [f"images/cell{number:04}.png  {line}" for number, line in enumerate(lines)]
    (root / "labels.csv").write_text("\n".join(listed) + "\n")
    return root


def ksdd2(root: Path, *, normal: int = 6, defective: int = 6, tested: int = 3) -> Path:
    """Tall surfaces with dark spots: so many normal and defective ones in train, and `tested` of each in test."""
    size = (96, 32)
    for split, counts in (("train", (normal, defective)), ("test", (tested, tested))):
        for number in range(sum(counts)):
            rng = np.random.default_rng([len(split), number])
            image, mask = make_surface("ceramic", size, rng), np.zeros(size, np.uint8)
            if number >= counts[0]:
                top, left = rng.integers((0, 0), np.subtract(size, 12))
                mask[top : top + 12, left : left + 12] = 255
                image[mask > 0] //= 3
            for pixels, name in ((image, f"{number}.png"), (mask, f"{number}_GT.png")):
                (root / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / split / name)
    return root
