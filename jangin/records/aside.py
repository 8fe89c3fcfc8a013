"""Rows of examples laid aside on disk, where memory has no room for them.

The law: the file has no name (open (2), O_TMPFILE), is its owner's alone, and is gone with the process that holds it,
however that ends. It is read where rows are asked for and never mapped: mapped pages would count as the process' own
memory. What was written lies on the disk as the records do: a medium that leaves the site is to be wiped.
"""

import os
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from jangin.errors import DataError

__all__ = ["Room", "RowFile"]

_MIB: Final = 2**20


@dataclass(frozen=True)
class Room:
    """What examples may take.

    Attributes:
        memory_bytes: of memory, with all that is made of them while they are cut and scaled.
        folder: where the others go.
        kept_bytes: what stays free on its disk.
    """

    memory_bytes: int
    folder: Path
    kept_bytes: int


class RowFile:
    """Rows of one shape, float32, written once from the first to the last, then read by their numbers.

    Attributes:
        shape: (rows, ...).
    """

    def __init__(self, room: Room, shape: tuple[int, ...]) -> None:
        """Take the whole of its place on the disk.

        Raises:
            DataError: JG-data-220, the disk has less left; JG-data-222, no file can be made there.
        """
        self.shape, self._row_bytes, self._written = shape, 4 * prod(shape[1:]), 0
        self._where = str(room.folder)
        needed = shape[0] * self._row_bytes
        try:
            free = shutil.disk_usage(room.folder).free
            if needed > free - room.kept_bytes:
                needed_mib, free_mib, kept_mib = (f"{count // _MIB} MiB" for count in (needed, free, room.kept_bytes))
                raise DataError("JG-data-220", where=self._where, needed=needed_mib, free=free_mib, kept=kept_mib)
            self._file = tempfile.TemporaryFile(dir=room.folder, buffering=0)  # noqa: SIM115 - it lives as long as this
            weakref.finalize(self, self._file.close)
            if hasattr(os, "posix_fallocate") and needed:
                os.posix_fallocate(self._file.fileno(), 0, needed)
        except OSError as error:
            raise DataError("JG-data-222", where=self._where, problem=error.strerror) from None

    def __len__(self) -> int:
        return self.shape[0]

    def append(self, rows: NDArray[np.float32]) -> None:
        """Write the next rows, (some, ...).

        Raises:
            DataError: JG-data-222, they cannot be written. ValueError: more rows than there is place for.
        """
        if rows.shape[1:] != self.shape[1:] or self._written + len(rows) > len(self):
            raise ValueError(f"Expected rows for {self.shape} after {self._written}: shape {rows.shape}.")
        left = _bytes(np.ascontiguousarray(rows, np.float32))
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise DataError("JG-data-222", where=self._where, problem=error.strerror) from None
        self._written += len(rows)

    def read(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """The rows of these numbers, in this order, (len(rows), ...); any thread may.

        Raises:
            DataError: JG-data-223, the disk does not give them back.
        """
        found = np.empty((len(rows), *self.shape[1:]), np.float32)
        room = _bytes(found)
        edges = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        for start, stop in pairwise(edges):
            if start < stop:
                self._read(int(rows[start]) * self._row_bytes, room[start * self._row_bytes : stop * self._row_bytes])
        return found

    def _read(self, place: int, room: memoryview) -> None:
        """Fill `room` with what stands from `place` on."""
        while room:
            try:
                count = os.preadv(self._file.fileno(), [room], place)
            except OSError as error:
                raise DataError("JG-data-223", where=self._where, problem=error.strerror) from None
            if not count:
                raise DataError("JG-data-223", where=self._where, problem="it ends too early")
            place, room = place + count, room[count:]


def _bytes(values: NDArray[np.float32]) -> memoryview:
    """The memory of contiguous values."""
    return memoryview(values.data).cast("B") if values.size else memoryview(b"")
