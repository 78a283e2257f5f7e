"""SDXL's inpainting pipeline, every part of its own class, of random weights."""

import numpy as np
import pytest
import torch
from PIL import Image

from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.painting.masks import draw_mask
from exdd_ray.synthesizers.painting.paint import Painter, Scene
from exdd_ray.weights.miniature.networks import make_tokenizer

SIZE = (72, 96)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLInpaintPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=77,
        eos_token_id=tokenizer.eos_token_id,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=32,
    )
    folder = tmp_path_factory.mktemp("model") / "sdxl"
    StableDiffusionXLInpaintPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(32,) * 4,
            latent_channels=4,
        ),
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=8,
            in_channels=9,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(32, 64),
            layers_per_block=1,
            attention_head_dim=(2, 4),
            cross_attention_dim=64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 32,
        ),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    ).save_pretrained(folder)
    return folder


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
