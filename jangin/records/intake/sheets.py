"""Tables as spreadsheets and loggers write them: encoding, separator, numbers and moments, found without being told.

The law: how numbers are written is decided by a whole file, never cell by cell; a cell that fits no way, or a file
that mixes two, is refused with its line. Nothing is guessed in silence.

Encodings: UTF-8 with or without its mark, UTF-16 with its mark (Excel's "Unicode text"), else code page 949.
Separators: the most frequent of tab, `;` and `,` in the first line, or the one of Excel's line `sep=`.
"""

import csv
import io
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from jangin.errors import DataError, one_line
from jangin.records.checks import Finding

if TYPE_CHECKING:
    from _csv import Reader as Rows

__all__ = ["KOREA", "Moments", "Sheet", "moments", "numbers", "read_sheet"]

KOREA: Final = timezone(timedelta(hours=9), "KST")
"""The clock on the wall where a time names no zone: Asia/Seoul, without summer time since 1988."""

_MISSING: Final = pa.array(["", "-", "na", "n/a", "#n/a", "nan", "null"])
_GROUP: Final = "[ \u00a0\u2009\u202f]"
_EXPONENT: Final = r"([eE][+-]?\d+)?$"
_POINT: Final = rf"^[+-]?(\d+|[1-9]\d{{0,2}}((,|{_GROUP})\d{{3}})+)?(\.\d*)?{_EXPONENT}"
_COMMA: Final = rf"^[+-]?(\d+|[1-9]\d{{0,2}}((\.|{_GROUP})\d{{3}})+)?(,\d*)?{_EXPONENT}"
_LARGEST: Final = float(np.finfo(np.float32).max)
_SEPARATED: Final = re.compile(r"sep=[\t;,]?$")
_MOMENT: Final = (
    r"^(?:(?P<y>\d{4})\s*[-./년]\s*(?P<mo>\d{1,2})\s*[-./월]\s*(?P<d>\d{1,2})\s*[.일]?[T\s]\s*)?"
    r"(?P<before>오전|오후|[aApP][mM])?\s*(?P<h>\d{1,2})\s*[:시]\s*(?P<mi>\d{1,2})\s*"
    r"(?:[:분]\s*(?P<s>\d{1,2})(?:[.,](?P<f>\d{1,9}))?\s*초?)?분?"
    r"\s*(?P<after>오전|오후|[aApP][mM])?\s*(?P<zone>[zZ]|[+-]\d{2}:?\d{2})?$"
)
_SECOND: Final = 1_000_000
_DAY: Final = 86_400 * _SECOND


@dataclass(frozen=True)
class Sheet:
    """A table of texts.

    Attributes:
        name: for messages, e.g. `weld-001/torch.csv`.
        header: the first line's cells, trimmed.
        columns: in the header's order, trimmed texts; what is missing is null.
        separator: between cells.
        content: the whole file in UTF-8.
    """

    name: str
    header: tuple[str, ...]
    columns: tuple[pa.ChunkedArray, ...]
    separator: str
    content: bytes

    def __len__(self) -> int:
        return len(self.columns[0])

    def place(self, row: int, column: int) -> str:
        """Where a cell stands: file, line (counted from 1 as editors do) and header."""
        width, (_, rows) = len(self.header), _after_header(self.content, self.separator)
        lines = (rows.line_num for cells in rows if len(cells) == width or (width == 1 and not cells))
        return f"{self.name}:{next(islice(lines, row, None))}: {self.header[column]}"


def read_sheet(path: Path, name: str) -> Sheet:
    """Read a file of lines and cells.

    Args:
        path: the file.
        name: for messages.

    Raises:
        DataError: JG-data-012 it cannot be read; 101 its letters are in no known encoding; 102 it has no rows; 103 a
            line has more cells than the first, or fewer.
    """
    try:
        content = _in_utf8(path.read_bytes(), name)
    except OSError as error:
        raise DataError("JG-data-012", where=name, problem=error.strerror) from None
    separator = _separator(content)
    try:
        header, rows = _after_header(content, separator)
        above = rows.line_num
        below = next(rows, [])
        if header and not any(map(str.strip, below[len(header) :])):
            header += [""] * (len(below) - len(header))  # loggers end the lines of values with one more separator
        columns = _columns(content, separator, len(header), above, name) if header else []
    except csv.Error as error:
        raise DataError("JG-data-012", where=name, problem=str(error)) from None
    filled = [pc.indices_nonzero(pc.is_valid(column)) for column in columns]
    rows_held = max((places[-1].as_py() + 1 for places in filled if len(places)), default=0)
    if not rows_held:
        raise DataError("JG-data-102", where=name)
    held = tuple(column.slice(0, rows_held) for column in columns)  # spreadsheets leave empty rows behind
    return Sheet(name, tuple(cell.strip() for cell in header), held, separator, content)


