"""Normal images and a tiny configuration for the tests of DiffusionAD."""

import numpy as np
import pytest

from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.methods.diffusionad.config import DiffusionADConfig

TINY = {
    "size": 64,
    "reconstruction": {"base": 8, "multipliers": (1, 2), "layers": 1, "attention": (32,), "heads": 2, "groups": 4},
    "segmentation": {"base": 4, "multipliers": (1, 2, 2)},
    "unet_rate": 2e-3,
    "segmentation_rate": 1e-2,
    "steps": 3,
    "held_out": 0.25,
    "training": {"batch": 2, "ema": None, "device": "cpu"},
}


def tiny(**over: object) -> DiffusionADConfig:
    return DiffusionADConfig.model_validate({**TINY, **over})


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([make_surface("ceramic", (64, 64), np.random.default_rng(i)) for i in range(8)])
