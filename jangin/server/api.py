r"""The site API, /v1/jangin/*: what a site may ask beside its messages, each request signed by its identity.

A request is a POST of canonical CBOR with four headers; the signature covers

    "jangin/api" 0x00 method \n path \n sha256(body) \n time \n nonce \n site

and beside them stands which version of the protocol the site speaks; one of version 1 does not say it.

The law: nothing is done for another version than this one and the one before, nor before clock, signature and nonce
have passed, in this order; a site is known by its key on the roster in force, and before that only by its token; every
refusal has its code. Nonces are remembered for as long as their time passes, in memory, so many of each site: a restart
forgets them, and every request here may safely be done twice. What the database says of roster and campaigns is
believed for a second. How many may ask who have not signed is flower_link/bounds.py's affair.

| status | JG-server- |
|---|---|
| 400 | 310 not of this form |
| 401 | 311 clock, 312 nonce, 313 unknown site, 314 signature |
| 403 | 101..103 and 315..319: not for this site; 440..448: no such model for it; JG-site-410, another version |
| 404, 405, 413 | 310 no such path, not a POST, too large |
| 429 | 490 too many from one address, 491 too many enrolments that failed, 492 too many of one site; Retry-After |
| 503 | 464 the database is away |
"""

import asyncio
import logging
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import Any, Generic, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jangin.codec import cbor
from jangin.errors import JanginError, ServerError, SiteError
from jangin.flower_link.bounds import CALLER, Caller
from jangin.server.database import AWAY
from jangin.server.life import told
from jangin.server.members import Members
from jangin.server.registry import Registry
from jangin.server.store import CampaignRow, Store
from jangin.trust.approvals import Approval, verify_approval
from jangin.trust.commitments import verify_commitment
from jangin.trust.envelope import Kind, peek
from jangin.trust.keys import identity_from_text, node_key_from_text
from jangin.trust.requests import signed_bytes
from jangin.trust.roster import SITE_ID, Roster, Status
from jangin.version import PROTOCOL

__all__ = ["MAX_SKEW_SECONDS", "MOST_BODY_BYTES", "MOST_MODELS", "SiteApi"]

MAX_SKEW_SECONDS = 300
MOST_BODY_BYTES = 65_536
MOST_MODELS = 1000

_FIRST_PROTOCOL = "1"
_PATH = re.compile(r"/v1/jangin/(enroll|campaigns|approve|commit|renew|ack|models|model)")
_POLLS_A_SECOND = 60
_THREADS = 8
_LEAST_POLL_S, _MOST_POLL_S = 0.2, 30.0
_POLLING = timedelta(seconds=120)
_REMEMBERED = timedelta(seconds=2 * MAX_SKEW_SECONDS + 1)  # the clock counts whole seconds
_MOST_NONCES = 4096
_TOO_MANY = 429
_STATUS = {"310": 400, "311": 401, "312": 401, "313": 401, "314": 401, "492": _TOO_MANY}

V = TypeVar("V")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Request:
    """A request whose form is right."""

    path: str
    what: str
    body: bytes
    value: Mapping[str, object]
    site: str
    time: str
    nonce: str
    signature: bytes

    @classmethod
    def of(cls, path: str, headers: Mapping[str, str], body: bytes) -> "_Request":
        given = _PATH.fullmatch(path)
        if given is None:
            raise _malformed("no such path")
        site, time, nonce, signature = (
            headers.get(f"x-jangin-{name}", "") for name in ("site", "time", "nonce", "signature")
        )
        if not re.fullmatch(SITE_ID, site):
            raise _malformed("X-Jangin-Site is not a site's id")
        spoken = headers.get("x-jangin-protocol", _FIRST_PROTOCOL)
        if not re.fullmatch(r"[0-9]{1,4}", spoken):
            raise _malformed("X-Jangin-Protocol is not a number")
        if int(spoken) not in (PROTOCOL - 1, PROTOCOL):
            raise SiteError("JG-site-410", where=site, theirs=int(spoken), before=PROTOCOL - 1, ours=PROTOCOL)
        if not re.fullmatch(r"[0-9]{1,12}", time):
            raise _malformed("X-Jangin-Time is not a number of seconds")
        if not re.fullmatch(r"[0-9a-f]{32}", nonce):
            raise _malformed("X-Jangin-Nonce is not 32 hex digits")
        if not re.fullmatch(r"[0-9a-f]{128}", signature):
            raise _malformed("X-Jangin-Signature is not 128 hex digits")
        try:
            value = cbor.decode(body)
        except ValueError:
            raise _malformed("the body is not canonical CBOR") from None
        if not isinstance(value, dict):
            raise _malformed("the body is not a map")
        return cls(path, given[1], body, value, site, time, nonce, bytes.fromhex(signature))

    def holds(self, key: Ed25519PublicKey) -> bool:
        """Whether the signature is by this key."""
        text = signed_bytes("POST", self.path, self.body, self.time, self.nonce, self.site)
        try:
            key.verify(self.signature, text)
        except InvalidSignature:
            return False
        return True


