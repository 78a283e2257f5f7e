"""Config of CutPaste."""

from typing import Literal

from pydantic import Field

from exdd_ray.config.base import Frozen
from exdd_ray.synthesizers.config import FilterConfig, ForegroundConfig


class CutPasteConfig(Frozen):
    """CutPaste (Li et al., 2021): a piece of the image is pasted elsewhere on it.

    Attributes:
        kind: of the synthesizer: a piece of the image is pasted elsewhere.
        preset: `patch` (a rectangle), `scar` (a thin, turned one), or `both`, either with one half.
        count: synthetic images.
        foreground: where the piece may be pasted.
        filters: which samples are dropped; None keeps all.
    """

    kind: Literal["cutpaste"] = "cutpaste"
    preset: Literal["patch", "scar", "both"] = "both"
    count: int = Field(100, ge=0)
    foreground: ForegroundConfig = ForegroundConfig()
    filters: FilterConfig | None = FilterConfig()
