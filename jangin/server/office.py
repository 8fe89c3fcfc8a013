"""What people may ask of the server, once for both ways in: the command beside it, and gRPC from afar.

The law: an act is one signed command, taken once, by somebody whose roles allow it; what it did is in the audit log
with that person and that command. A command is used up when it is taken, whether or not it could be carried out: a
refused one never comes to force later. On the server's own machine, whose owner holds the database anyway, an act that
is nobody's personal yes goes without a signature, and the log says `server`.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Final, TypeVar

from pydantic import Field, TypeAdapter

from jangin.codec import cbor
from jangin.codec.document import Document, parse
from jangin.errors import ServerError
from jangin.plan.training_plan import TrainingPlan
from jangin.server import campaigns, kpi
from jangin.server.audit import SERVER, exported, exported_entry
from jangin.server.campaigns import CampaignStatus
from jangin.server.life import ENDED, LIFE, Act, State
from jangin.server.members import Members
from jangin.server.registry import Registered, Registry
from jangin.server.roles import RULES, Right, require
from jangin.server.settings import StateFolder
from jangin.server.store import Store
from jangin.trust.commands import LIFE as COMMAND_LIFE
from jangin.trust.commands import verify_command
from jangin.trust.envelope import Kind, peek
from jangin.trust.measurements import verify_measurement
from jangin.trust.models import verify_release, verify_withdrawal

__all__ = ["MOST_PAGE_BYTES", "Answer", "Asked", "News", "Office"]

Answer = dict[str, Any]
"""What comes back: types that canonical CBOR has."""

MOST_PAGE_BYTES: Final = 2**19
"""Of a page of a long answer, after which it breaks off; one entry that is longer goes alone."""

_MOST_NEWS: Final = 200

Sites = Annotated[tuple[Annotated[str, Field(max_length=63)], ...], Field(max_length=10_000)]

_AFTER: Final = {str(act): str(state) for (_, act), state in LIFE.items()}

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """An act that may be done.

    Attributes:
        subject: of it.
        arguments: as in `Command`.
        attachment: what came along.
        actor: the person, or `server`.
        document: the signed command; empty without one.
        now: the time.
    """

    subject: str
    arguments: Mapping[str, str | int | bool]
    attachment: bytes = field(repr=False)
    actor: str
    document: bytes = field(repr=False)
    now: datetime

    @property
    def person(self) -> str:
        """The person; empty where nobody signed."""
        return self.actor if self.document else ""


@dataclass(frozen=True)
class News:
    """What happened to campaigns since an entry of the audit log.

    Attributes:
        last: the number of the last entry that was looked at.
        events: what is to be told, in order.
        more: whether there may be more already.
        ended: whether the campaign that was asked for has ended, and all of it is told.
    """

    last: int
    events: tuple[Answer, ...]
    more: bool
    ended: bool


class _Wanted(Document):
    """What a question may take."""

    campaign: Annotated[str, Field(max_length=64)] = ""
    after: Annotated[int, Field(ge=0, lt=2**53)] = 0
    upto: Annotated[int, Field(ge=0, lt=2**53)] = 0
    confirm: Sites = ()
    suspend: Sites = ()
    revoke: Sites = ()


class Office:
    """The one place where acts are done and questions answered."""

    def __init__(
        self,
        state: StateFolder,
        store: Store,
        members: Members,
        *,
        refuse: Callable[[TrainingPlan], None] = campaigns.refuse,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take a server's folder, its database and members.

        Args:
            state: the server's.
            store: the server's.
            members: the server's.
            refuse: raises where a plan cannot run.
            clock: aware times.
        """
        self.state, self.store, self.members = state, store, members
        self.registry = Registry(store, state)
        self._refuse, self._clock = refuse, clock

    @cached_property
    def fingerprint(self) -> str:
        """Of the server's audit key, by which a command names its server."""
        return self.state.audit_key.fingerprint

    def act(self, envelope: bytes, attachment: bytes = b"", person: str | None = None) -> Answer:
        """Carry out a signed command; what came of it.

        Args:
            envelope: the command.
            attachment: what comes along.
            person: whose certificate it came by; None on the server's own machine.

        Raises:
            SiteError: JG-site-110..116, a signature that does not count.
            ServerError: JG-server-400, 401, 406 as `verify_command`; 402, it was taken before; 403 and 404, not
                allowed; 405, another person's certificate; 409, no such act; and what the act itself meets.
        """
        now = self._clock()
        staff = self.members.staff(now)
        command, key = verify_command(envelope, attachment, staff, self.fingerprint, now)
        if person not in (None, key.person):
            raise ServerError("JG-server-405", where=Kind.COMMAND.noun, found=key.person, expected=person)
        if not self.store.take(command.nonce, key.person, command.act, command.issued + COMMAND_LIFE, now):
            raise ServerError("JG-server-402", where=command.act, person=key.person, issued=command.issued)
        right = _right(command.act)
        if right is None or RULES[right].reads:
            raise ServerError("JG-server-409", where="command", problem=f"no such act: {command.act}")
        require(right, key.person, key.roles)
        if RULES[right].not_own:
            row = self.store.campaign(command.subject)
            require(right, key.person, key.roles, campaigns.proposers(row, staff, now))
        asked = Asked(command.subject, command.arguments, attachment, key.person, envelope, now)
        return self._do(right, asked)

    def act_here(
        self,
        right: Right,
        subject: str,
        arguments: Mapping[str, str | int | bool] | None = None,
        attachment: bytes = b"",
    ) -> Answer:
        """Carry out an act without a signature, on the server's own machine.

        Raises:
            ServerError: JG-server-416, it takes a person's key; what the act itself meets.
        """
        if RULES[right].personal:
            raise ServerError("JG-server-416", where=str(right))
        return self._do(right, Asked(subject, arguments or {}, attachment, SERVER, b"", self._clock()))

    def ask(self, what: str, arguments: Mapping[str, Any], person: str | None = None) -> Answer:
        """Answer a question.

        Args:
            what: one of `QUESTIONS`.
            arguments: of it.
            person: whose certificate it came by; None on the server's own machine.

        Raises:
            ServerError: JG-server-403, not allowed; 409, no such question; what the question itself meets.
        """
        if what not in QUESTIONS:
            raise ServerError("JG-server-409", where="ask", problem=f"no such question: {what[:40]}")
        right, answer = QUESTIONS[what]
        try:
            wanted = _Wanted.model_validate(arguments)
        except ValueError:
            raise ServerError("JG-server-409", where=what, problem="arguments of another form") from None
        self._may_read(right, person)
        return answer(self, wanted)

    def news(self, campaign: str, after: int, person: str | None = None) -> News:
        """What happened to one campaign, or to all (empty), after an entry of the audit log.

        Raises:
            ServerError: JG-server-330, no such campaign; 403, not allowed.
        """
        self._may_read(Right.WATCH, person)
        ended = bool(campaign) and self.store.campaign(campaign).state in ENDED
        links = self.store.database.audit(after, _MOST_NEWS)
        entries = [link.entry for link in links if link.entry.what == "campaign"]
        events = tuple(
            {
                "number": entry.number,
                "moment": entry.moment.isoformat(),
                "campaign": entry.subject,
                "act": entry.act,
                "state": _AFTER.get(entry.act),
                "actor": entry.actor,
                "detail": entry.model_dump(mode="json")["detail"],
            }
            for entry in entries
            if campaign in ("", entry.subject)
        )
        more = len(links) == _MOST_NEWS
        return News(links[-1].entry.number if links else after, events, more, ended and not more)

    def _may_read(self, right: Right, person: str | None) -> None:
        if person is not None:
            now = self._clock()
            require(right, person, self.members.staff(now).roles(person, now))

    def _do(self, right: Right, asked: Asked) -> Answer:
        done = DEEDS[right](self, asked)
        _log.info("%s by %s: %s", right, asked.actor, asked.subject or "-")
        return done

    # Acts.

    def _draft(self, asked: Asked) -> Answer:
        plan = self._plan(asked.attachment)
        campaign = campaigns.draft(self.store, plan, asked.actor, asked.document)
        return _moved(campaign, State.DRAFT)

    def _propose(self, asked: Asked) -> Answer:
        self._refuse(self._plan(peek(asked.attachment, Kind.PLAN)))
        campaign = campaigns.submit(
            self.store, self.members, asked.attachment, asked.now, actor=asked.person, document=asked.document
        )
        return _moved(campaign, State.PROPOSED)

    def _approve(self, asked: Asked) -> Answer:
        campaigns.accept(
            self.store,
            self.members,
            asked.subject,
            asked.attachment,
            asked.now,
            actor=asked.person,
            document=asked.document,
        )
        return _moved(asked.subject, State.APPROVED)

    def _start(self, asked: Asked) -> Answer:
        campaigns.start(self.store, self.members, asked.subject, asked.now, actor=asked.actor, document=asked.document)
        return _moved(asked.subject, State.RUNNING)

    def _rehearse(self, asked: Asked) -> Answer:
        number = campaigns.rehearse(self.store, asked.subject, actor=asked.actor, document=asked.document)
        return {"campaign": asked.subject, "number": number, "running": self.state.address.exists()}

    def _release(self, asked: Asked) -> Answer:
        staff = self.members.staff(asked.now)
        manifest, approver = verify_release(asked.attachment, staff, asked.now)
        _fits(Kind.MODEL, manifest.campaign, approver, asked)
        return _moved(asked.subject, self.registry.release(asked.attachment, staff, asked.now, asked.document).state)

    def _withdraw(self, asked: Asked) -> Answer:
        staff = self.members.staff(asked.now)
        given, person = verify_withdrawal(asked.attachment, staff, asked.now)
        one = self.registry.find(f"{given.line}@{given.version}")
        _fits(Kind.WITHDRAWAL, one.manifest.campaign, person, asked)
        return _moved(asked.subject, self.registry.withdraw(asked.attachment, staff, asked.now, asked.document).state)

    def _measure(self, asked: Asked) -> Answer:
        staff = self.members.staff(asked.now)
        given, person = verify_measurement(asked.attachment, staff, asked.now)
        _fits(Kind.MEASUREMENT, given.campaign, person, asked)
        kpi.measure(self.store, asked.attachment, staff, asked.now, asked.document)
        return {"campaign": asked.subject, "figure": given.figure, "value": given.value, "person": person}

    def _invite(self, asked: Asked) -> Answer:
        token = self.members.invite(asked.subject, asked.now, actor=asked.actor, document=asked.document)
        return {"site": asked.subject, "token": token}

    def _publish(self, asked: Asked) -> Answer:
        roster = self.members.publish(asked.attachment, asked.now, asked.actor)
        return {"version": roster.version, "valid_until": roster.valid_until.isoformat()}

    def _plan(self, payload: bytes) -> TrainingPlan:
        try:
            value = cbor.decode(payload)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ServerError("JG-server-409", where="plan", problem="not canonical CBOR of a plan")
        return parse(value, TrainingPlan, Kind.PLAN.noun)

    # Questions.

    def _named(self, wanted: _Wanted) -> Answer:
        return {"campaign": campaigns.named(self.store, wanted.campaign)}

    def _campaigns(self, wanted: _Wanted) -> Answer:
        """Statuses, of one or of all; `next` is where to go on."""
        if wanted.campaign:
            return {"campaigns": [_plain(campaigns.status(self.store, wanted.campaign))], "next": None}
        rows = self.store.campaigns()
        found, after = _page(rows, wanted.after, lambda row: _plain(campaigns.status(self.store, row.hash)))
        return {"campaigns": found, "next": after}

    def _rehearsals(self, wanted: _Wanted) -> Answer:
        """Those of one campaign, from the one after `after` on."""
        found, after = _page(self.store.rehearsals(wanted.campaign), wanted.after, asdict)
        return {"rehearsals": found, "next": after}

    def _models(self, wanted: _Wanted) -> Answer:
        """Every version, as its receipt tells, and the key that the receipts are signed by."""
        found, after = _page(self.registry.versions(), wanted.after, _version)
        return {"key": self.state.audit_key.public_text, "models": found, "next": after}

    def _statement(self, wanted: _Wanted) -> Answer:
        """The privacy statement of a campaign's version; None where there is none."""
        here = [one.manifest for one in self.registry.versions() if one.manifest.campaign == wanted.campaign]
        files = [file for file in (self.registry.folder(one) / "statement.json" for one in here) if file.is_file()]
        return {"statement": files[0].read_bytes() if files else None}

    def _signed_plan(self, wanted: _Wanted) -> Answer:
        row = self.store.campaign(wanted.campaign)
        return {"envelope": row.envelope, "state": str(row.state), "proposer": row.proposer}

    def _members(self, wanted: _Wanted) -> Answer:
        staff, roster = self.members.documents()
        return {"members": [asdict(one) for one in self.members.members()], "staff": staff, "roster": roster}

    def _next_roster(self, wanted: _Wanted) -> Answer:
        roster = self.members.next_roster(
            self._clock(), confirm=wanted.confirm, suspend=wanted.suspend, revoke=wanted.revoke
        )
        return {"payload": roster.payload}

    def _audit(self, wanted: _Wanted) -> Answer:
        """Lines of an export; the first call, up to nothing, fixes how far it goes and has the signed statement."""
        database = self.store.database
        if not wanted.upto:
            entries, head = database.audit_head()
            statement = list(exported([], entries, head, self._clock(), self.state.audit_key))
            return {"lines": statement, "upto": entries, "next": 0 if entries else None}
        lines: list[str] = []
        size, last = 0, wanted.after
        for link in database.audit(wanted.after, _MOST_NEWS):
            if link.entry.number > wanted.upto:
                break
            line = exported_entry(link)
            size += len(line.encode())
            if lines and size > MOST_PAGE_BYTES:
                break
            lines.append(line)
            last = link.entry.number
        return {"lines": lines, "upto": wanted.upto, "next": last if last < wanted.upto and lines else None}


