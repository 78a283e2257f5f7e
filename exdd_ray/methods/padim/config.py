"""Config of PaDiM (Defard et al., 2021) and its presets."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from exdd_ray.config.base import merge
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.methods.config import DetectorConfig

PadimPreset = Literal["paper", "best"]

PRESETS: Mapping[PadimPreset, Mapping[str, Any]] = {
    "paper": {"features": {"backbone": "resnet18", "resize": 256, "crop": (224, 224)}},
    "best": {},
}
_FEATURES = FeaturesConfig(layers=("layer1", "layer2", "layer3"), aggregator="nearest", channels=100)


class PadimConfig(DetectorConfig):
    """A Gaussian a patch position. The preset fills what is not given.

    Attributes:
        preset: `paper` as published, with ResNet-18 and 100 of its channels; `best` on the bundled backbone.
        features: backbone, its layers and the number of channels that are kept, chosen at random.
        regularisation: added to the diagonal of every covariance.
        blur_radius: standard deviation of the anomaly map's Gaussian blur in pixels; 0 for none.
    """

    feature_options: ClassVar[tuple[str, ...]] = ("tiles", "pad")
    kind: Literal["padim"] = "padim"
    preset: PadimPreset = "best"
    features: FeaturesConfig = _FEATURES
    regularisation: float = Field(0.01, gt=0)
    blur_radius: float = Field(4.0, ge=0)

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the preset's values."""
        return merge(PRESETS.get(given.get("preset", "best"), {}), given)

    @property
    def geometry(self) -> FeaturesConfig:
        """How images and masks are laid over the anomaly maps."""
        return self.features
