"""Level 4, people: who is in the records, whether they said yes, and whether somebody can be known by them.

The law: a face, a voice or a name is looked for by what can be known without recognising anybody - the kind of a
stream, its rate, names of channels, the form of a text. A stream that can show a face or carry speech needs a note on
the card of what was done about it (`people.deidentified`); nobody here can see whether that was done well. A finding
names the row, never the text that was found.

Not covered: writing in a picture, a voice below 4 kHz of samples, speech in the vibration of a machine, names that no
pattern knows.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

import pyarrow as pa

from jangin.records.card import Card, Stream
from jangin.records.checks.findings import Finding, Severity
from jangin.records.dataset import CARD_FILE, EPISODES_FILE, JUDGEMENTS_FILE

__all__ = ["Consent", "check_consents", "check_masters", "check_senses", "check_texts"]

Consent = Literal["held", "none", "expired", "revoked"]
"""What a site knows of a master's consent."""

LEAST_MASTERS: Final = 5
"""A smaller group hides nobody: who knows the others knows the last one."""

SPEECH_HZ: Final = 4000.0
"""Samples a second from which speech can be understood: by the sampling theorem up to 2 kHz, where most of its
intelligibility lies (French and Steinberg, Journal of the Acoustical Society of America 19 (1947) 90-119)."""

_FACE: Final = re.compile(r"(?:^|_)(face|facial|head|eyes?|gaze|iris|portrait)(?:_|$)", re.IGNORECASE)
_VOICE: Final = re.compile(r"(?:^|_)(voice|speech|talk|microphone|mic|headset)(?:_|$)", re.IGNORECASE)

_MEDIA: Final = re.compile(
    r"\.(?:jpe?g|png|bmp|tiff?|gif|webp|heic|mp4|avi|mov|mkv|webm|wav|flac|mp3|m4a|ogg|aac)$", re.IGNORECASE
)

_PATH: Final = re.compile(
    r"[A-Za-z]:\\|\\\\[\w.-]+\\|(?<![\w.])/(?:home|Users|mnt|media|data|var|srv|tmp|opt)/|file://"
)
_IDENTITY: Final = re.compile(
    r"(?<![\w-])\d{6}-[1-8]\d{6}(?!\d)"  # a resident registration number
    r"|(?<!\d)01[016789]-?\d{3,4}-?\d{4}(?!\d)"  # a mobile telephone
    r"|[\w.+-]+@[\w-]+\.[\w.]+"  # an e-mail address
    r"|(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f])"  # a network card
    r"|(?:\bS/?N\b|\bserial(?: ?(?:no|number))?\b|일련번호|제조번호|사번)[ .:#=]*[A-Za-z-]*\d[\w-]*",
    re.IGNORECASE,
)
_SURNAMES: Final = "김이박최정강조윤장임한오서신권황안송류전홍고문양손배백허유남심노하"
_TITLES: Final = (
    "씨|님|반장|조장|직장|기사|기장|명장|장인|선생|과장|차장|부장|대리|주임|사원|팀장|소장|사장|작업자|용접사"
)
_NAME: Final = re.compile(
    rf"(?<![가-힣])[{_SURNAMES}][가-힣]{{2}} ?(?:{_TITLES})"
    r"|\b(?:Mr|Mrs|Ms|Dr)\. ?[A-Z][a-z]+"
)
_WHOLE_NAME: Final = re.compile(rf"[{_SURNAMES}][가-힣]{{2}}|[A-Z][a-z]+[ _.][A-Z][a-z]+")
"""What a field for a pseudonym holds when it holds a name."""


def check_consents(table: pa.Table, consents: Mapping[str, Consent] | None) -> Iterator[Finding]:
    """Masters whose episodes lie here without a yes.

    Args:
        table: of episodes, whose schema has passed.
        consents: what the site knows, by pseudonym; who is not in it has none. None: nobody asked a site, and only a
            missing consent_id can be seen.
    """
    masters = table["master"].to_pylist()
    if consents is None:
        lacking = table["consent_id"].null_count
        if lacking:
            where = f"{EPISODES_FILE}: consent_id"
            yield Finding("warning", "JG-data-150", where=where, number=lacking, episodes=len(table))
        return
    states = [consents.get(master, "none") for master in masters]
    yield from _without("JG-data-151", "none", states, masters)
    yield from _without("JG-data-152", "expired", states, masters)
    yield from _without("JG-data-153", "revoked", states, masters)


