"""Outcomes from elsewhere, a laboratory's or an inspection's table, joined to episodes by heat, lot or serial number.

The law: a key is compared as it is written, less width and blanks around it, and never guessed; an outcome goes to an
episode only where its key is said once in the table and its time, where there is one, fits the episode; what an episode
already says is never replaced. The keys themselves do not enter the records.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa

from jangin.codec.document import nearest, read
from jangin.errors import DataError
from jangin.records.as_is import as_it_is, made_of
from jangin.records.card import Card, Field
from jangin.records.checks import Finding
from jangin.records.dataset import CARD_FILE, EPISODES_FILE, EpisodeView, episode_schema
from jangin.records.intake.drop import LocalMapping, of_episodes, plain
from jangin.records.intake.sheets import Sheet, moments, numbers, read_sheet

__all__ = ["Joined", "join"]

_LARGEST_LAG: Final = timedelta(days=31)

Value = float | str


@dataclass(frozen=True)
class Joined:
    """What a table of outcomes says of the episodes.

    Attributes:
        episodes: how many the folder holds.
        found: how many of them get an outcome.
        columns: which outcomes the table has.
        findings: what did not fit.
        values: by column and episode id, what is new.
    """

    episodes: int
    found: int
    columns: tuple[str, ...]
    findings: tuple[Finding, ...]
    values: Mapping[str, Mapping[str, Value]]

    @property
    def passed(self) -> bool:
        """Whether no finding is an error."""
        return not any(finding.severity == "error" for finding in self.findings)

    def write(self, folder: Path, new: Path) -> None:
        """Make a folder of `folder` in which the episodes have these outcomes.

        Raises:
            DataError: as `made_of`.
        """
        card = read(folder / CARD_FILE, Card)

        def told(table: pa.Table) -> pa.Table:
            ids = table["episode_id"].cast(pa.string()).to_pylist()
            for name, given in self.values.items():
                kind = episode_schema(card).field(name).type
                there = name in table.column_names
                old = table[name].to_pylist() if there else [None] * len(ids)
                column = pa.array([given.get(one, was) for one, was in zip(ids, old, strict=True)], kind)
                place = table.column_names.index(name) if there else len(table.column_names)
                table = table.set_column(place, name, column) if there else table.append_column(name, column)
            return table

        made_of(folder, new, {EPISODES_FILE: told})


def join(folder: Path, table: Path, key: str, *, listed: Path | None = None, time: str | None = None) -> Joined:
    """Look up each episode's outcomes.

    Args:
        folder: the records.
        table: of outcomes; one column is the key, others are named as the card's outcomes, in either language.
        key: the header of the key's column in `table` and in `listed`; or a context field of the records.
        listed: a drop folder's table of episodes, which has the key beside the episode's id; None where the key is a
            context field.
        time: the header of the column that says when an outcome was found; it is to be within 31 days of the episode,
            as numbers of heats and lots come again.

    Returns:
        What is new, with findings JG-data-187, a key that is said twice; 188, episodes without an outcome (a warning);
        189, outcomes without an episode (a warning); 191, another time; 192, a word that is none of the card's; 197,
        an episode that says another value; those of `numbers`.

    Raises:
        DataError: JG-data-185, no such column or field; 186, no column of the table is an outcome of the card; the
            errors of reading.
    """
    view, _ = as_it_is(folder)
    sheet = read_sheet(table, table.name)
    keys = _keys(view, key, listed)
    texts = _texts(sheet, _place(sheet, key))
    outcomes = _outcomes(sheet, view.card)
    counts = Counter(text for text in texts if text is not None)
    findings: list[Finding] = []
    twice = sorted(text for text, number in counts.items() if number > 1 and text in keys.values())
    if twice:
        findings.append(Finding("error", "JG-data-187", where=sheet.name, key=twice[0], number=len(twice)))
    rows = {text: row for row, text in enumerate(texts) if text is not None and counts[text] == 1}
    strays = [text for text in rows if text not in keys.values()]
    without = [episode for episode in view.episodes["episode_id"].to_pylist() if keys.get(episode) not in counts]
    if without:
        findings.append(Finding("warning", "JG-data-188", where=sheet.name, episode=without[0], number=len(without)))
    if strays:
        findings.append(Finding("warning", "JG-data-189", where=sheet.name, key=strays[0], number=len(strays)))
    row_of = {episode: rows[text] for episode, text in keys.items() if text in rows}
    if time is not None:
        findings += _out_of_time(view, sheet, _place(sheet, time), row_of)
    values = {}
    for name, (place, field) in outcomes.items():
        told, wrong = _values(sheet, place, field)
        given = {episode: value for episode, row in row_of.items() if (value := told.get(row)) is not None}
        values[name] = given
        findings += [*wrong, *_changed(view, name, given)]
    found = len(set().union(*values.values()))
    return Joined(len(view.episodes), found, tuple(outcomes), tuple(findings), values)


def _keys(view: EpisodeView, key: str, listed: Path | None) -> dict[str, str]:
    """The key of each episode that has one, by its id."""
    if listed is not None:
        sheet = read_sheet(listed, listed.name)
        places = _meant(sheet, view.card)
        ids = _texts(sheet, places["episode_id"] if "episode_id" in places else _place(sheet, "episode_id"))
        texts = _texts(sheet, _place(sheet, key))
    else:
        column = f"context.{key.removeprefix('context.')}"
        if column not in view.card.columns():
            near = nearest(column, view.card.columns()) or "-"
            raise DataError("JG-data-185", where="card.yaml", column=key, nearest=near)
        ids = view.episodes["episode_id"].to_pylist()
        texts = [None if one is None else _trimmed(f"{one:g}" if isinstance(one, float) else one)
                 for one in view.episodes[column].to_pylist()]  # fmt: skip
    return {one: text for one, text in zip(ids, texts, strict=True) if one is not None and text is not None}


def _place(sheet: Sheet, header: str) -> int:
    """Which column has this header."""
    found = [place for place, own in enumerate(sheet.header) if plain(own) == plain(header)]
    if not found:
        near = nearest(header, sheet.header)
        raise DataError("JG-data-185", where=sheet.name, column=header, nearest=near)
    return found[0]


def _meant(sheet: Sheet, card: Card) -> dict[str, int]:
    """Which column means which column of the records, by the names that a drop folder may use."""
    known = of_episodes(card, LocalMapping(process=card.process, site=card.site))
    found: dict[str, int] = {}
    for place, header in enumerate(sheet.header):
        meaning = known.look_up(header)
        unit = card.columns()[meaning.targets[0]].unit if meaning.targets and "." in meaning.targets[0] else None
        if len(meaning.targets) == 1 and meaning.unit in (None, unit):
            found.setdefault(meaning.targets[0], place)
    return found


def _texts(sheet: Sheet, place: int) -> list[str | None]:
    return [None if text is None else _trimmed(text) for text in sheet.columns[place].to_pylist()]


def _trimmed(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()


def _outcomes(sheet: Sheet, card: Card) -> dict[str, tuple[int, Field]]:
    """The table's columns that are outcomes of the card, in its unit, by the name of the column in the records."""
    fields = {name: field for name, field in card.columns().items() if name.startswith("outcome.")}
    found = {name: (place, fields[name]) for name, place in _meant(sheet, card).items() if name in fields}
    if not found:
        raise DataError(
            "JG-data-186", where=sheet.name, outcomes=[f"{one.name} ({one.unit})" for one in fields.values()]
        )
    return found


