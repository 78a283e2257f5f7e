"""Where networks are trained."""

from exdd_ray.device import CUDA, compute_device
from exdd_ray.errors import ConfigError
from exdd_ray.training.config import TrainConfig


def device_of(config: TrainConfig) -> str:
    """`cpu` or `cuda`, which may be another machine's."""
    return compute_device() if config.device == "auto" else config.device


def training_device(config: TrainConfig) -> str:
    """`cpu` or `cuda`. Raises ConfigError for a CUDA device that is not there."""
    device = device_of(config)
    if device == CUDA and compute_device() != CUDA:
        raise ConfigError("training.device=cuda, but torch has no CUDA device here")
    return device