def _moves(act: Act) -> Callable[[Office, Asked], Answer]:
    """An act that is one step of a campaign's life and nothing else; its argument `reason` is for people."""

    def moved(office: Office, asked: Asked) -> Answer:
        reason = str(asked.arguments.get("reason", ""))
        state = office.store.move(asked.subject, act, actor=asked.actor, reason=reason, document=asked.document)
        return _moved(asked.subject, state)

    return moved


DEEDS: Final[dict[Right, Callable[[Office, Asked], Answer]]] = {
    Right.DRAFT: Office._draft,
    Right.PROPOSE: Office._propose,
    Right.APPROVE: Office._approve,
    Right.START: Office._start,
    Right.PAUSE: _moves(Act.PAUSE),
    Right.RESUME: _moves(Act.RESUME),
    Right.STOP: _moves(Act.ABORT),
    Right.REHEARSE: Office._rehearse,
    Right.RELEASE: Office._release,
    Right.WITHDRAW: Office._withdraw,
    Right.MEASURE: Office._measure,
    Right.INVITE: Office._invite,
    Right.PUBLISH: Office._publish,
}
"""How each act is done."""

QUESTIONS: Final[dict[str, tuple[Right, Callable[[Office, _Wanted], Answer]]]] = {
    "named": (Right.CAMPAIGNS, Office._named),
    "campaigns": (Right.CAMPAIGNS, Office._campaigns),
    "plan": (Right.CAMPAIGNS, Office._signed_plan),
    "members": (Right.MEMBERS, Office._members),
    "roster": (Right.MEMBERS, Office._next_roster),
    "rehearsals": (Right.CAMPAIGNS, Office._rehearsals),
    "models": (Right.MODELS, Office._models),
    "statement": (Right.MODELS, Office._statement),
    "audit": (Right.AUDIT, Office._audit),
}
"""What may be asked, and by which right."""


