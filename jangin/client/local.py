"""The daemon's local API: gRPC on the unix socket `daemon.sock` of the state folder, for this site's own commands.

    jangin.site.v1.Site/Status   {}                       → a `Health`
    jangin.site.v1.Site/Pause    {"until": "17:30"}       → {"since", "until", "running": [[campaign, round], ...]}
    jangin.site.v1.Site/Resume   {}                       → {"since", "until"} of the pause that held, or nulls
    jangin.site.v1.Site/Look     {}                       → {}; the daemon asks the server at once
    grpc.health.v1.Health/Check

Messages are canonical CBOR maps, as everywhere; health is gRPC's own protocol. The law: only the folder's user can
connect (mode 0600); what is asked is done by the same function that the command calls where no daemon runs; whatever
the socket says, a call ends within 5 s, and one that finds nobody says so.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Annotated, Any, Final, Self, TypeVar
from urllib.parse import quote

import grpc
from grpc_health.v1 import health_pb2
from pydantic import Field, ValidationError

from jangin.client import limits
from jangin.client.limits import Paused
from jangin.client.pulse import Health, State
from jangin.client.state import Pause
from jangin.codec import cbor
from jangin.codec.document import Document
from jangin.errors import JanginError, SiteError

__all__ = ["SOCKET", "LocalApi", "health", "look_again", "pause", "resume"]

SOCKET: Final = "daemon.sock"

_SERVICE: Final = "jangin.site.v1.Site"
_HEALTH: Final = "grpc.health.v1.Health"
_LONGEST_PATH: Final = 100
"""Bytes of a socket's name: unix(7) has room for 107."""

_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 1.0
_MOST_BYTES: Final = 2**20
_THREADS: Final = 2
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MOST_BYTES),
    ("grpc.max_send_message_length", _MOST_BYTES),
    ("grpc.enable_http_proxy", 0),
)

A = TypeVar("A", bound=Document)

Method = Callable[[bytes], bytes]


class _Nothing(Document):
    pass


class _Until(Document):
    until: Annotated[str, Field(max_length=100)]


class _Held(Document):
    since: datetime | None
    until: datetime | None
    running: tuple[tuple[str, int], ...] = ()

    @property
    def pause(self) -> Pause | None:
        return None if self.since is None else Pause(self.since, self.until)


class _Refused(Document):
    code: str
    where: str
    values: Mapping[str, str]


