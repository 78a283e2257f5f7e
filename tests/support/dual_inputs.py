"""Random models, images and a quick training for the tests of DualAnoDiff."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from inpaint_inputs import make_random_model
from lora_inputs import tune_for
from synthesizer_inputs import DUAL, make_images

from exdd_ray.config.base import merge
from exdd_ray.store.artifact import Artifact, Store
from exdd_ray.synthesizers.chunk import trained_for
from exdd_ray.synthesizers.dualanodiff.config import DualConfig
from exdd_ray.synthesizers.job import ChunkJob
from exdd_ray.synthesizers.plan import plan_chunks
from exdd_ray.weights.miniature.networks import load_model


def make_inputs(folder: Path) -> tuple[str, pa.Table, pa.Table]:
    """A model's folder, normal images and two defects."""
    make_random_model(folder / "model")
    return str(folder / "model"), *make_images(folder / "images")


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


def adapter_of(config: DualConfig, normal: pa.Table, defects: pa.Table, store: Store, seed: int = 0) -> Artifact:
    """The artifact of a config's training."""
    job = first_job(config, normal, defects, seed)
    tune_for(job, store)
    found = trained_for(job, store)
    assert found is not None
    return found


def first_job(config: DualConfig, normal: pa.Table, defects: pa.Table, seed: int = 0) -> ChunkJob[Any]:
    """Its first chunk."""
    return plan_chunks(config, normal, defects, seed)[0]
