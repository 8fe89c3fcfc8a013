"""A stream's part file, read a few rows at a time: records may be larger than the memory of who reads them.

The law: a file is hashed whole before a row of it is read, and both go through one open file, so that no other can be
put in its place; whoever wrote to it in between is found out by its size and its time of change (stat (2)), which no
program can set back. Not covered: two changes within one tick of the kernel's clock, a few milliseconds.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jangin.errors import DataError
from jangin.records.manifest import Manifest

__all__ = ["ROW_GROUP_BYTES", "Part", "in_form", "row_bytes"]

ROW_GROUP_BYTES: Final = 2**20
"""What a row group of a file that is written here takes in memory."""

_ROWS_AT_ONCE: Final = 2**14
_BUFFER_BYTES: Final = 2**16
_ID: Final = "episode_id"


class Part:
    """One part file while its rows are read; a context manager.

    Attributes:
        rows: how many each episode has in it, shape (episodes,).
    """

    def __init__(self, folder: Path, manifest: Manifest, name: str, places: Mapping[str, int]) -> None:
        """Hash the file, and see which of its row groups hold whom.

        Args:
            folder: the records folder.
            manifest: what was validated.
            name: of the file, as the manifest lists it.
            places: of the episodes that are asked for, their numbers, 0 ... episodes - 1.

        Raises:
            DataError: JG-data-005, it is not the file that was validated; JG-data-012, it cannot be read.
        """
        self._path = folder / name
        try:
            self._file = self._path.open("rb", buffering=0)
            self._state = _state(self._file.fileno())
            found = hashlib.file_digest(self._file, "sha256").hexdigest()
        except OSError as error:
            raise DataError("JG-data-012", where=str(self._path), problem=error.strerror) from None
        if found != manifest.files[name]:
            self._file.close()
            raise DataError("JG-data-005", where=str(self._path), listed=manifest.files[name], found=found)
        self._parquet = pq.ParquetFile(pa.PythonFile(self._file), buffer_size=_BUFFER_BYTES, pre_buffer=False)
        self.rows = np.zeros(len(places), np.int64)
        self._there = [self._count(group, places) for group in range(self._parquet.num_row_groups)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file.

        Raises:
            DataError: JG-data-221, somebody wrote to it meanwhile: what was read does not count.
        """
        changed = _state(self._file.fileno()) != self._state
        self._file.close()
        if changed and kind is not GeneratorExit:
            raise DataError("JG-data-221", where=str(self._path))

    def read(self, first: int, last: int, ids: pa.Array, schema: pa.Schema) -> pa.Table:
        """The rows of the episodes first ... last - 1, whose `ids` these are, in the file's order; as `in_form`."""
        groups = [
            group
            for group, there in enumerate(self._there)
            if np.searchsorted(there, first) < np.searchsorted(there, last)
        ]
        tables = [in_form(pa.Table.from_batches([batch]), schema) for batch in self._batches(groups, schema.names)]
        found = [table.filter(pc.is_in(table[_ID], value_set=ids)) for table in tables]
        return pa.concat_tables([schema.empty_table(), *found])

    def _count(self, group: int, places: Mapping[str, int]) -> NDArray[np.int64]:
        """Count a row group's rows; gives the numbers of its episodes, ascending."""
        there: set[int] = set()
        for batch in self._batches([group], [_ID]):
            encoded = batch[_ID].cast(pa.string()).dictionary_encode()
            numbers = np.array([places.get(name, -1) for name in encoded.dictionary.to_pylist()], np.int64)
            counts = np.bincount(encoded.indices.drop_null().to_numpy(), minlength=len(numbers))
            self.rows[numbers[numbers >= 0]] += counts[numbers >= 0]
            there.update(numbers[numbers >= 0].tolist())
        return np.array(sorted(there), np.int64)

    def _batches(self, groups: list[int], columns: list[str]) -> Iterator[pa.RecordBatch]:
        yield from self._parquet.iter_batches(_ROWS_AT_ONCE, row_groups=groups, columns=columns, use_threads=False)


def in_form(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of `schema` alone, in its types, null where the table has none."""
    missing = {field.name: pa.nulls(len(table), field.type) for field in schema if field.name not in table.column_names}
    columns = [missing[name] if name in missing else table[name] for name in schema.names]
    return pa.table(columns, names=schema.names).cast(schema, safe=False)


def row_bytes(schema: pa.Schema) -> int:
    """What a row takes in memory, an id that stands beside its equals for nothing."""
    return sum(field.type.bit_width // 8 for field in schema if field.name != _ID)


def _state(descriptor: int) -> tuple[int, int, int]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
