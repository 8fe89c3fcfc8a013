"""One daemon a site: who runs on a state folder holds its lock.

The law: when the process is gone, so is its hold, whatever ended it; the file `lock` itself stays and says nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from jangin.errors import SiteError

__all__ = ["alone"]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the one daemon that runs on this state folder.

    Raises:
        SiteError: JG-site-340, another one runs here.
    """
    lock = FileLock(folder / "lock", blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise SiteError("JG-site-340", where=str(folder)) from None
    try:
        yield
    finally:
        lock.release()
