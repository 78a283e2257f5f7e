"""Config of the localiser of AnomalyDiffusion and DualAnoDiff, and its presets."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import merge
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.methods.config import DetectorConfig, Preset, SegmentationConfig
from exdd_ray.training.config import TrainConfig

Scale = Literal["full", "small"]

PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "paper": {"defects": "synthetic", "checkpoint": "last"},
    "released": {"defects": "synthetic", "checkpoint": "test", "validate_epochs": 1, "antialias": False},
    "best": {"checkpoint": "validation"},
}

SCALES: Mapping[Scale, Mapping[str, Any]] = {
    "full": {},
    "small": {
        "size": 64,
        "network": {"base": 8, "multipliers": (1, 2, 4, 8)},
        "pool": 5,
        "learning_rate": 3e-3,
        "epochs": 20,
    },
}


class LocaliserConfig(DetectorConfig):
    """A U-Net that says of every pixel whether it is anomalous, trained on normal images and on defects with masks.

    Attributes:
        kind: of the detector: trained on masks.
        preset: `paper` as published, with the last checkpoint; `released` as the authors' code computes it: the
            checkpoint chosen on the test images (a leak; the report says so), which are reduced without smoothing;
            `best` chooses checkpoint and threshold on training images that it holds out.
        scale: `full` as published, or a `small` network and images for CPUs.
        size: side of the images in pixels.
        antialias: images that are tested are smoothed as they are resized, as those trained on always are; else
            bilinear, as OpenCV does.
        network: the U-Net's channels.
        defects: that are trained on: `all`, or the `synthetic` ones alone, as published: the real ones are left to the
            synthesizer.
        normal_share: probability that a training sample is a normal image; else it is a defect of a kind at random.
        learning_rate: of Adam; a fifth of it after 80 % of the epochs, and a fifth of that after 90 %.
        epochs: of the training.
        draws: samples of an epoch.
        pool: side in pixels of the window whose mean is taken; an image's score is the largest mean.
        checkpoint: `last`, the best on `validation`, or the best on `test` (for preset=released only).
        validate_epochs: epochs between two validations.
        holdout: share of the training images of each class and origin that `validation` holds out.
        training: the loop.
    """

    kind: Literal["localiser"] = "localiser"
    preset: Preset = "best"
    scale: Scale = "full"
    size: int = Field(256, ge=16)
    antialias: bool = True
    network: SegmentationConfig = SegmentationConfig()
    defects: Literal["all", "synthetic"] = "all"
    normal_share: float = Field(0.5, gt=0, lt=1)
    learning_rate: float = Field(1e-4, gt=0)
    epochs: int = Field(200, ge=1)
    draws: int = Field(500, ge=1)
    pool: int = Field(21, ge=1)
    checkpoint: Literal["last", "validation", "test"] = "validation"
    validate_epochs: int = Field(5, ge=1)
    holdout: float = Field(0.2, gt=0, lt=1)
    training: TrainConfig = TrainConfig(batch=16)

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the preset's values."""
        preset = PRESETS.get(given.get("preset", "best"), {})
        return merge(merge(preset, SCALES.get(given.get("scale", "full"), {})), given)

    @model_validator(mode="after")
    def _consistent(self) -> "LocaliserConfig":
        halvings = len(self.network.multipliers) - 1
        if self.size % (1 << halvings):
            raise ValueError(f"size {self.size} cannot be halved {halvings} times (network)")
        if self.pool % 2 == 0 or self.pool > self.size:
            raise ValueError(f"pool {self.pool}: an odd number of pixels, at most the size {self.size}")
        if self.draws < self.training.batch:
            raise ValueError(f"draws {self.draws} of an epoch are fewer than a batch of {self.training.batch}")
        if self.checkpoint == "test" and self.preset != "released":
            raise ValueError("checkpoint=test is a leak, kept for preset=released: use validation or last")
        if self.training.validate_every != TrainConfig().validate_every:
            raise ValueError("training.validate_every is not used by a localiser: set validate_epochs")
        return self

    def aside(self) -> Iterator[str]:
        """What fills other values, and what is not used."""
        yield from ("scale", "training.validate_every")
        if self.checkpoint != "validation":
            yield "holdout"
        if self.checkpoint == "last":
            yield "validate_epochs"

    @property
    def geometry(self) -> FeaturesConfig:
        """How images and masks are laid over the anomaly maps."""
        size = (self.size, self.size)
        return FeaturesConfig(working_size=None if self.antialias else size, resize=size)
