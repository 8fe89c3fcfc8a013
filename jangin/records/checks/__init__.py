"""Checks of a records folder, level by level, and what they find.

    level 0   files     there, readable, not empty, UTF-8, none twice                            files.py
    level 1   schema    card against process, columns, types, ids, choices, ranges of actions    schema.py
    level 2   signal    times, values, sound and pictures, what is covered                       signal.py
    level 3   labels    something to learn, said before the outcome, by masters who agree        labels.py
    level 4   people    consents, faces and voices, texts, how many masters                      people.py

The law: a finding says what, where, why it matters and how to mend it; a folder gets its manifest and its
hold-out only from a check of level 1 or more without an error, and a failed check writes nothing.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from jangin.codec.document import read
from jangin.errors import DataError, JanginError
from jangin.records.agreement import Agreement
from jangin.records.card import Card
from jangin.records.checks.files import check_files, check_streams, read_table
from jangin.records.checks.findings import Finding, Level, Report, Severity, together
from jangin.records.checks.known import Known, read_known, write_known
from jangin.records.checks.labels import agreements, check_agreements, check_judges, check_labels
from jangin.records.checks.parts import Piece, look
from jangin.records.checks.people import Consent, check_consents, check_masters, check_senses, check_texts
from jangin.records.checks.schema import (
    check_card,
    check_episodes,
    check_ids,
    check_judgements,
    episode_ids,
    sound_table,
)
from jangin.records.checks.signal import Span, check_coverage, check_fields
from jangin.records.contents import contents, demanded
from jangin.records.dataset import (
    CARD_FILE,
    EPISODES_FILE,
    JUDGEMENTS_FILE,
    SPLIT_COLUMN,
    EpisodeView,
    episode_schema,
    judgement_schema,
    stream_parts,
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

__all__ = ["Consent", "Finding", "Level", "Report", "Severity", "check_card", "check_episodes", "validate"]

T = TypeVar("T")
Progress = Callable[[int, int], None]

_CORES = 2
"""Files looked at side by side: each is in memory while it is."""

_KEYS_TRIED = 100
"""New keys drawn until no side is empty; a choice by ids alone. Two units fail once in 10^16 times."""


def validate(
    folder: Path,
    *,
    level: Level = 1,
    unit: SplitUnit = "episode",
    draw: bool = True,
    consents: Mapping[str, Mapping[str, Consent]] | None = None,
    progress: Progress | None = None,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> Report:
    """Check a records folder; when level 1 passes, draw the hold-out of new units and write the manifest.

    Files of rows and media that an earlier check passed are known by their SHA-256 and not opened (known.py).

    Args:
        folder: the records folder.
        level: the highest level; 1 is what training needs.
        unit: what the hold-out is drawn by; it stays what it was at the first validation.
        draw: draw and write; else this is a look, and nothing in the folder changes.
        consents: what the site knows of its masters, by process and pseudonym; None where nobody asked a site.
        progress: called with (steps done, all steps): a file hashed is one, a file looked at another.
        random_bytes: where a new hold-out key comes from.

    Returns:
        The findings; on level 0 nothing is written.
    """
    findings: list[Finding] = []
    agreed: tuple[Agreement, ...] = ()
    table, holdout = pa.table({}), 0

    def report() -> Report:
        return Report(tuple(findings), len(table), holdout, agreed)

    try:
        # Level 0.
        names = described_files(folder)
        steps = _Steps(progress, 2 * len(names))
        with ThreadPoolExecutor(_CORES) as pool:
            hashes = pool.map(lambda name: file_digest(folder / name), names)
            digests = dict(zip(names, steps.counted(hashes), strict=True))
        before = read_known(folder)
        findings += check_files(folder, digests, before.unchanged(digests) if before else ())
        if not report().passed:
            return report()
        card, table = read(folder / CARD_FILE, Card), read_table(folder / EPISODES_FILE)
        findings += check_streams(folder, card, digests)
        if level == 0:
            return report()
        earlier = read_manifest(folder)
        if earlier and earlier.unit != unit:
            raise DataError("JG-data-030", where=str(folder), unit=earlier.unit, asked=unit)

        # Level 1, and of rows and media level 2 on the way.
        process = _process(card, findings)
        if process:
            findings += check_card(card, process, str(folder / CARD_FILE))
        findings += check_episodes(table, card, str(folder / EPISODES_FILE))
        ids = episode_ids(table, card)
        judgements = read_table(folder / JUDGEMENTS_FILE) if JUDGEMENTS_FILE in digests else None
        if judgements is not None:
            findings += check_judgements(judgements, card, ids, str(folder / JUDGEMENTS_FILE))
        pieces = _pieces(digests, card, process)
        known = Known(
            tool_version=__version__,
            card=digests[CARD_FILE],
            process=process.digest("jangin/process") if process else "",
        )
        held = known.still(digests, before, level)
        signal = [said for name in pieces if name in held for said in held[name].findings(folder, level)]
        new = [piece for name, piece in pieces.items() if name not in held]
        with ThreadPoolExecutor(_CORES) as pool:
            looks = pool.map(lambda piece: look(folder, piece, level), new)
            for piece, seen in zip(new, steps.counted(looks), strict=True):
                findings += seen.schema
                signal += seen.signal
                held |= {piece.name: seen.held} if seen.held else {}
        for name, one in held.items():
            findings += check_ids(one.digests, ids, str(folder / name))
        if not report().passed:
            return report()
        table = sound_table(table, episode_schema(card))

        # Level 2.
        findings += together(signal)
        if level > 1:
            spans = _by_stream({name: one.spans for name, one in held.items()}, pieces)
            findings += (*check_fields(table, card.columns()), *check_coverage(card, table, spans))

        # Level 3.
        if judgements is not None:
            judgements = sound_table(judgements, judgement_schema())
        if level > 2:
            findings += check_labels(table, card)
            if judgements is not None:
                agreed = agreements(judgements, card)
                findings += (*check_judges(judgements, table), *check_agreements(agreed))

        # Level 4.
        if level > 3:
            findings += check_consents(table, None if consents is None else consents.get(card.process, {}))
            findings += check_senses(card, digests)
            findings += (*check_texts(card, table, judgements), *check_masters(table))
        if not (draw and report().passed):
            return report()

        units = table[SPLIT_COLUMN[unit]]
        split = _draw(folder, units.unique().to_pylist(), earlier, random_bytes)
        manifest = Manifest(
            schema_version=card.schema_version,
            tool_version=__version__,
            files=digests,
            validation=Validation(level=level, findings=len(findings), passed=True),
            unit=unit,
            train=split.train,
            holdout=split.holdout,
            masters=dict(zip(table["episode_id"].to_pylist(), table["master"].to_pylist(), strict=True)),
        )
        unchanged = earlier is not None and earlier.contents and earlier.files == digests
        seen_by = _seen(card, {name: one.digests for name, one in held.items()}, pieces, ids or ())
        inside = earlier.contents if earlier and unchanged else _contents(folder, card, manifest, seen_by)
        write_manifest(folder, manifest.model_copy(update={"contents": inside}))
        write_known(folder, known.model_copy(update={"files": held}))
    except JanginError as error:
        findings.append(Finding.of(error))
        return report()
    holdout = pc.sum(pc.is_in(units, value_set=pa.array(split.holdout))).as_py()
    return report()


class _Steps:
    """Counts what was done, and tells."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._tell, self._total, self._done = progress, total, 0

    def counted(self, results: Iterable[T]) -> Iterator[T]:
        for result in results:
            self._done += 1
            if self._tell:
                self._tell(self._done, self._total)
            yield result


