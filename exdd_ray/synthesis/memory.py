"""What running out of a device's memory looks like."""

import torch

_SIGNS = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA out of memory")


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch means that the device has no memory left; its libraries say so in their own words."""
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in _SIGNS)
