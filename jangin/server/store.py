"""The server's database, by SQLAlchemy Core: a sqlite file by default, another database by URL.

The law: it is the truth of a campaign, and each method is one transaction; what may change only once changes under a
condition, so that two processes never both do it; sites and people's roles are known to it, workers never.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from jangin.errors import ServerError
from jangin.privacy.secure_sum.server import Certificate

__all__ = ["SCHEMA", "CampaignRow", "EvaluationEntry", "Invitation", "Outcome", "RoundEntry", "State", "Store"]

SCHEMA = 2
"""The version of these tables; a database of another is not opened."""

_BUSY_SECONDS = 30.0

_tables = MetaData()
_schema = Table("schema", _tables, Column("version", Integer, primary_key=True, autoincrement=False))
_staff = Table(
    "staff",
    _tables,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("envelope", LargeBinary, nullable=False),
)
_rosters = Table(
    "rosters",
    _tables,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("envelope", LargeBinary, nullable=False),
)
_invitations = Table(
    "invitations",
    _tables,
    Column("number", Integer, primary_key=True),
    Column("site", String(63), nullable=False, index=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("expires", Integer, nullable=False),
    Column("identity", Text),
    Column("node_key", Text),
)
_campaigns = Table(
    "campaigns",
    _tables,
    Column("number", Integer, primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("name", String(63), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("reason", Text, nullable=False, default=""),
)
_invited = Table(
    "invited",
    _tables,
    Column("campaign", ForeignKey("campaigns.hash"), primary_key=True),
    Column("site", String(63), primary_key=True, index=True),
    Column("approval", LargeBinary),
)
_ledgers = Table(
    "ledgers",
    _tables,
    Column("site", String(63), primary_key=True),
    Column("entries", Integer, nullable=False),
    Column("head", String(64), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)


def _who_answered() -> Iterator[Column[Any]]:
    """What every asking of a cohort leaves, anew for each table."""
    for name in ("reported", "abstained", "refused", "missing"):
        yield Column(name, JSON, nullable=False)
    yield Column("seconds", Float, nullable=False)
    yield Column("reason", Text, nullable=False)


_rounds = Table(
    "rounds",
    _tables,
    Column("campaign", ForeignKey("campaigns.hash"), primary_key=True),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("outcome", String(16), nullable=False),
    *_who_answered(),
    Column("released", Boolean, nullable=False),
    Column("blamed", JSON, nullable=False),
)
_certificates = Table(
    "certificates",
    _tables,
    Column("campaign", ForeignKey("campaigns.hash"), primary_key=True),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("h1", String(64), nullable=False),
    Column("began", JSON, nullable=False),
    Column("dealers", JSON, nullable=False),
    Column("survivors", JSON, nullable=False),
    Column("signatures", JSON, nullable=False),
)

_evaluations = Table(
    "evaluations",
    _tables,
    Column("campaign", ForeignKey("campaigns.hash"), primary_key=True),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("figures", JSON, nullable=False),
    *_who_answered(),
)


class State(StrEnum):
    """Where a campaign is in its life."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    ABORTED = "aborted"


class Outcome(StrEnum):
    """How an attempt at a round ended; BEGUN is a secure sum that is in hand, or whose server was killed in it."""

    BEGUN = "begun"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True)
class Invitation:
    """One token that was given out, by its hash, and the keys that came with it.

    Attributes:
        site: whom it is for.
        expires: until then it may be used for the first time.
        identity: the Ed25519 key that used it, as an OpenSSH line; None while nobody did.
        node_key: the P-384 key that came along.
    """

    site: str
    expires: datetime
    identity: str | None = None
    node_key: str | None = None


@dataclass(frozen=True)
class CampaignRow:
    """One campaign.

    Attributes:
        hash: its plan's, 64 hex digits.
        name: what people call it.
        envelope: the signed plan.
        state: where it is.
        reason: why it was aborted; else empty.
    """

    hash: str
    name: str
    envelope: bytes = field(repr=False)
    state: State
    reason: str = ""


