"""What methods give on made images, as it was when the stages' versions were last raised.

Artifacts that take long to make are named by a version, not by the code that made them. Where a number here changes,
some stage's numbers have: raise the VERSION that stands beside it, or old artifacts of every user's store are read on.
"""

import numpy as np
import pytest
from classifier_inputs import surface

from exdd_ray.data.catalog import build_catalog, select_rows
from exdd_ray.experiment.session import Session
from exdd_ray.methods.method import TrainingImages
from exdd_ray.methods.table import methods
from exdd_ray.store.artifact import Store

SMALL = {"features": {"resize": [48, 48]}}
BANK = "features/slices.py (embed), banks/memory_bank.py (bank), methods/patch_bank/nearest.py (nearest"
CASES = {
    "one bank": (
        {"kind": "patch_bank", "system": "patchcore", "bank": {"negative": {"rate": 0.1}}, **SMALL},
        f"{BANK})",
        (8.444924, 1.725763, 7.141458),
    ),
    "two banks, published": (
        {
            "kind": "patch_bank",
            "preset": "paper",
            "features": {"backbone": "surface_resnet18", "working_size": None, "resize": [48, 48]},
            "positives": {"crop_size": [32, 32]},
        },
        f"{BANK}, neighbours)",
        (1.299781, 0.306404, 0.58438),
    ),
    "two banks, bonus": (
        {
            "kind": "patch_bank",
            "bank": {"negative": {"rate": 0.1}, "positive": {"minimum": 1}},
            "scoring": {"fusion": "bonus"},
            **SMALL,
        },
        f"{BANK})",
        (2.170152, 2.740922, 0.461549),
    ),
    "two banks": (
        {"kind": "patch_bank", "bank": {"negative": {"rate": 0.1}}, **SMALL},
        f"{BANK}), methods/patch_bank/evidence.py",
        (2.89762, 3.178637, 0.591078),
    ),
    "padim": (
        {"kind": "padim", **SMALL},
        "features/slices.py (embed), methods/padim/detector.py",
        (75.898918, 20.650682, 50.662753),
    ),
    "classifier": (
        {
            "kind": "classifier",
            "features": {"layers": ["layer2"], "resize": [48, 48]},
            "epochs": 2,
            "training": {"batch": 8, "device": "cpu"},
        },
        "methods/classifier/classifier.py, training",
        (0.320206, 0.332428, 0.320206),
    ),
    "diffusionad": (
        {
            "kind": "diffusionad",
            "size": 64,
            "reconstruction": {
                "base": 8,
                "multipliers": [1, 2],
                "layers": 1,
                "attention": [32],
                "heads": 2,
                "groups": 4,
            },
            "segmentation": {"base": 4, "multipliers": [1, 2, 2]},
            "steps": 3,
            "training": {"batch": 2, "ema": None, "device": "cpu"},
        },
        "methods/diffusionad/detector.py, synthesizers (chunk), training",
        (0.542086, 6.4e-05, 0.538579),
    ),
    "localiser": (
        {
            "kind": "localiser",
            "size": 48,
            "network": {"base": 4, "multipliers": [1, 2, 2]},
            "pool": 5,
            "learning_rate": 5e-3,
            "epochs": 6,
            "draws": 32,
            "training": {"batch": 8, "device": "cpu"},
        },
        "methods/localiser/detector.py, training",
        (0.340036, 0.001145, 0.290439),
    ),
    "supersimplenet": (
        {
            "kind": "supersimplenet",
            "hidden": 16,
            "score_channels": 8,
            "epochs": 2,
            "training": {"batch": 8, "device": "cpu"},
            **SMALL,
        },
        "methods/supersimplenet/detector.py, training",
        (0.021333, 0.657879, -0.595093),
    ),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    train = [
        surface(folder, "train", number, label=label) for label, count in ((0, 16), (1, 8)) for number in range(count)
    ]
    return build_catalog(
        train + [surface(folder, "test", number, label=label) for number in range(6) for label in (0, 1)]
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("one_thread")
def test_the_numbers_are_those_of_the_versions(case, images, tmp_path):
    given, versions, expected = CASES[case]
    method = methods()[given["kind"]]
    config = method.config.model_validate(given)
    train, test = (select_rows(images, split=name) for name in ("train", "test"))
    fitted = method.fit(config, TrainingImages(images, train, test), Session(Store(tmp_path)), 0)
    found = fitted.predict(test)
    summary = (found.scores.mean(), found.scores.std(), np.asarray(found.patch_maps, dtype=np.float64).mean())
    assert np.allclose(summary, expected, rtol=5e-3, atol=1e-5), (
        f"the scores of {case} changed from {expected} to {tuple(round(float(v), 6) for v in summary)}: raise the "
        f"VERSION of the stage that changed, of {versions}"
    )
