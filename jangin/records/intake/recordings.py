"""One episode's folder read: tables to rows of streams, sound and pictures to media files.

The law: values and times go in as they are, or not at all; what a file, a column or a cell means is said by its name,
the process and the plant's mapping, and where they do not say it, it is a finding.

Times of a table are seconds from the episode's start (or ms, us, min, h where the header says so), moments, or nothing:
then row i stands at i / rate_hz. A start that is blank is the earliest dated moment of the folder, and one without
seconds is that moment where it lies within its minute.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jangin.errors import DataError
from jangin.records.card import UNITS, Stream
from jangin.records.checks import Finding
from jangin.records.dataset import stream_schema
from jangin.records.intake.drop import IGNORED, TIME, Dictionary, LocalMapping, of_streams, stream_of
from jangin.records.intake.sheets import KOREA, Moments, Sheet, moments, numbers, read_sheet
from jangin.records.intake.taken import PICTURES, SOUND, Pictures, take_media
from jangin.records.media import media_name
from jangin.records.process import Process

__all__ = ["Reader", "Recording", "Start", "look_up"]

_SCALE: Final = {"s": (1, 1), "ms": (1, 1000), "us": (1, 1_000_000), "min": (60, 1), "h": (3600, 1)}
_SECOND: Final = 1_000_000
_DAY: Final = 86_400 * _SECOND
_LONGEST: Final = 86_400.0
"""Seconds of a day: no piece of work is longer, and no clock is counted from further away."""
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Start:
    """When an episode began.

    Attributes:
        microseconds: since 1970, UTC.
        seconds: whether it was written with seconds.
    """

    microseconds: int
    seconds: bool = True


@dataclass
class Recording:
    """What an episode's folder holds.

    Attributes:
        rows: by stream, the columns of `stream_schema` without the episode's id.
        media: the streams whose files were written.
        start: when it began; None where nobody says.
        duration_s: to the end of the last sample.
        findings: in the order of the files.
    """

    rows: dict[str, pa.Table] = field(default_factory=dict)
    media: list[str] = field(default_factory=list)
    start: Start | None = None
    duration_s: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        """Whether a finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Make a finding of an error, and go on with the next file."""
        try:
            yield
        except DataError as error:
            self.findings.append(Finding.of(error))


@dataclass(frozen=True)
class _Piece:
    """The columns of one stream in one table; `t` is in seconds, None where the table has no times."""

    file: str
    t: NDArray[np.float64] | None
    moments: Moments | None
    channels: Mapping[str, pa.ChunkedArray]

    @property
    def rows(self) -> int:
        return len(next(iter(self.channels.values())))

    def joined(self, other: "_Piece") -> "_Piece | None":
        """Both as one, where they hold other channels at the same times."""
        same = self.rows == other.rows and _same(self.t, other.t) and (self.moments is None) == (other.moments is None)
        if self.moments and other.moments:
            same &= _same(self.moments.microseconds, other.moments.microseconds)
        if not same or self.channels.keys() & other.channels.keys():
            return None
        return _Piece(self.file, self.t, self.moments, {**self.channels, **other.channels})


def look_up(
    sheet: Sheet, own: Dictionary, wider: Dictionary, units: Mapping[str, str]
) -> tuple[dict[str, int], list[Finding]]:
    """Which column of a sheet holds what.

    Args:
        sheet: the table.
        own: what its headers mean first.
        wider: what they mean else.
        units: of each target that has one.

    Returns:
        Places by target, and what was found: JG-data-104, 106, 120, and 125 for what nobody reads.
    """
    places: dict[str, int] = {}
    found = []
    for place, header in enumerate(sheet.header):
        meaning = own.look_up(header)
        if not meaning.targets:
            meaning = wider.look_up(header)
        if meaning.targets == (IGNORED,) or (not header and not sheet.columns[place].null_count < len(sheet)):
            continue
        where = f"{sheet.name}: {header}"
        if not meaning.targets:
            near = own.nearest(header)
            found.append(Finding("warning", "JG-data-125", where=sheet.name, column=header, nearest=near, number=1))
        elif len(meaning.targets) > 1:
            found.append(Finding("error", "JG-data-120", where=where, names=", ".join(meaning.targets)))
        elif (target := meaning.targets[0]) in places:
            other = sheet.header[places[target]]
            found.append(Finding("error", "JG-data-104", where=sheet.name, column=header, other=other, target=target))
        else:
            places[target] = place
            expected = units.get(target, meaning.unit)
            if meaning.unit not in (None, expected) and (expected != "1" or meaning.unit in UNITS):
                found.append(Finding("error", "JG-data-106", where=where, found=meaning.unit, expected=expected))
    return places, found


class Reader:
    """Reads the folders of one drop."""

    def __init__(self, process: Process, mapping: LocalMapping, pictures: Pictures = "kept") -> None:
        """Take what the process needs, the plant's names, and what becomes of pictures.

        Args:
            process: of the drop.
            mapping: of the drop.
            pictures: `kept` as they came, or made `png` of the process' size and rate.
        """
        self._process, self._mapping, self._pictures = process, mapping, pictures
        self._tables = tuple(stream for stream in process.streams if stream.media is None)
        self._units = {f"{one.name}.{channel.name}": channel.unit for one in self._tables for channel in one.channels}

    @cached_property
    def _all(self) -> Dictionary:
        return of_streams(self._tables, self._mapping)

    @cached_property
    def _of_stream(self) -> Mapping[str, Dictionary]:
        return {stream.name: of_streams((stream,), self._mapping) for stream in self._tables}

    def read(self, folder: Path, episode: str, files: Sequence[str], start: Start | None, staging: Path) -> Recording:
        """Read one episode.

        Args:
            folder: the episode's.
            episode: its id.
            files: the names of its files.
            start: from episodes.csv.
            staging: the records folder that is being made; media are written there.
        """
        recording, pieces = Recording(start=start), dict[str, _Piece]()
        tables, media = self._sorted(folder, files, recording)
        for path, told in tables:
            with recording.noting():
                for stream, piece in self._pieces(path, told, recording):
                    joined = pieces[stream].joined(piece) if stream in pieces else piece
                    if joined is None:
                        raise _second(path, stream, pieces[stream].file)
                    pieces[stream] = joined
        for name, paths in media.items():
            with recording.noting():
                described = self._stream(name)
                seconds = take_media(paths, described, staging / media_name(described, episode), self._pictures)
                recording.media.append(name)
                recording.duration_s = max(recording.duration_s, seconds)
        self._place_in_time(recording, pieces)
        if not recording.wrong:
            held = {*recording.rows, *recording.media}
            lacking = [one.name for one in self._process.streams if not one.optional and one.name not in held]
            recording.findings += [Finding("error", "JG-data-121", where=episode, stream=name) for name in lacking]
        return recording

    def _sorted(
        self, folder: Path, files: Sequence[str], recording: Recording
    ) -> tuple[list[tuple[Path, str | None]], dict[str, list[Path]]]:
        """Tables with the stream that their name tells, and the files of each stream of sound or pictures."""
        tables, media = list[tuple[Path, str | None]](), dict[str, list[Path]]()
        for path in (folder / name for name in sorted(files, key=_natural)):
            suffix = path.suffix.lower()
            kind = "sound" if suffix in SOUND else "pictures" if suffix in PICTURES else None
            streams = [stream for stream in self._process.streams if stream.media == kind]
            told = stream_of(path, streams, self._mapping)
            if told == IGNORED:
                continue
            if told is None and kind and len(streams) == 1:
                told = streams[0].name
            with recording.noting():
                if kind is None and suffix == ".csv":
                    tables.append((path, told))
                elif kind is None or told is None:
                    raise self._nobodys(path)
                elif told in media and not suffix == media[told][0].suffix.lower() == ".png":
                    raise _second(path, told, _name(media[told][0]))
                else:
                    media.setdefault(told, []).append(path)
        return tables, media

    def _nobodys(self, path: Path) -> DataError:
        names = ", ".join(stream.name for stream in self._process.streams)
        return DataError("JG-data-119", where=_name(path), streams=names)

    def _pieces(self, path: Path, told: str | None, recording: Recording) -> Iterator[tuple[str, _Piece]]:
        """What a table holds of each stream."""
        sheet = read_sheet(path, _name(path))
        places, found = look_up(sheet, self._of_stream[told] if told else self._all, self._all, self._units)
        recording.findings += found
        at = places.pop(TIME, None)
        if not places:
            raise self._nobodys(path)
        dated = None
        if at is not None and pc.any(pc.match_substring_regex(sheet.columns[at], "[:시]")).as_py():
            read = moments(sheet, at)
            if isinstance(read, Finding):
                recording.findings.append(read)
                return
            dated, at = read, None
        columns, found = numbers(sheet, [*places.values(), *([] if at is None else [at])])
        recording.findings += found
        if any(finding.severity == "error" for finding in found):
            return
        t, gaps = None, np.zeros(len(sheet), np.bool_)
        if at is not None:
            unit = self._all.look_up(sheet.header[at]).unit or "s"
            if unit not in _SCALE:
                where = f"{sheet.name}: {sheet.header[at]}"
                raise DataError("JG-data-106", where=where, found=unit, expected="s")
            times, per = _SCALE[unit]
            t = columns[at].to_numpy() * times / per
            gaps = columns[at].is_null().to_numpy()
        elif dated is not None:
            gaps = dated.missing
        by_stream: dict[str, dict[str, pa.ChunkedArray]] = {}
        for target, place in places.items():
            stream, _, channel = target.partition(".")
            by_stream.setdefault(stream, {})[channel] = columns[place]
        for stream, channels in by_stream.items():
            held = np.any([column.is_valid().to_numpy() for column in channels.values()], axis=0)
            if (held & gaps).any():
                row = int(np.flatnonzero(held & gaps)[0])
                number = int((held & gaps).sum())
                raise DataError("JG-data-023", where=f"{sheet.name}: {TIME}", row=row + 1, number=number)
            timed = t is not None or dated is not None  # without times, a row that is left out would move the others
            kept = held if timed and len(by_stream) > 1 else ~gaps
            if not kept.all():
                channels = {name: column.filter(pa.array(kept)) for name, column in channels.items()}
            if held.any():
                yield stream, _Piece(sheet.name, None if t is None else t[kept], dated and _some(dated, kept), channels)

    def _place_in_time(self, recording: Recording, pieces: Mapping[str, _Piece]) -> None:
        """Make rows of pieces, in seconds from the start, which only the recording may know."""
        start = recording.start = _start(recording.start, [piece.moments for piece in pieces.values() if piece.moments])
        for name, piece in pieces.items():
            stream, say = self._stream(name), recording.findings.append
            for channel in (one.name for one in stream.channels if not one.optional and one.name not in piece.channels):
                near, wanted = self._of_stream[name].nearest(channel), f"{name}.{channel}"
                say(Finding("error", "JG-data-105", where=piece.file, column=wanted, nearest=near))
            t = _seconds(piece, stream, start)
            if t is None:
                continue  # the lacking start is a finding of its line
            outside = t[(t > _LONGEST) | (t < (-_LONGEST if piece.moments is None else 0))]
            if len(outside):
                say(Finding("error", "JG-data-111", where=piece.file, seconds=float(outside[0])))
            recording.rows[name] = _table(stream, t, piece.channels)
            last = float(t.max()) + (0.0 if stream.kind == "event" else 1 / stream.rate_hz)
            recording.duration_s = max(recording.duration_s, last)

    def _stream(self, name: str) -> Stream:
        return next(stream for stream in self._process.streams if stream.name == name)


def _name(path: Path) -> str:
    """A file as messages name it: its folder and itself."""
    return f"{path.parent.name}/{path.name}"


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Names in the order of the numbers in them: frame2 before frame10."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"[0-9]+|[^0-9]+", name)]


def _second(path: Path, stream: str, other: str) -> DataError:
    return DataError("JG-data-122", where=_name(path), stream=stream, other=other)


def _same(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


def _some(told: Moments, rows: NDArray[np.bool_]) -> Moments:
    return Moments(told.microseconds[rows], told.missing[rows], told.dated, told.seconds[rows])


def _start(start: Start | None, told: Iterable[Moments]) -> Start | None:
    """A start that is blank, or written without seconds, completed by the earliest moment of the recording."""
    firsts = []
    for one in told:
        if one.dated:
            firsts.append(int(one.microseconds.min()))
        elif start is not None:
            firsts.append(start.microseconds + int(_since(one, start.microseconds).min()))
    if not firsts:
        return start
    if start is None:
        return Start(min(firsts))
    within = 0 <= min(firsts) - start.microseconds < 60 * _SECOND
    return Start(min(firsts)) if within and not start.seconds else start


def _seconds(piece: _Piece, stream: Stream, start: Start | None) -> NDArray[np.float64] | None:
    """The times of a piece from the start; None where they are moments and nobody says when it was."""
    if piece.moments is None:
        return np.arange(piece.rows) / stream.rate_hz if piece.t is None else piece.t
    return None if start is None else _since(piece.moments, start.microseconds) / _SECOND


def _since(told: Moments, start: int) -> NDArray[np.int64]:
    """Microseconds from the start; a time of day alone is the start's day's, or the next one's after midnight."""
    if told.dated:
        return told.microseconds - start
    ahead = KOREA.utcoffset(None) // _MICROSECOND
    since = told.microseconds - (start + ahead) % _DAY
    return np.where(since < -_DAY // 2, since + _DAY, since)


def _table(stream: Stream, t: NDArray[np.float64], channels: Mapping[str, pa.ChunkedArray]) -> pa.Table:
    """The rows of a stream; channels that the table has not are null."""
    schema = stream_schema(stream).remove(0)
    empty = pa.nulls(len(t), pa.float32())
    columns = [pa.array(t), *(channels.get(channel.name, empty) for channel in stream.channels)]
    return pa.table(columns, names=schema.names).cast(schema, safe=False)