@dataclass(frozen=True)
class RoundEntry:
    """One attempt at a round: every site of its cohort is in exactly one of the four.

    Attributes:
        round: from 1; 0 for the scaling that comes before.
        attempt: from 1.
        outcome: whether its sum was used.
        reported: sites whose vector came in time; of a secure sum that failed, those who did all that was asked.
        abstained: sites that refused politely, with their codes.
        refused: sites whose reply was left aside, with the server's code.
        missing: sites that did not answer.
        seconds: how long it took.
        reason: why it failed; else empty.
        released: whether masked vectors were asked for: then a secure sum is charged, whatever came of it.
        blamed: sites that are proven to have lied in a secure sum, with the code; they are in one of the four as well.
    """

    round: int
    attempt: int
    outcome: Outcome
    reported: Sequence[str]
    abstained: Mapping[str, str]
    refused: Mapping[str, str]
    missing: Sequence[str]
    seconds: float
    reason: str = ""
    released: bool = False
    blamed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationEntry:
    """What came of the evaluation of a round's model; every site of its cohort is in exactly one of the four.

    Attributes:
        round: after which.
        figures: each metric over all hold-outs, and the standard deviation of its noise; none where it failed.
        reported, abstained, refused, missing, seconds: as in `RoundEntry`.
        reason: why there is no figure; else empty.
    """

    round: int
    figures: Mapping[str, Sequence[float]]
    reported: Sequence[str]
    abstained: Mapping[str, str]
    refused: Mapping[str, str]
    missing: Sequence[str]
    seconds: float
    reason: str = ""


