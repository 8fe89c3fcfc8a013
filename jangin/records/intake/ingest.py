"""From a drop folder to master records: what is new is added, what is known is left, and nothing is half done.

    1. look     the lines of episodes.csv with their folders; what an earlier run took is compared by hash
    2. read     the new folders, several at once, each written beside the records as it comes (staging.py)
    3. swap     once every line and file was without an error

The law: an error anywhere and nothing is written. What was ingested never changes in silence: a file or a value that
differs is an error; only a cell that was blank may be filled in later. Masters enter as pseudonyms, and their names
stay in the drop folder.
"""

import csv
import hmac
import io
import os
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from jangin.errors import DataError
from jangin.records.card import Card, People
from jangin.records.checks import Finding, check_card, check_episodes
from jangin.records.dataset import CARD_FILE, EPISODES_FILE, episode_schema
from jangin.records.intake.book import Book, Line, read_book
from jangin.records.intake.drop import LocalMapping, read_mapping
from jangin.records.intake.recordings import Reader, Recording
from jangin.records.intake.staging import Ledger, Staging, alone, standing
from jangin.records.intake.taken import Pictures
from jangin.records.manifest import file_digest, write_whole
from jangin.records.process import Process

__all__ = ["Ingested", "ingest", "masters_key", "write_masters"]

_KEY_BYTES: Final = 32
_MINUTE: Final = timedelta(minutes=1)
_OF_MACHINES: Final = frozenset({"thumbs.db", "desktop.ini"})

Files = dict[str, str]
"""The files of an episode's folder: of each its name under the key, which may tell a person's, and its SHA-256."""


