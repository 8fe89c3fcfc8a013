"""The audit log: what was done, by whom, in one chain that nobody changes unseen.

    head(0) = 32 zero bytes    head(n) = SHA-256("jangin/audit" 0x00 canonical CBOR of entry n, which holds head(n - 1))

Each head is signed by the server's audit key; an export begins with a signed statement of how many entries there are
and of the last head. The law: an entry is written in the transaction of what it tells, or neither is; whoever changes,
removes or reorders entries without the key is noticed by anybody with its public half; and a campaign's moves in it
follow the table of its life. What a signature cannot show is that a server with its key wrote another history: for
that an auditor keeps the heads of earlier exports, and each has to be in the chain of a later one.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final, Literal, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field, PositiveInt, ValidationError

from jangin.codec import cbor
from jangin.codec.document import Document
from jangin.errors import ServerError
from jangin.server.life import LIFE, Act, State
from jangin.trust.envelope import Hash, Moment
from jangin.trust.keys import Identity, fingerprint, public_text

__all__ = ["ADOPT", "FIRST_HEAD", "SERVER", "Entry", "Link", "Note", "Report", "exported", "link", "verify"]

SERVER: Final = "server"
"""Who does what nobody asked for by name."""

ADOPT: Final = "adopt"
"""The first entry of a campaign that was there before the log; its detail has `state`."""

FIRST_HEAD: Final = "00" * 32

_CAMPAIGN: Final = "campaign"

M = TypeVar("M", bound=Document)

Detail = Mapping[str, str | int | bool | Sequence[str]]


@dataclass(frozen=True)
class Note:
    """What is to be written down.

    Attributes:
        what: the kind of thing that was acted on: `campaign`, `roster`, `site`, `model`, ...
        subject: which: a campaign's hash, a site's id, ...
        act: what was done.
        actor: a person's id, `site:<id>` or `server`.
        detail: whatever else a reader needs; no figures with a fraction.
        document: the signed document by which it was asked for; empty where there is none.
    """

    what: str
    subject: str
    act: str
    actor: str = SERVER
    detail: Detail = field(default_factory=dict)
    document: bytes = field(default=b"", repr=False)


class Entry(Document):
    """One entry, as it is written and exported; a document is in base64.

    Attributes:
        number: from 1.
        previous: the head before it.
        moment: when.
        what, subject, act, actor, detail, document: as in `Note`.
    """

    number: PositiveInt
    previous: Hash
    moment: Moment
    what: Annotated[str, Field(pattern=r"^[a-z_]{1,31}$")]
    subject: Annotated[str, Field(max_length=200)]
    act: Annotated[str, Field(pattern=r"^[a-z_]{1,31}$")]
    actor: Annotated[str, Field(max_length=80)]
    detail: dict[str, str | int | bool | tuple[str, ...]]
    document: str

    @property
    def head(self) -> str:
        """The chain's head after it, 64 hex digits."""
        return self.digest("audit")


@dataclass(frozen=True)
class Link:
    """An entry with its place in the chain: its canonical bytes, its head and the signature of that."""

    entry: Entry
    signature: bytes

    @property
    def body(self) -> bytes:
        """The entry's canonical CBOR."""
        return cbor.encode(self.entry.model_dump(mode="json"))

    @classmethod
    def of(cls, body: bytes, signature: bytes) -> "Link":
        """From what the database keeps."""
        return cls(Entry.model_validate(cbor.decode(body)), signature)


@dataclass(frozen=True)
class Report:
    """What a log that holds has to say.

    Attributes:
        entries: how many.
        head: the last one.
        campaigns: where each campaign is, by hash.
        rounds: of each campaign, how many of its rounds were finished.
    """

    entries: int
    head: str
    campaigns: Mapping[str, State]
    rounds: Mapping[str, int]


class _Statement(Document):
    """The first line of an export."""

    jangin: Literal["audit"]
    version: Literal[1]
    key: str
    entries: Annotated[int, Field(ge=0)]
    head: Hash
    moment: Moment
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


def link(note: Note, number: int, previous: str, moment: datetime, key: Identity) -> Link:
    """The entry of a note, at its place and signed."""
    entry = Entry(
        number=number,
        previous=previous,
        moment=moment.replace(microsecond=0),
        what=note.what,
        subject=note.subject,
        act=note.act,
        actor=note.actor,
        detail={name: tuple(value) if isinstance(value, list) else value for name, value in note.detail.items()},
        document=base64.b64encode(note.document).decode(),
    )
    return Link(entry, key.sign(_signed(entry.head)))


