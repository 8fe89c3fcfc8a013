"""Sites and campaigns in the server's database: staff, rosters, invitations, plans, approvals, rounds.

The law: it is the truth of a campaign, and each method is one transaction that notes in the audit log what it did; what
may change only once changes under a condition, so that two processes never both do it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Table, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from jangin.errors import ServerError
from jangin.privacy.secure_sum.server import Certificate
from jangin.server import life, tables
from jangin.server.audit import ADOPT, SERVER, Note
from jangin.server.database import Database
from jangin.server.life import Act, State

__all__ = [
    "CampaignRow",
    "EvaluationEntry",
    "Invitation",
    "Outcome",
    "RehearsalEntry",
    "RoundEntry",
    "Store",
    "Tally",
]


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


@dataclass(frozen=True)
class RehearsalEntry:
    """One rehearsal of a campaign; when it is done every invited site is in exactly one of the five.

    Attributes:
        number: from 1.
        done: whether it is over.
        ready: sites that would train.
        unapproved: sites that have not approved the plan and were not asked.
        abstained, refused, missing: as in `RoundEntry`.
        seconds: that the second, warm asking of all who were ready took; 0 where nobody was.
        reason: why it broke off; else empty.
    """

    number: int
    done: bool = False
    ready: Sequence[str] = ()
    unapproved: Sequence[str] = ()
    abstained: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Tally:
    """How much is kept.

    Attributes:
        campaigns: how many, by state.
        rounds: attempts, by outcome.
        last: of each campaign that is led, its last attempt.
    """

    campaigns: Mapping[str, int]
    rounds: Mapping[str, int]
    last: Mapping[str, RoundEntry]


class Store:
    """What is kept of sites and campaigns; safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        """Take the database, opened."""
        self.database = database

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    def staff(self) -> bytes:
        """The newest staff list, as its envelope; empty before the first."""
        return self._newest(tables.staff)

    def add_staff(self, version: int, envelope: bytes) -> None:
        """Keep a staff list.

        Raises:
            ServerError: JG-server-305, there is one of this version.
        """
        self._add(tables.staff, version, envelope)

    def roster(self) -> bytes:
        """The newest roster, as its envelope; empty before the first."""
        return self._newest(tables.rosters)

    def add_roster(self, version: int, envelope: bytes) -> None:
        """Keep a roster.

        Raises:
            ServerError: JG-server-305, there is one of this version.
        """
        self._add(tables.rosters, version, envelope)

    def invite(self, site: str, token_hash: str, expires: datetime) -> None:
        """Keep an invitation; the token itself is not known here."""
        with self.database.writing() as database:
            values = {"site": site, "token_hash": token_hash, "expires": int(expires.timestamp())}
            database.execute(insert(tables.invitations).values(values))
            database.note(Note("site", site, "invite"))

    def use(self, token_hash: str, site: str, identity: str, node_key: str, now: datetime) -> Invitation | None:
        """Give the keys to an invitation of this site that is unused and in time; one that was used stays as it is.

        Returns:
            The invitation as it is then, or None where there is none, or none in time.
        """
        one = (tables.invitations.c.token_hash == token_hash) & (tables.invitations.c.site == site)
        unused = one & tables.invitations.c.identity.is_(None) & (tables.invitations.c.expires > int(now.timestamp()))
        with self.database.writing() as database:
            taken = update(tables.invitations).where(unused).values(identity=identity, node_key=node_key)
            if database.execute(taken).rowcount:
                database.note(
                    Note("site", site, "enroll", f"site:{site}", {"identity": identity, "node_key": node_key})
                )
            row = database.execute(select(tables.invitations).where(one)).first()
        return None if row is None or row.identity is None else _invitation(row)

    def renew(self, site: str, identity: str, node_key: str) -> None:
        """Give the invitations that this identity used another node key."""
        used = (tables.invitations.c.site == site) & (tables.invitations.c.identity == identity)
        with self.database.writing() as database:
            if database.execute(update(tables.invitations).where(used).values(node_key=node_key)).rowcount:
                database.note(Note("site", site, "renew", f"site:{site}", {"node_key": node_key}))

    def invitations(self) -> dict[str, Invitation]:
        """For each site its newest invitation that was used, or where none was its newest."""
        with self.database.reading() as database:
            rows = [
                _invitation(row)
                for row in database.execute(select(tables.invitations).order_by(tables.invitations.c.number))
            ]
        newest = {row.site: row for row in rows}
        return newest | {row.site: row for row in rows if row.identity is not None}

    def draft(self, campaign: CampaignRow, invited: Sequence[str], actor: str, document: bytes = b"") -> None:
        """Keep a new campaign, and whom it invites.

        Raises:
            ServerError: JG-server-331, it is there already.
        """
        values = {**vars(campaign), "state": life.after(campaign.hash, None, Act.DRAFT)}
        try:
            with self.database.writing() as database:
                database.execute(insert(tables.campaigns).values(**values))
                rows = [{"campaign": campaign.hash, "site": site} for site in invited]
                database.execute(insert(tables.invited), rows)
                database.note(_moved(campaign.hash, Act.DRAFT, actor, campaign.name, document))
        except IntegrityError:
            raise ServerError("JG-server-331", where=campaign.hash) from None

    def adopt(self) -> list[str]:
        """Note where each campaign is that was there before the audit log; their hashes, none the second time."""
        of = tables.campaigns.c
        with self.database.writing() as database:
            known = {link.entry.subject for link in self.database.audit() if link.entry.what == "campaign"}
            rows = database.execute(select(of.hash, of.name, of.state).order_by(of.number)).all()
            strangers = [row for row in rows if row.hash not in known]
            for row in strangers:
                detail = {"name": row.name, "state": row.state}
                database.note(Note("campaign", row.hash, ADOPT, detail=detail))
        return [row.hash for row in strangers]

    def campaigns(self, *states: State) -> list[CampaignRow]:
        """Campaigns in the order in which they were written down; all, or those in some states."""
        query = select(tables.campaigns).order_by(tables.campaigns.c.number)
        with self.database.reading() as database:
            return [_campaign(row) for row in database.execute(_in(query, states) if states else query)]

    def campaign(self, campaign: str) -> CampaignRow:
        """One campaign.

        Raises:
            ServerError: JG-server-330, no such campaign.
        """
        with self.database.reading() as database:
            row = database.execute(select(tables.campaigns).where(tables.campaigns.c.hash == campaign)).first()
        if row is None:
            raise ServerError("JG-server-330", where=campaign)
        return _campaign(row)

    def campaigns_of(self, site: str) -> list[tuple[CampaignRow, bool]]:
        """The campaigns that invite a site, in order, and whether it has approved each."""
        query = select(tables.campaigns, tables.invited.c.approval.is_not(None).label("approved")).join(tables.invited)
        query = query.where(tables.invited.c.site == site).order_by(tables.campaigns.c.number)
        with self.database.reading() as database:
            return [(_campaign(row), bool(row.approved)) for row in database.execute(query)]

    def move(
        self,
        campaign: str,
        act: Act,
        *,
        actor: str = SERVER,
        envelope: bytes = b"",
        reason: str = "",
        document: bytes = b"",
    ) -> State:
        """One step of a campaign's life; where it led.

        Args:
            campaign: its hash.
            act: what moves it.
            actor: whose act it is.
            envelope: the plan as it is signed now, where that changes.
            reason: for people.
            document: the signed command.

        Raises:
            ServerError: JG-server-332, not possible where it is (now); JG-server-330, no such campaign.
        """
        of, values = tables.campaigns.c, {"envelope": envelope} if envelope else {}
        while True:  # again where somebody else moved it meanwhile
            row = self.campaign(campaign)
            after = life.after(campaign, row.state, act)
            there = (of.hash == campaign) & (of.state == row.state)
            moved = update(tables.campaigns).where(there).values(state=after, reason=reason, **values)
            with self.database.writing() as database:
                if database.execute(moved).rowcount:
                    database.note(_moved(campaign, act, actor, row.name, document, reason))
                    return after

    def approve(self, campaign: str, site: str, approval: bytes) -> None:
        """Keep an invited site's approval; a later one takes the place of an earlier one.

        Raises:
            ServerError: JG-server-317, the campaign is not there or does not invite the site.
        """
        there = (tables.invited.c.campaign == campaign) & (tables.invited.c.site == site)
        with self.database.writing() as database:
            if not database.execute(update(tables.invited).where(there).values(approval=approval)).rowcount:
                raise ServerError("JG-server-317", where=site, campaign=campaign)
            database.note(Note("campaign", campaign, "consent", f"site:{site}", document=approval))

    def approvals(self, campaign: str) -> dict[str, bytes]:
        """The approvals of a campaign, as their envelopes, by site."""
        query = select(tables.invited.c.site, tables.invited.c.approval).where(tables.invited.c.campaign == campaign)
        with self.database.reading() as database:
            found = database.execute(
                query.where(tables.invited.c.approval.is_not(None)).order_by(tables.invited.c.site)
            )
            return {row.site: row.approval for row in found}

    def commit(self, site: str, entries: int, head: str, envelope: bytes) -> bool:
        """Keep a site's commitment to a ledger of so many entries.

        Returns:
            Whether it goes on from the one before: more entries, or the same ones. If not, nothing is kept.
        """
        held = tables.ledgers.c
        ahead = (held.site == site) & ((held.entries < entries) | ((held.entries == entries) & (held.head == head)))
        values = {"entries": entries, "head": head, "envelope": envelope}
        try:
            with self.database.writing() as database:
                if database.execute(update(tables.ledgers).where(ahead).values(values)).rowcount:
                    return True
                database.execute(insert(tables.ledgers).values(site=site, **values))
                return True
        except IntegrityError:
            return False

    def commitment(self, site: str) -> bytes | None:
        """A site's newest commitment to its ledger, as its envelope; None before the first."""
        with self.database.reading() as database:
            envelope: bytes | None = database.scalar(
                select(tables.ledgers.c.envelope).where(tables.ledgers.c.site == site)
            )
            return envelope

    def active(self) -> set[str]:
        """The sites that have approved a campaign that is led or rehearsed."""
        rehearsed = select(tables.rehearsals.c.campaign).where(tables.rehearsals.c.done.is_(False))
        query = select(tables.invited.c.site).join(tables.campaigns).where(tables.invited.c.approval.is_not(None))
        query = query.where(tables.campaigns.c.state.in_(life.LED) | tables.campaigns.c.hash.in_(rehearsed))
        with self.database.reading() as database:
            return set(database.scalars(query.distinct()))

    def ask_rehearsal(self, campaign: str, actor: str = SERVER, document: bytes = b"") -> int:
        """Ask for a rehearsal; the number of the one that is not over, or of a new one."""
        of = tables.rehearsals.c
        with self.database.writing() as database:
            last = database.execute(
                select(of.number, of.done).where(of.campaign == campaign).order_by(of.number.desc()).limit(1)
            ).first()
            if last is not None and not last.done:
                return int(last.number)
            number = 1 if last is None else last.number + 1
            database.execute(insert(tables.rehearsals).values(campaign=campaign, **vars(RehearsalEntry(number))))
            database.note(Note("campaign", campaign, "rehearse", actor, {"number": int(number)}, document))
        return int(number)

    def record_rehearsal(self, campaign: str, entry: RehearsalEntry) -> None:
        """Keep where a rehearsal stands; one that is over stays as it is."""
        of = tables.rehearsals.c
        there = (of.campaign == campaign) & (of.number == entry.number) & of.done.is_(False)
        with self.database.writing() as database:
            database.execute(update(tables.rehearsals).where(there).values(**vars(entry)))

    def rehearsals(self, campaign: str) -> list[RehearsalEntry]:
        """All rehearsals of a campaign, in order."""
        query = select(*(column for column in tables.rehearsals.c if column is not tables.rehearsals.c.campaign))
        query = query.where(tables.rehearsals.c.campaign == campaign).order_by(tables.rehearsals.c.number)
        with self.database.reading() as database:
            return [RehearsalEntry(**row._asdict()) for row in database.execute(query)]

    def open_rehearsals(self) -> list[tuple[str, int]]:
        """Campaign and number of each rehearsal that is not over."""
        of = tables.rehearsals.c
        query = select(of.campaign, of.number).where(of.done.is_(False))
        with self.database.reading() as database:
            return [(row.campaign, row.number) for row in database.execute(query)]

    def record(self, campaign: str, entry: RoundEntry) -> None:
        """Keep where an attempt at a round stands: how it ended, or that it began; one that has ended stays as it is.

        Raises:
            IntegrityError: it has ended.
        """
        of = tables.rounds.c
        there = (of.campaign == campaign) & (of.round == entry.round) & (of.attempt == entry.attempt)
        begun = update(tables.rounds).where(there & (of.outcome == Outcome.BEGUN)).values(**vars(entry))
        with self.database.writing() as database:
            if not database.execute(begun).rowcount:
                database.execute(insert(tables.rounds).values(campaign=campaign, **vars(entry)))
            if entry.outcome is not Outcome.BEGUN:
                database.note(_round(campaign, entry))

    def rounds(self, campaign: str) -> list[RoundEntry]:
        """All attempts at a campaign's rounds, in order."""
        of = tables.rounds.c
        query = select(tables.rounds).where(of.campaign == campaign).order_by(of.round, of.attempt)
        with self.database.reading() as database:
            return [_entry(row) for row in database.execute(query).mappings()]

    def tally(self) -> Tally:
        """How much is kept of campaigns and rounds."""
        of, state = tables.rounds.c, tables.campaigns.c.state
        led, last = _in(select(tables.campaigns.c.hash), life.LED), dict[str, RoundEntry]()
        newest = select(tables.rounds).order_by(of.round.desc(), of.attempt.desc()).limit(1)
        with self.database.reading() as database:
            campaigns = database.execute(select(state, func.count()).group_by(state)).all()
            rounds = database.execute(select(of.outcome, func.count()).group_by(of.outcome)).all()
            for campaign in database.scalars(led).all():
                for row in database.execute(newest.where(of.campaign == campaign)).mappings():
                    last[campaign] = _entry(row)
        return Tally(_counted(campaigns), _counted(rounds), last)

    def record_evaluation(self, campaign: str, entry: EvaluationEntry) -> None:
        """Keep what came of an evaluation; of each round there is one."""
        with self.database.writing() as database:
            database.execute(insert(tables.evaluations).values(campaign=campaign, **vars(entry)))

    def evaluations(self, campaign: str) -> list[EvaluationEntry]:
        """A campaign's evaluations, by round."""
        query = select(*(column for column in tables.evaluations.c if column is not tables.evaluations.c.campaign))
        query = query.where(tables.evaluations.c.campaign == campaign).order_by(tables.evaluations.c.round)
        with self.database.reading() as database:
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
        with self.database.writing() as database:
            database.execute(
                insert(tables.certificates).values(campaign=campaign, round=number, attempt=attempt, **values)
            )

    def certificates(self, campaign: str) -> dict[tuple[int, int], Certificate]:
        """What the sites signed of a campaign's secure sums, by round and attempt, in order."""
        of = tables.certificates.c
        query = select(tables.certificates).where(of.campaign == campaign).order_by(of.round, of.attempt)
        with self.database.reading() as database:
            return {(row.round, row.attempt): _certificate(row) for row in database.execute(query)}

    def last_certified(self, campaign: str) -> bytes:
        """The digest that the sites of a campaign's last secure sum signed, 32 bytes; empty before the first."""
        of = tables.certificates.c
        query = select(of.digest).where(of.campaign == campaign).order_by(of.round.desc(), of.attempt.desc())
        with self.database.reading() as database:
            return bytes.fromhex(database.scalar(query.limit(1)) or "")

    def _newest(self, table: Table) -> bytes:
        with self.database.reading() as database:
            return database.scalar(select(table.c.envelope).order_by(table.c.version.desc()).limit(1)) or b""

    def _add(self, table: Table, version: int, envelope: bytes) -> None:
        with self.database.writing() as database:
            database.note(Note(table.name, str(version), "sign", document=envelope))  # from here on nobody else writes
            newest = database.execute(select(func.coalesce(func.max(table.c.version), 0))).scalar_one()
            if newest >= version:
                raise ServerError("JG-server-305", where=table.name, version=version)
            database.execute(insert(table).values(version=version, envelope=envelope))


