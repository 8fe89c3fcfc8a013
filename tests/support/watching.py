"""Which files of a folder anybody on this machine opens: the kernel's own word, by inotify (7), Linux only."""

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Opened", "opened_in"]

_IN_OPEN = 0x20
_IN_ISDIR = 0x40000000
_EVENT = struct.Struct("iIII")


class Opened:
    """What was opened since somebody last looked."""

    def __init__(self, descriptor: int, folders: dict[int, Path]) -> None:
        """Take the watch and its folders."""
        self._descriptor, self._folders = descriptor, folders

    def seen(self) -> set[str]:
        """Names of the files that were opened since the last call, by whichever process, relative to the folder."""
        found, root = set(), self._folders[min(self._folders)]
        while data := self._events():
            place = 0
            while place < len(data):
                watch, mask, _, length = _EVENT.unpack_from(data, place)
                name = data[place + _EVENT.size : place + _EVENT.size + length].rstrip(b"\0").decode()
                place += _EVENT.size + length
                if watch < 0:
                    raise RuntimeError("Events were lost.")
                if name and not mask & _IN_ISDIR:
                    found.add(str((self._folders[watch] / name).relative_to(root)))
        return found

    def _events(self) -> bytes:
        try:
            return os.read(self._descriptor, 2**20)
        except BlockingIOError:
            return b""


@contextmanager
def opened_in(folder: Path) -> Iterator[Opened]:
    """Watch a folder and all below it."""
    if sys.platform != "linux":
        raise OSError("inotify is Linux' own.")
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        watched = {}
        for place in [folder, *(below for below in sorted(folder.rglob("*")) if below.is_dir())]:
            watch = libc.inotify_add_watch(descriptor, os.fsencode(place), _IN_OPEN)
            if watch < 0:
                raise OSError(ctypes.get_errno(), "inotify", str(place))
            watched[watch] = place
        yield Opened(descriptor, watched)
    finally:
        os.close(descriptor)
