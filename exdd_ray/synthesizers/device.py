"""Where a model that paints is run, and in what precision."""

from functools import partial
from typing import TypeVar

from exdd_ray.config.base import Frozen
from exdd_ray.device import CPU, CUDA, compute_device
from exdd_ray.errors import ConfigError
from exdd_ray.synthesizers.config import DeviceConfig, SynthesizerConfig
from exdd_ray.synthesizers.leaves import each_leaf
from exdd_ray.training.config import TrainConfig

F = TypeVar("F", bound=Frozen)


def device_of(run: DeviceConfig) -> str:
    """`cpu` or `cuda`, which may be another machine's. Raises ConfigError for offloading on a CPU."""
    device = compute_device() if run.device == "auto" else run.device
    if device == CPU and run.memory == "offload":
        raise ConfigError("synthesizer.run.memory=offload moves parts to and from a GPU: there is none")
    return device


def precision_of(run: DeviceConfig) -> str:
    """The precision that the model runs in. Raises ConfigError for float16 on a CPU."""
    device = device_of(run)
    if device == CPU and run.precision == "float16":
        raise ConfigError("synthesizer.run.precision=float16 is for GPUs: take float32 or bfloat16 on a CPU")
    if run.precision != "auto":
        return run.precision
    return "float16" if device == CUDA else "float32"


def on_device(config: SynthesizerConfig, device: str | None) -> SynthesizerConfig:
    """The config with what a `device=auto` is where it is painted and trained; None is this process."""
    return config if device is None else each_leaf(config, partial(_there, device=device))


def _there(config: F, device: str) -> F:
    """A config with the device of all models that are run or trained by it."""
    changed: dict[str, Frozen] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, DeviceConfig | TrainConfig):
            changed[name] = value.model_copy(update={"device": device}) if value.device == "auto" else value
        elif isinstance(value, Frozen):
            changed[name] = _there(value, device)
    return config.model_copy(update=changed)