class SiteApi:
    """The ASGI application; `answer` is all of it without a socket."""

    def __init__(
        self,
        store: Store,
        members: Members,
        registry: Registry,
        *,
        idle_poll_s: float,
        clock: Callable[[], datetime],
        believed_s: float = 1.0,
        leads: Callable[[CampaignRow], bool] = lambda row: True,
    ) -> None:
        """Take what it answers from.

        Args:
            store: the database.
            members: staff and rosters in it.
            registry: models in it.
            idle_poll_s: the shortest wait of an idle site.
            clock: aware times.
            believed_s: for so long what the database said of the roster and of what runs is not asked again.
            leads: which campaigns sites hear of here.
        """
        self._store, self._members, self._registry, self._leads = store, members, registry, leads
        self._idle_poll_s, self._clock = idle_poll_s, clock
        # Of its own: where the database lets them wait, messages have theirs.
        self._threads = ThreadPoolExecutor(_THREADS, "jangin-site-api")
        self._lock = threading.Lock()
        self._nonces: dict[str, dict[str, datetime]] = {}
        self._polled: dict[str, datetime] = {}
        self._in_force = _Lately(lambda: members.roster(clock()), believed_s)
        self._active = _Lately(store.active, believed_s)

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        """Answer one HTTP request; what takes time runs in a thread."""
        body, more = b"", True
        while more and len(body) <= MOST_BODY_BYTES:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body, more = body + event.get("body", b""), event.get("more_body", False)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        answering = partial(self._answer, scope["method"], scope["path"], headers, body)
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, answering)
        caller: Caller | None = scope.get("extensions", {}).get(CALLER)
        if caller is not None and answer.signed:
            caller.vouch()
        sent = [(b"content-type", b"application/cbor"), (b"content-length", str(len(answer.body)).encode())]
        sent += [(b"connection", b"close")] if more else []
        sent += [(b"retry-after", str(answer.wait).encode())] if answer.wait else []
        await send({"type": "http.response.start", "status": answer.status, "headers": sent})
        await send({"type": "http.response.body", "body": answer.body})

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """The status and body that answer a request.

        Args:
            method: as the request has it.
            path: without host and query.
            headers: by lower-case names.
            body: at most `MOST_BODY_BYTES`; more is refused.
        """
        answer = self._answer(method, path, headers, body)
        return answer.status, answer.body

    def _answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> "_Answer":
        if len(body) > MOST_BODY_BYTES:
            return _Answer(413, _refusal(_malformed(f"the body has more than {MOST_BODY_BYTES} bytes")))
        if method != "POST":
            return _Answer(405, _refusal(_malformed("only POST is answered")))
        if not _PATH.fullmatch(path):
            return _Answer(404, _refusal(_malformed("no such path")))
        now, signed = self._clock(), False
        try:
            request = _Request.of(path, headers, body)
            roster = self._let_in(request, now)
            signed = roster is not None
            value = self._enroll(request, now) if roster is None else self._done(request, roster, now)
            return _Answer(200, cbor.encode(value), signed)
        except JanginError as refused:
            site = headers.get("x-jangin-site", "")
            _log.info("Refused %s of %.63r: %s", path, site, refused.code)
            status = _STATUS.get(refused.code[-3:], 403)
            wait = int(str(refused.coded.values["seconds"])) if status == _TOO_MANY else 0
            return _Answer(status, _refusal(refused), signed, wait)
        except AWAY:  # of which `serve` says why
            return _Answer(503, _refusal(ServerError("JG-server-464")), signed, 0)

    def _let_in(self, request: _Request, now: datetime) -> Roster | None:
        """The roster in force, by which clock, signature and nonce have passed; None for who asks to join."""
        seconds = int(request.time) - int(now.timestamp())
        if abs(seconds) > MAX_SKEW_SECONDS:
            raise ServerError("JG-server-311", where=request.site, seconds=seconds, most=MAX_SKEW_SECONDS)
        if request.what == "enroll":
            return None
        roster = self._roster(request.site)
        _check_signature(request, roster.sites[request.site].public)
        self._use_up(request, now)
        return roster

    def _done(self, request: _Request, roster: Roster, now: datetime) -> dict[str, object]:
        """What a site that signed has asked for."""
        match request.what:
            case "campaigns":
                _fields(request.value)
                return self._campaigns(request.site)
            case "approve":
                (approval,) = _fields(request.value, approval=bytes)
                return self._approve(request.site, approval, roster, now)
            case "commit":
                (commitment,) = _fields(request.value, commitment=bytes)
                return self._commit(request.site, commitment, roster.sites[request.site].public)
            case "renew":
                (node_key,) = _fields(request.value, node_key=str)
                return self._renew(request.site, node_key, now)
            case "ack":
                _fields(request.value)
                return self._ack(request.site, now)
            case "models":
                _fields(request.value)
                return self._models(request.site)
            case "model":
                line, version, file, offset = _fields(request.value, line=str, version=int, file=str, offset=int)
                return {"piece": self._registry.piece(request.site, line, version, file, offset)}
            case _:
                raise _malformed("no such path")

    def _enroll(self, request: _Request, now: datetime) -> dict[str, object]:
        token, identity, node_key = _fields(request.value, token=str, identity=str, node_key=str)
        try:
            key, _ = identity_from_text(identity), node_key_from_text(node_key)
        except ValueError as error:
            raise _malformed(str(error)) from None
        _check_signature(request, key)
        confirmed = self._members.enroll(request.site, token, identity, node_key, now)
        self._use_up(request, now)
        staff, roster = self._members.documents() if confirmed else (None, None)
        return {"status": "confirmed" if confirmed else "waiting", "staff": staff, "roster": roster}

    def _campaigns(self, site: str) -> dict[str, object]:
        staff, roster = self._members.documents()
        campaigns = [
            {"plan": campaign.envelope, "state": state, "approved": approved}
            for campaign, approved in self._store.campaigns_of(site)
            if (state := told(campaign.state)) is not None and self._leads(campaign)
        ]
        commitment = self._store.commitment(site)
        return {"staff": staff, "roster": roster, "campaigns": campaigns, "commitment": commitment}

    def _approve(self, site: str, envelope: bytes, roster: Roster, now: datetime) -> dict[str, object]:
        try:
            plan = Approval.parse(peek(envelope, Kind.APPROVAL)).plan
        except (ValueError, SiteError):
            raise _malformed("the approval is none") from None
        approval = verify_approval(envelope, roster, site, plan, now)
        if approval.plan not in {
            campaign.hash for campaign, _ in self._store.campaigns_of(site) if told(campaign.state)
        }:
            raise ServerError("JG-server-317", where=site, campaign=approval.plan)
        self._store.approve(approval.plan, site, envelope)
        return {"approved": True}

    def _commit(self, site: str, envelope: bytes, key: Ed25519PublicKey) -> dict[str, object]:
        """Keep what a site's ledger has come to; one that goes back is refused, and said in the log."""
        try:
            given = verify_commitment(envelope, site, key)
        except SiteError as error:
            raise _malformed(str(error.coded).removesuffix(".")) from None
        if not self._store.commit(site, given.entries, given.head, envelope):
            _log.warning("Site %s showed a ledger that does not go on from the one before.", site)
            raise ServerError("JG-server-319", where=site, entries=given.entries)
        return {"committed": True}

    def _renew(self, site: str, node_key: str, now: datetime) -> dict[str, object]:
        try:
            node_key_from_text(node_key)
        except ValueError as error:
            raise _malformed(str(error)) from None
        self._members.renew(site, node_key, now)
        return {"renewed": True}

    def _ack(self, site: str, now: datetime) -> dict[str, object]:
        """When to ask again: about sixty polls a second in all, whatever the number of sites."""
        with self._lock:
            self._polled.pop(site, None)
            self._polled[site] = now
            _drop_until(now - _POLLING, self._polled)
            polling = len(self._polled)
        active = self._active()
        if site in active:
            return {"next_poll_s": min(max(len(active) / _POLLS_A_SECOND, _LEAST_POLL_S), _MOST_POLL_S)}
        return {"next_poll_s": max(self._idle_poll_s, polling / _POLLS_A_SECOND)}

    def _models(self, site: str) -> dict[str, object]:
        """The staff list, and what was ever released to a site: the newest versions, where they are too many."""
        models = [
            {"manifest": one.release, "aliases": [str(alias) for alias in one.aliases], "withdrawal": one.withdrawal}
            for one in self._registry.offers(site)
        ]
        return {"staff": self._members.documents()[0], "models": models[-MOST_MODELS:]}

    def _roster(self, site: str) -> Roster:
        """The roster in force, if it has the site as active."""
        try:
            roster = self._in_force()
        except SiteError:  # of which `serve` has said why
            raise ServerError("JG-server-313", where=site) from None
        if site not in roster.sites or roster.sites[site].status is not Status.ACTIVE:
            raise ServerError("JG-server-313", where=site)
        return roster

    def _use_up(self, request: _Request, now: datetime) -> None:
        """Take a nonce, which a site may do so often while it would still count: none is forgotten before."""
        with self._lock:
            used = self._nonces.setdefault(request.site, {})
            _drop_until(now - _REMEMBERED, used)
            if request.nonce in used:
                raise ServerError("JG-server-312", where=request.site)
            if len(used) >= _MOST_NONCES:
                wait = next(iter(used.values())) + _REMEMBERED - now
                raise ServerError("JG-server-492", where=request.site, seconds=ceil(wait.total_seconds()))
            used[request.nonce] = now


