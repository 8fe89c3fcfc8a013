"""The operators' API: gRPC with mutual TLS, on a listener of its own.

    jangin.server.v1.Operators/Act     {command, attachment}       → {answer} or {refused}
    jangin.server.v1.Operators/Ask     {what, arguments}           → {answer} or {refused}
    jangin.server.v1.Operators/Watch   {campaign, after}           → {at} · {event} · {alive} · {end} or {refused}
    grpc.health.v1.Health/Check, Watch

Messages are canonical CBOR maps; health is gRPC's own protocol. The law: nobody is heard without a certificate of this
server's operators' authority that is in force at this call, over TLS 1.3; calls, their sizes, their rate and the
watchers are bounded; a watcher that does not read is dropped, and one that only listens holds up nobody.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Annotated, Any, Final, Self, TypeVar

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from pydantic import Field, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from jangin.codec import cbor
from jangin.codec.document import Document
from jangin.errors import JanginError, ServerError
from jangin.server.apart import refuse_apart
from jangin.server.members import Members
from jangin.server.office import Answer, Office
from jangin.server.passes import authority
from jangin.server.refusals import told
from jangin.server.settings import StateFolder, write_whole

__all__ = ["MOST_BYTES", "SERVICE", "Bounds", "Operators", "listening"]

SERVICE: Final = "jangin.server.v1.Operators"

MOST_BYTES: Final = 4 * 2**20
"""Of one message, either way."""

_STOP_SECONDS: Final = 3.0
_TLS: Final = b"TLSv1.3"
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MOST_BYTES),
    ("grpc.max_send_message_length", MOST_BYTES),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_idle_ms", 600_000),
)

A = TypeVar("A", bound=Document)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """How much is borne.

    Attributes:
        threads: for calls.
        waiting: calls beyond them, before more are turned away.
        burst: calls of one person at once.
        per_second: calls of one person in the long run.
        watchers: streams in all.
        watchers_each: of one person.
        look_s: between two looks at the audit log.
        alive_s: silence of a stream, at most.
        stalled_s: how long a watcher may leave a message unread.
    """

    threads: int = 4
    waiting: int = 16
    burst: int = 60
    per_second: float = 20.0
    watchers: int = 12
    watchers_each: int = 3
    look_s: float = 0.5
    alive_s: float = 10.0
    stalled_s: float = 30.0


class _Act(Document):
    command: bytes
    attachment: bytes = b""


class _Ask(Document):
    what: Annotated[str, Field(max_length=40)]
    arguments: Annotated[dict[str, Any], Field(default_factory=dict)]


class _Watch(Document):
    campaign: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    after: Annotated[int, Field(ge=-1, lt=2**53)] = -1


class Operators:
    """The listener; a context manager."""

    def __init__(
        self,
        office: Office,
        host: str,
        port: int,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        bounds: Bounds | None = None,
    ) -> None:
        """Bind the port.

        Args:
            office: what is done and answered.
            host: to listen on.
            port: 0 for any that is free.
            clock: aware times.
            bounds: how much is borne.

        Raises:
            ServerError: JG-server-414, it cannot listen.
        """
        self._office, self._clock, self._bounds = office, clock, bounds or Bounds()
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._watchers: dict[int, _Watcher] = {}
        self._buckets: dict[str, _Bucket] = {}
        threads = self._bounds.threads + self._bounds.watchers
        self._pool = ThreadPoolExecutor(threads, "operators")
        self._server = grpc.server(self._pool, options=_OPTIONS, maximum_concurrent_rpcs=threads + self._bounds.waiting)
        methods = {
            "Act": self._method(_Act, lambda asked, person: office.act(asked.command, asked.attachment, person)),
            "Ask": self._method(_Ask, lambda asked, person: office.ask(asked.what, asked.arguments, person)),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watched),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.address = f"{host}:{self._bound(host, port)}"
        self._guard = threading.Thread(target=self._drop_stalled, name="operators-guard", daemon=True)

    def _bound(self, host: str, port: int) -> int:
        state = self._office.state
        try:
            pair = state.key.read_bytes(), state.certificate.read_bytes()
            people = authority(state, self._clock()).chain
            credentials = grpc.ssl_server_credentials([pair], root_certificates=people, require_client_auth=True)
            return int(self._server.add_secure_port(f"{host}:{port}", credentials))
        except (RuntimeError, OSError) as error:
            problem = str(error).removesuffix(".")
            raise ServerError("JG-server-414", where=f"{host}:{port}", problem=problem) from None

    def __enter__(self) -> Self:
        """Begin to answer."""
        self._server.start()
        for service in ("", SERVICE):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._guard.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Tell the watchers, and answer no more."""
        self._stop.set()
        self._health.enter_graceful_shutdown()
        self._server.stop(_STOP_SECONDS).wait(2 * _STOP_SECONDS)
        self._pool.shutdown(wait=False)
        self._guard.join(_STOP_SECONDS)

    def _method(self, form: type[A], answer: Callable[[A, str], Answer]) -> Any:
        def called(raw: bytes, context: Any) -> bytes:
            with _refusing() as refusal:
                person = self._asking(context)
                return cbor.encode({"answer": answer(_read(form, raw), person)})
            return cbor.encode(refusal)

        return grpc.unary_unary_rpc_method_handler(called)

    def _asking(self, context: Any) -> str:
        """Whose certificate it is, if that person does not ask too often.

        Raises:
            ServerError: JG-server-407 and 420 as `_person`; 412, too often.
        """
        person, now = self._person(context), time.monotonic()
        with self._lock:
            bucket = self._buckets.setdefault(person, _Bucket(self._bounds.burst, now))
            if not bucket.take(now, self._bounds.per_second, self._bounds.burst):
                raise ServerError("JG-server-412", where=person, rate=int(self._bounds.per_second))
        return person

    def _person(self, context: Any) -> str:
        """Whose certificate it is, if it is in force.

        Raises:
            ServerError: JG-server-407, it has expired since the connection began; 420, another version of TLS.
        """
        known = context.auth_context()
        version = known.get("ssl_tls_version", [b"-"])[0]
        if version != _TLS:
            raise ServerError("JG-server-420", where="TLS", found=version.decode("ascii", "replace"))
        certificate, now = x509.load_pem_x509_certificate(known["x509_pem_cert"][0]), self._clock()
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if now >= certificate.not_valid_after_utc:
            raise ServerError("JG-server-407", where=str(name.value), until=certificate.not_valid_after_utc, now=now)
        return str(name.value)

    def _watched(self, raw: bytes, context: Any) -> Iterator[bytes]:
        with _refusing() as refusal:
            person, wanted = self._asking(context), _read(_Watch, raw)
            with self._seat(person, context) as watcher:
                for message in self._told(wanted, context):
                    yield cbor.encode(message)
                    watcher.touched = time.monotonic()  # only when the message before has left
        if refusal:
            yield cbor.encode(refusal)

    def _told(self, wanted: _Watch, context: Any) -> Iterator[Answer]:
        last = wanted.after if wanted.after >= 0 else self._office.store.database.audit_head()[0]
        spoke = time.monotonic()
        yield {"at": last}
        while context.is_active():
            news = self._office.news(wanted.campaign, last, self._person(context))
            for event in news.events:
                yield {"event": event}
                spoke = time.monotonic()
            last = news.last
            if news.ended:
                yield {"end": "ended"}
                return
            if time.monotonic() - spoke >= self._bounds.alive_s:
                yield {"alive": last}
                spoke = time.monotonic()
            if not news.more and self._stop.wait(self._bounds.look_s):
                yield {"end": "stopping"}
                return

    @contextmanager
    def _seat(self, person: str, context: Any) -> Iterator["_Watcher"]:
        """A place among the watchers.

        Raises:
            ServerError: JG-server-413, there is none.
        """
        watcher = _Watcher(person, context, time.monotonic())
        with self._lock:
            own = sum(other.person == person for other in self._watchers.values())
            if len(self._watchers) >= self._bounds.watchers or own >= self._bounds.watchers_each:
                raise ServerError("JG-server-413", where=person, watching=own)
            self._watchers[id(watcher)] = watcher
        try:
            yield watcher
        finally:
            with self._lock:
                del self._watchers[id(watcher)]

    def _drop_stalled(self) -> None:
        while not self._stop.wait(self._bounds.look_s):
            with self._lock:
                watchers = list(self._watchers.values())
            for watcher in watchers:
                silent = self._bounds.alive_s + self._bounds.stalled_s
                if time.monotonic() - watcher.touched > silent:
                    _log.warning("%s does not read what it watches; dropped.", watcher.person)
                    watcher.context.cancel()


