"""The classifier's presets, and the settings that contradict each other."""

import pytest
from pydantic import ValidationError

from exdd_ray.methods.classifier.config import ClassifierConfig


def test_presets_have_the_published_constants():
    diag, ours = ClassifierConfig(preset="diag"), ClassifierConfig()
    assert (diag.features.backbone, diag.features.layers, diag.features.resize) == ("resnet50", ("layer4",), (704, 256))
    assert (diag.optimizer, diag.learning_rate, diag.training.batch, diag.epochs) == ("adam", 1e-4, 32, 50)
    assert (diag.checkpoint, diag.batchnorm, diag.threshold) == ("last", "trained", "midpoint")
    released = ClassifierConfig(preset="released")
    assert (released.epochs, released.batchnorm, released.checkpoint) == (30, "released", "last")
    assert (released.labels, diag.labels) == ("full_mask", "catalog")
    for preset in (diag, released):
        assert (preset.features.working_size, preset.features.resize) == ((632, 224), (704, 256))
    in_and_out = ClassifierConfig(preset="in_and_out", epochs=3)
    assert (in_and_out.optimizer, in_and_out.learning_rate, in_and_out.training.batch) == ("sgd", 0.01, 5)
    assert (in_and_out.epochs, in_and_out.threshold) == (3, "score")
    assert (in_and_out.features.fit, in_and_out.features.resize) == ("cut", (600, 200))
    assert (ours.checkpoint, ours.features.backbone) == ("validation", "surface_resnet18")


def test_contradictory_settings_are_refused():
    for preset in ("diag", "released"):  # the authors only log what the test images say of an epoch
        with pytest.raises(ValidationError, match="checkpoint"):
            ClassifierConfig(preset=preset, checkpoint="test")
    for wrong, why in (
        ({"training": {"validate_every": 5}}, "training.validate_every=5 is not used by a classifier"),
        ({"features": {"layers": ["layer3"], "dtype": "float16"}}, "features.dtype=float16 is not used"),
        ({"features": {"layers": ["layer3"], "precision": "bfloat16"}}, "training.precision is"),
        ({"features": {"layers": ["layer3"], "aggregator": "exdd"}}, "features.aggregator=exdd is not used"),
        ({"checkpoint": "last", "holdout": 0.3}, "holdout=0.3 is not used by a classifier unless"),
        ({"preset": "released", "training": {"workers": 2}}, "batchnorm=released reads running statistics"),
    ):
        with pytest.raises(ValidationError, match=why):
            ClassifierConfig.model_validate(wrong)
    resolved = ClassifierConfig(preset="diag")
    assert ClassifierConfig.model_validate(resolved.model_dump(mode="json")) == resolved
    with pytest.raises(ValidationError, match="reads one layer, not 2"):
        ClassifierConfig.model_validate({"features": {"layers": ["layer2", "layer3"]}})