@dataclass(frozen=True)
class Ingested:
    """What a run did.

    Attributes:
        findings: errors, then warnings; with an error nothing was written.
        added: ids of the new episodes.
        known: how many were there before.
        filled: how many cells of known episodes were blank and are no more.
        masters: the pseudonym of each name in episodes.csv.
    """

    findings: tuple[Finding, ...]
    added: tuple[str, ...] = ()
    known: int = 0
    filled: int = 0
    masters: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether no finding is an error."""
        return not _wrong(self.findings)


def ingest(
    drop: Path,
    folder: Path,
    key: bytes,
    *,
    pictures: Pictures = "kept",
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Ingested:
    """Add the new episodes of a drop folder to a records folder.

    Args:
        drop: made by `init_drop`.
        folder: absent, empty, or made by an earlier run.
        key: from which pseudonyms are made.
        pictures: `kept` as they came, or made `png` of the process' size and rate.
        workers: episodes that are read at once; each is in memory with its tables.
        progress: called with (episodes read, episodes to read).

    Raises:
        DataError: JG-data-100 no drop folder; 001 no such process; 012, 101, 102, 103 episodes.csv cannot be read; 002
            the records folder is somebody else's; 018 it is of another process; 019 it cannot be written; 112 another
            run works on it; 127 another key made its pseudonyms.
        PlanError: JG-plan-001..006, a document of another form.
    """
    folder = folder.absolute()
    mapping, process = read_mapping(drop)
    with alone(folder):
        before, folders = standing(folder, process, key), _folders(drop)
        known = before.ledger.episodes
        book = read_book(drop, process, mapping, key, list(folders))
        findings = [*book.findings, *_strays(book, folders, known), *_changed(folders, known, key, workers)]
        rows = before.episodes.to_pylist() if before.episodes is not None else []
        filled = _fill(book, rows, findings)
        new = [line for line in book.lines if line.episode not in known and line.episode in folders]
        taken, seen = dict[str, Files](), {_content(files): episode for episode, files in known.items()}
        held = {stream.name for stream in before.card.streams} if before.card else set[str]()
        reader = Reader(process, mapping, pictures)
        with Staging(folder, process) as staging:
            for line, files, recording in _read(reader, folders, new, key, staging.path, workers):
                taken[line.episode] = files
                findings += recording.findings
                findings += _doubtful(book, line, recording, seen.setdefault(_content(files), line.episode))
                held |= {*recording.rows, *recording.media}
                for stream, table in recording.rows.items() if not _wrong(findings) else ():
                    staging.add(line.episode, stream, table)
                started = replace(line, start=recording.start)
                rows.append({"duration_s": recording.duration_s} | started.columns())
                if progress:
                    progress(len(taken), len(new))
            if rows and not _wrong(findings):
                card = _card(process, mapping, before.card, held, len({row["master"] for row in rows}))
                table = pa.Table.from_pylist(rows, episode_schema(card))
                findings += check_card(card, process, str(folder / CARD_FILE))
                findings += check_episodes(table, card, str(folder / EPISODES_FILE))
                if (taken or filled or card != before.card) and not _wrong(findings):
                    staging.finish(card, table, Ledger(key=before.ledger.key, episodes=known | taken))
    if _wrong(findings):
        taken, filled = {}, 0
    return Ingested(tuple(_gathered(findings)), tuple(taken), len(known), filled, book.masters)


def masters_key(drop: Path, random_bytes: Callable[[int], bytes] = os.urandom) -> bytes:
    """The key beside a drop folder, `<drop>.masters.key`; made where there is none, readable by its owner alone.

    Raises:
        DataError: JG-data-127 it is no key; 012 it cannot be read; 010 it cannot be written.
    """
    path = _beside(drop, "masters.key")
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = random_bytes(_KEY_BYTES)
        write_whole(path, key, mode=0o600)
    except OSError as error:
        raise DataError("JG-data-012", where=str(path), problem=error.strerror) from None
    if len(key) != _KEY_BYTES:
        raise DataError("JG-data-127", where=str(path))
    return key


def write_masters(drop: Path, masters: Mapping[str, str]) -> Path:
    """Write who is who beside a drop folder, `<drop>.masters.csv`, readable by its owner alone.

    Raises:
        DataError: JG-data-010 it cannot be written.
    """
    table = io.StringIO(newline="")
    csv.writer(table).writerows([("장인", "가명"), *sorted(masters.items())])
    path = _beside(drop, "masters.csv")
    write_whole(path, table.getvalue().encode("utf-8-sig"), mode=0o600)
    return path


def _beside(drop: Path, what: str) -> Path:
    drop = drop.absolute()
    return drop.with_name(f"{drop.name}.{what}")


def _folders(drop: Path) -> dict[str, Path]:
    """The folders of episodes by their names, whose letters are composed as keyboards do (macOS takes them apart)."""
    found = (path for path in sorted(drop.iterdir()) if path.is_dir() and not path.name.startswith("."))
    return {unicodedata.normalize("NFC", path.name): path for path in found}


def _files(folder: Path) -> list[str]:
    """What stands in an episode's folder, without what machines leave behind."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith((".", "~$")))
    return [name for name in names if name.lower() not in _OF_MACHINES]


def _digests(folder: Path, key: bytes) -> Files:
    """What stands in an episode's folder.

    Raises:
        DataError: JG-data-012, a file cannot be read.
    """
    files = [folder / name for name in _files(folder) if (folder / name).is_file()]
    return {_hidden(key, path.name): file_digest(path) for path in files}


def _hidden(key: bytes, name: str) -> str:
    return hmac.digest(key, b"file/" + unicodedata.normalize("NFC", name).encode(), "sha256")[:16].hex()


def _content(files: Files) -> frozenset[str]:
    return frozenset(files.values())


def _strays(book: Book, folders: Mapping[str, Path], known: Mapping[str, Files]) -> Iterator[Finding]:
    """Lines without a folder, folders without a line."""
    named = {line.episode for line in book.lines}
    for line in book.lines:
        if line.episode not in folders and line.episode not in known:
            yield Finding("error", "JG-data-113", where=book.where(line), episode=line.episode)
    for name in folders.keys() - named - known.keys() if "episode_id" in book.places else ():
        yield Finding("error", "JG-data-114", where=name)


