"""A config of a quick fine-tuning for the tests of DreamBooth-LoRA."""

from collections.abc import Mapping
from typing import Any

from exdd_ray.config.base import merge
from exdd_ray.synthesizers.lora.config import LoraConfig

TUNING = {
    "epochs": 3,
    "keep_every": 1,
    "repeats": 2,
    "learning_rate": 0.01,
    "rank": 2,
    "alpha": 4,
    "conv_rank": 1,
    "tokens": [{"word": "skt"}],
    "training": {"batch": 2},
}


def quick_config(model: str, learnt: Mapping[str, Any] | None = None, **given: Any) -> LoraConfig:
    """A config whose fine-tuning takes seconds."""
    settings = {"model": model, "count": 3, "steps": 2, "size": (32, 32), "filters": None, "run": {"batch": 4}}
    masks = {"source": "procedural"}
    return LoraConfig.model_validate({**settings, "masks": masks, "tuning": merge(TUNING, learnt or {}), **given})
