"""Config of pasted defects."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from exdd_ray.synthesizers.config import ForegroundConfig, SynthesizerConfig


class PastedConfig(SynthesizerConfig):
    """Real defects, cut out by their masks, turned, scaled and blended into normal images.

    Attributes:
        kind: of the synthesizer: real defects are pasted.
        preset: what measurements support.
        blend: `poisson` keeps the defect's gradients and takes its level from around the place where it is pasted
            (Perez et al., 2003); `feathered` fades it out at its edge.
        scale: least and largest factor of its size, within 0.1 to 10.
        angle: degrees that it is turned by at most, either way.
        feather: pixels over which a feathered edge fades.
        foreground: where the defect may lie.
    """

    kind: Literal["pasted"] = "pasted"
    preset: Literal["best"] = "best"
    blend: Literal["poisson", "feathered"] = "poisson"
    scale: tuple[float, float] = (0.7, 1.4)
    angle: float = Field(180.0, ge=0, le=180)
    feather: float = Field(2.0, ge=0)
    foreground: ForegroundConfig = ForegroundConfig()

    @model_validator(mode="after")
    def _ordered(self) -> "PastedConfig":
        least, most = self.scale
        if not 0.1 <= least <= most <= 10:
            raise ValueError(f"scale {least} to {most}: factors ascend, from 0.1 to 10")
        return self

    def aside(self) -> Iterator[str]:
        """A width that only a feathered edge has."""
        if self.blend != "feathered":
            yield "feather"
