"""The parts of a latent diffusion inpainting model in their usual classes, only small, and the folder that holds them.

Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exdd_ray.weights.miniature.captions import corpus

WEIGHTS = Path(__file__).parent / "weights"
VOCABULARY = 1000
TOKENS = 32
TEXT_WIDTH = 128
LATENT_CHANNELS = 4
SIDE = 64


@dataclass(frozen=True)
class Parts:
    """Tokenizer, CLIPTextModel, AutoencoderKL and UNet2DConditionModel of one model."""

    tokenizer: Any
    text_encoder: Any
    vae: Any
    unet: Any


def make_autoencoder() -> Any:
    """A KL autoencoder that shrinks images to half a side, with random weights whose residual branches add nothing."""
    from diffusers import AutoencoderKL
    from diffusers.models.resnet import ResnetBlock2D

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(24, 48),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=LATENT_CHANNELS,
        sample_size=SIDE,
        scaling_factor=1.0,
        force_upcast=False,
        mid_block_add_attention=False,
    )
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            torch.nn.init.zeros_(module.conv2.weight)
    return vae


def make_unet() -> Any:
    """The denoiser: 4 noisy + 1 mask + 4 masked-image channels in, 4 out; with random weights."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIDE // 2,
        in_channels=2 * LATENT_CHANNELS + 1,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 96, 160),
        layers_per_block=1,
        norm_num_groups=16,
        attention_head_dim=4,
        cross_attention_dim=TEXT_WIDTH,
        use_linear_projection=True,
    )


def make_tokenizer() -> Any:
    """A byte-level BPE tokenizer in CLIP's manner, learnt from all captions; any text encodes."""
    from tokenizers import pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    start, end = "<|startoftext|>", "<|endoftext|>"
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    backend: Any = CLIPTokenizer().backend_tokenizer  # splits text as it will when the vocabulary is known
    backend.train_from_iterator(corpus(), trainer)
    merges: Any = [tuple(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]
    joined = ["".join(pair) for pair in merges]
    words = dict.fromkeys([*letters, *(letter + "</w>" for letter in letters), *joined])
    # CLIP's model takes the highest number of a sequence for its end
    vocabulary = {word: number for number, word in enumerate([*words, start, end])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def make_text_encoder(tokenizer: Any) -> Any:
    """A small CLIP text encoder for this tokenizer, with random weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_scheduler() -> Any:
    """1000 steps of Stable Diffusion's noise; the denoiser predicts v (Salimans & Ho, 2022)."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=True,
    )


def save_model(parts: Parts, folder: Path) -> None:
    """Writes the folder that StableDiffusionInpaintPipeline.from_pretrained reads, float16; replaces it as a whole."""
    from copy import deepcopy

    from diffusers import StableDiffusionInpaintPipeline

    text_encoder, vae, unet = (deepcopy(part).half() for part in (parts.text_encoder, parts.vae, parts.unet))
    pipeline = StableDiffusionInpaintPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=parts.tokenizer,
        unet=unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        new, old = Path(place) / "new", Path(place) / "old"
        pipeline.save_pretrained(new, safe_serialization=True)
        _load_in_full_precision(new / "text_encoder" / "config.json")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _load_in_full_precision(config: Path) -> None:
    """transformers loads weights in the type noted here; the other parts are loaded in float32, so this one must be."""
    config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": "float32"}, indent=2) + "\n")


def load_model(folder: Path = WEIGHTS) -> Any:
    """The StableDiffusionInpaintPipeline of such a folder, in float32 on the CPU, without a progress bar."""
    from diffusers import StableDiffusionInpaintPipeline

    pipeline = StableDiffusionInpaintPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
