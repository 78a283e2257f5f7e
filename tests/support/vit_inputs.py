"""Made images, and a small vision transformer with random weights, for banks of its tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from exdd_ray.data.catalog import CatalogRow, build_catalog
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.features.config import FeaturesConfig

SMALL = "test_vit"  # 6 blocks of width 64, patches of 16 pixels


def save_weights(path: Path, name: str = SMALL) -> Path:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    state = timm.create_model(name, pretrained=False).state_dict()
    noisy = {key: value + 0.02 * torch.randn_like(value) for key, value in state.items()}
    save_file({key: value.contiguous() for key, value in noisy.items()}, path)
    return path


def tokens(weights: Path, **changes: Any) -> FeaturesConfig:
    """Of two blocks, as they are."""
    given = {"backbone": f"timm/{SMALL}", "weights": weights, "layers": ("blocks.1", "blocks.3")}
    return FeaturesConfig.model_validate(given | {"aggregator": "nearest", "resize": (64, 96)} | changes)


def save_surfaces(folder: Path, count: int, size: tuple[int, int] = (70, 90)) -> pa.Table:
    """A catalog of normal images of wood."""
    rows = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.fromarray(make_surface("wood", size, np.random.default_rng(number))).save(path)
        where = {"dataset": "d", "category": "c", "split": "train"}
        rows.append(CatalogRow(id=path.name, **where, label=0, defect="good", image=str(path)))
    return build_catalog(rows)