def _right(act: str) -> Right | None:
    return Right(act) if act in set(Right) else None


def _moved(campaign: str, state: State) -> Answer:
    return {"campaign": campaign, "state": str(state)}


def _fits(kind: Kind, campaign: str, person: str, asked: Asked) -> None:
    """Refuse what came along where it is of another campaign than the command, or by another person."""
    if (campaign, person) != (asked.subject, asked.actor):
        expected = f"{asked.actor}: {asked.subject}"
        raise ServerError("JG-server-405", where=kind.noun, found=f"{person}: {campaign}", expected=expected)


def _page(rows: Sequence[T], after: int, plain: Callable[[T], object]) -> tuple[list[object], int | None]:
    """What fits into one answer of the rows from a place on, at least one; and where to go on."""
    found: list[object] = []
    size = 0
    for number, row in enumerate(rows[after:], after):
        one = plain(row)
        size += len(cbor.encode(one))
        if found and size > MOST_PAGE_BYTES:
            return found, number
        found.append(one)
    return found, None


def _version(one: Registered) -> Answer:
    return {
        "receipt": one.receipt,
        "release": one.release,
        "withdrawal": one.withdrawal,
        "state": str(one.state),
        "aliases": list(map(str, one.aliases)),
    }


def _plain(status: CampaignStatus) -> object:
    """As JSON would have it, floats and all."""
    return json.loads(TypeAdapter(CampaignStatus).dump_json(status))
