"""An operator's desk: the same acts and questions, on the server's own folder or from afar by gRPC.

The law: what a person signs is made here, from what was verified here from the offline root down, never from the
server's word; a command is signed when it is sent, and a private key is read for nothing else.
"""

import json
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import TypeAdapter

from jangin.codec import cbor
from jangin.errors import JanginError, ServerError
from jangin.plan.training_plan import TrainingPlan
from jangin.server.audit import Report, verify
from jangin.server.campaigns import CampaignStatus, refuse_own
from jangin.server.life import State
from jangin.server.members import Member, Members
from jangin.server.office import Answer, Office
from jangin.server.passes import PassFolder
from jangin.server.refusals import raised
from jangin.server.roles import Right
from jangin.server.settings import StateFolder, write_whole
from jangin.trust.approvals import verify_plan, verify_proposal
from jangin.trust.chain import Trust
from jangin.trust.commands import signed_command
from jangin.trust.envelope import Kind, countersign, seal
from jangin.trust.keys import Identity, fingerprint, identity_from_text
from jangin.trust.roster import Roster, RosterSite
from jangin.trust.staff import Role, Staff

__all__ = [
    "Desk",
    "Proposal",
    "export",
    "members",
    "next_roster",
    "opened",
    "proposal",
    "sign_approval",
    "sign_plan",
    "staff",
    "statuses",
]

_CALL_SECONDS: Final = 330.0
"""A proposal is judged with torch on the server."""

_ROSTER_ROLES: Final = (Role.OPERATOR, Role.INDEPENDENT_BODY)
_SILENT_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.5

Arguments = Mapping[str, str | int | bool]


def _now() -> datetime:
    return datetime.now(UTC)


class Desk(Protocol):
    """Where a person acts and asks."""

    @property
    def root(self) -> str:
        """The offline root's public key, one OpenSSH line."""

    @property
    def fingerprint(self) -> str:
        """Of the server's audit key."""

    def act(
        self,
        right: Right,
        subject: str = "",
        *,
        key: Identity | None = None,
        arguments: Arguments | None = None,
        attachment: bytes = b"",
    ) -> Answer:
        """Have something done; signed where there is a key.

        Raises:
            JanginError: why it is not done, as `Office.act`; JG-server-416, it takes a key.
        """

    def ask(self, what: str, **arguments: object) -> Answer:
        """What a question is answered, as `Office.ask`."""

    def watch(self, campaign: str = "") -> Iterator[Answer]:
        """What happens from now on, as it happens, until the campaign has ended; without one for ever.

        Raises:
            ServerError: JG-server-418, the server ended it.
        """


@contextmanager
def opened(folder: Path) -> Iterator[Desk]:
    """The desk of a server's state folder, or of a person's folder that `jangin server operator` made.

    Raises:
        ServerError: JG-server-301, neither; as `StateFolder.store` and `PassFolder.open`.
    """
    if PassFolder.is_one(folder):
        far = _Far(PassFolder.open(folder, _now()))
        try:
            yield far
        finally:
            far.close()
        return
    state = StateFolder(folder)
    store = state.store()
    try:
        yield _Near(Office(state, store, Members(store, state.root)))
    finally:
        store.close()


class _Near:
    """On the server's own machine: its folder is at hand."""

    def __init__(self, office: Office) -> None:
        self._office = office

    @property
    def root(self) -> str:
        return self._office.state.root

    @property
    def fingerprint(self) -> str:
        return self._office.fingerprint

    def act(
        self,
        right: Right,
        subject: str = "",
        *,
        key: Identity | None = None,
        arguments: Arguments | None = None,
        attachment: bytes = b"",
    ) -> Answer:
        if key is None:
            return self._office.act_here(right, subject, arguments, attachment)
        command = _command(self, right, subject, key, arguments, attachment)
        return self._office.act(command, attachment)

    def ask(self, what: str, **arguments: object) -> Answer:
        return self._office.ask(what, arguments)

    def watch(self, campaign: str = "") -> Iterator[Answer]:
        last, pause = self._office.store.database.audit_head()[0], threading.Event()
        while True:
            news = self._office.news(campaign, last)
            yield from news.events
            last = news.last
            if news.ended:
                return
            if not news.more:
                pause.wait(_LOOK_SECONDS)