def _process(card: Card, findings: list[Finding]) -> Process | None:
    """The card's process; a finding where nobody installed it."""
    try:
        return read_process(card.process)
    except DataError as error:
        findings.append(Finding.of(error))
        return None


def _pieces(digests: Mapping[str, str], card: Card, process: Process | None) -> dict[str, Piece]:
    """The files of rows and of media of the card's streams, by their names."""
    pieces, channels = {}, demanded(process) if process else {}
    for stream in card.streams:
        media = [name for name in digests if stream.media and name.startswith(f"media/{stream.name}/")]
        for name in (*stream_parts(digests, stream.name), *media):
            pieces[name] = Piece(name, digests[name], stream, channels.get(stream.name, ()))
    return pieces


def _by_stream(spans: Mapping[str, Mapping[str, Span]], pieces: Mapping[str, Piece]) -> dict[str, dict[str, Span]]:
    """By stream and episode, from when to when: over all files that hold some of it."""
    covered: dict[str, dict[str, Span]] = {}
    for name, of_file in spans.items():
        of_stream = covered.setdefault(pieces[name].stream.name, {})
        for episode, (start, stop) in of_file.items():
            first, last = of_stream.get(episode, (start, stop))
            of_stream[episode] = min(first, start), max(last, stop)
    return covered


def _seen(
    card: Card, held: Mapping[str, Mapping[str, str]], pieces: Mapping[str, Piece], ids: Collection[str]
) -> dict[str, dict[str, str]]:
    """By stream and episode, the digest of what lies in one file; what lies in several has to be read together."""
    seen: dict[str, dict[str, str]] = {stream.name: dict.fromkeys(ids, "") for stream in card.streams}
    times = Counter((pieces[name].stream.name, episode) for name, of_file in held.items() for episode in of_file)
    for name, of_file in held.items():
        seen[pieces[name].stream.name] |= of_file
    for (stream, episode), number in times.items():
        if number > 1:
            del seen[stream][episode]
    return seen


def _contents(folder: Path, card: Card, manifest: Manifest, seen: Mapping[str, Mapping[str, str]]) -> Contents:
    """What every unit of the folder holds."""
    view = EpisodeView(folder, card, manifest, (*manifest.train, *manifest.holdout))
    return contents(view, read_process(card.process), manifest.unit, seen)


def _draw(folder: Path, units: list[str], earlier: Manifest | None, random_bytes: Callable[[int], bytes]) -> Split:
    """The split of `units` by the folder's key; where it has none, it gets a new one."""
    kept = read_key(folder)
    keys = [kept] if kept else (random_bytes(KEY_BYTES) for _ in range(_KEYS_TRIED))
    key, split = draw_both_sides(keys, units, earlier.split if earlier else Split(), str(folder))
    if kept is None:
        write_key(folder, key)
    return split
