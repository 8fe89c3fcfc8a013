"""episodes.csv of a drop folder: whose work an episode was, when, under which conditions, and what came of it.

The law: a line is used whole or not at all; each cell that cannot be is a finding with its line and header. A name of a
master is turned into a pseudonym as it is read, and is in no episode's name.
"""

import base64
import hmac
import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from jangin.codec.document import nearest
from jangin.errors import DataError
from jangin.records.card import Field
from jangin.records.checks import Finding
from jangin.records.intake.drop import EPISODES, LocalMapping, of_episodes, plain
from jangin.records.intake.recordings import Start, look_up
from jangin.records.intake.sheets import Sheet, moments, numbers, read_sheet
from jangin.records.media import media_name
from jangin.records.process import Process

__all__ = ["Book", "Line", "pseudonym", "read_book"]

_PSEUDONYM: Final = "M-"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Line:
    """A line of episodes.csv.

    Attributes:
        row: counted from 0.
        episode: its folder's name.
        master: pseudonym.
        start: None where blank.
        values: by column, the cells that are not blank.
    """

    row: int
    episode: str
    master: str
    start: Start | None
    values: Mapping[str, Any]

    def columns(self) -> dict[str, Any]:
        """Its part of a row of episodes.parquet."""
        start = {"start_utc": _EPOCH + timedelta(microseconds=self.start.microseconds)} if self.start else {}
        return {"episode_id": self.episode, "master": self.master, **start, **self.values}


@dataclass(frozen=True)
class Book:
    """episodes.csv.

    Attributes:
        sheet: its cells.
        places: which column holds what.
        lines: those that can be used.
        masters: pseudonyms by name.
        findings: about the others.
    """

    sheet: Sheet
    places: Mapping[str, int]
    lines: Sequence[Line]
    masters: Mapping[str, str]
    findings: Sequence[Finding]

    def where(self, line: Line, column: str = "episode_id") -> str:
        """The place of a line's cell."""
        return self.sheet.place(line.row, self.places.get(column, self.places["episode_id"]))


def read_book(drop: Path, process: Process, mapping: LocalMapping, key: bytes, folders: Sequence[str]) -> Book:
    """Read every line.

    Args:
        drop: the folder.
        process: what it records.
        mapping: the plant's names and words.
        key: from which pseudonyms are made.
        folders: the names of the episodes' folders.

    Raises:
        DataError: JG-data-012, 101, 102, 103, it is no table.
    """
    sheet, known, fields = read_sheet(drop / EPISODES, EPISODES), of_episodes(process, mapping), process.columns()
    places, findings = look_up(
        sheet, known, known, {"duration_s": "s"} | {name: one.unit for name, one in fields.items()}
    )
    given = {name for name, one in fields.items() if not one.optional and name.startswith(("context.", "action."))}
    for name in ("episode_id", "master", *(name for name in fields if name in given)):
        if name not in places:
            near, header = nearest(known.shown[name], filter(None, sheet.header)), known.shown[name]
            findings.append(Finding("error", "JG-data-105", where=EPISODES, column=header, nearest=near))
    cells, found = _cells(sheet, places, fields, mapping)
    findings += found
    lines, masters, seen = list[Line](), dict[str, str](), set[str]()
    for row, values in enumerate(cells):
        if not values:
            continue
        lacking = [name for name in ("episode_id", "master") if name in places and name not in values]
        findings += [_of_cell(sheet, places, row, name, "JG-data-023", row=row + 1, number=1) for name in lacking]
        if lacking or not {"episode_id", "master"} <= places.keys():
            continue
        name, episode = values.pop("master"), _folder(values.pop("episode_id"), folders)
        if episode in seen:
            findings.append(_of_cell(sheet, places, row, "episode_id", "JG-data-115", episode=episode))
            continue
        seen.add(episode)
        masters[name] = pseudonym(key, name)
        lines.append(Line(row, episode, masters[name], values.pop("start_utc", None), values))
    book = Book(sheet, places, lines, masters, findings)
    findings += _names(book, process)
    return book


def pseudonym(key: bytes, name: str) -> str:
    """`M-` and 40 bits of HMAC-SHA256(key, name) in base32 (RFC 2104, 4648); a pseudonym stays as it is.

    Args:
        key: of the site.
        name: as people write it; width of letters and number of spaces do not count.
    """
    name = " ".join(unicodedata.normalize("NFKC", name).split())
    if _is_pseudonym(name):
        return name
    return _PSEUDONYM + base64.b32encode(hmac.digest(key, name.encode(), "sha256")[:5]).decode()


