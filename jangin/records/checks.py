"""Checks of a records folder, level by level, and what they find.

    level 0   files     there, readable, not empty, UTF-8, none twice
    level 1   schema    card against process, columns, types, ids, choices, public ranges of actions

The law: a finding says what, where, why it matters and how to mend it; a folder gets its manifest and its
hold-out only from a check of level 1 or more without an error, and a failed check writes nothing.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jangin.codec.document import nearest, read
from jangin.errors import CodedText, DataError, JanginError, Language
from jangin.records.card import Card, Channel, Field, Stream
from jangin.records.contents import contents
from jangin.records.dataset import (
    CARD_FILE,
    EPISODES_FILE,
    SPLIT_COLUMN,
    EpisodeView,
    episode_schema,
    fits,
    optional_columns,
    stream_parts,
    stream_schema,
)
from jangin.records.manifest import (
    Contents,
    Manifest,
    Validation,
    described_files,
    file_digest,
    read_key,
    read_manifest,
    write_key,
    write_manifest,
)
from jangin.records.process import Process, read_process
from jangin.records.split import KEY_BYTES, Split, SplitUnit, draw_both_sides
from jangin.version import __version__

__all__ = [
    "Finding",
    "Report",
    "Severity",
    "check_card",
    "check_episodes",
    "check_files",
    "check_stream",
    "check_streams",
    "validate",
]

Level = Literal[0, 1]
Severity = Literal["error", "warning"]

_KEYS_TRIED = 100
"""New keys drawn until no side is empty; a choice by ids alone. Two units fail once in 10^16 times."""

_TEXT = frozenset({".yaml", ".yml", ".csv", ".json", ".md", ".txt"})


class Finding(CodedText):
    """One thing that the checks found; its `text` says what, why and the way out in both languages."""

    def __init__(self, severity: Severity, code: str, /, where: str = "", **values: object) -> None:
        """Take how bad it is, then the arguments of `CodedText`."""
        super().__init__(code, where, **values)
        self.severity = severity

    @classmethod
    def of(cls, error: JanginError) -> "Finding":
        """The finding that says what a coded error says."""
        return cls("error", error.code, error.coded.where, **error.coded.values)

    def as_dict(self, lang: Language = "en") -> dict[str, object]:
        """The line of `--format json`: severity, code, message, why, hint, where."""
        return {"severity": self.severity, **super().as_dict(lang), "why": self.text("why", lang)}


@dataclass(frozen=True)
class Report:
    """What a validation found.

    Attributes:
        findings: errors and warnings in the order of the checks.
        episodes: how many episodes the folder holds; 0 where they could not be read.
        holdout: how many of them are set aside; 0 where nobody drew.
    """

    findings: tuple[Finding, ...]
    episodes: int = 0
    holdout: int = 0

    @property
    def passed(self) -> bool:
        """Whether no finding is an error."""
        return not self._errors

    def require(self, folder: Path) -> None:
        """Refuse records that did not pass.

        Raises:
            DataError: JG-data-031, with the number of errors and the first one's code and place.
        """
        if self._errors:
            first = f"{self._errors[0].code} ({self._errors[0].where})"
            raise DataError("JG-data-031", where=str(folder), number=len(self._errors), first=first)

    @property
    def _errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]


def validate(
    folder: Path,
    *,
    level: Level = 1,
    unit: SplitUnit = "episode",
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> Report:
    """Check a records folder; when level 1 passes, draw the hold-out of new units and write the manifest.

    Of part files that an earlier validation by the same tool passed, only the ids are looked at again.

    Args:
        folder: the records folder.
        level: 0 for files alone, 1 for files and schema.
        unit: what the hold-out is drawn by; it stays what it was at the first validation.
        random_bytes: where a new hold-out key comes from.

    Returns:
        The findings; on level 0 nothing is written.
    """
    findings: list[Finding] = []
    episodes = 0
    try:
        digests = {name: file_digest(folder / name) for name in described_files(folder)}
        findings += check_files(folder, digests)
        if not Report(tuple(findings)).passed:
            return Report(tuple(findings))
        card, table = read(folder / CARD_FILE, Card), _table(folder / EPISODES_FILE)
        episodes = len(table)
        findings += check_streams(folder, card, digests)
        if level == 0:
            return Report(tuple(findings), episodes)
        earlier = read_manifest(folder)
        if earlier and earlier.unit != unit:
            raise DataError("JG-data-030", where=str(folder), unit=earlier.unit, asked=unit)
        findings += _check_schema(folder, card, table, digests, _known(digests, earlier))
        if not Report(tuple(findings)).passed:
            return Report(tuple(findings), episodes)
        units = table[SPLIT_COLUMN[unit]].cast(pa.string())
        split = _draw(folder, units.unique().to_pylist(), earlier, random_bytes)
        manifest = Manifest(
            schema_version=card.schema_version,
            tool_version=__version__,
            files=digests,
            validation=Validation(level=level, findings=len(findings), passed=True),
            unit=unit,
            train=split.train,
            holdout=split.holdout,
            masters=dict(zip(_words(table["episode_id"]), _words(table["master"]), strict=True)),
        )
        unchanged = earlier is not None and earlier.contents and earlier.files == digests
        held = earlier.contents if earlier and unchanged else _contents(folder, card, manifest)
        write_manifest(folder, manifest.model_copy(update={"contents": held}))
    except JanginError as error:
        return Report((*findings, Finding.of(error)), episodes)
    holdout = pc.sum(pc.is_in(units, value_set=pa.array(split.holdout))).as_py()
    return Report(tuple(findings), episodes, holdout)


def _contents(folder: Path, card: Card, manifest: Manifest) -> Contents:
    """What every unit of the folder holds."""
    view = EpisodeView(folder, card, manifest, (*manifest.train, *manifest.holdout))
    return contents(view, read_process(card.process), manifest.unit)


def check_files(folder: Path, digests: Mapping[str, str]) -> Iterator[Finding]:
    """Level 0: what is said about the files themselves.

    Args:
        folder: the records folder.
        digests: its files with their SHA-256.
    """
    for name in (CARD_FILE, EPISODES_FILE):
        if name not in digests:
            yield Finding("error", "JG-data-011", where=str(folder / name))
    first: dict[str, str] = {}
    for name, digest in digests.items():
        yield from _check_file(folder / name)
        if first.setdefault(digest, name) != name and (folder / name).stat().st_size:
            yield Finding("error", "JG-data-015", where=str(folder / name), other=first[digest])


def check_streams(folder: Path, card: Card, digests: Mapping[str, str]) -> Iterator[Finding]:
    """Level 0: streams of the card that have no part files, or no media where they are media."""
    for stream in card.streams:
        media = stream.media and any(name.startswith(f"media/{stream.name}/") for name in digests)
        if not (stream.optional or media or stream_parts(digests, stream.name)):
            yield Finding("error", "JG-data-016", where=str(folder), stream=stream.name)


def check_card(card: Card, process: Process, where: str = CARD_FILE) -> Iterator[Finding]:
    """Level 1: what the process demands and the card lacks, and where both say different things.

    Streams, channels, context and actions are demanded unless the process calls them optional; judgements and
    outcomes are not.
    """
    for wanted in process.streams:
        own = card.stream(wanted.name)
        if own is None:
            if not wanted.optional:
                yield Finding("error", "JG-data-017", where=where, name=wanted.name, process=process.process)
            continue
        for key in ("kind", "media"):
            if getattr(own, key) != getattr(wanted, key):
                yield _different(where, wanted.name, key, getattr(own, key), getattr(wanted, key))
        channels = {channel.name: channel for channel in own.channels}
        for channel in wanted.channels:
            name = f"{wanted.name}.{channel.name}"
            yield from _check_entry(name, channel, channels.get(channel.name), process.process, where)
    columns = card.columns()
    for name, field in process.columns().items():
        demanded = name.startswith(("context.", "action."))
        if demanded or name in columns:
            yield from _check_entry(name, field, columns.get(name), process.process, where)


def check_episodes(table: pa.Table, card: Card, where: str = EPISODES_FILE) -> Iterator[Finding]:
    """Level 1: columns, types and values of episodes.parquet."""
    schema = episode_schema(card)
    yield from _check_columns(table.schema, schema, optional_columns(card), fits, where)
    columns = _sound_columns(table, schema)
    for name in ("episode_id", "master", "start_utc", "duration_s"):
        if name in columns:
            yield from _check_nulls(columns[name], f"{where}: {name}")
    if "episode_id" in columns:
        counts = pc.value_counts(columns["episode_id"].drop_null())
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        if len(twice):
            yield Finding("error", "JG-data-022", where=where, episode=twice[0].as_py(), number=len(twice))
    yield from _check_finite(columns, where)
    if "duration_s" in columns:
        negative = pc.less(columns["duration_s"], 0)
        yield from _check_rows(negative, columns["duration_s"], "JG-data-026", f"{where}: duration_s")
    for name, field in card.columns().items():
        if name in columns:
            yield from _check_field(name, field, columns[name], f"{where}: {name}")


def check_stream(path: Path, stream: Stream, episode_ids: pa.ChunkedArray, *, known: bool = False) -> Iterator[Finding]:
    """Level 1: columns, types and values of one part file.

    Args:
        path: the part file.
        stream: what the card says of it.
        episode_ids: the ids of episodes.parquet, strings.
        known: an earlier validation passed this very file; only its ids are looked at.

    Raises:
        DataError: JG-data-012 the file cannot be read.
    """
    schema = stream_schema(stream)
    table = _table(path, ["episode_id"] if known else None)
    if not known:
        yield from _check_columns(table.schema, schema, optional_columns(stream), _exactly, str(path))
    columns = _sound_columns(table, schema)
    for name in {"episode_id", "t"} & columns.keys():
        yield from _check_nulls(columns[name], f"{path}: {name}")
    yield from _check_finite(columns, str(path))
    if "episode_id" in columns:
        ids = columns["episode_id"].unique().drop_null()
        stray = ids.filter(pc.invert(pc.is_in(ids, value_set=episode_ids.combine_chunks())))
        if len(stray):
            yield Finding("error", "JG-data-024", where=str(path), episode=stray[0].as_py(), number=len(stray))


def _check_schema(
    folder: Path, card: Card, table: pa.Table, digests: Mapping[str, str], known: Collection[str]
) -> Iterator[Finding]:
    """All of level 1."""
    try:
        yield from check_card(card, read_process(card.process), str(folder / CARD_FILE))
    except DataError as error:
        yield Finding.of(error)
    yield from check_episodes(table, card, str(folder / EPISODES_FILE))
    episode_ids = _sound_columns(table, episode_schema(card)).get("episode_id")
    if episode_ids is not None:
        for stream in card.streams:
            for part in stream_parts(digests, stream.name):
                yield from check_stream(folder / part, stream, episode_ids, known=part in known)


def _draw(folder: Path, units: list[str], earlier: Manifest | None, random_bytes: Callable[[int], bytes]) -> Split:
    """The split of `units` by the folder's key; where it has none, it gets a new one."""
    kept = read_key(folder)
    keys = [kept] if kept else (random_bytes(KEY_BYTES) for _ in range(_KEYS_TRIED))
    key, split = draw_both_sides(keys, units, earlier.split if earlier else Split(), str(folder))
    if kept is None:
        write_key(folder, key)
    return split


