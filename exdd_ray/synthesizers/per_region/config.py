"""Config of per-region synthesis."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from exdd_ray.synthesizers.config import ForegroundConfig, SynthesizerConfig


class PerRegionConfig(SynthesizerConfig):
    """Per-region synthesis: a Perlin-shaped region of a normal image is blended with another source.

    Attributes:
        kind: of the synthesizer: a region of the image is blended with another source.
        preset: the published recipe: `memseg`, `diffusionad` or `draem`.
        textures: folder of texture images (DTD: `exdd data get dtd`); None makes procedural ones.
        texture_share: probability that a texture fills the region, else the image's own structure does; None is the
            preset's. DiffusionAD takes 1 for categories that are textures.
        foreground: where the region may lie.
    """

    kind: Literal["per_region"] = "per_region"
    preset: Literal["memseg", "diffusionad", "draem"] = "memseg"
    textures: Path | None = None
    texture_share: float | None = Field(None, ge=0, le=1)
    foreground: ForegroundConfig = ForegroundConfig()

    def aside(self) -> Iterator[str]:
        """Textures are known by their contents."""
        yield "textures"
