"""Synthesizers: per-region blending, CutPaste, and inpainting by latent diffusion."""

from typing import Annotated

from pydantic import Field

from exdd_ray.synthesizers.cutpaste.config import CutPasteConfig
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.per_region.config import PerRegionConfig

SynthesizerConfig = Annotated[PerRegionConfig | CutPasteConfig | InpaintConfig, Field(discriminator="kind")]


def samples_of_prompts(config: PerRegionConfig | CutPasteConfig | InpaintConfig) -> dict[str, int]:
    """How many of `count` samples each prompt has; one empty prompt has all where a synthesizer takes none.

    Sample i takes prompt i mod n, so that fewer samples are a beginning of more.
    """
    prompts = config.prompts if isinstance(config, InpaintConfig) else ("",)
    return {prompt: len(range(first, config.count, len(prompts))) for first, prompt in enumerate(prompts)}