def numbers(sheet: Sheet, wanted: Collection[int]) -> tuple[dict[int, pa.ChunkedArray], list[Finding]]:
    """The numbers of some columns, float64; what is missing is null.

    Args:
        sheet: the table.
        wanted: which columns, by their places.

    Returns:
        The columns by their places, without those that hold something else, and what was found: JG-data-107, no
        number; 108, numbers with a decimal comma beside others with a point; 126, a warning that the separator between
        the cells decided what a comma within them means.
    """
    columns = {place: sheet.columns[place] for place in wanted}
    try:
        return {place: _floats(column) for place, column in columns.items()}, []
    except pa.ArrowInvalid:
        pass
    found, ways = [], {place: (_fits(column, _POINT), _fits(column, _COMMA)) for place, column in columns.items()}
    for place, (point, comma) in ways.items():
        neither = pc.invert(pc.or_(point, comma))
        if pc.any(neither).as_py():
            found.append(_refused(sheet, place, neither))
            del columns[place]
    no_point, no_comma = (_first(sheet, [(place, pc.invert(ways[place][way])) for place in columns]) for way in (0, 1))
    comma = _first(sheet, [(place, pc.match_substring(column, ",")) for place, column in columns.items()])
    if no_point and no_comma:
        found.append(
            Finding("error", "JG-data-108", where=no_point[0], value=no_point[1], at=no_comma[0], other=no_comma[1])
        )
        return {}, found
    decimal_comma = bool(no_point) or (not no_comma and comma is not None and sheet.separator == ";")
    if comma and not no_point and not no_comma:
        read = float(_with_point(pa.array([comma[1]]), decimal_comma)[0].as_py())
        found.append(Finding("warning", "JG-data-126", where=comma[0], value=comma[1], read=f"{read:g}"))
    numbers = {}
    for place, column in columns.items():
        written = _with_point(column, decimal_comma)
        try:
            numbers[place] = _floats(written)
        except pa.ArrowInvalid:
            found.append(_refused(sheet, place, pc.invert(pc.is_finite(pc.cast(written, pa.float64())))))
    return numbers, found


@dataclass(frozen=True)
class Moments:
    """Times of day, or points in time.

    Attributes:
        microseconds: int64, shape (rows,): since 1970 in UTC where dated, else since midnight on the wall; 0 where
            missing.
        missing: shape (rows,).
        dated: whether a date is given.
        seconds: shape (rows,): whether it says seconds.
    """

    microseconds: NDArray[np.int64]
    missing: NDArray[np.bool_]
    dated: bool
    seconds: NDArray[np.bool_]