class LocalApi:
    """The daemon's side; a context manager. Its threads touch the folder, never what the loop owns."""

    def __init__(
        self, folder: Path, look: Callable[[], Health], again: Callable[[], None], clock: Callable[[], datetime]
    ) -> None:
        """Bind the socket; whoever calls holds the folder's lock, so one that lies there is a dead daemon's.

        Args:
            folder: the state folder.
            look: how the daemon is.
            again: has the loop ask the server at once.
            clock: the time, aware.

        Raises:
            SiteError: JG-site-421, the socket cannot be had.
        """
        self._file = folder / SOCKET

        def status(_: _Nothing) -> Document:
            return look()

        def pause(asked: _Until) -> Document:
            held = limits.pause(folder, asked.until, clock())
            return _Held(since=held.pause.since, until=held.pause.until, running=held.running)

        def resume(_: _Nothing) -> Document:
            held = limits.resume(folder, clock())
            return _Held(since=held and held.since, until=held and held.until)

        def look_again(_: _Nothing) -> Document:
            again()
            return _Nothing()

        def check(raw: bytes, context: Any) -> bytes:
            if health_pb2.HealthCheckRequest.FromString(raw).service not in ("", _SERVICE):
                context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
            serves = look().state is State.OK
            kinds = health_pb2.HealthCheckResponse
            return bytes(kinds(status=kinds.SERVING if serves else kinds.NOT_SERVING).SerializeToString())

        site = {
            "Status": _method(_Nothing, status),
            "Pause": _method(_Until, pause),
            "Resume": _method(_Nothing, resume),
            "Look": _method(_Nothing, look_again),
        }
        self._pool = ThreadPoolExecutor(_THREADS, "jangin-local")
        self._server = grpc.server(self._pool, options=_OPTIONS, maximum_concurrent_rpcs=2 * _THREADS)
        for service, methods in ((_SERVICE, site), (_HEALTH, {"Check": grpc.unary_unary_rpc_method_handler(check)})):
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        self._bind()

    def _bind(self) -> None:
        if os.name != "posix":
            raise SiteError("JG-site-421", where=SOCKET, problem="gRPC has none on this system")
        if len(os.fsencode(self._file.absolute())) > _LONGEST_PATH:
            raise SiteError("JG-site-421", where=SOCKET, problem="the state folder's path is too long")
        try:  # in a folder that nobody else enters until the mode is set; umask would be that of all threads
            with TemporaryDirectory(prefix=".", dir=self._file.parent) as apart:
                bound = Path(apart, "s")
                self._server.add_insecure_port(_address(bound))
                bound.chmod(0o600)
                bound.replace(self._file)
        except (RuntimeError, OSError) as error:
            raise SiteError("JG-site-421", where=SOCKET, problem=str(error).removesuffix(".")) from None

    def __enter__(self) -> Self:
        """Begin to answer."""
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Answer no more, and remove the socket."""
        self._server.stop(_STOP_SECONDS).wait(2 * _STOP_SECONDS)
        self._pool.shutdown()
        with suppress(OSError):
            self._file.unlink(missing_ok=True)


def health(path: Path) -> Health | None:
    """How the daemon of a state folder is; None where none answers.

    Raises:
        SiteError: what the daemon met: JG-site-305, its database.
    """
    return _ask(path, "Status", _Nothing(), Health)


def pause(path: Path, until: str, now: datetime) -> Paused:
    """`limits.pause`, by the daemon where one runs.

    Raises:
        SiteError: JG-site-304, no site here; 388, no time; 389, a time that is over. PlanError: JG-plan-001..006.
    """
    held = _ask(path, "Pause", _Until(until=until[:100]), _Held)
    if held is None or held.pause is None:
        return limits.pause(path, until, now)
    return Paused(held.pause, held.running)


def resume(path: Path, now: datetime) -> Pause | None:
    """`limits.resume`, by the daemon where one runs.

    Raises:
        SiteError: JG-site-304, no site here. PlanError: JG-plan-001..006.
    """
    held = _ask(path, "Resume", _Nothing(), _Held)
    return limits.resume(path, now) if held is None else held.pause


def look_again(path: Path) -> bool:
    """Have the daemon ask the server at once; False where none runs."""
    return _ask(path, "Look", _Nothing(), _Nothing) is not None


def _method(form: type[A], answer: Callable[[A], Document]) -> Any:
    """A method of CBOR maps; a coded refusal is an answer too."""

    def called(raw: bytes, context: Any) -> bytes:
        try:
            asked = form.model_validate(cbor.decode(raw))
        except (ValidationError, ValueError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "another form")
            raise
        try:
            return cbor.encode({"answer": answer(asked).model_dump(mode="json")})
        except JanginError as error:
            values = {name: str(value) for name, value in error.coded.values.items()}
            return cbor.encode({"refused": {"code": error.code, "where": error.coded.where, "values": values}})

    return grpc.unary_unary_rpc_method_handler(called)


def _ask(path: Path, method: str, asked: Document, form: type[A]) -> A | None:
    """What the daemon answers; None where nobody does, or not in this form.

    Raises:
        SiteError: its refusal.
    """
    file = path / SOCKET
    if not file.exists() or len(os.fsencode(file.absolute())) > _LONGEST_PATH:
        return None
    with grpc.insecure_channel(_address(file), options=_OPTIONS) as channel:
        call = channel.unary_unary(f"/{_SERVICE}/{method}")
        try:
            answer = cbor.decode(call(cbor.encode(asked.model_dump(mode="json")), timeout=_SECONDS))
        except (grpc.RpcError, ValueError):
            return None
    with suppress(ValidationError):
        match answer:
            case {"answer": told}:
                return form.model_validate(told)
            case {"refused": told}:
                refused = _Refused.model_validate(told)
                raise SiteError(refused.code, where=refused.where, **refused.values)
    return None


def _address(file: Path) -> str:
    """As gRPC names a unix socket: a URI."""
    return f"unix://{quote(str(file.absolute()))}"
