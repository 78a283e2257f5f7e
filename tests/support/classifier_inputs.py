"""Normal and defective surfaces and a small configuration for the tests of the classifier."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.data.procedural.defects import add_defect
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.methods.classifier.config import ClassifierConfig

SIDE = 48


def surface(folder: Path, split: str, number: int, *, label: int = 0, origin: str = "real") -> CatalogRow:
    rng = np.random.default_rng([number, label, len(split)])
    image = make_surface("ceramic", (SIDE, SIDE), rng)
    mask_file = None
    name = f"{split}-{label}-{number}-{origin}"
    if label:
        image, mask = add_defect(image, "hole", rng)
        mask_file = str(folder / f"{name}_mask.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(mask_file)
    Image.fromarray(image).save(folder / f"{name}.png")
    return CatalogRow(
        id=name,
        dataset="made",
        category="ceramic",
        split=split,
        label=label,
        defect="hole" if label else "good",
        image=str(folder / f"{name}.png"),
        mask=mask_file,
        origin=origin,
    )


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory) -> pa.Table:
    folder = tmp_path_factory.mktemp("surfaces")
    rows = [surface(folder, "train", number) for number in range(16)]
    rows += [surface(folder, "train", number, label=1, origin="synthesis-x") for number in range(12)]
    rows += [surface(folder, "test", number, label=label) for number in range(8) for label in (0, 1)]
    return build_catalog(rows)


def config(**given) -> ClassifierConfig:
    features = {"layers": ["layer2"], "resize": [SIDE, SIDE], **given.pop("features", {})}
    training = {"batch": 8, "device": "cpu", **given.pop("training", {})}
    settings = {"epochs": 6, "learning_rate": 2e-3, "batchnorm": "frozen", **given}
    return ClassifierConfig.model_validate({"features": features, "training": training, **settings})
