"""What the quality of synthetic images is measured with."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen
from exdd_ray.training.config import TrainConfig

NetworkName = Literal["surface_resnet18", "resnet18", "squeezenet", "inception"]
PerceptualName = Literal["squeeze", "alex", "vgg"]
ClassifierName = Literal["surface_resnet18", "resnet18", "resnet34"]


class KindsConfig(Frozen):
    """A classifier of kinds of defects, trained on synthetic images and asked of the real ones that are tested.

    Attributes:
        network: that it starts from: ResNet-34, as published, or a ResNet-18 up to its third stage, of which
            `surface_resnet18` is bundled.
        weights: its weights file; None looks in EXDD_WEIGHTS, then downloads.
        size: side of the images in pixels.
        epochs: passes over the synthetic images; published are 30 of 5 passes each.
        learning_rate: of Adam; a fifth of it after 80 % of the epochs, and a fifth of that after 90 %.
        training: the loop.
    """

    network: ClassifierName = "surface_resnet18"
    weights: Path | None = None
    size: int = Field(256, ge=32)
    epochs: int = Field(150, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    training: TrainConfig = TrainConfig(batch=8)


class QualityConfig(Frozen):
    """How synthetic images are compared with real ones; every figure bears the name of its network.

    Attributes:
        network: gives the features; `surface_resnet18` is bundled, `inception` is that of the published FID.
        weights: its weights file; None looks in EXDD_WEIGHTS, then downloads.
        perceptual: network of LPIPS; None leaves LPIPS out.
        perceptual_weights: its weights file; None looks in EXDD_WEIGHTS, then downloads.
        crops: measure on a square around each defect; the whole image, without it, hides a small one.
        context: margin of that square on each side, as a share of the defect's longer side.
        kinds: figures of each kind of defect, and a classifier of kinds; None leaves them out.
    """

    network: NetworkName = "surface_resnet18"
    weights: Path | None = None
    perceptual: PerceptualName | None = None
    perceptual_weights: Path | None = None
    crops: bool = True
    context: float = Field(0.5, ge=0)
    kinds: KindsConfig | None = None

    @model_validator(mode="after")
    def _weights_of_a_network(self) -> "QualityConfig":
        if self.weights is not None and self.network == "surface_resnet18":
            raise ValueError("quality.weights: surface_resnet18 is bundled; name the network that the weights are of")
        if self.perceptual_weights is not None and self.perceptual is None:
            raise ValueError("quality.perceptual_weights needs quality.perceptual, the network that they are of")
        return self
