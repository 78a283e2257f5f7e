"""Keeping a process small: freed tensors go back to the system."""

import ctypes
import functools
import platform

_M_MMAP_THRESHOLD = -3
_M_TRIM_THRESHOLD = -1
_BLOCK = 1 << 20


@functools.cache
def return_freed_blocks() -> None:
    """From now on memory blocks of a MiB and more leave the process when they are freed (glibc; elsewhere no effect).

    By default glibc keeps them for each thread: with the activations of two threads, a third of the peak.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _BLOCK)
        libc.mallopt(_M_TRIM_THRESHOLD, _BLOCK)
