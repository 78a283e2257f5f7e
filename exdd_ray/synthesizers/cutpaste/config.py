"""Config of CutPaste."""

from typing import Literal

from exdd_ray.synthesizers.config import ForegroundConfig, SynthesizerConfig


class CutPasteConfig(SynthesizerConfig):
    """CutPaste (Li et al., 2021): a piece of the image is pasted elsewhere on it.

    Attributes:
        kind: of the synthesizer: a piece of the image is pasted elsewhere.
        preset: `patch` (a rectangle), `scar` (a thin, turned one), or `both`, either with one half.
        foreground: where the piece may be pasted.
    """

    kind: Literal["cutpaste"] = "cutpaste"
    preset: Literal["patch", "scar", "both"] = "both"
    foreground: ForegroundConfig = ForegroundConfig()
