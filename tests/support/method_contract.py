"""Images, and a config of seconds, for every method of the table: what the contract suites put them through."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from exdd_ray.data.catalog import CatalogRow, build_catalog, select_rows
from exdd_ray.data.procedural.defects import add_defect
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.experiment.session import Session
from exdd_ray.methods.config import DetectorConfig
from exdd_ray.methods.method import Fitted, TrainingImages
from exdd_ray.methods.table import methods
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Store

SIDE = 64
TRAINING = {"batch": 4, "device": "cpu", "checkpoint_every": 2}
# What makes a method small enough beside SMALLER; one that is not here needs nothing.
SETTINGS: dict[str, dict[str, Any]] = {
    "patch_bank": {"system": "exdd", "bank": {"negative": {"rate": 0.1}, "positive": {"rate": 0.5}}},
    "classifier": {"epochs": 2, "batchnorm": "frozen", "features": {"layers": ["layer2"]}},
    "diffusionad": {
        "size": SIDE,
        "reconstruction": {"base": 8, "multipliers": [1, 2], "layers": 1, "attention": [32], "heads": 2, "groups": 4},
        "segmentation": {"base": 4, "multipliers": [1, 2, 2]},
        "steps": 5,
        "held_out": 0.25,
    },
    "localiser": {
        "size": SIDE,
        "network": {"base": 4, "multipliers": [1, 2, 2]},
        "pool": 5,
        "epochs": 2,
        "draws": 16,
        "validate_epochs": 1,
    },
    "supersimplenet": {"hidden": 16, "score_channels": 8, "epochs": 2},
}


def small(kind: str) -> DetectorConfig:
    """A method's config, small: 64 pixels, few steps, on this processor."""
    config = methods()[kind].config
    given = dict(SETTINGS.get(kind, {}))
    if "features" in config.model_fields:
        given["features"] = {"resize": [SIDE, SIDE], **given.get("features", {})}
    if "training" in config.model_fields:
        given["training"] = TRAINING
    return config.model_validate(given)


def made_images(folder: Path) -> pa.Table:
    """Twelve normal and six defective images with masks to train on, eight to test."""
    rows = [_image(folder, "train", number, label=int(number >= 12)) for number in range(18)]
    return build_catalog([*rows, *(_image(folder, "test", 20 + number, label=number % 2) for number in range(8))])


def _image(folder: Path, split: str, number: int, *, label: int) -> CatalogRow:
    rng = np.random.default_rng(number)
    image, file, mask_file = make_surface("ceramic", (SIDE, SIDE), rng), folder / f"{number:02d}.png", None
    if label:
        image, mask = add_defect(image, "hole", rng)
        mask_file = str(folder / f"{number:02d}_mask.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(mask_file)
    Image.fromarray(image).save(file)
    defect = "hole" if label else "good"
    shown = {"split": split, "label": label, "defect": defect, "image": str(file), "mask": mask_file}
    return CatalogRow(id=file.stem, dataset="made", category="ceramic", **shown)


def training_images(config: DetectorConfig, universe: pa.Table) -> TrainingImages:
    """Of all images, those that a method learns from, and those to test."""
    train = select_rows(universe, split="train")
    if not methods()[config.kind].learns_from(config).defects:
        train = select_rows(train, label=0)
    return TrainingImages(universe, train, select_rows(universe, split="test"))


def fit(config: DetectorConfig, images: TrainingImages, store: Store, progress: Progress = silent) -> Fitted:
    """The detector that a method fits, in this process."""
    return methods()[config.kind].fit(config, images, Session(store, progress), 0)