def check_senses(card: Card, files: Iterable[str] = ()) -> Iterator[Finding]:
    """Streams that can show a face or carry speech, without a note of what was done about it.

    Args:
        card: the streams and the notes.
        files: of the folder; pictures and sound among them that belong to no stream have no note either.
    """
    described = tuple(f"media/{stream.name}/" for stream in card.streams if stream.media)
    stray = sorted(name for name in files if _MEDIA.search(name) and not name.startswith(described))
    if stray:
        yield Finding("error", "JG-data-160", where=stray[0], number=len(stray))
    for stream in card.streams:
        if card.people.deidentified.get(stream.name, "").strip():
            continue
        if stream.media == "pictures" or _named(stream, _FACE):
            yield Finding("error", "JG-data-154", where=CARD_FILE, stream=stream.name)
        if (stream.kind == "audio" and stream.rate_hz >= SPEECH_HZ) or _named(stream, _VOICE):
            yield Finding("error", "JG-data-155", where=CARD_FILE, stream=stream.name, rate=f"{stream.rate_hz:g}")


def check_texts(card: Card, table: pa.Table, judgements: pa.Table | None) -> Iterator[Finding]:
    """Paths, serial and personal numbers, and names of people in what was written by hand.

    Args:
        card: its notes.
        table: of episodes, whose schema has passed: ids and pseudonyms.
        judgements: whose schema has passed, or None.
    """
    notes = {"site": card.site, "people.note": card.people.note}
    notes |= {f"people.deidentified.{stream}": note for stream, note in card.people.deidentified.items()}
    for name, text in notes.items():
        yield from _check_text([text], f"{CARD_FILE}: {name}", whole=False)
    for name in ("episode_id", "master", "consent_id"):
        yield from _check_text(table[name].to_pylist(), f"{EPISODES_FILE}: {name}", whole=name == "master")
    if judgements is not None:
        yield from _check_text(judgements["judge"].to_pylist(), f"{JUDGEMENTS_FILE}: judge", whole=True)


def check_masters(table: pa.Table) -> Iterator[Finding]:
    """Fewer masters than the smallest group."""
    masters = len(table["master"].unique())
    if masters < LEAST_MASTERS:
        yield Finding("warning", "JG-data-159", where=f"{EPISODES_FILE}: master", masters=masters, least=LEAST_MASTERS)


def _without(code: str, state: Consent, states: Sequence[Consent], masters: Sequence[str]) -> Iterator[Finding]:
    """How many masters are in this state, and how many episodes are theirs."""
    theirs = [master for master, found in zip(masters, states, strict=True) if found == state]
    if theirs:
        where = f"{EPISODES_FILE}: master"
        yield Finding("error", code, where=where, masters=len(set(theirs)), number=len(theirs))


def _named(stream: Stream, words: re.Pattern[str]) -> bool:
    """Whether the stream or one of its channels bears such a name."""
    return any(words.search(name) for name in (stream.name, *(channel.name for channel in stream.channels)))


def _check_text(texts: Iterable[str | None], where: str, *, whole: bool) -> Iterator[Finding]:
    """Texts of one place, each looked at once; `whole`: they are pseudonyms, and a name alone is found, too."""
    given = list(texts)
    distinct = {text for text in given if text}
    named = {text for text in distinct if _NAME.search(text) or (whole and _WHOLE_NAME.fullmatch(text.strip()))}
    paths = {text for text in distinct if _PATH.search(text)}
    numbers = {text for text in distinct if _IDENTITY.search(text)}
    yield from _texts_with("warning", "JG-data-156", where, given, paths)
    yield from _texts_with("error", "JG-data-157", where, given, numbers)
    yield from _texts_with("error" if whole else "warning", "JG-data-158", where, given, named)


def _texts_with(
    severity: Severity, code: str, where: str, given: list[str | None], found: set[str]
) -> Iterator[Finding]:
    rows = [row for row, text in enumerate(given, 1) if text in found]
    if rows:
        yield Finding(severity, code, where=where, number=len(rows), row=rows[0])
