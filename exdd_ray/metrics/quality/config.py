"""What the quality of synthetic images is measured with."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from exdd_ray.config.base import Frozen

NetworkName = Literal["surface_resnet18", "resnet18", "squeezenet", "inception"]
PerceptualName = Literal["squeeze", "alex", "vgg"]


class QualityConfig(Frozen):
    """How synthetic images are compared with real ones; every figure bears the name of its network.

    Attributes:
        network: gives the features; `surface_resnet18` is bundled, `inception` is that of the published FID.
        weights: its weights file; None looks in EXDD_WEIGHTS, then downloads.
        perceptual: network of LPIPS; None leaves LPIPS out.
        perceptual_weights: its weights file; None looks in EXDD_WEIGHTS, then downloads.
        crops: measure on a square around each defect; the whole image, without it, hides a small one.
        context: margin of that square on each side, as a share of the defect's longer side.
    """

    network: NetworkName = "surface_resnet18"
    weights: Path | None = None
    perceptual: PerceptualName | None = None
    perceptual_weights: Path | None = None
    crops: bool = True
    context: float = Field(0.5, ge=0)

    @model_validator(mode="after")
    def _weights_of_a_network(self) -> "QualityConfig":
        if self.weights is not None and self.network == "surface_resnet18":
            raise ValueError("quality.weights: surface_resnet18 is bundled; name the network that the weights are of")
        if self.perceptual_weights is not None and self.perceptual is None:
            raise ValueError("quality.perceptual_weights needs quality.perceptual, the network that they are of")
        return self
