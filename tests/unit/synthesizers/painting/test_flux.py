"""FLUX's fill pipeline, every part of its own class, of random weights."""

import numpy as np
import pytest
from inpaint_inputs import scenes_of

from exdd_ray.errors import ConfigError
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.painting.paint import Painter
from exdd_ray.weights.miniature.networks import make_tokenizer


def tiny_flux(folder):
    """FLUX's fill pipeline, every part of its own class, of random weights."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxFillPipeline, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    tokenizer = make_tokenizer()
    clip = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=32,
        eos_token_id=tokenizer.eos_token_id,
    )
    FluxFillPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(
            block_out_channels=(4,),
            latent_channels=1,
            norm_num_groups=1,
            shift_factor=0.06,
            scaling_factor=1.5,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=CLIPTextModel(clip),
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4)
        ),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=12,
            out_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
    ).save_pretrained(folder)


def test_flux_fill_paints_where_the_mask_says(tmp_path):
    tiny_flux(tmp_path / "flux")
    config = InpaintConfig(model=str(tmp_path / "flux"), prompts=("scratch",), steps=2, size=(32, 32), guidance=30)
    scenes = scenes_of(2)
    for scene, image in zip(scenes, Painter(config).paint(scenes), strict=True):
        np.testing.assert_array_equal(image[~scene.mask], scene.canvas[~scene.mask])
        assert np.abs(image.astype(int) - scene.canvas)[scene.mask].mean() > 5
    with pytest.raises(ConfigError, match="scheduler=ddim is for diffusion"):
        Painter(config.model_copy(update={"scheduler": "ddim"}))
    with pytest.raises(ConfigError, match="takes no negative prompt"):
        Painter(config.model_copy(update={"negative_prompt": "smooth"}))
