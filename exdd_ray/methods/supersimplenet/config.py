"""Config of SuperSimpleNet, and its presets."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen, merge
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.methods.config import DetectorConfig
from exdd_ray.training.config import TrainConfig

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "features": {"backbone": "wide_resnet50_2", "aggregator": "upscaled", "resize": (256, 256)},
        "standardised": False,
        "anomalies": {"spread": 0.015},
        "adaptor_rate": 1e-4,
        "head_rate": 2e-4,
        "hidden": 1024,
        "score_channels": 128,
        "epochs": 300,
        "training": {"batch": 32},
    },
    "best": {},
}


class AnomaliesConfig(Frozen):
    """Anomalies that are made of normal features.

    Attributes:
        spread: standard deviation of the Gaussian noise that is added to features.
        level: of the Perlin noise, above which it is.
        clean_share: probability that an image is left as it is.
    """

    spread: float = Field(1.0, gt=0)
    level: float = Field(0.2, ge=0)
    clean_share: float = Field(0.5, ge=0, lt=1)


class SuperSimpleNetConfig(DetectorConfig):
    """Heads on frozen features say where and whether there is a defect; trained on noise, and on defects if any.

    Attributes:
        preset: `paper` as published; `best` has smaller heads on the bundled backbone, which a CPU trains in minutes.
        features: backbone, layers, and how vectors are made of them.
        standardised: channels are brought to mean 0 and deviation 1 of the normal training images.
        anomalies: made of normal features.
        adapted_score: the classification head looks at adapted features, as in the paper of 2024; else, as in that of
            2025, at those of the backbone.
        hidden: channels of the segmentation head.
        score_channels: of the classification head.
        margin: of the truncated L1 loss: the map is pushed below minus this, and above it on defects.
        adaptor_rate: learning rate of the adaptor.
        head_rate: of the heads. Both fall to 40 % after 80 and after 90 % of the epochs.
        epochs: of the training; where there are defects, they are repeated to as many as there are normal images.
        blur_radius: standard deviation of the anomaly map's Gaussian blur in pixels; 0 for none.
        training: the loop.
    """

    feature_options: ClassVar[tuple[str, ...]] = ("tiles",)
    kind: Literal["supersimplenet"] = "supersimplenet"
    preset: Literal["paper", "best"] = "best"
    features: FeaturesConfig = FeaturesConfig()
    standardised: bool = True
    anomalies: AnomaliesConfig = AnomaliesConfig()
    adapted_score: bool = False
    hidden: int = Field(256, ge=1)
    score_channels: int = Field(32, ge=1)
    margin: float = Field(0.5, gt=0)
    adaptor_rate: float = Field(5e-4, gt=0)
    head_rate: float = Field(1e-3, gt=0)
    epochs: int = Field(10, ge=1)
    blur_radius: float = Field(4.0, ge=0)
    training: TrainConfig = TrainConfig(batch=16)

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the preset's values."""
        return merge(PRESETS.get(given.get("preset", "best"), {}), given)

    @model_validator(mode="after")
    def _consistent(self) -> "SuperSimpleNetConfig":
        if self.training.validate_every != TrainConfig().validate_every:
            raise ValueError("training.validate_every is not used by supersimplenet: the last weights are taken")
        return self

    def aside(self) -> Iterator[str]:
        """What is not used."""
        yield "training.validate_every"

    @property
    def geometry(self) -> FeaturesConfig:
        """How images and masks are laid over the anomaly maps."""
        return self.features