class Store:
    """The database; safe to use from several threads and processes."""

    def __init__(self, url: str) -> None:
        """Open it; the tables are made where there are none.

        Raises:
            ServerError: JG-server-303, not reachable, or made by another version.
        """
        try:
            wait = {"timeout": _BUSY_SECONDS} if url.startswith("sqlite") else {}
            self._engine = create_engine(url, connect_args=wait, hide_parameters=True)
            if self._engine.dialect.name == "sqlite":
                event.listen(self._engine, "connect", _switch)
            _tables.create_all(self._engine)
            with self._engine.begin() as database:
                found = database.scalar(select(_schema.c.version))
                if found is None:
                    database.execute(insert(_schema).values(version=SCHEMA))
        except SQLAlchemyError as error:
            raise ServerError("JG-server-303", problem=type(error).__name__) from None
        if found not in (None, SCHEMA):
            self.close()
            raise ServerError("JG-server-303", problem=f"its schema is {found}, not {SCHEMA}")

    def close(self) -> None:
        """Let go of its connections."""
        self._engine.dispose()

    def staff(self) -> bytes:
        """The newest staff list, as its envelope; empty before the first."""
        return self._newest(_staff)

    def add_staff(self, version: int, envelope: bytes) -> None:
        """Keep a staff list.

        Raises:
            ServerError: JG-server-305, there is one of this version.
        """
        self._add(_staff, version, envelope)

    def roster(self) -> bytes:
        """The newest roster, as its envelope; empty before the first."""
        return self._newest(_rosters)

    def add_roster(self, version: int, envelope: bytes) -> None:
        """Keep a roster.

        Raises:
            ServerError: JG-server-305, there is one of this version.
        """
        self._add(_rosters, version, envelope)

    def invite(self, site: str, token_hash: str, expires: datetime) -> None:
        """Keep an invitation; the token itself is not known here."""
        with self._engine.begin() as database:
            values = {"site": site, "token_hash": token_hash, "expires": int(expires.timestamp())}
            database.execute(insert(_invitations).values(values))

    def use(self, token_hash: str, site: str, identity: str, node_key: str, now: datetime) -> Invitation | None:
        """Give the keys to an invitation of this site that is unused and in time; one that was used stays as it is.

        Returns:
            The invitation as it is then, or None where there is none, or none in time.
        """
        one = (_invitations.c.token_hash == token_hash) & (_invitations.c.site == site)
        unused = one & _invitations.c.identity.is_(None) & (_invitations.c.expires > int(now.timestamp()))
        with self._engine.begin() as database:
            database.execute(update(_invitations).where(unused).values(identity=identity, node_key=node_key))
            row = database.execute(select(_invitations).where(one)).first()
        return None if row is None or row.identity is None else _invitation(row)

    def renew(self, site: str, identity: str, node_key: str) -> None:
        """Give the invitations that this identity used another node key."""
        used = (_invitations.c.site == site) & (_invitations.c.identity == identity)
        with self._engine.begin() as database:
            database.execute(update(_invitations).where(used).values(node_key=node_key))

    def invitations(self) -> dict[str, Invitation]:
        """For each site its newest invitation that was used, or where none was its newest."""
        with self._engine.connect() as database:
            rows = [_invitation(row) for row in database.execute(select(_invitations).order_by(_invitations.c.number))]
        newest = {row.site: row for row in rows}
        return newest | {row.site: row for row in rows if row.identity is not None}

    def propose(self, campaign: CampaignRow, invited: Sequence[str]) -> None:
        """Keep a new campaign and whom it invites.

        Raises:
            ServerError: JG-server-331, it is there already.
        """
        try:
            with self._engine.begin() as database:
                database.execute(insert(_campaigns).values(**vars(campaign)))
                database.execute(insert(_invited), [{"campaign": campaign.hash, "site": site} for site in invited])
        except IntegrityError:
            raise ServerError("JG-server-331", where=campaign.hash) from None

    def campaigns(self, state: State | None = None) -> list[CampaignRow]:
        """Campaigns in the order in which they were proposed; all, or those in one state."""
        query = select(_campaigns).order_by(_campaigns.c.number)
        with self._engine.connect() as database:
            return [_campaign(row) for row in database.execute(query if state is None else _in(query, state))]

    def campaign(self, campaign: str) -> CampaignRow:
        """One campaign.

        Raises:
            ServerError: JG-server-330, no such campaign.
        """
        with self._engine.connect() as database:
            row = database.execute(select(_campaigns).where(_campaigns.c.hash == campaign)).first()
        if row is None:
            raise ServerError("JG-server-330", where=campaign)
        return _campaign(row)

    def campaigns_of(self, site: str) -> list[tuple[CampaignRow, bool]]:
        """The campaigns that invite a site, in order, and whether it has approved each."""
        query = select(_campaigns, _invited.c.approval.is_not(None).label("approved")).join(_invited)
        query = query.where(_invited.c.site == site).order_by(_campaigns.c.number)
        with self._engine.connect() as database:
            return [(_campaign(row), bool(row.approved)) for row in database.execute(query)]

    def move(self, campaign: str, before: State, after: State, *, envelope: bytes = b"", reason: str = "") -> None:
        """One step of a campaign's life, with the plan as it is signed now.

        Raises:
            ServerError: JG-server-332, it is not in the state `before` (any more); JG-server-330, no such campaign.
        """
        values: dict[str, object] = {"state": after, "reason": reason} | ({"envelope": envelope} if envelope else {})
        there = (_campaigns.c.hash == campaign) & (_campaigns.c.state == before)
        with self._engine.begin() as database:
            moved = database.execute(update(_campaigns).where(there).values(values)).rowcount
        if not moved:
            found = self.campaign(campaign).state
            raise ServerError("JG-server-332", where=campaign, found=str(found), before=str(before), after=str(after))

    def approve(self, campaign: str, site: str, approval: bytes) -> None:
        """Keep an invited site's approval; a later one takes the place of an earlier one.

        Raises:
            ServerError: JG-server-317, the campaign is not there or does not invite the site.
        """
        there = (_invited.c.campaign == campaign) & (_invited.c.site == site)
        with self._engine.begin() as database:
            if not database.execute(update(_invited).where(there).values(approval=approval)).rowcount:
                raise ServerError("JG-server-317", where=site, campaign=campaign)

    def approvals(self, campaign: str) -> dict[str, bytes]:
        """The approvals of a campaign, as their envelopes, by site."""
        query = select(_invited.c.site, _invited.c.approval).where(_invited.c.campaign == campaign)
        with self._engine.connect() as database:
            found = database.execute(query.where(_invited.c.approval.is_not(None)).order_by(_invited.c.site))
            return {row.site: row.approval for row in found}

    def commit(self, site: str, entries: int, head: str, envelope: bytes) -> bool:
        """Keep a site's commitment to a ledger of so many entries.

        Returns:
            Whether it goes on from the one before: more entries, or the same ones. If not, nothing is kept.
        """
        held = _ledgers.c
        ahead = (held.site == site) & ((held.entries < entries) | ((held.entries == entries) & (held.head == head)))
        values = {"entries": entries, "head": head, "envelope": envelope}
        try:
            with self._engine.begin() as database:
                if database.execute(update(_ledgers).where(ahead).values(values)).rowcount:
                    return True
                database.execute(insert(_ledgers).values(site=site, **values))
                return True
        except IntegrityError:
            return False

    def commitment(self, site: str) -> bytes | None:
        """A site's newest commitment to its ledger, as its envelope; None before the first."""
        with self._engine.connect() as database:
            envelope: bytes | None = database.scalar(select(_ledgers.c.envelope).where(_ledgers.c.site == site))
            return envelope

    def active(self) -> set[str]:
        """The sites that have approved a running campaign."""
        query = _in(select(_invited.c.site).join(_campaigns), State.RUNNING).where(_invited.c.approval.is_not(None))
        with self._engine.connect() as database:
            return set(database.scalars(query.distinct()))

    def record(self, campaign: str, entry: RoundEntry) -> None:
        """Keep where an attempt at a round stands: how it ended, or that it began; one that has ended stays as it is.

        Raises:
            IntegrityError: it has ended.
        """
        of = _rounds.c
        there = (of.campaign == campaign) & (of.round == entry.round) & (of.attempt == entry.attempt)
        begun = update(_rounds).where(there & (of.outcome == Outcome.BEGUN)).values(**vars(entry))
        with self._engine.begin() as database:
            if not database.execute(begun).rowcount:
                database.execute(insert(_rounds).values(campaign=campaign, **vars(entry)))

    def rounds(self, campaign: str) -> list[RoundEntry]:
        """All attempts at a campaign's rounds, in order."""
        query = select(*(column for column in _rounds.c if column is not _rounds.c.campaign))
        query = query.where(_rounds.c.campaign == campaign).order_by(_rounds.c.round, _rounds.c.attempt)
        with self._engine.connect() as database:
            rows = [row._asdict() for row in database.execute(query)]
        return [RoundEntry(**{**row, "outcome": Outcome(row["outcome"])}) for row in rows]

    def record_evaluation(self, campaign: str, entry: EvaluationEntry) -> None:
        """Keep what came of an evaluation; of each round there is one."""
        with self._engine.begin() as database:
            database.execute(insert(_evaluations).values(campaign=campaign, **vars(entry)))

    def evaluations(self, campaign: str) -> list[EvaluationEntry]:
        """A campaign's evaluations, by round."""
        query = select(*(column for column in _evaluations.c if column is not _evaluations.c.campaign))
        query = query.where(_evaluations.c.campaign == campaign).order_by(_evaluations.c.round)
        with self._engine.connect() as database:
            return [EvaluationEntry(**row._asdict()) for row in database.execute(query)]

    def certify(self, campaign: str, number: int, attempt: int, certificate: Certificate) -> None:
        """Keep what the sites signed of a secure sum, for the audit."""
        values = {
            "digest": certificate.digest.hex(),
            "h1": certificate.h1.hex(),
            "began": certificate.began,
            "dealers": certificate.dealers,
            "survivors": certificate.survivors,
            "signatures": {site: signature.hex() for site, signature in certificate.signatures.items()},
        }
        with self._engine.begin() as database:
            database.execute(insert(_certificates).values(campaign=campaign, round=number, attempt=attempt, **values))

    def certificates(self, campaign: str) -> dict[tuple[int, int], Certificate]:
        """What the sites signed of a campaign's secure sums, by round and attempt, in order."""
        of = _certificates.c
        query = select(_certificates).where(of.campaign == campaign).order_by(of.round, of.attempt)
        with self._engine.connect() as database:
            return {(row.round, row.attempt): _certificate(row) for row in database.execute(query)}

    def last_certified(self, campaign: str) -> bytes:
        """The digest that the sites of a campaign's last secure sum signed, 32 bytes; empty before the first."""
        of = _certificates.c
        query = select(of.digest).where(of.campaign == campaign).order_by(of.round.desc(), of.attempt.desc())
        with self._engine.connect() as database:
            return bytes.fromhex(database.scalar(query.limit(1)) or "")

    def _newest(self, table: Table) -> bytes:
        with self._engine.connect() as database:
            return database.scalar(select(table.c.envelope).order_by(table.c.version.desc()).limit(1)) or b""

    def _add(self, table: Table, version: int, envelope: bytes) -> None:
        try:
            with self._engine.begin() as database:
                newest = database.scalar(select(func.max(table.c.version)))
                if newest is None or newest < version:
                    database.execute(insert(table).values(version=version, envelope=envelope))
                    return
        except IntegrityError:
            pass
        raise ServerError("JG-server-305", where=table.name, version=version)


def _switch(connection: Any, _: object) -> None:
    """A reader never waits for a writer, and a commit is on disk."""
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _in(query: Any, state: State) -> Any:
    return query.where(_campaigns.c.state == state)


def _invitation(row: Any) -> Invitation:
    return Invitation(row.site, datetime.fromtimestamp(row.expires).astimezone(), row.identity, row.node_key)


def _campaign(row: Any) -> CampaignRow:
    return CampaignRow(row.hash, row.name, row.envelope, State(row.state), row.reason)


def _certificate(row: Any) -> Certificate:
    signatures = {site: bytes.fromhex(signature) for site, signature in row.signatures.items()}
    names = (tuple(row.began), tuple(row.dealers), tuple(row.survivors))
    return Certificate(bytes.fromhex(row.h1), *names, signatures)
