"""Level 1, schema: card against process, columns, types, ids, choices, public ranges of actions."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jangin.codec.document import nearest
from jangin.records.card import Card, Channel, Field, Stream
from jangin.records.checks.findings import Finding
from jangin.records.dataset import (
    CARD_FILE,
    EPISODES_FILE,
    JUDGEMENTS_FILE,
    episode_schema,
    fits,
    judgement_schema,
    optional_columns,
    stream_schema,
)
from jangin.records.process import Process

__all__ = [
    "check_card",
    "check_episodes",
    "check_ids",
    "check_judgements",
    "check_part",
    "episode_ids",
    "sound_table",
]


def check_card(card: Card, process: Process, where: str = CARD_FILE) -> Iterator[Finding]:
    """What the process demands and the card lacks, and where both say different things.

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
    """Columns, types and values of episodes.parquet."""
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


def check_part(table: pa.Table, stream: Stream, where: str) -> Iterator[Finding]:
    """Columns, types and values of one part file.

    Args:
        table: what it holds.
        stream: what the card says of it.
        where: its path.
    """
    schema = stream_schema(stream)
    yield from _check_columns(table.schema, schema, optional_columns(stream), _exactly, where)
    columns = {name: table[name] for name in schema.names if name in table.column_names}
    for name in {"episode_id", "t"} & columns.keys():
        yield from _check_nulls(columns[name], f"{where}: {name}")
    yield from _check_finite(columns, where)


def check_judgements(
    table: pa.Table, card: Card, ids: Collection[str] | None, where: str = JUDGEMENTS_FILE
) -> Iterator[Finding]:
    """Columns, types and values of judgements.parquet.

    Args:
        table: what it holds.
        card: what is judged.
        ids: of episodes.parquet.
        where: its path.
    """
    yield from _check_columns(table.schema, judgement_schema(), frozenset({"said_utc"}), fits, where)
    columns = _sound_columns(table, judgement_schema())
    for name in ("episode_id", "judge", "judgement", "value"):
        if name in columns:
            yield from _check_nulls(columns[name], f"{where}: {name}")
    if "episode_id" in columns:
        yield from check_ids(columns["episode_id"].unique().drop_null().to_pylist(), ids, where)
    if not {"judgement", "value"} <= columns.keys():
        return
    known = [field.name for field in card.judgements]
    for name in sorted({*columns["judgement"].unique().drop_null().to_pylist()} - {*known}):
        yield Finding("error", "JG-data-149", where=where, name=name, nearest=nearest(name, known) or "-")
    for field in card.judgements:
        ours, said = pc.equal(columns["judgement"], field.name), columns["value"]
        if field.values is not None:
            strange = pc.invert(pc.is_in(said, value_set=pa.array(field.values)))
            yield from _check_rows(
                pc.and_(ours, strange), said, "JG-data-021", f"{where}: {field.name}", values=", ".join(field.values)
            )
        else:
            strange = pc.invert(pc.match_substring_regex(said, r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"))
            yield from _check_rows(pc.and_(ours, strange), said, "JG-data-144", f"{where}: {field.name}")


def check_ids(ids: Iterable[str], listed: Collection[str] | None, where: str) -> Iterator[Finding]:
    """Ids of a file of rows, media or judgements that episodes.parquet does not list; nothing where it lists none."""
    stray = [one for one in ids if listed is not None and one not in listed]
    if stray:
        yield Finding("error", "JG-data-024", where=where, episode=stray[0], number=len(stray))


def episode_ids(table: pa.Table, card: Card) -> set[str] | None:
    """The ids of episodes.parquet, whether or not it has passed; None where it has none."""
    column = _sound_columns(table, episode_schema(card)).get("episode_id")
    return None if column is None else set(column.drop_null().to_pylist())


def sound_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table that has passed, in the types of its schema, without columns that nobody reads."""
    return pa.table(_sound_columns(table, schema))


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
        if pa.types.is_floating(column.type) and not (column.null_count == 0 and np.isfinite(column.to_numpy()).all()):
            yield from _check_rows(pc.invert(pc.is_finite(column)), column, "JG-data-025", f"{where}: {name}")


def _check_nulls(column: pa.ChunkedArray, where: str) -> Iterator[Finding]:
    if column.null_count:
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