def exported(links: Iterable[Link], entries: int, head: str, moment: datetime, key: Identity) -> Iterator[str]:
    """The lines of an export, JSON each, without line ends: the signed statement, then the entries.

    Args:
        links: all of them, in order.
        entries: how many.
        head: after the last.
        moment: now.
        key: the server's audit key.
    """
    stated = moment.replace(microsecond=0)
    signature = key.sign(_stated(entries, head, stated)).hex()
    statement = _Statement(
        jangin="audit",
        version=1,
        key=key.public_text,
        entries=entries,
        head=head,
        moment=stated,
        signature=signature,
    )
    yield _line(statement.model_dump(mode="json"))
    for one in links:
        yield _line({"entry": one.entry.model_dump(mode="json"), "signature": one.signature.hex()})


def verify(lines: Iterable[str], key: Ed25519PublicKey, known: Sequence[str] = ()) -> Report:
    """Read an export through, with the public key alone.

    Args:
        lines: of the export.
        key: the public half of the server's audit key.
        known: heads that earlier exports ended with; each has to be in this chain.

    Raises:
        ServerError: JG-server-430, a line that is none of an export; 431, another key; 432, a signature that does not
            hold; 433, an entry that does not follow the one before; 434, fewer or more entries than are stated; 435,
            an earlier head is not in it; 436, a campaign that moved as its life does not allow, or a round that
            counts twice.
    """
    given = iter(lines)
    statement = _read(_Statement, next(given, ""), 1)
    if statement.key != public_text(key):
        raise ServerError("JG-server-431", expected=fingerprint(key), found=statement.key)
    _check(key, bytes.fromhex(statement.signature), _stated(statement.entries, statement.head, statement.moment), 0)
    number, head, missing = 0, FIRST_HEAD, set(known) - {FIRST_HEAD}
    lives: dict[str, State] = {}
    finished: dict[str, set[int]] = {}
    for place, text in enumerate(given, 2):
        one = _read(_Line, text, place)
        entry = one.entry
        if (entry.number, entry.previous) != (number + 1, head):
            raise ServerError("JG-server-433", where=f"line {place}", number=entry.number, expected=number + 1)
        number, head = entry.number, entry.head
        _check(key, bytes.fromhex(one.signature), _signed(head), number)
        missing.discard(head)
        _follow(entry, lives, finished)
    if (number, head) != (statement.entries, statement.head):
        raise ServerError("JG-server-434", found=number, stated=statement.entries)
    if missing:
        raise ServerError("JG-server-435", heads=sorted(missing))
    return Report(number, head, lives, {campaign: len(rounds) for campaign, rounds in finished.items()})


class _Line(Document):
    entry: Entry
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


def _follow(entry: Entry, lives: dict[str, State], finished: dict[str, set[int]]) -> None:
    """Take one entry about a campaign into account."""
    if entry.what != _CAMPAIGN:
        return
    campaign, where = entry.subject, f"entry {entry.number}"
    if entry.act == "round":
        number = entry.detail.get("round")
        rounds = finished.setdefault(campaign, set())
        if entry.detail.get("outcome") == "finished" and isinstance(number, int):
            if number in rounds:
                raise ServerError("JG-server-436", where=where, campaign=campaign, problem=f"round {number} twice")
            rounds.add(number)
        return
    if entry.act == ADOPT and campaign not in lives:
        lives[campaign] = State(str(entry.detail.get("state")))
    if entry.act not in set(Act):
        return
    before, act = lives.get(campaign), Act(entry.act)
    if (before, act) not in LIFE:
        raise ServerError("JG-server-436", where=where, campaign=campaign, problem=f"{act} in {before or 'no state'}")
    lives[campaign] = LIFE[before, act]


def _check(key: Ed25519PublicKey, signature: bytes, message: bytes, number: int) -> None:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        raise ServerError("JG-server-432", where=f"entry {number}" if number else "line 1") from None


def _read(model: type[M], text: str, place: int) -> M:
    """One line of an export."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise ServerError("JG-server-430", where=f"line {place}", problem=problem) from None


def _line(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _signed(head: str) -> bytes:
    return b"jangin/audit-entry\0" + bytes.fromhex(head)


def _stated(entries: int, head: str, moment: datetime) -> bytes:
    return b"jangin/audit-export\0" + cbor.encode([entries, head, moment.isoformat()])
