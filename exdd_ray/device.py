"""Where this process computes."""

import os

from exdd_ray.errors import ConfigError

CPU, CUDA = "cpu", "cuda"


def compute_device() -> str:
    """`cuda` where torch has a GPU, else `cpu`; EXDD_DEVICE=cpu or =cuda decides instead.

    Raises ConfigError for another value, and for cuda where there is none.
    """
    import torch

    wanted = os.environ.get("EXDD_DEVICE", "auto")
    if wanted not in (CPU, CUDA, "auto"):
        raise ConfigError(f"EXDD_DEVICE={wanted!r}: one of cpu, cuda, auto")
    there = torch.cuda.is_available()
    if wanted == CUDA and not there:
        raise ConfigError("EXDD_DEVICE=cuda, but torch has no CUDA device here")
    return CUDA if there and wanted != CPU else CPU
