"""Where this process computes, and what it looks like when there is no memory left there."""

import os

from exdd_ray.errors import ConfigError

CPU, CUDA = "cpu", "cuda"
_NO_MEMORY = ("out of memory", "DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


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


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch means that the device has no memory left; its libraries say so in their own words."""
    return any(sign in str(error) for sign in _NO_MEMORY)