class _Far:
    """From another machine, by gRPC with this person's certificate."""

    def __init__(self, folder: PassFolder) -> None:
        import grpc

        from jangin.server.operators import MOST_BYTES, SERVICE

        self._grpc, self._folder, self._service = grpc, folder, SERVICE
        credentials = grpc.ssl_channel_credentials(folder.ca, folder.own.key, folder.own.chain)
        options = (
            ("grpc.max_receive_message_length", MOST_BYTES),
            ("grpc.max_send_message_length", MOST_BYTES),
            ("grpc.enable_http_proxy", 0),
            ("grpc.keepalive_time_ms", 20_000),
        )
        self._channel = grpc.secure_channel(folder.told.server, credentials, options)

    def close(self) -> None:
        self._channel.close()

    @property
    def root(self) -> str:
        return self._folder.root

    @property
    def fingerprint(self) -> str:
        return self._folder.told.fingerprint

    def act(
        self,
        right: Right,
        subject: str = "",
        *,
        key: Identity | None = None,
        arguments: Arguments | None = None,
        attachment: bytes = b"",
    ) -> Answer:
        if key is None:
            raise ServerError("JG-server-416", where=str(right))
        command = _command(self, right, subject, key, arguments, attachment)
        return self._call("Act", {"command": command, "attachment": attachment})

    def ask(self, what: str, **arguments: object) -> Answer:
        return self._call("Ask", {"what": what, "arguments": arguments})

    def _call(self, method: str, asked: Mapping[str, object]) -> Answer:
        call = self._channel.unary_unary(f"/{self._service}/{method}")
        try:
            told = cbor.decode(call(cbor.encode(asked), timeout=_CALL_SECONDS))
        except self._grpc.RpcError as error:
            raise self._failed(error) from None
        except ValueError:
            told = None
        answer = _read(told)
        if isinstance(answer.get("answer"), dict):
            return dict(answer["answer"])
        raise ServerError("JG-server-411", where=self._folder.told.server, problem="another form")

    def watch(self, campaign: str = "") -> Iterator[Answer]:
        stream = self._channel.unary_stream(f"/{self._service}/Watch")(cbor.encode({"campaign": campaign}))
        try:
            for raw in _within(stream, _SILENT_SECONDS):
                told = _read(cbor.decode(raw))
                if "event" in told:
                    yield told["event"]
                elif told.get("end") == "ended":
                    return
                elif "end" in told:
                    raise ServerError("JG-server-418", where=self._folder.told.server, problem=str(told["end"]))
            raise ServerError("JG-server-418", where=self._folder.told.server, problem="no word of an end")
        except queue.Empty:
            raise ServerError("JG-server-418", where=self._folder.told.server, problem="silence") from None
        except self._grpc.RpcError as error:
            raise self._failed(error) from None
        except ValueError:
            raise ServerError("JG-server-411", where=self._folder.told.server, problem="another form") from None
        finally:
            stream.cancel()

    def _failed(self, error: Any) -> JanginError:
        codes, server = self._grpc.StatusCode, self._folder.told.server
        match error.code():
            case codes.RESOURCE_EXHAUSTED:
                return ServerError("JG-server-413", where=self._folder.told.person, watching=0)
            case codes.CANCELLED:
                return ServerError("JG-server-418", where=server, problem="cut")
            case codes.UNAVAILABLE | codes.DEADLINE_EXCEEDED:
                problem = str(error.details() or error.code().name)
                return ServerError("JG-server-410", where=server, problem=problem.removesuffix(".")[:300])
            case _:
                return ServerError("JG-server-411", where=server, problem=error.code().name)


@dataclass(frozen=True)
class Proposal:
    """A signed plan as its signatures tell.

    Attributes:
        envelope: as the server holds it.
        plan: what is signed.
        operator: who proposed it.
    """

    envelope: bytes
    plan: TrainingPlan
    operator: str


def statuses(desk: Desk, campaign: str = "") -> list[CampaignStatus]:
    """Where campaigns stand: one, or all of them."""
    found: list[CampaignStatus] = []
    after: int | None = 0
    form = TypeAdapter(list[CampaignStatus])
    while after is not None:
        page = desk.ask("campaigns", campaign=campaign, after=after)
        found += form.validate_python(page["campaigns"])
        after = page["next"]
    return found


def members(desk: Desk) -> list[Member]:
    """Every site."""
    return TypeAdapter(list[Member]).validate_python(desk.ask("members")["members"])


def sign_plan(plan: TrainingPlan, key: Identity) -> bytes:
    """A plan, signed by whoever proposes it."""
    return seal(Kind.PLAN, cbor.encode(plan.model_dump(mode="json")), key)


def proposal(desk: Desk, campaign: str, now: datetime) -> Proposal:
    """A proposed plan, verified here from the offline root down.

    Raises:
        SiteError: JG-site-110..119 and 125, signatures that do not count. ServerError: JG-server-405, another plan;
            JG-server-330, no such campaign; JG-server-332, nobody has proposed it.
    """
    told = desk.ask("plan", campaign=campaign)
    if told["state"] == State.DRAFT:
        raise ServerError("JG-server-332", where=campaign, found=told["state"], act="approve", before="proposed")
    signed = verify_proposal(told["envelope"], staff(desk, now), now)
    plan = TrainingPlan.model_validate(cbor.decode(signed.payload))
    if not signed.hash == plan.hash == campaign:
        raise ServerError("JG-server-405", where=Kind.PLAN.noun, found=signed.hash, expected=campaign)
    return Proposal(told["envelope"], plan, signed.operator.person)


