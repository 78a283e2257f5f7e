"""Keeping a process small: freed memory goes back to the system (glibc; elsewhere no effect)."""

import ctypes
import functools
import platform

_M_MMAP_THRESHOLD = -3
_M_TRIM_THRESHOLD = -1
_OWN_PAGES = 8 << 20  # above the activations of one forward pass: fresh pages for each of them would cost a quarter
_TOP = 4 << 20


@functools.cache
def limit_heap() -> None:
    """From now on large arrays have pages of their own, and leave the process when they are freed.

    By default glibc raises the size that it calls large, and keeps what each thread freed.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES)
        libc.mallopt(_M_TRIM_THRESHOLD, _TOP)


def return_freed_memory() -> None:
    """Give back what was freed in all threads."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
