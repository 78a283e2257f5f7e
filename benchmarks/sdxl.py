"""Stable Diffusion XL's inpainting networks in this pipeline against the plain loop of one image a call.

Their weights are random, which run as fast as trained ones; nothing is said of what they paint.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.device import compute_device
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.painting.model import load_pipeline
from exdd_ray.synthesizers.painting.paint import Painter, Scene
from exdd_ray.weights.miniature.networks import make_tokenizer

_BATCH = 8


@dataclass(frozen=True)
class Speed:
    """Images per second of both, the median of their ratios, and the largest difference of a pixel in grey levels."""

    loop: float
    pipeline: float
    ratio: float
    largest_difference: int


def one_call(pipeline: Any, scene: Scene, config: InpaintConfig) -> Image.Image:
    """A sample as the published code makes it: one call of the pipeline, with its own crop around the mask."""
    image: Image.Image = pipeline(
        prompt=scene.prompt,
        negative_prompt=config.negative_prompt or None,
        image=Image.fromarray(scene.canvas),
        mask_image=Image.fromarray(scene.mask.astype(np.uint8) * 255),
        height=config.size[0],
        width=config.size[1],
        padding_mask_crop=config.crop_padding,
        strength=config.strength,
        guidance_scale=config.guidance,
        num_inference_steps=config.steps,
        generator=torch.Generator("cpu").manual_seed(scene.seed),
    ).images[0]
    return image


def sdxl(tiny: bool) -> Any:
    """SDXL's inpainting pipeline in its published shape (or of its kind, small) with random weights."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLInpaintPipeline

    tokenizer = make_tokenizer()
    tokenizer.model_max_length = 77
    with torch.device(compute_device()):  # a GPU draws two and a half billion weights at once
        networks = {**_text_encoders(tiny, tokenizer), "unet": _unet(tiny), "vae": _autoencoder(tiny)}
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    return StableDiffusionXLInpaintPipeline(tokenizer=tokenizer, tokenizer_2=tokenizer, scheduler=scheduler, **networks)


def _text_encoders(tiny: bool, tokenizer: Any) -> dict[str, Any]:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 77, "eos_token_id": tokenizer.eos_token_id}

    def config(width: int, layers: int) -> Any:
        return CLIPTextConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // (16 if tiny else 64),
            projection_dim=width,
            **text,
        )

    (one, two), layers = ((32, 32), (1, 1)) if tiny else ((768, 1280), (12, 32))
    return {
        "text_encoder": CLIPTextModel(config(one, layers[0])),
        "text_encoder_2": CLIPTextModelWithProjection(config(two, layers[1])),
    }


def _unet(tiny: bool) -> Any:
    from diffusers import UNet2DConditionModel

    pooled = 32 if tiny else 1280
    return UNet2DConditionModel(
        sample_size=8 if tiny else 128,
        in_channels=9,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 32, 64) if tiny else (320, 640, 1280),
        layers_per_block=1 if tiny else 2,
        transformer_layers_per_block=(1, 1, 1) if tiny else (1, 2, 10),
        attention_head_dim=(4, 4, 8) if tiny else (5, 10, 20),
        cross_attention_dim=64 if tiny else 2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32 if tiny else 256,
        projection_class_embeddings_input_dim=6 * (32 if tiny else 256) + pooled,
    )


def _autoencoder(tiny: bool) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 32, 32) if tiny else (128, 256, 512, 512),
        layers_per_block=1 if tiny else 2,
        latent_channels=4,
        scaling_factor=0.13025,
        force_upcast=True,
    )


def sdxl_speed(folder: Path, *, tiny: bool, compiled: bool, repeats: int) -> Speed:
    """Both in half precision at 1024 x 1024 and 30 steps on the device; `tiny` is a check at toy size.

    Args:
        folder: for the model's files.
        compiled: the pipeline's denoiser, which takes a minute and a half before the first image.
    """
    side = 64 if tiny else 1024
    pipeline = sdxl(tiny)
    pipeline.to(dtype=torch.float32 if tiny else torch.float16).save_pretrained(folder)
    del pipeline
    settings = {"model": str(folder), "size": (side, side), "steps": 2 if tiny else 30, "filters": None}
    plain = InpaintConfig.model_validate(settings)
    painter = Painter(InpaintConfig.model_validate({**settings, "run": {"batch": _BATCH, "compile": compiled}}))
    loop = load_pipeline(plain)
    scenes = [_scene(i, side) for i in range(_BATCH if tiny or repeats == 1 else 2 * _BATCH)]
    painter.paint(scenes[:_BATCH])
    one_call(loop, scenes[0], plain)
    fast, slow, worst = [], [], 0
    for _ in range(repeats):
        started = time.perf_counter()
        painted = painter.paint(scenes)
        fast.append(len(scenes) / (time.perf_counter() - started))
        few = scenes[: len(scenes) // 4]
        started = time.perf_counter()
        called = [one_call(loop, scene, plain) for scene in few]
        slow.append(len(few) / (time.perf_counter() - started))
        for mine, other in zip(painted, called, strict=False):
            assert isinstance(mine, np.ndarray)
            worst = max(worst, int(np.abs(mine.astype(int) - np.asarray(other)).max()))
    return Speed(median(slow), median(fast), float(median(np.array(fast) / slow)), worst)


def _scene(number: int, side: int) -> Scene:
    mask = np.zeros((side, side), dtype=bool)
    mask[side // 4 : side // 2, side // 4 : side // 2] = True
    return Scene(make_surface("ceramic", (side, side), np.random.default_rng(number)), mask, "scratch", number)