def _values(sheet: Sheet, place: int, field: Field) -> tuple[dict[int, Value], list[Finding]]:
    """What a column says by row, without what is missing."""
    if field.values is None:
        read, found = numbers(sheet, [place])
        column = read[place].to_pylist() if place in read else []
        return {row: value for row, value in enumerate(column) if value is not None}, found
    texts = dict(enumerate(_texts(sheet, place)))
    strange = [row for row, text in texts.items() if text is not None and text not in field.values]
    found = []
    if strange:
        where, value = sheet.place(strange[0], place), texts[strange[0]]
        known = ", ".join(field.values)
        found.append(Finding("error", "JG-data-192", where=where, value=value, values=known, number=len(strange)))
    return {row: text for row, text in texts.items() if text is not None and row not in strange}, found


def _out_of_time(view: EpisodeView, sheet: Sheet, place: int, row_of: dict[str, int]) -> Sequence[Finding]:
    """Outcomes found before their episode began or long after it ended; they are taken out of `row_of`."""
    said = moments(sheet, place)
    if isinstance(said, Finding):
        return [said]
    strange = []
    for start, duration, episode in zip(
        *(view.episodes[name].to_pylist() for name in ("start_utc", "duration_s", "episode_id")), strict=True
    ):
        row = row_of.get(episode)
        if row is None or said.missing[row]:
            continue
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(said.microseconds[row]))
        if not start <= moment <= start + timedelta(seconds=duration) + _LARGEST_LAG:
            strange.append((sheet.place(row, place), episode, (moment - start) / timedelta(days=1)))
            del row_of[episode]
    if not strange:
        return []
    where, episode, days = strange[0]
    return [
        Finding(
            "warning",
            "JG-data-191",
            where=where,
            episode=episode,
            days=days,
            most=_LARGEST_LAG.days,
            number=len(strange),
        )
    ]


def _changed(view: EpisodeView, name: str, given: dict[str, Value]) -> Sequence[Finding]:
    """Episodes that say another value already; theirs stands, so they are taken out of `given`."""
    ids = view.episodes["episode_id"].to_pylist()
    held = {one: value for one, value in zip(ids, view.episodes[name].to_pylist(), strict=True) if value is not None}
    other = [episode for episode in given if held.get(episode, given[episode]) != given[episode]]
    finding = []
    if other:
        episode = other[0]
        finding = [
            Finding(
                "error",
                "JG-data-197",
                where=name,
                episode=episode,
                held=held[episode],
                value=given[episode],
                number=len(other),
            )
        ]
    for episode in other:
        del given[episode]
    return finding
