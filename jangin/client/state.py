"""A site's state folder: what it is, whom it believes, what it agreed to, what it did, and what left.

    site.yaml       settings                       root.pub, ca.crt   of the federation, given by hand
    keys/           identity, node, storage, 0600  trust.state        staff and roster, verified at every use
    site.sqlite     approvals, tasks, egress, sums updates/           each campaign's last replies, for a second asking
    ledger.sqlite   what every recording has spent ledger.head        what the ledger had come to, in a second place
    own/            parameters that stay here, encrypted under keys/storage, a file a campaign
    consent/        grants and revocations, signed         consent.sqlite     their index (consent.py)
    models/         released models that were pulled (models.py)
    extra-ca.crt    of a proxy that inspects TLS, where there is one

The law: a task moves as `MOVES` says and in no other way; files appear whole or not at all; a reply is on the disk
before it leaves, so that one round is never trained twice once something of it has left.
"""

import hmac
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from jangin.client.settings import ServerBlock, SiteSettings
from jangin.codec import cbor
from jangin.codec.document import read
from jangin.errors import Language, PrivacyError, SiteError
from jangin.privacy.ledger import Ledger
from jangin.trust.chain import Trust
from jangin.trust.keys import Identity, NodeKey, write_private

__all__ = [
    "MOVES",
    "Database",
    "Departure",
    "Journal",
    "Kept",
    "Move",
    "Part",
    "Pause",
    "SiteFolder",
    "Tally",
    "Task",
    "read_given",
    "write_whole",
]


class Task(StrEnum):
    """Where one (campaign, round) stands at this site."""

    IDLE = "idle"
    GATED = "gated"
    TRAINING = "training"
    TRAINED = "trained"
    SENT = "sent"
    ABSTAINED = "abstained"
    LOST = "lost"


MOVES: Final[Mapping[Task, frozenset[Task]]] = {
    Task.IDLE: frozenset({Task.GATED, Task.ABSTAINED}),
    Task.GATED: frozenset({Task.TRAINING, Task.TRAINED, Task.ABSTAINED, Task.LOST}),
    Task.TRAINING: frozenset({Task.TRAINED, Task.ABSTAINED, Task.LOST}),
    Task.TRAINED: frozenset({Task.SENT, Task.GATED, Task.LOST}),
    Task.SENT: frozenset({Task.GATED}),
    Task.ABSTAINED: frozenset({Task.GATED, Task.ABSTAINED}),
    Task.LOST: frozenset({Task.GATED, Task.ABSTAINED}),
}
"""From each state to the next. A round that is asked again, or collected, starts over at the gate; GATED → TRAINED is a
kept reply."""

_OPEN = (Task.GATED, Task.TRAINING, Task.TRAINED)