def _is_pseudonym(name: str) -> bool:
    rest = name.removeprefix(_PSEUDONYM)
    return rest != name and len(rest) >= 4 and rest.isascii() and rest.isalnum() and rest == rest.upper()


def _folder(cell: str, folders: Sequence[str]) -> str:
    """The folder that a cell names; spreadsheets eat the zeros before a number."""
    name = unicodedata.normalize("NFC", cell)
    if name in folders or not name.isdigit():
        return name
    alike = [folder for folder in folders if folder.isdigit() and int(folder) == int(name)]
    return alike[0] if len(alike) == 1 else name


def _cells(
    sheet: Sheet, places: Mapping[str, int], fields: Mapping[str, Field], mapping: LocalMapping
) -> tuple[list[dict[str, Any]], list[Finding]]:
    """The cells of each line by column, in the column's type, without blank ones."""
    found: list[Finding] = []
    rows: list[dict[str, Any]] = [{} for _ in range(len(sheet))]
    numeric = {name: place for name, place in places.items() if name == "duration_s" or _ranged(fields, name)}
    columns, said = numbers(sheet, list(numeric.values()))
    found += said
    for name, place in places.items():
        if name in numeric:
            values = columns.get(place, pa.chunked_array([pa.nulls(len(sheet), pa.float64())]))
            found += _outside(sheet, name, place, values, fields)
            held = values.to_pylist()
        elif name == "start_utc":
            told = moments(sheet, place, utc=plain(sheet.header[place]) == plain("start_utc"))
            if isinstance(told, Finding):
                found.append(told)
                continue
            if not told.dated and not told.missing.all():
                row = int((~told.missing).argmax())
                value, number = sheet.columns[place][row].as_py(), int((~told.missing).sum())
                found.append(_of_cell(sheet, places, row, name, "JG-data-109", value=value, number=number))
                continue
            every = zip(told.microseconds.tolist(), told.seconds.tolist(), told.missing.tolist(), strict=True)
            held = [None if missing else Start(at, seconds) for at, seconds, missing in every]
        else:
            held = sheet.columns[place].to_pylist()
            public = fields[name].values if name in fields else None
            if public is not None:
                held = [None if word is None else mapping.words.get(word, word) for word in held]
                for row in (row for row, word in enumerate(held) if word is not None and word not in public):
                    known = ", ".join(public)
                    found.append(_of_cell(sheet, places, row, name, "JG-data-110", value=held[row], values=known))
        for row, value in enumerate(held):
            if value is not None:
                rows[row][name] = value
    return rows, found


def _ranged(fields: Mapping[str, Field], name: str) -> bool:
    return name in fields and fields[name].range is not None


def _outside(
    sheet: Sheet, name: str, place: int, values: pa.ChunkedArray, fields: Mapping[str, Field]
) -> Iterator[Finding]:
    """Actions that nobody can have taken, and lengths below nothing."""
    if name == "duration_s":
        low, high = 0.0, math.inf
    elif name.startswith("action."):
        low, high = fields[name].range or (-math.inf, math.inf)
    else:
        return
    rows = pc.indices_nonzero(pc.or_(pc.less(values, low), pc.greater(values, high)))
    if len(rows):
        row, number = rows[0].as_py(), len(rows)
        where, value = sheet.place(row, place), values[row].as_py()
        if name == "duration_s":
            yield Finding("error", "JG-data-026", where=where, row=row + 1, number=number, value=value)
            return
        unit = fields[name].unit
        yield Finding(
            "error", "JG-data-027", where=where, row=row + 1, number=number, value=value, low=low, high=high, unit=unit
        )


def _names(book: Book, process: Process) -> Iterator[Finding]:
    """Episodes that cannot be a file's name, or that tell a master's."""
    media = next((stream for stream in process.streams if stream.media), None)
    names = [plain(name) for name in book.masters if len(name) > 1 and not _is_pseudonym(name)]
    for line in book.lines:
        if any(name in plain(line.episode) for name in names):
            yield Finding("error", "JG-data-118", where=book.where(line), episode=line.episode)
        if media is not None:
            try:
                media_name(media, line.episode)
            except DataError as error:
                yield Finding.of(error)


def _of_cell(sheet: Sheet, places: Mapping[str, int], at: int, column: str, code: str, **values: object) -> Finding:
    """An error of a line's cell."""
    return Finding("error", code, where=sheet.place(at, places[column]), **values)
