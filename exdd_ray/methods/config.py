"""What every detector's config has."""

from abc import abstractmethod
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.metrics.threshold import ThresholdRule

Preset = Literal["paper", "released", "best"]  # as most methods have them


class DetectorConfig(Frozen):
    """A detector's config; a method's own class names its `kind` and the presets that it has.

    Attributes:
        kind: of the method, as its folder is named.
        preset: `paper` as published, `released` as the authors' code computes it, `best` what measurements support.
    """

    makes_anomalies: ClassVar[str] = ""  # key of the anomalies that it makes itself, where a synthesizer has no use
    feature_options: ClassVar[tuple[str, ...]] = ()  # those of `features` that it takes, of what not all can
    kind: str
    preset: str

    @model_validator(mode="after")
    def _feature_options(self) -> "DetectorConfig":
        for name in ("foreground", "layers_apart", "tiles", "pad"):
            if getattr(self.geometry, name) and name not in self.feature_options:
                raise ValueError(f"features.{name} is not for detector.kind={self.kind}, but for patch_bank: unset it")
        return self

    @property
    @abstractmethod
    def geometry(self) -> FeaturesConfig:
        """How images and masks are laid over the anomaly maps."""

    @property
    def threshold_rule(self) -> ThresholdRule:
        """Where between two scores F1-max puts the threshold."""
        return "score"


class SegmentationConfig(Frozen):
    """The U-Net of methods that segment images.

    Attributes:
        base: channels at the full resolution.
        multipliers: channels of each resolution, in multiples of `base`; each resolution has half the last one's side.
    """

    base: int = Field(64, ge=1)
    multipliers: tuple[int, ...] = Field((1, 2, 4, 8, 8, 8), min_length=2)