def _known(digests: Mapping[str, str], earlier: Manifest | None) -> frozenset[str]:
    """The files that this tool passed before, under the same card."""
    if earlier is None or earlier.tool_version != __version__ or earlier.files.get(CARD_FILE) != digests[CARD_FILE]:
        return frozenset()
    return frozenset(name for name, digest in digests.items() if earlier.files.get(name) == digest)


def _words(column: pa.ChunkedArray) -> list[str]:
    """The ids of a column, which has passed."""
    words: list[str] = column.cast(pa.string()).to_pylist()
    return words


def _table(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError("JG-data-012", where=str(path), problem=_one_line(error)) from None


def _check_file(path: Path) -> Iterator[Finding]:
    """Empty, not UTF-8 where text is expected, or not Parquet where Parquet is."""
    if path.stat().st_size == 0:
        yield Finding("error", "JG-data-013", where=str(path))
    elif path.suffix in _TEXT:
        content = path.read_bytes()
        if not _decodes(content, "utf-8"):
            encoding = "cp949" if _decodes(content, "cp949") else "unknown"
            yield Finding("error", "JG-data-014", where=str(path), encoding=encoding)
    elif path.suffix == ".parquet":
        try:
            rows = pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError) as error:
            yield Finding("error", "JG-data-012", where=str(path), problem=_one_line(error))
        else:
            if rows == 0:
                yield Finding("error", "JG-data-013", where=str(path))