def _changed(folders: Mapping[str, Path], known: Mapping[str, Files], key: bytes, workers: int) -> Iterator[Finding]:
    """Known episodes whose folder is not what it was; one that was put away is nobody's concern."""
    here = [episode for episode in known if episode in folders]
    with ThreadPoolExecutor(workers) as pool:
        for episode, files in zip(here, pool.map(lambda name: _digests(folders[name], key), here), strict=True):
            if files != known[episode]:
                differ = {name for name, _ in files.items() ^ known[episode].items()}
                names = [name for name in _files(folders[episode]) if _hidden(key, name) in differ]
                where = f"{episode}/{names[0]}" if names else episode
                yield Finding("error", "JG-data-116", where=where, episode=episode)


def _fill(book: Book, rows: Iterable[dict[str, Any]], findings: list[Finding]) -> int:
    """Fill cells of known episodes that were blank; how many. A value that differs is a finding."""
    filled, standing = 0, {row["episode_id"]: row for row in rows}
    for line in (line for line in book.lines if line.episode in standing):
        row = standing[line.episode]
        for column, value in line.columns().items():
            old = row.get(column)
            if old is None:
                row[column], filled = value, filled + 1
            elif old != value and not (column == "start_utc" and _completed(line, old, value)):
                findings.append(Finding("error", "JG-data-116", where=book.where(line, column), episode=line.episode))
    return filled


def _completed(line: Line, old: datetime, new: datetime) -> bool:
    """Whether a start without seconds is the one that the recording completed."""
    return line.start is not None and not line.start.seconds and timedelta(0) <= old - new < _MINUTE


def _read(
    reader: Reader, folders: Mapping[str, Path], lines: Sequence[Line], key: bytes, staging: Path, workers: int
) -> Iterator[tuple[Line, Files, Recording]]:
    """The recordings of lines in their order; so many are read at once, and no more wait."""

    def one(line: Line) -> tuple[Line, Files, Recording]:
        folder = folders[line.episode]
        try:
            files = _digests(folder, key)
        except DataError as error:
            return line, {}, Recording(start=line.start, findings=[Finding.of(error)])
        return line, files, reader.read(folder, line.episode, _files(folder), line.start, staging)

    waiting: deque[Future[tuple[Line, Files, Recording]]] = deque()
    left = iter(lines)
    with ThreadPoolExecutor(workers) as pool:
        try:
            waiting.extend(pool.submit(one, line) for line in islice(left, workers))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(one, line) for line in islice(left, 1))
        finally:
            for future in waiting:
                future.cancel()


def _doubtful(book: Book, line: Line, recording: Recording, twin: str) -> Iterator[Finding]:
    """A recording that was taken under another name, or of which nobody says when it began."""
    if twin != line.episode:
        yield Finding("error", "JG-data-117", where=book.where(line), episode=line.episode, other=twin)
    if recording.start is None and not _wrong(recording.findings):
        where = book.where(line, "start_utc")
        yield Finding("error", "JG-data-023", where=where, row=line.row + 1, number=1)


def _card(process: Process, mapping: LocalMapping, before: Card | None, held: set[str], masters: int) -> Card:
    """The card of these records: all that the process names, without optional streams that no episode has."""
    said = {name: getattr(process, name) for name in Card.model_fields if name in Process.model_fields}
    said["streams"] = tuple(one for one in process.streams if one.name in held or not one.optional)
    told = before.people if before else People(masters=masters)
    people = People(
        masters=masters, note=mapping.note or told.note, deidentified=told.deidentified | mapping.deidentified
    )
    return Card(schema_version=1, site=mapping.site, people=people, **said)


def _wrong(findings: Iterable[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)


def _gathered(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Errors, then warnings, of which one stands for the same column of all files."""
    yield from (finding for finding in findings if finding.severity == "error")
    unread: dict[object, list[Finding]] = {}
    for finding in (finding for finding in findings if finding.severity == "warning"):
        unread.setdefault((finding.code, finding.values.get("column", finding.where)), []).append(finding)
    for first, *others in unread.values():
        yield Finding("warning", first.code, where=first.where, **first.values | {"number": 1 + len(others)})
