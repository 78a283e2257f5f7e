"""A random model of another kind, and a config of a quick training, for the tests of DualAnoDiff."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthesizer_inputs import DUAL

from exdd_ray.config.base import merge
from exdd_ray.synthesizers.dualanodiff.config import DualConfig
from exdd_ray.weights.miniature.networks import load_model


def make_text_to_image(inpainting: str, folder: Path) -> str:
    """The same Stable Diffusion with a random denoiser that is given latents alone."""
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    pipeline = load_model(Path(inpainting))
    unet = UNet2DConditionModel.from_config({**pipeline.unet.config, "in_channels": 4})
    parts = {name: getattr(pipeline, name) for name in ("vae", "text_encoder", "tokenizer", "scheduler")}
    StableDiffusionPipeline(
        **parts, unet=unet, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    ).save_pretrained(folder)
    return str(folder)


def dual_config(model: str, learnt: Mapping[str, Any] | None = None, **given: Any) -> DualConfig:
    """A config whose training takes seconds."""
    quick = {"model": model, "count": 3, "filters": None, "run": {"batch": 4}}
    return DualConfig.model_validate(merge({**DUAL, **quick}, {"tuning": learnt or {}, **given}))