@contextmanager
def listening(state: StateFolder, clock: Callable[[], datetime]) -> Iterator[str]:
    """The operators' listener of a server's folder, where its settings ask for one; its address, else empty.

    Raises:
        ServerError: JG-server-414, it cannot listen; JG-server-303, the database.
    """
    settings = state.settings().operators
    if settings is None:
        yield ""
        return
    store = state.store()
    try:
        office = Office(state, store, Members(store, state.root), refuse=refuse_apart, clock=clock)
        with Operators(office, settings.host, settings.port, clock=clock) as operators:
            write_whole(state.operators, f"{operators.address}\n".encode())
            _log.info("Listening for people on %s.", operators.address)
            try:
                yield operators.address
            finally:
                state.operators.unlink(missing_ok=True)
    finally:
        store.close()


@dataclass
class _Watcher:
    person: str
    context: Any
    touched: float


@dataclass
class _Bucket:
    """Calls that one person may still make; fills with time."""

    left: float
    since: float

    def take(self, now: float, per_second: float, most: float) -> bool:
        self.left, self.since = min(most, self.left + (now - self.since) * per_second), now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@contextmanager
def _refusing() -> Iterator[dict[str, object]]:
    """Within, a refusal ends the block and is put into what this gives."""
    refusal: dict[str, object] = {}
    try:
        yield refusal
    except JanginError as error:
        refusal["refused"] = told(error)
    except SQLAlchemyError as error:
        refusal["refused"] = told(ServerError("JG-server-303", problem=type(error).__name__))
    except Exception:  # noqa: BLE001 - whoever asks hears of a bug, and never its message
        _log.exception("A call ended by a bug.")
        refusal["refused"] = told(JanginError("JG-sim-900", where=SERVICE))


def _read(form: type[A], raw: bytes) -> A:
    """The message.

    Raises:
        ServerError: JG-server-409, another form.
    """
    try:
        return form.model_validate(cbor.decode(raw))
    except (ValidationError, ValueError):
        raise ServerError("JG-server-409", where=form.__name__[1:], problem="another form") from None
