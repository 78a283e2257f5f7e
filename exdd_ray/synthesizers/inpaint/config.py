"""Config of inpainting by latent diffusion, and DIAG's presets."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from exdd_ray.config.base import merge
from exdd_ray.synthesizers.painting.config import PaintConfig


class InpaintConfig(PaintConfig):
    """Inpainting: a text-to-image model paints a defect into a masked normal image (DIAG).

    Attributes:
        kind: of the synthesizer: a text-to-image model paints.
        preset: `paper` has DIAG's published constants, `best` runs the bundled miniature.
        strength: share of the noise that the background is taken to, below 1.
    """

    kind: Literal["inpaint"] = "inpaint"
    preset: Literal["best", "paper"] = "best"
    strength: float = Field(0.99, gt=0, lt=1)

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the preset's values."""
        return merge(DIAG_PAPER, given) if given.get("preset") == "paper" else given


DIAG_PAPER: dict[str, Any] = {
    "model": "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
    "variant": "fp16",
    "prompts": ("white marks on the wall", "copper metal scratches"),
    "negative_prompt": "smooth, plain, black, dark, shadow",
    "count": 100,
    "masks": {"source": "positives"},
    "working_size": (632, 224),
    "canvas": (1024, 1024),
    "size": (1024, 1024),
    "output": (632, 224),
    "resample": "bicubic",
    "crop_padding": 2,
    "strength": 0.99,
    "guidance": 20.0,
    "steps": 30,
    "composite": False,
    "filters": None,
    "run": {"precision": "float16", "batch": 1},
}