def moments(sheet: Sheet, place: int, *, utc: bool = False) -> Moments | Finding:
    """The moments of a column as people and machines write them; the clock is Asia/Seoul's where no zone is named.

    E.g. `2026-11-21 오후 3:05`, `2026.11.21 15:05:07`, `2026-11-21T06:05:07.25Z`, `3:05:07 PM`, `15시 5분`.

    Args:
        sheet: the table.
        place: of the column.
        utc: whether a time without a zone is in UTC.

    Returns:
        The moments, or the finding JG-data-109 for the first cell that is none.
    """
    column = sheet.columns[place].combine_chunks()
    missing = column.is_null().to_numpy(zero_copy_only=False)
    parts = pc.extract_regex(column, _MOMENT)
    sound = parts.is_valid().to_numpy(zero_copy_only=False)
    y, month, day, hour, minute, second = (_whole(_part(parts, key)) for key in ("y", "mo", "d", "h", "mi", "s"))
    micro = _whole(pc.utf8_slice_codeunits(pc.utf8_rpad(_part(parts, "f"), 6, padding="0"), 0, 6))
    before, after, zone = (_part(parts, key).to_numpy(zero_copy_only=False) for key in ("before", "after", "zone"))
    half = np.where(before != "", before, after)
    afternoon = np.isin(half, ["오후", "pm"])
    sound &= np.where(half != "", (hour >= 1) & (hour <= 12), hour < 24) & (minute < 60) & (second < 60)
    hour = np.where(half != "", hour % 12 + 12 * afternoon, hour)
    written = y > 0
    dated = bool((written & ~missing).any())
    months = ((y - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1).astype("timedelta64[D]")
    sound &= ~written | ((month >= 1) & (month <= 12) & (day >= 1) & (days.astype("datetime64[M]") == months))
    wrong = np.flatnonzero(~missing & ~(sound & (written == dated)))
    if len(wrong):
        row = int(wrong[0])
        where, value = sheet.place(row, place), column[row].as_py()
        return Finding("error", "JG-data-109", where=where, value=value, number=len(wrong))
    since = (hour * 3600 + minute * 60 + second) * _SECOND + micro
    if dated:
        since = since + days.astype(np.int64) * _DAY - _ahead(zone, utc)
    says: NDArray[np.bool_] = _part(parts, "s").to_numpy(zero_copy_only=False) != ""
    return Moments(np.where(missing, 0, since), missing, dated, says)


def _in_utf8(content: bytes, name: str) -> bytes:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    else:
        encodings = ["utf-8", "cp949"]
        content = content.removeprefix(b"\xef\xbb\xbf")
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return content if encoding == "utf-8" else text.encode()
    raise DataError("JG-data-101", where=name)


def _lines(content: bytes) -> io.TextIOWrapper:
    """The lines one after the other, without a copy of all of them."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")


def _after_header(content: bytes, separator: str) -> tuple[list[str], "Rows"]:
    """The cells of the first line that holds some, and the rows below it; no cells where there is no such line."""
    rows = csv.reader(_lines(content), delimiter=separator)
    return next((cells for cells in rows if any(map(str.strip, cells)) and not _SEPARATED.match(cells[0])), []), rows


def _separator(content: bytes) -> str:
    """What stands most often between the cells of the first line that holds something."""
    first = next((line for line in _lines(content) if line.strip()), "").strip("\r\n")
    if _SEPARATED.match(first):
        return first[-1]
    outside = re.sub(r'"[^"]*"', "", first)
    return max("\t;,", key=outside.count)


def _columns(content: bytes, separator: str, width: int, above: int, name: str) -> list[pa.ChunkedArray]:
    """The cells below the header, trimmed; what is missing is null."""
    names = [str(number) for number in range(width)]
    uneven: list[str] = []

    def skip(row: arrow_csv.InvalidRow) -> Literal["skip"]:
        if row.text.strip():
            uneven.append(row.text)
        return "skip"

    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(content),
            arrow_csv.ReadOptions(column_names=names, skip_rows=above, use_threads=False),
            arrow_csv.ParseOptions(
                delimiter=separator,
                newlines_in_values=b'"' in content,
                ignore_empty_lines=width > 1,
                invalid_row_handler=skip,
            ),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            return []
        raise DataError("JG-data-012", where=name, problem=one_line(error)) from None
    if uneven:
        _, rows = _after_header(content, separator)
        odd = ((rows.line_num, len(cells)) for cells in rows if len(cells) not in (0, width))
        line, cells = next(odd, (above, 0))
        raise DataError("JG-data-103", where=f"{name}:{line}", cells=cells, expected=width, number=len(uneven))
    return [_trimmed(column) for column in table.columns]


def _trimmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.is_in(pc.utf8_lower(trimmed), value_set=_MISSING), None, trimmed)


def _floats(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts as float64.

    Raises:
        ArrowInvalid: one is no number, or none that float32 can hold.
    """
    values = pc.cast(column, pa.float64())
    if pc.any(pc.invert(pc.less_equal(pc.abs(values), _LARGEST))).as_py():
        raise pa.ArrowInvalid
    return values


def _fits(column: pa.ChunkedArray, way: str) -> pa.ChunkedArray:
    """Whether each cell is missing or a number written in this way."""
    held = pc.and_(pc.match_substring_regex(column, way), pc.match_substring_regex(column, r"\d"))
    return pc.fill_null(held, True)


def _with_point(column: pa.ChunkedArray, decimal_comma: bool) -> pa.ChunkedArray:
    """Numbers as programs write them."""
    grouped = pc.replace_substring_regex(column, _GROUP, "")
    if not decimal_comma:
        return pc.replace_substring(grouped, ",", "")
    return pc.replace_substring(pc.replace_substring(grouped, ".", ""), ",", ".")


def _first(sheet: Sheet, marked: Iterable[tuple[int, pa.ChunkedArray]]) -> tuple[str, str] | None:
    """Place and text of the first marked cell."""
    for place, mask in marked:
        rows = pc.indices_nonzero(mask)
        if len(rows):
            row = rows[0].as_py()
            return sheet.place(row, place), sheet.columns[place][row].as_py()
    return None


def _refused(sheet: Sheet, place: int, mask: pa.ChunkedArray) -> Finding:
    where, value = _first(sheet, [(place, mask)]) or (sheet.name, "")
    return Finding("error", "JG-data-107", where=where, value=value, number=pc.sum(mask).as_py())


def _part(parts: pa.StructArray, key: str) -> pa.Array:
    """What a group of the pattern caught, in lower case; empty where nothing."""
    return pc.fill_null(pc.utf8_lower(pc.struct_field(parts, key)), "")


def _whole(texts: pa.Array) -> NDArray[np.int64]:
    values: NDArray[np.int64] = pc.cast(pc.if_else(pc.equal(texts, ""), "0", texts), pa.int64()).to_numpy()
    return values


def _ahead(zones: NDArray[np.object_], utc: bool) -> NDArray[np.int64]:
    """How far the clock of each zone is ahead of UTC, in microseconds."""
    names, row_of = np.unique(zones.astype(str), return_inverse=True)
    ahead = []
    for name in names.tolist():
        if name and name != "z":
            minutes = int(name[1:3]) * 60 + int(name[-2:])
            ahead.append(-minutes if name[0] == "-" else minutes)
        else:
            ahead.append(0 if utc or name else int(KOREA.utcoffset(None).total_seconds()) // 60)
    return (np.array(ahead, np.int64) * 60 * _SECOND)[row_of]
