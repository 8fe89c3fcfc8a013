"""How many threads torch's own operations take: one, where the work is many small ones or is dealt out otherwise.

The law: afterwards torch has the threads that it had. Threads of one operation meet at its end, and those that have
nothing to do then spin for milliseconds, on a core that others may want.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread"]


@contextmanager
def one_thread() -> Iterator[int]:
    """One thread for every operation of torch, in this thread and those that begin meanwhile; gives how many it had."""
    whole = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield whole
    finally:
        torch.set_num_threads(whole)
