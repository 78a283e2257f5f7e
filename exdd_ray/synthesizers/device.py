"""Where a model that paints is run, and in what precision."""

from exdd_ray.device import CPU, CUDA, compute_device
from exdd_ray.errors import ConfigError
from exdd_ray.synthesizers.config import DeviceConfig, SynthesizerConfig
from exdd_ray.synthesizers.leaves import each_leaf
from exdd_ray.synthesizers.table import run_of


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
    """The config with what `run.device=auto` is where it is painted; None is this process."""

    def there(leaf: SynthesizerConfig) -> SynthesizerConfig:
        run = run_of(leaf)
        if device is None or run is None or run.device != "auto":
            return leaf
        return leaf.model_copy(update={"run": run.model_copy(update={"device": device})})

    return each_leaf(config, there)
