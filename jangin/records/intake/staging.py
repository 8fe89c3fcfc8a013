"""New episodes written beside a records folder, which then takes its place with them.

The law: the folder is at every moment what it was or what it becomes. A process that is killed leaves at most hidden
siblings, `.<name>.adding` and `.<name>.before`; the next one removes the first and, where it was killed between the two
renames, puts the second back. What stood before is linked, not copied.

`ingested.local.json` says which files of which folder were taken; it stays beside the records and is none of them.
"""

import contextlib
import hashlib
import hmac
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
from filelock import FileLock, Timeout

from jangin.codec.document import Document, parse, read
from jangin.errors import DataError, one_line
from jangin.records.card import Card, Stream
from jangin.records.dataset import CARD_FILE, EPISODES_FILE, card_text, refuse_filled, stream_parts, stream_schema
from jangin.records.manifest import INGESTED_FILE
from jangin.records.process import Process

__all__ = ["Ledger", "Staging", "Standing", "alone", "standing"]

PART_BYTES: Final = 64 * 2**20
"""A part file that has grown this large is closed; the next episode begins another."""
GROUP_ROWS: Final = 2**16
"""Rows of a stream that small episodes fill before they become a row group; none is cut in two."""

_CHECK: Final = b"jangin/masters/check"


class Ledger(Document):
    """ingested.local.json.

    Attributes:
        key: tells whether pseudonyms are made by the same key.
        episodes: of each episode the files of its folder, by their names' HMAC under the key, with their SHA-256.
    """

    key: str
    episodes: dict[str, dict[str, str]] = pydantic.Field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """A records folder as it stands before a run.

    Attributes:
        ledger: what was taken.
        card: None where there are no records yet.
        episodes: the rows of episodes.parquet.
    """

    ledger: Ledger
    card: Card | None = None
    episodes: pa.Table | None = None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only run that adds to a records folder, and clear away what a killed one left.

    Raises:
        DataError: JG-data-112 another one does; 019 the folder's place cannot be written.
    """
    adding, before = _beside(folder, "adding"), _beside(folder, "before")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_beside(folder, "lock"), blocking=False):
            if before.exists() and not folder.exists():
                before.rename(folder)
            for left in (adding, before):
                if left.exists():
                    shutil.rmtree(left)
            yield
    except Timeout:
        raise DataError("JG-data-112", where=str(folder)) from None
    except OSError as error:
        problem = f"{error.strerror}: {error.filename}" if error.filename else error.strerror or str(error)
        raise DataError("JG-data-019", where=str(folder), problem=problem) from None


def standing(folder: Path, process: Process, key: bytes) -> Standing:
    """What a folder holds.

    Args:
        folder: absent, empty, or made by an earlier run.
        process: what it has to be of.
        key: that made its pseudonyms.

    Raises:
        DataError: JG-data-002 it is somebody else's; 012 it cannot be read; 018 it is of another process; 127 another
            key made its pseudonyms.
        PlanError: JG-plan-001..006, a document of another form.
    """
    path, check = folder / INGESTED_FILE, hmac.digest(key, _CHECK, hashlib.sha256)[:8].hex()
    if not path.exists():
        refuse_filled(folder)
        return Standing(Ledger(key=check))
    try:
        ledger = parse(json.loads(path.read_text(encoding="utf-8")), Ledger, str(path))
        episodes = pq.read_table(folder / EPISODES_FILE)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError("JG-data-012", where=str(path), problem=one_line(error)) from None
    card = read(folder / CARD_FILE, Card)
    if card.process != process.process:
        expected = process.process
        where = str(folder / CARD_FILE)
        raise DataError("JG-data-018", where=where, name="card", key="process", found=card.process, expected=expected)
    if not hmac.compare_digest(ledger.key, check):
        raise DataError("JG-data-127", where=str(folder))
    return Standing(ledger, card, episodes)


class Staging:
    """The folder that is being made; leaving it without `finish` leaves nothing."""

    def __init__(self, folder: Path, process: Process) -> None:
        """Take the records folder that it will replace, and the process that says what streams are."""
        self._folder, self.path = folder, _beside(folder, "adding")
        self._process = {stream.name: stream for stream in process.streams}
        self._parts: dict[str, _Parts] = {}

    def __enter__(self) -> Self:
        """Make the folder."""
        self.path.mkdir(mode=0o755)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Remove it, unless it has taken its place."""
        for parts in self._parts.values():
            with contextlib.suppress(OSError):
                parts.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def add(self, episode: str, stream: str, rows: pa.Table) -> None:
        """Write an episode's rows of one stream: `stream_schema` without the id.

        Raises:
            OSError: the disk is full.
        """
        if stream not in self._parts:
            standing = stream_parts(_files(self._folder), stream)
            self._parts[stream] = _Parts(self.path / "streams" / stream, self._process[stream], len(standing))
        self._parts[stream].add(rows.add_column(0, "episode_id", pa.array([episode] * len(rows), pa.string())))

    def finish(self, card: Card, episodes: pa.Table, ledger: Ledger) -> None:
        """Write what stands for the whole folder, link what stood before, and take its place.

        Raises:
            OSError: the folder's place cannot be written.
        """
        for parts in self._parts.values():
            parts.close()
        (self.path / CARD_FILE).write_text(card_text(card), encoding="utf-8")
        pq.write_table(episodes, self.path / EPISODES_FILE)
        text = json.dumps(ledger.model_dump(mode="json"), ensure_ascii=False, indent=1, sort_keys=True)
        (self.path / INGESTED_FILE).write_text(text + "\n", encoding="utf-8")
        for name in _files(self.path):
            with (self.path / name).open("rb+") as file:
                os.fsync(file.fileno())
        for name in _files(self._folder):
            _link(self._folder / name, self.path / name)
        if not self._folder.exists():
            self.path.rename(self._folder)
            return
        before = _beside(self._folder, "before")
        self._folder.rename(before)
        self.path.rename(self._folder)
        shutil.rmtree(before)


class _Parts:
    """The part files of one stream, one after the other; episodes stand whole, in their order, in one row group."""

    def __init__(self, folder: Path, stream: Stream, first: int) -> None:
        self._folder, self._number, self._schema = folder, first, stream_schema(stream)
        self._waiting: list[pa.Table] = []
        self._writer: pq.ParquetWriter | None = None
        folder.mkdir(parents=True)

    def add(self, rows: pa.Table) -> None:
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= GROUP_ROWS:
            self._write()

    def close(self) -> None:
        self._write()
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            self._writer, self._number = None, self._number + 1

    def _write(self) -> None:
        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting)
        if self._writer is None:
            self._sink = pa.OSFile(str(self._folder / f"part-{self._number:03d}.parquet"), "wb")
            self._writer = pq.ParquetWriter(self._sink, self._schema)
        self._writer.write_table(rows.cast(self._schema), row_group_size=max(len(rows), 1))
        self._waiting.clear()
        if self._sink.tell() >= PART_BYTES:
            self.close()


def _beside(folder: Path, what: str) -> Path:
    """A hidden sibling of a folder."""
    return folder.with_name(f".{folder.name}.{what}")


def _files(folder: Path) -> list[str]:
    """Every file below a folder, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _link(old: Path, new: Path) -> None:
    """The same file under a second name, a copy where the disk has no such thing; what is new already stays."""
    if new.exists():
        return
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(old, new)
    except OSError:
        shutil.copy2(old, new)
