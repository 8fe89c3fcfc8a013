"""What becomes of memory that a process frees, where it takes and frees many megabytes all the time (mallopt(3)).

The law: both functions hold for the process as long as it lives, and do nothing where the C library has no such switch.
"""

import ctypes
from contextlib import suppress
from typing import Final

__all__ = ["give_back", "keep"]

_TRIM_THRESHOLD: Final = -1  # glibc, malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
_MMAP_THRESHOLD: Final = -3
_LARGEST_BLOCK_BYTES: Final = 2**25  # of a heap: glibc takes no bound above it
_MOST_KEPT_BYTES: Final = 2**29


def give_back(least_bytes: int) -> None:
    """Have blocks of so many bytes and more go back to the system as soon as they are freed.

    Left alone, glibc raises that bound with each large block that is freed, and keeps pieces of messages in its heaps,
    between others that stay.
    """
    _set(_MMAP_THRESHOLD, least_bytes)


def keep() -> None:
    """Have what is freed wait here for the next to ask, up to 512 MiB.

    Left alone, glibc gives back what lies at the end of its heap, and the kernel clears it anew, page by page, when the
    next step asks for as much: up to a third of the time of a simulated round.
    """
    _set(_MMAP_THRESHOLD, _LARGEST_BLOCK_BYTES)
    _set(_TRIM_THRESHOLD, _MOST_KEPT_BYTES)


def _set(switch: int, value: int) -> None:
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(switch, value)
