"""Memory that is freed goes back to the system: processes with vectors of many megabytes share one machine.

The law: nothing fails where the C library has no such switch.
"""

import ctypes
from contextlib import suppress
from typing import Final

__all__ = ["give_back"]

_MMAP_THRESHOLD: Final = -3  # glibc, malloc.h: M_MMAP_THRESHOLD


def give_back(least_bytes: int) -> None:
    """Have this process return blocks of so many bytes and more as soon as they are freed (mallopt(3)).

    Left alone, glibc raises that bound with each large block that is freed, and keeps pieces of messages in its heaps,
    between others that stay.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, least_bytes)