_NONCE_BYTES: Final = 12
_LEDGER_DOMAIN: Final = b"jangin/ledger\0"
_MASTERS_DOMAIN: Final = b"jangin/masters\0"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS plans (plan TEXT PRIMARY KEY, envelope BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS approvals (plan TEXT PRIMARY KEY, time TEXT NOT NULL, envelope BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS tasks (
    number INTEGER PRIMARY KEY, time TEXT NOT NULL, campaign TEXT NOT NULL, round INTEGER NOT NULL,
    state TEXT NOT NULL, code TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS tasks_by_round ON tasks (campaign, round);
CREATE INDEX IF NOT EXISTS tasks_by_time ON tasks (time);
CREATE TABLE IF NOT EXISTS egress (
    number INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
    en TEXT NOT NULL, ko TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS pause (
    number INTEGER PRIMARY KEY CHECK (number = 1), since TEXT NOT NULL, until TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS parts (
    number INTEGER PRIMARY KEY, time TEXT NOT NULL, campaign TEXT NOT NULL, round INTEGER NOT NULL,
    kind TEXT NOT NULL, master TEXT NOT NULL, episodes INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS parts_by_master ON parts (master);
"""


@dataclass(frozen=True)
class Move:
    """One line of the journal of tasks.

    Attributes:
        time: when.
        campaign: the plan's hash.
        round: of the campaign.
        state: from then on.
        code: why, for a task that ended without an update; else empty. It stays here.
    """

    time: datetime
    campaign: str
    round: int
    state: Task
    code: str


@dataclass(frozen=True)
class Part:
    """What of one master's records the worker was given for one order.

    Attributes:
        time: when.
        campaign: the plan's hash.
        round: of the campaign.
        kind: of the order.
        episodes: how many.
    """

    time: datetime
    campaign: str
    round: int
    kind: str
    episodes: int


@dataclass(frozen=True)
class Departure:
    """One line of the egress log: a message that left, or was about to.

    Attributes:
        time: when.
        kind: which form.
        bytes: how many.
        sha256: of them, 64 hex digits.
        says: one plain sentence in each language.
    """

    time: datetime
    kind: str
    bytes: int
    sha256: str
    says: Mapping[Language, str]


@dataclass(frozen=True)
class Tally:
    """How much stands in the journal, and nothing of what.

    Attributes:
        rounds: how many rounds stand in each state, by its word.
        abstentions: how often each code stopped one; all of them stay here.
        egress: of each form, how many messages left, and how many bytes.
    """

    rounds: Mapping[str, int]
    abstentions: Mapping[str, int]
    egress: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Pause:
    """A time in which no order is begun.

    Attributes:
        since: from when on.
        until: to when, or None: until a person ends it.
    """

    since: datetime
    until: datetime | None


@dataclass(frozen=True)
class Kept:
    """A campaign's last reply that was trained here.

    Attributes:
        round: which.
        order: digest of the order it answers.
        body: as it left.
        vector: shape (shared values,), float32, as it left beside it; or None.
    """

    round: int
    order: str
    body: bytes = field(repr=False)
    vector: NDArray[np.float32] | None = field(repr=False)


class Database:
    """One file of sqlite; a context manager, used by one thread. Several processes may have it open.

    What a statement wrote is on the disk when it returns.
    """

    def __init__(self, path: Path, schema: str) -> None:
        """Open the file, or make it.

        Raises:
            SiteError: JG-site-305, it cannot be used.
        """
        self._path = path
        try:
            self._connection = sqlite3.connect(path, timeout=10.0, isolation_level=None)
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.executescript(schema)
            except sqlite3.Error:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise SiteError("JG-site-305", where=path.name, problem=str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file."""
        self._connection.close()

    def _do(self, statement: str, *values: object) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise SiteError("JG-site-305", where=self._path.name, problem=str(error)) from None


class Journal(Database):
    """Approvals, tasks, the egress log and a pause in site.sqlite."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            SiteError: JG-site-305, it cannot be used.
        """
        super().__init__(path, _SCHEMA)

    def keep_plan(self, plan: str, envelope: bytes) -> None:
        """Remember a signed plan under its hash; the gate verifies it at every use."""
        self._do("INSERT INTO plans VALUES (?, ?) ON CONFLICT (plan) DO UPDATE SET envelope = excluded.envelope",
                 plan, envelope)  # fmt: skip

    def plan(self, plan: str) -> bytes | None:
        """The envelope of the plan of this hash, or None."""
        rows = self._do("SELECT envelope FROM plans WHERE plan = ?", plan)
        return rows[0][0] if rows else None

    def approve(self, plan: str, envelope: bytes, now: datetime) -> None:
        """Remember a person's yes to the plan of this hash, with the approval that was signed for it."""
        self._do("INSERT INTO approvals VALUES (?, ?, ?) ON CONFLICT DO NOTHING", plan, _text(now), envelope)

    def approval(self, plan: str) -> bytes | None:
        """The signed approval of the plan of this hash, None where nobody here said yes."""
        rows = self._do("SELECT envelope FROM approvals WHERE plan = ?", plan)
        return rows[0][0] if rows else None

    def withdraw(self, plan: str) -> None:
        """Forget a person's yes to the plan of this hash: from then on nobody here approved it."""
        self._do("DELETE FROM approvals WHERE plan = ?", plan)

    def task(self, campaign: str, round: int) -> Task:  # noqa: A002 - the field's word
        """Where a round stands."""
        rows = self._do(
            "SELECT state FROM tasks WHERE campaign = ? AND round = ? ORDER BY number DESC LIMIT 1", campaign, round
        )
        return Task(rows[0][0]) if rows else Task.IDLE

    def move(self, campaign: str, round: int, to: Task, now: datetime, code: str = "") -> None:  # noqa: A002
        """Take a round to its next state.

        Raises:
            ValueError: a move that `MOVES` does not have (a bug).
        """
        held = self.task(campaign, round)
        if to not in MOVES[held]:
            raise ValueError(f"Expected a move out of {held}: {to}.")
        self._do(
            "INSERT INTO tasks (time, campaign, round, state, code) VALUES (?, ?, ?, ?, ?)",
            *(_text(now), campaign, round, to.value, code),
        )

    def last_answered(self, campaign: str) -> int | None:
        """The highest round of a campaign that something left for, or was ready to leave; None before the first."""
        rows = self._do("SELECT max(round) FROM tasks WHERE campaign = ? AND state IN ('trained', 'sent')", campaign)
        last: int | None = rows[0][0]
        return last

    def begun(self, since: datetime) -> int:
        """How many trainings were begun since then, of all campaigns."""
        rows = self._do("SELECT count(*) FROM tasks WHERE state = 'training' AND time >= ?", _text(since))
        count: int = rows[0][0]
        return count

    def rehearsed(self, since: datetime) -> int:
        """How many rehearsals were answered since then, of all campaigns, refusals with them."""
        rows = self._do("SELECT count(*) FROM egress WHERE kind = 'rehearse' AND time >= ?", _text(since))
        count: int = rows[0][0]
        return count

    def open_tasks(self) -> list[tuple[str, int]]:
        """The (campaign, round) that a process has begun and not ended, or that waits to be collected."""
        return [(campaign, number) for campaign, number, state in self._tasks() if state in _OPEN]

    def lose_open_tasks(self, now: datetime) -> None:
        """Mark as lost what a process that died left open: nobody waits for it any more."""
        for campaign, number in self.open_tasks():
            self.move(campaign, number, Task.LOST, now)

    def lose_held(self, campaign: str, before: int, now: datetime) -> None:
        """Mark as lost what was trained in a round before this one and never collected."""
        for other, number, state in self._tasks():
            if other == campaign and number < before and state == Task.TRAINED:
                self.move(campaign, number, Task.LOST, now)

    def _tasks(self) -> list[tuple[str, int, str]]:
        """Where each (campaign, round) stands."""
        newest = "SELECT max(number) FROM tasks GROUP BY campaign, round"
        return self._do(f"SELECT campaign, round, state FROM tasks WHERE number IN ({newest})")  # noqa: S608 - no input

    def moves(self, last: int) -> list[Move]:
        """The last so many lines of the journal of tasks, the newest last."""
        rows = self._do("SELECT time, campaign, round, state, code FROM tasks ORDER BY number DESC LIMIT ?", last)
        return [Move(datetime.fromisoformat(time), c, r, Task(state), code) for time, c, r, state, code in rows[::-1]]

    def left(self, campaign: str) -> set[int]:
        """The rounds of a campaign for which something left, or was ready to leave: a crash may hide that it did."""
        rows = self._do(
            "SELECT DISTINCT round FROM tasks WHERE campaign = ? AND state IN ('trained', 'sent')", campaign
        )
        return {row[0] for row in rows}

    def take_part(self, campaign: str, round: int, kind: str, episodes: Mapping[str, int], now: datetime) -> None:  # noqa: A002
        """Remember whose episodes, and how many of each master's, the worker is given for an order."""
        for master, count in episodes.items():
            self._do(
                "INSERT INTO parts (time, campaign, round, kind, master, episodes) VALUES (?, ?, ?, ?, ?, ?)",
                *(_text(now), campaign, round, kind, master, count),
            )

    def took_part(self, campaign: str, round: int) -> frozenset[str]:  # noqa: A002
        """Whose episodes the worker was given for a round."""
        rows = self._do("SELECT DISTINCT master FROM parts WHERE campaign = ? AND round = ?", campaign, round)
        return frozenset(row[0] for row in rows)

    def parts(self, master: str) -> list[Part]:
        """What of a master's records was used, the oldest first."""
        rows = self._do(
            "SELECT time, campaign, round, kind, episodes FROM parts WHERE master = ? ORDER BY number", master
        )
        return [Part(datetime.fromisoformat(time), c, r, kind, count) for time, c, r, kind, count in rows]

    def log(self, departure: Departure) -> None:
        """Add a line to the egress log."""
        self._do(
            "INSERT INTO egress (time, kind, bytes, sha256, en, ko) VALUES (?, ?, ?, ?, ?, ?)",
            *(_text(departure.time), departure.kind, departure.bytes, departure.sha256),
            *(departure.says["en"], departure.says["ko"]),
        )

    def pause(self, pause: Pause) -> None:
        """Pause, in place of a pause that was."""
        until = None if pause.until is None else _text(pause.until)
        self._do("INSERT OR REPLACE INTO pause VALUES (1, ?, ?)", _text(pause.since), until)

    def resume(self) -> None:
        """End the pause."""
        self._do("DELETE FROM pause")

    def paused(self, now: datetime) -> Pause | None:
        """The pause that holds, or None."""
        for since, until in self._do("SELECT since, until FROM pause"):
            end = None if until is None else datetime.fromisoformat(until)
            if end is None or now < end:
                return Pause(datetime.fromisoformat(since), end)
        return None

    def tally(self) -> Tally:
        """How much stands here."""
        newest = "SELECT max(number) FROM tasks GROUP BY campaign, round"
        states = self._do(f"SELECT state, count(*) FROM tasks WHERE number IN ({newest}) GROUP BY state")  # noqa: S608 - no input
        codes = self._do("SELECT code, count(*) FROM tasks WHERE state = 'abstained' GROUP BY code")
        left = self._do("SELECT kind, count(*), sum(bytes) FROM egress GROUP BY kind")
        return Tally(dict(states), dict(codes), {kind: (count, size) for kind, count, size in left})

    def egress(self, last: int | None = None, since: datetime | None = None) -> list[Departure]:
        """The egress log, the newest line last.

        Args:
            last: at most so many of the newest lines; None: all.
            since: none that is older; None: all.
        """
        rows = self._do(
            "SELECT time, kind, bytes, sha256, en, ko FROM egress WHERE time >= ? ORDER BY number DESC LIMIT ?",
            "" if since is None else _text(since),
            -1 if last is None else last,
        )
        return [
            Departure(datetime.fromisoformat(time), kind, count, digest, {"en": en, "ko": ko})
            for time, kind, count, digest, en, ko in rows[::-1]
        ]


class _LedgerKey:
    """A site's identity as the ledger's key; what it signs here is never taken for something else."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def sign(self, message: bytes) -> bytes:
        """A signature of `message` as the ledger's."""
        return self._identity.sign(_LEDGER_DOMAIN + message)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether it is this site's."""
        return self._identity.signed(signature, _LEDGER_DOMAIN + message)


@dataclass(frozen=True)
class _HeadFile:
    """The anchor of the ledger: a file beside it, written whole."""

    path: Path

    def read(self) -> bytes | None:
        """What was written last."""
        return self.path.read_bytes() if self.path.exists() else None

    def write(self, content: bytes) -> None:
        """Keep `content` on the disk."""
        write_whole(self.path, content)


class _Untouched(_HeadFile):
    """The same beside a copy of the ledger, which has no head of its own to keep."""

    def write(self, content: bytes) -> None:
        """Keep nothing."""


def _in_memory(path: Path) -> sqlite3.Connection:
    """A copy of a database whose file is not made where it is not there, and not added to."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", timeout=10.0, uri=True)) as file:
            file.backup(copy)
    except sqlite3.Error:
        copy.close()
        raise
    return copy


class SiteFolder:
    """The folder of one site."""

    def __init__(self, path: Path) -> None:
        """Take a folder; nothing is read yet."""
        self.path = path

    @property
    def settings_file(self) -> Path:
        """site.yaml."""
        return self.path / "site.yaml"

    @property
    def root_file(self) -> Path:
        """The federation root's public key."""
        return self.path / "root.pub"

    @property
    def ca_file(self) -> Path:
        """The certificates trusted for the server."""
        return self.path / "ca.crt"

    @property
    def extra_ca_file(self) -> Path:
        """The certificates of a proxy that inspects TLS, where one was named."""
        return self.path / "extra-ca.crt"

    @property
    def identity_file(self) -> Path:
        """The site's Ed25519 key."""
        return self.path / "keys" / "identity"

    @property
    def node_key_file(self) -> Path:
        """The P-384 key of the site's Flower node."""
        return self.path / "keys" / "node"

    @property
    def next_node_key_file(self) -> Path:
        """The key that is to take its place (renewal.py)."""
        return self.path / "keys" / "node.next"

    @property
    def storage_key_file(self) -> Path:
        """The AES-256 key under which parameters that stay here are kept."""
        return self.path / "keys" / "storage"

    @property
    def database_file(self) -> Path:
        """site.sqlite."""
        return self.path / "site.sqlite"

    @property
    def consent_folder(self) -> Path:
        """The signed grants and revocations."""
        return self.path / "consent"

    @property
    def consent_index(self) -> Path:
        """Which grants there are."""
        return self.path / "consent.sqlite"

    def make(self, settings: SiteSettings, identity: Identity, node_key: NodeKey) -> None:
        """Make the folder, readable by its owner alone.

        Raises:
            SiteError: JG-site-303, a site stands here already. OSError: the folder cannot be written.
        """
        if self.settings_file.exists() or self.identity_file.exists():
            raise SiteError("JG-site-303", where=str(self.path))
        for folder in (self.path, self.path / "keys", self.path / "updates", self.path / "own"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity.save(self.identity_file)
        node_key.save(self.node_key_file)
        write_private(self.storage_key_file, AESGCM.generate_key(256))
        self._ledger(settings.site.id).close()
        self.write_settings(settings)

    def settings(self) -> SiteSettings:
        """site.yaml.

        Raises:
            SiteError: JG-site-304, no site here. PlanError: JG-plan-001..006, a document of another form.
        """
        if not self.settings_file.exists():
            raise SiteError("JG-site-304", where=str(self.path))
        return read(self.settings_file, SiteSettings)

    def write_settings(self, settings: SiteSettings) -> None:
        """Write site.yaml anew.

        Raises:
            OSError: the folder cannot be written.
        """
        write_whole(self.settings_file, settings.to_yaml().encode())

    def identity(self) -> Identity:
        """The key by which this site signs.

        Raises:
            SiteError: JG-site-101..103.
        """
        return Identity.load(self.identity_file)

    def node_key(self) -> NodeKey:
        """The key by which this site connects.

        Raises:
            SiteError: JG-site-101..103.
        """
        return NodeKey.load(self.node_key_file)

    def masters_key(self) -> bytes:
        """The key from which pseudonyms of masters are made, 32 bytes: HMAC-SHA256 (RFC 2104) of the storage key.

        Raises:
            SiteError: JG-site-304, no site here; 305, it has no storage key.
        """
        self.settings()
        try:
            return hmac.digest(self.storage_key_file.read_bytes(), _MASTERS_DOMAIN, "sha256")
        except OSError as error:
            raise SiteError("JG-site-305", where=str(self.storage_key_file), problem=error.strerror) from None

    def trust(self) -> Trust:
        """Whom this site believes; its documents are verified when they are asked for.

        Raises:
            SiteError: JG-site-302 not enrolled; JG-site-103 and 127, files that cannot be read.
        """
        kept = self.path / "trust.state"
        if kept.exists():
            return Trust.from_bytes(kept.read_bytes())
        if not self.root_file.exists():
            raise SiteError("JG-site-302", where=str(self.path))
        return Trust(self.root_file.read_text(encoding="utf-8").strip())

    def roots(self, server: ServerBlock | None) -> bytes:
        """The certificates trusted for the server, PEM: `ca`, and `extra_ca` where there is one.

        Raises:
            SiteError: JG-site-341, a file that cannot be read.
        """
        names = {"server.ca": server.ca if server else self.ca_file.name}
        if server is not None and server.extra_ca is not None:
            names["server.extra_ca"] = server.extra_ca
        return b"\n".join(read_given(self.path / file, name) for name, file in names.items())

    def keep_trust(self, trust: Trust) -> None:
        """Remember staff and roster.

        Raises:
            SiteError: JG-site-342, the folder cannot be written.
        """
        self._keep(self.path / "trust.state", trust.to_bytes())

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        """site.sqlite, open for a while.

        Raises:
            SiteError: JG-site-305, it cannot be used.
        """
        with Journal(self.database_file) as journal:
            yield journal

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The ledger, open for a while; it was made with the site, and is never made anew.

        Raises:
            PrivacyError: JG-privacy-025 altered, 026 cut short, 027 gone or not to be used.
        """
        with self._opened() as ledger:
            yield ledger

    @contextmanager
    def ledger_copy(self) -> Iterator[Ledger]:
        """A copy of the ledger in memory, open for a while: what is tried on it is written nowhere.

        Raises:
            PrivacyError: JG-privacy-025 altered, 026 cut short, 027 gone or not to be used.
        """
        with self._opened(copied=True) as ledger:
            yield ledger

    @property
    def _head_file(self) -> Path:
        return self.path / "ledger.head"

    def _opened(self, *, copied: bool = False) -> Ledger:
        if not self._head_file.exists():
            raise PrivacyError("JG-privacy-027", where=self._head_file.name, problem="the file is gone")
        return self._ledger(self.settings().site.id, copied=copied)

    def _ledger(self, site: str, *, copied: bool = False) -> Ledger:
        anchor, connect = (_Untouched, _in_memory) if copied else (_HeadFile, None)
        return Ledger(self.path / "ledger.sqlite", site, _LedgerKey(self.identity()), anchor(self._head_file), connect)

    def drop_reply(self, campaign: str) -> None:
        """Remove a campaign's last replies: nobody may ask for them any more.

        Raises:
            OSError: the folder cannot be written.
        """
        for evaluation in (False, True):
            self._reply_file(campaign, evaluation).unlink(missing_ok=True)

    def keep_own(self, campaign: str, parameters: bytes) -> None:
        """Keep parameters that stay at this site, encrypted (AES-256-GCM, NIST SP 800-38D) and bound to the campaign.

        Raises:
            SiteError: JG-site-342, the folder cannot be written.
        """
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(self.storage_key_file.read_bytes()).encrypt(nonce, parameters, campaign.encode())
        self._keep(self._own_file(campaign), nonce + sealed)

    def own(self, campaign: str) -> bytes | None:
        """The parameters that this site keeps for itself in a campaign, or None.

        Raises:
            SiteError: JG-site-305, a file that was damaged, or is another campaign's.
        """
        file = self._own_file(campaign)
        if not file.exists():
            return None
        try:
            content = file.read_bytes()
            key = AESGCM(self.storage_key_file.read_bytes())
            return key.decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], campaign.encode())
        except (OSError, ValueError, InvalidTag) as error:
            problem = str(error) or type(error).__name__
            raise SiteError("JG-site-305", where=f"own/{file.name}", problem=problem) from None

    def _own_file(self, campaign: str) -> Path:
        return self.path / "own" / f"{campaign}.bin"

    def _reply_file(self, campaign: str, evaluation: bool) -> Path:
        return self.path / "updates" / f"{campaign}{'.evaluation' if evaluation else ''}.cbor"

    def keep_reply(self, campaign: str, kept: Kept, *, evaluation: bool = False) -> None:
        """Write a campaign's last reply before it leaves; that to an evaluation stands beside the other.

        Raises:
            SiteError: JG-site-342, the folder cannot be written.
        """
        vector = None if kept.vector is None else kept.vector.astype("<f4", copy=False).tobytes()
        content = {"round": kept.round, "order": kept.order, "body": kept.body, "vector": vector}
        self._keep(self._reply_file(campaign, evaluation), cbor.encode(content))

    def kept_reply(self, campaign: str, *, evaluation: bool = False) -> Kept | None:
        """A campaign's last reply, or that to its last evaluation; or None.

        Raises:
            SiteError: JG-site-305, a file that was damaged.
        """
        file = self._reply_file(campaign, evaluation)
        if not file.exists():
            return None
        try:
            match cbor.decode(file.read_bytes()):
                case {"round": int(number), "order": str(order), "body": bytes(body), "vector": vector}:
                    return Kept(number, order, body, None if vector is None else np.frombuffer(vector, "<f4"))
                case _:
                    raise ValueError("another form")
        except (OSError, ValueError, TypeError) as error:
            raise SiteError("JG-site-305", where=f"updates/{file.name}", problem=str(error)) from None

    def sweep(self) -> None:
        """Remove what a daemon that died was writing; for the one daemon that runs here.

        Raises:
            SiteError: JG-site-342, the folder cannot be written.
        """
        with self._writing():
            for folder in ("updates", "own"):
                for unfinished in (self.path / folder).glob(".*"):
                    unfinished.unlink(missing_ok=True)

    def _keep(self, path: Path, content: bytes) -> None:
        with self._writing():
            write_whole(path, content)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say by its code that the folder cannot be written."""
        try:
            yield
        except OSError as error:
            problem = error.strerror or type(error).__name__
            raise SiteError("JG-site-342", where=str(self.path), problem=problem) from None


def read_given(path: Path, name: str) -> bytes:
    """The content of a file that somebody named; `name` says where.

    Raises:
        SiteError: JG-site-341, it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise SiteError("JG-site-341", where=f"{name} {path}", problem=error.strerror or type(error).__name__) from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file of the state folder, whole or not at all, over an older one; only its owner may read it.

    Raises:
        OSError: the folder cannot be written.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