def sign_approval(desk: Desk, proposed: Proposal, key: Identity, now: datetime) -> bytes:
    """The plan with one more signature, that of another person.

    Raises:
        SiteError: JG-site-110..118, a key that may not approve, above all the proposer's own.
    """
    listed = staff(desk, now)
    refuse_own(proposed.envelope, listed, key, now)
    envelope = countersign(proposed.envelope, Kind.PLAN, key)
    verify_plan(envelope, listed, now)
    return envelope


def next_roster(
    desk: Desk,
    now: datetime,
    *,
    confirm: Sequence[str] = (),
    suspend: Sequence[str] = (),
    revoke: Sequence[str] = (),
) -> Roster:
    """The roster that is to follow, not signed yet, which changes nothing that was not named but node keys.

    Raises:
        ServerError: JG-server-321 and 419 as `Members.next_roster`; JG-server-411, the server changed something else.
        SiteError: JG-site-110..118, the roster that it follows.
    """
    told = desk.ask("roster", confirm=list(confirm), suspend=list(suspend), revoke=list(revoke))
    roster, held = Roster.parse(told["payload"]), desk.ask("members")["roster"]
    before = Roster.parse(staff(desk, now).open(held, Kind.ROSTER, _ROSTER_ROLES, now)[0]).sites if held else {}

    def who(site: RosterSite | None) -> tuple[str, str] | None:
        return None if site is None else (site.identity, site.status)

    changed = {name for name in {*before, *roster.sites} if who(before.get(name)) != who(roster.sites.get(name))}
    if strange := sorted(changed - {*confirm, *suspend, *revoke}):
        raise ServerError("JG-server-411", where="roster", problem=f"it changes what nobody named: {strange}")
    return roster


def export(desk: Desk, file: Path) -> Report:
    """Write the audit log to a file that is whole and verified, or not there.

    Raises:
        ServerError: JG-server-430..436, a log that does not hold; JG-server-401, another server's.
    """
    page = desk.ask("audit")
    lines, upto, after = list(page["lines"]), page["upto"], page["next"]
    while after is not None:
        page = desk.ask("audit", after=after, upto=upto)
        lines += page["lines"]
        after = page["next"]
    text = "".join(f"{line}\n" for line in lines)
    key = _audit_key(lines[0], desk.fingerprint)
    report = verify(lines, key)
    write_whole(file, text.encode())
    return report


def staff(desk: Desk, now: datetime) -> Staff:
    """The staff list in force, by the root that this desk knows.

    Raises:
        SiteError: JG-site-110..119 and 125 as `Trust.staff`.
    """
    return Trust(desk.root, desk.ask("members")["staff"]).staff(now)


def _audit_key(statement: str, expected: str) -> Any:
    """The key of an export's first line, if it has the fingerprint that is known here."""
    try:
        key = identity_from_text(json.loads(statement)["key"])
    except (ValueError, KeyError, TypeError):
        raise ServerError("JG-server-430", where="line 1", problem="no key in it") from None
    if fingerprint(key) != expected:
        raise ServerError("JG-server-401", where="audit", found=fingerprint(key), expected=expected)
    return key


def _command(
    desk: Desk, right: Right, subject: str, key: Identity, arguments: Arguments | None, attachment: bytes
) -> bytes:
    try:
        return signed_command(right, subject, desk.fingerprint, key, _now(), arguments=arguments, attachment=attachment)
    except ValueError:
        raise ServerError("JG-server-409", where=str(right), problem="too long, or control characters in it") from None


def _read(told: object) -> Answer:
    """An answer's map.

    Raises:
        JanginError: it is a refusal.
    """
    match told:
        case {"refused": refusal}:
            raise raised(refusal)
        case dict():
            return told
        case _:
            return {}


def _within(stream: Any, seconds: float) -> Iterator[bytes]:
    """The messages of a stream.

    Raises:
        queue.Empty: none came for so long.
    """
    given: queue.Queue[tuple[bytes | None, Exception | None]] = queue.Queue(maxsize=100)

    def read() -> None:
        try:
            for raw in stream:
                given.put((raw, None))
            given.put((None, None))
        except Exception as error:  # noqa: BLE001 - it is raised where the messages are wanted
            given.put((None, error))

    threading.Thread(target=read, name="watch", daemon=True).start()
    while True:
        raw, error = given.get(timeout=seconds)
        if error is not None:
            raise error
        if raw is None:
            return
        yield raw
