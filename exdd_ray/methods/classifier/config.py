"""Config of the image classifier (DIAG, In&Out) and its presets."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen, merge
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.methods.config import DetectorConfig
from exdd_ray.metrics.threshold import ThresholdRule
from exdd_ray.training.config import TrainConfig

ClassifierPreset = Literal["diag", "in_and_out", "released", "best"]

_RESNET50 = {"backbone": "resnet50", "layers": ("layer4",)}
_DIAG: Mapping[str, Any] = {
    "features": {**_RESNET50, "working_size": (632, 224), "resize": (704, 256)},
    "optimizer": "adam",
    "learning_rate": 1e-4,
    "training": {"batch": 32},
    "checkpoint": "last",
    "batchnorm": "trained",
    "threshold": "midpoint",
}

CLASSIFIER_PRESETS: Mapping[ClassifierPreset, Mapping[str, Any]] = {
    "diag": {**_DIAG, "epochs": 50},
    "released": {**_DIAG, "epochs": 30, "batchnorm": "released", "labels": "full_mask"},
    "in_and_out": {
        "features": {**_RESNET50, "resize": (600, 200), "fit": "cut"},
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "training": {"batch": 5},
        "epochs": 50,
        "checkpoint": "last",
        "batchnorm": "trained",
        "threshold": "score",
    },
    "best": {"features": {"backbone": "surface_resnet18", "layers": ("layer3",)}, "training": {"batch": 16}},
}


_WHERE = {
    "features.precision": " (training.precision is)",
    "training.validate_every": ", which validates once an epoch",
    "holdout": " unless checkpoint=validation",
}


class ClassifierConfig(DetectorConfig):
    """A network with one logit, trained on image labels. The preset fills what is not given.

    Attributes:
        kind: of the detector: trained on image labels.
        preset: `diag` and `in_and_out` as published, `released` as DIAG's code computes it, `best` chooses its
            checkpoint and its threshold on training images that it holds out.
        features: backbone, its weights and the images' geometry; the logit reads the mean of its one layer.
        optimizer: Adam, or SGD without momentum; neither with weight decay.
        learning_rate: constant.
        epochs: passes over the training images.
        batchnorm: `trained` statistics and scales; `frozen` statistics, for folded weights or small batches;
            `released` as with DIAG: the whole network in evaluation mode from the second epoch on.
        checkpoint: after which epoch the weights are taken: the `last`, or the best by the loss on held-out training
            images (`validation`).
        holdout: share of the training images of each class and origin that `validation` holds out.
        labels: of the `catalog`; or by `full_mask`, as released with DIAG: an image is defective where its mask has a
            pixel that is still full at the network's size.
        threshold: where between two scores F1-max puts the threshold.
        training: the loop; it validates once an epoch.
    """

    kind: Literal["classifier"] = "classifier"
    preset: ClassifierPreset = "best"
    features: FeaturesConfig
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(5e-4, gt=0)
    epochs: int = Field(30, ge=1)
    batchnorm: Literal["trained", "frozen", "released"] = "trained"
    checkpoint: Literal["last", "validation"] = "validation"
    holdout: float = Field(0.2, gt=0, lt=1)
    labels: Literal["catalog", "full_mask"] = "catalog"
    threshold: Literal["score", "midpoint"] = "midpoint"
    training: TrainConfig = TrainConfig(batch=16)

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the preset's values."""
        return merge(CLASSIFIER_PRESETS.get(given.get("preset", "best"), {}), given)

    @model_validator(mode="after")
    def _consistent(self) -> "ClassifierConfig":
        if len(self.features.layers) != 1:
            raise ValueError(f"a classifier reads one layer, not {len(self.features.layers)}: set features.layers")
        if self.batchnorm == "released" and self.training.workers > 1:
            raise ValueError("batchnorm=released reads running statistics that workers do not share: set workers=1")
        for name, given, unused in self._inert():
            if given != unused:
                raise ValueError(f"{name}={given} is not used by a classifier{_WHERE.get(name, '')}: unset it")
        return self

    def aside(self) -> Iterator[str]:
        """What a classifier does not use."""
        yield from (name for name, _, _ in self._inert())

    def _inert(self) -> Iterator[tuple[str, object, object]]:
        """Keys that this config does not use, with their values and defaults."""
        models: list[tuple[str, Frozen, tuple[str, ...]]] = [
            ("features.", self.features, ("aggregator", "channels", "unit_length", "dtype", "precision")),
            ("training.", self.training, ("validate_every",)),
        ]
        if self.checkpoint != "validation":
            models.append(("", self, ("holdout",)))
        for prefix, model, names in models:
            for name in names:
                yield f"{prefix}{name}", getattr(model, name), type(model).model_fields[name].default

    @property
    def threshold_rule(self) -> ThresholdRule:
        """Where between two scores F1-max puts the threshold."""
        return self.threshold

    @property
    def geometry(self) -> FeaturesConfig:
        """How images and masks are laid over the anomaly maps."""
        return self.features