@dataclass(frozen=True)
class _Answer:
    """What a request is answered with, whether a site's signature was found good, and how long it is to wait."""

    status: int
    body: bytes
    signed: bool = False
    wait: int = 0


class _Lately(Generic[V]):
    """What was read, for so many seconds; then it is read again. What could not be read is tried anew each time."""

    def __init__(self, read: Callable[[], V], seconds: float) -> None:
        self._read, self._seconds = read, seconds
        self._lock = threading.Lock()
        self._held: tuple[float, V] | None = None

    def __call__(self) -> V:
        with self._lock:
            if self._held is None or time.monotonic() >= self._held[0] + self._seconds:
                self._held = time.monotonic(), self._read()
            return self._held[1]


def _check_signature(request: _Request, key: Ed25519PublicKey) -> None:
    if not request.holds(key):
        raise ServerError("JG-server-314", where=request.site)


def _drop_until(end: datetime, times: dict[str, datetime]) -> None:
    """Drop what came at `end` or before it; the oldest are first."""
    while times and next(iter(times.values())) <= end:
        del times[next(iter(times))]


def _fields(value: Mapping[str, object], **kinds: type) -> tuple[Any, ...]:
    """The values of exactly these keys, each of its kind."""
    if set(value) != set(kinds):
        raise _malformed(f"expected the keys {', '.join(kinds) or '(none)'}")
    for name, kind in kinds.items():
        if not isinstance(value[name], kind):
            raise _malformed(f"{name} is not {kind.__name__}")
    return tuple(value[name] for name in kinds)


def _malformed(problem: str) -> ServerError:
    return ServerError("JG-server-310", problem=problem)


def _refusal(error: JanginError) -> bytes:
    coded = error.coded.as_dict()
    return cbor.encode({"code": coded["code"], "message": coded["message"], "hint": coded["hint"]})