def _check_entry(
    name: str, wanted: Channel | Field, own: Channel | Field | None, process: str, where: str
) -> Iterator[Finding]:
    """One channel or field of the process against the card's."""
    if own is None:
        if not wanted.optional:
            yield Finding("error", "JG-data-017", where=where, name=name, process=process)
        return
    said = own.model_dump()
    for key, value in wanted.model_dump(include={"unit", "range", "values"}).items():
        if said[key] != value:
            yield _different(where, name, key, said[key], value)
    if own.optional and not wanted.optional:
        yield _different(where, name, "optional", True, False)


def _different(where: str, name: str, key: str, found: object, expected: object) -> Finding:
    return Finding("error", "JG-data-018", where=where, name=name, key=key, found=found, expected=expected)


def _check_columns(
    found: pa.Schema,
    expected: pa.Schema,
    optional: Collection[str],
    same: Callable[[pa.DataType, pa.DataType], bool],
    where: str,
) -> Iterator[Finding]:
    """Columns that lack, columns of another type, and columns that nobody will read."""
    for field in expected:
        if field.name in found.names:
            given = found.field(field.name).type
            if not same(given, field.type):
                place = f"{where}: {field.name}"
                yield Finding("error", "JG-data-020", where=place, found=given, expected=field.type)
        elif field.name not in optional:
            near = nearest(field.name, found.names)
            yield Finding("error", "JG-data-003", where=where, column=field.name, nearest=near)
    for name in found.names:
        if name not in expected.names:
            near = nearest(name, expected.names)
            yield Finding("warning", "JG-data-028", where=where, column=name, nearest=near)


