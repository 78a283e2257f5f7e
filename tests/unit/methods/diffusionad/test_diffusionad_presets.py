"""DiffusionAD's presets and scales."""

import numpy as np
import pytest
from pydantic import ValidationError

from exdd_ray.methods.diffusionad.config import DiffusionADConfig
from exdd_ray.methods.diffusionad.inference import scaled


def test_presets_have_their_oddities():
    paper, released, best = (DiffusionADConfig(preset=preset) for preset in ("paper", "released", "best"))
    assert released.diffusion.strong == (300, 999)
    assert (released.diffusion.image_range, paper.diffusion.image_range) == ("unit", "signed")
    assert (paper.diffusion.noise_loss, released.diffusion.noise_loss) == ("mean", "sum")
    assert (paper.checkpoint, released.checkpoint, best.checkpoint) == ("last", "test", "validation")
    assert released.training.ema is None
    assert best.training.ema is not None
    assert best.inference.noise == "seeded"
    assert (released.training.batch, released.epochs, released.unet_rate, released.segmentation_rate) == (
        16,
        3000,
        1e-4,
        1e-5,
    )
    white = np.full((1, 2, 2, 3), 255, dtype=np.uint8)
    assert scaled(white * 0, "unit").min() == 0
    assert scaled(white * 0, "signed").min() == -1
    assert scaled(white, "unit").max() == scaled(white, "signed").max() == 1
    small = DiffusionADConfig(scale="small", size=64)
    assert small.size == 64
    assert small.reconstruction.base < best.reconstruction.base


def test_a_small_scale_leaves_a_preset_what_it_is_about():
    emas = {name: DiffusionADConfig(preset=name, scale="small").training.ema for name in ("paper", "released", "best")}
    assert emas == {"paper": None, "released": None, "best": 0.99}
    assert DiffusionADConfig(preset="paper", scale="small", training={"ema": 0.9}).training.ema == 0.9
    assert DiffusionADConfig(scale="small").steps == 1500
    by_epochs = DiffusionADConfig(scale="small", epochs=7)
    assert (by_epochs.epochs, by_epochs.steps) == (7, None)
    assert DiffusionADConfig(scale="small", epochs=7, steps=9).steps == 9
    for chosen in (by_epochs, DiffusionADConfig(scale="small"), DiffusionADConfig(preset="released", scale="small")):
        assert DiffusionADConfig.model_validate(chosen.model_dump(mode="json")) == chosen


def test_the_test_images_choose_for_the_released_preset_alone():
    for preset in ("paper", "best"):
        with pytest.raises(ValidationError, match="a leak, kept for preset=released"):
            DiffusionADConfig(preset=preset, checkpoint="test")
    with pytest.raises(ValidationError, match="validate_every is not used where validate_epochs is given"):
        DiffusionADConfig(validate_epochs=2, training={"validate_every": 7})
