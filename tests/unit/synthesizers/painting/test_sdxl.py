"""SDXL's inpainting pipeline, every part of its own class, of random weights."""

import numpy as np
import pytest
import torch
from PIL import Image
from sdxl_inputs import make_sdxl

from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.painting.masks import draw_mask
from exdd_ray.synthesizers.painting.paint import Painter, Scene

SIZE = (72, 96)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_sdxl(tmp_path_factory.mktemp("model") / "sdxl")


@pytest.mark.parametrize("negative", ["", "smooth surface"])
def test_a_batch_is_what_the_pipeline_paints_one_by_one(model, negative):
    from diffusers import AutoPipelineForInpainting

    config = InpaintConfig(
        model=str(model), prompts=("scratch",), steps=4, size=(64, 64), guidance=20, negative_prompt=negative
    )
    rng = np.random.default_rng(0)
    scenes = [Scene(make_surface("wood", SIZE, rng), draw_mask("blob", SIZE, rng), "scratch", i) for i in range(3)]
    pipeline = AutoPipelineForInpainting.from_pretrained(model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    for scene, image in zip(scenes, Painter(config).paint(scenes), strict=True):
        alone = pipeline(
            prompt=scene.prompt,
            negative_prompt=negative or None,
            image=Image.fromarray(scene.canvas),
            mask_image=Image.fromarray(scene.mask.astype(np.uint8) * 255),
            height=64,
            width=64,
            original_size=(64, 64),
            target_size=(64, 64),
            padding_mask_crop=config.crop_padding,
            strength=config.strength,
            guidance_scale=config.guidance,
            num_inference_steps=config.steps,
            generator=torch.Generator().manual_seed(scene.seed),
        ).images[0]
        assert np.abs(image.astype(int) - np.asarray(alone)).max() <= 1
        assert np.abs(image.astype(int) - scene.canvas)[scene.mask].mean() > 5