def _sound_columns(table: pa.Table, schema: pa.Schema) -> dict[str, pa.ChunkedArray]:
    """The columns that can be looked at as what they should be."""
    return {
        field.name: table[field.name].cast(field.type, safe=False)
        for field in schema
        if field.name in table.column_names and fits(table.schema.field(field.name).type, field.type)
    }


def _check_field(name: str, field: Field, column: pa.ChunkedArray, where: str) -> Iterator[Finding]:
    """Words outside the choice; actions outside their public range."""
    if field.values is not None:
        strange = pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, value_set=pa.array(field.values))))
        yield from _check_rows(strange, column, "JG-data-021", where, values=", ".join(field.values))
    elif field.range is not None and name.startswith("action."):
        low, high = field.range
        outside = pc.or_(pc.less(column, low), pc.greater(column, high))
        yield from _check_rows(outside, column, "JG-data-027", where, low=low, high=high, unit=field.unit)


def _check_finite(columns: Mapping[str, pa.ChunkedArray], where: str) -> Iterator[Finding]:
    for name, column in columns.items():
        if pa.types.is_floating(column.type):
            yield from _check_rows(pc.invert(pc.is_finite(column)), column, "JG-data-025", f"{where}: {name}")


def _check_nulls(column: pa.ChunkedArray, where: str) -> Iterator[Finding]:
    yield from _check_rows(pc.is_null(column), column, "JG-data-023", where)


def _check_rows(
    wrong: pa.ChunkedArray, column: pa.ChunkedArray, code: str, where: str, **values: object
) -> Iterator[Finding]:
    """One finding for all wrong rows of a column: how many, the first one (counted from 1) and its value."""
    rows = pc.indices_nonzero(wrong)
    if len(rows):
        row = rows[0].as_py()
        yield Finding("error", code, where=where, row=row + 1, number=len(rows), value=column[row].as_py(), **values)


def _exactly(found: pa.DataType, expected: pa.DataType) -> bool:
    """As `fits`, but a floating column has the very width."""
    return bool(found == expected) if pa.types.is_floating(expected) else fits(found, expected)


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