def _in(query: Any, states: Collection[State]) -> Any:
    return query.where(tables.campaigns.c.state.in_(states))


def _moved(campaign: str, act: Act, actor: str, name: str, document: bytes, reason: str = "") -> Note:
    detail = {"name": name} | ({"reason": reason} if reason else {})
    return Note("campaign", campaign, str(act), actor, detail, document)


def _round(campaign: str, entry: RoundEntry) -> Note:
    """What the audit log tells of an attempt that has ended."""
    detail: dict[str, int | str | Sequence[str]] = {
        "round": entry.round,
        "attempt": entry.attempt,
        "outcome": str(entry.outcome),
        "reported": sorted(entry.reported),
        "abstained": sorted(entry.abstained),
        "refused": sorted(entry.refused),
        "missing": sorted(entry.missing),
    }
    return Note("campaign", campaign, "round", detail=detail)


def _invitation(row: Any) -> Invitation:
    return Invitation(row.site, datetime.fromtimestamp(row.expires).astimezone(), row.identity, row.node_key)


def _campaign(row: Any) -> CampaignRow:
    return CampaignRow(row.hash, row.name, row.envelope, State(row.state), row.reason)


def _counted(rows: Iterable[Any]) -> dict[str, int]:
    return {str(word): int(count) for word, count in rows}


def _entry(row: Any) -> RoundEntry:
    values = {name: value for name, value in row.items() if name != "campaign"}
    return RoundEntry(**{**values, "outcome": Outcome(row["outcome"])})


def _certificate(row: Any) -> Certificate:
    signatures = {site: bytes.fromhex(signature) for site, signature in row.signatures.items()}
    names = (tuple(row.began), tuple(row.dealers), tuple(row.survivors))
    return Certificate(bytes.fromhex(row.h1), *names, signatures)
