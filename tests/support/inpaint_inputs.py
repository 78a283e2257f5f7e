"""A model of random weights, images and scenes for the tests of inpainting."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.synthesizers.inpaint.config import InpaintConfig
from exdd_ray.synthesizers.painting.masks import draw_mask
from exdd_ray.synthesizers.painting.paint import Scene
from exdd_ray.weights.miniature.networks import (
    Parts,
    make_autoencoder,
    make_text_encoder,
    make_tokenizer,
    make_unet,
    save_model,
)

SIZE = (72, 96)


def make_random_model(folder: Path) -> InpaintConfig:
    """Writes a model of the miniature's kind; returns a config that takes it."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    save_model(Parts(tokenizer, make_text_encoder(tokenizer), make_autoencoder(), make_unet()), folder)
    return InpaintConfig(model=str(folder), prompts=("scratch", "hole"), count=8, steps=2, size=(32, 32), filters=None)


def make_ceramic(folder: Path) -> pa.Table:
    """Writes three normal images."""
    rows = []
    for i in range(3):
        path = folder / f"{i}.png"
        Image.fromarray(make_surface("ceramic", SIZE, np.random.default_rng(i))).save(path)
        rows.append(
            CatalogRow(id=str(i), dataset="d", category="c", split="train", label=0, defect="good", image=str(path))
        )
    return build_catalog(rows)


def scenes_of(count: int) -> list[Scene]:
    """Blobs on wood, of two prompts in turn."""
    found = []
    for i in range(count):
        rng = np.random.default_rng(i)
        found.append(
            Scene(make_surface("wood", SIZE, rng), draw_mask("blob", SIZE, rng), ("scratch", "a hole")[i % 2], i)
        )
    return found
