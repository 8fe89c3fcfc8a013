"""`GET /health` and `GET /metrics` on 127.0.0.1, for the factory's own monitor; only where site.yaml names a port.

HTTP/1.1 (RFC 9112), one request a connection; the text exposition format of Prometheus, version 0.0.4. The law: nobody
beyond this machine is answered; a request has 2 s and 4 KiB, and only one is answered at a time; what is told is a
`Health`, which has counts, ages and states.
"""

import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from jangin.client.pulse import Health, State
from jangin.errors import JanginError, SiteError
from jangin.version import PROTOCOL, __version__

__all__ = ["Monitor", "metrics"]

_HOST: Final = "127.0.0.1"
_SECONDS: Final = 2.0
_MOST_BYTES: Final = 4096
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_JSON: Final = "application/json"
_WAITING: Final = 8
_REQUEST: Final = re.compile(rb"([A-Z]+) (/[^ ?]*)(?:\?[^ ]*)? HTTP/1\.[01]\r\n")
_LOCAL: Final = re.compile(rb"\r\nhost:[ \t]*(127\.0\.0\.1|localhost)(:[0-9]+)?[ \t]*\r\n", re.IGNORECASE)
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    421: "Misdirected Request",
    503: "Service Unavailable",
}


class Monitor(threading.Thread):
    """Answers one request after the other; a context manager."""

    def __init__(self, port: int, look: Callable[[], Health]) -> None:
        """Listen.

        Args:
            port: of 127.0.0.1; 0: any, for tests.
            look: how the daemon is; may raise a JanginError or an OSError.

        Raises:
            SiteError: JG-site-420, the port cannot be had.
        """
        super().__init__(name="jangin-monitor", daemon=True)
        self._look, self._ended = look, threading.Event()
        try:
            self._listener = socket.create_server((_HOST, port), backlog=_WAITING)
        except OSError as error:
            raise SiteError("JG-site-420", where=str(port), problem=error.strerror or type(error).__name__) from None

    @property
    def port(self) -> int:
        """On which it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        """Begin to answer."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Listen no more."""
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.join(2 * _SECONDS)

    def run(self) -> None:
        """Answer until the listener is closed; where only this process' descriptors are short, wait for one."""
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                self._ended.wait(_SECONDS)
                continue
            with connection, suppress(OSError):
                head = _head(connection)
                connection.settimeout(_SECONDS)
                connection.sendall(self._answer(head))

    def _answer(self, head: bytes) -> bytes:
        asked = _REQUEST.match(head)
        if asked is None or not head.endswith(b"\r\n\r\n"):
            return _response(400)
        if not _LOCAL.search(head):  # a page of somebody else's, whose name was led here
            return _response(421)
        if asked[2] not in (b"/health", b"/metrics"):
            return _response(404)
        if asked[1] != b"GET":
            return _response(405)
        try:
            health = self._look()
        except (JanginError, OSError) as error:
            code = error.code if isinstance(error, JanginError) else "JG-site-305"
            return _response(503, _JSON, json.dumps({"state": "failed", "code": code}))
        if asked[2] == b"/metrics":
            return _response(200, _TEXT, metrics(health))
        told = {"version": __version__, "protocol": PROTOCOL, **health.model_dump(mode="json")}
        return _response(200 if health.state is State.OK else 503, _JSON, json.dumps(told))


def metrics(health: Health) -> str:
    """The same in Prometheus' text."""
    return "".join(f"{line}\n" for line in _metrics(health))


def _metrics(health: Health) -> Iterator[str]:
    told = {state.value: int(health.state is state) for state in State}
    yield from _family("jangin_site_info", "gauge", "Version.", {f'version="{__version__}",protocol="{PROTOCOL}"': 1})
    yield from _family("jangin_site_state", "gauge", "1 for how the daemon is.", _labelled("state", told))
    if health.heard_s is not None:
        yield from _family("jangin_site_heard_seconds", "gauge", "Age of the server's last answer.", health.heard_s)
    if health.roster_s is not None:
        yield from _family("jangin_site_roster_seconds", "gauge", "How long the roster holds.", health.roster_s)
    yield from _family("jangin_site_working", "gauge", "Orders that the worker has.", health.working)
    yield from _family("jangin_site_paused", "gauge", "1 while a person has it paused.", int(health.paused))
    yield from _family("jangin_site_disk_free_bytes", "gauge", "Free beside the state folder.", health.disk_free)
    yield from _family("jangin_site_rounds", "gauge", "Rounds by where they stand.", _labelled("state", health.rounds))
    name, what = "jangin_site_abstentions_total", "Refusals by what the server was told."
    yield from _family(name, "counter", what, _labelled("told", health.abstentions))
    messages = {kind: count.messages for kind, count in health.egress.items()}
    size = {kind: count.bytes for kind, count in health.egress.items()}
    name, what = "jangin_site_egress_messages_total", "Messages in the egress log."
    yield from _family(name, "counter", what, _labelled("kind", messages))
    name, what = "jangin_site_egress_bytes_total", "Bytes in the egress log."
    yield from _family(name, "counter", what, _labelled("kind", size))
    yield from _family("process_cpu_seconds_total", "counter", "Processor time.", round(time.process_time(), 2))
    resident = _resident_bytes()
    if resident is not None:
        yield from _family("process_resident_memory_bytes", "gauge", "Resident memory.", resident)


def _family(name: str, kind: str, what: str, values: float | Mapping[str, float]) -> Iterator[str]:
    """One metric: its help, its type, and a line for each of its labels."""
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} {kind}"
    if isinstance(values, Mapping):
        yield from (f"{name}{{{labels}}} {value}" for labels, value in values.items())
    else:
        yield f"{name} {values}"


def _labelled(label: str, values: Mapping[str, int]) -> dict[str, float]:
    """Values under one label; its words are ours, and need no escape."""
    return {f'{label}="{word}"': value for word, value in sorted(values.items())}


def _resident_bytes() -> int | None:
    """Resident memory of this process; None where there is no /proc (5)."""
    if sys.platform != "linux":
        return None
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _head(connection: socket.socket) -> bytes:
    """A request's head, or as much of it as came in time and is not too long."""
    held, until = b"", time.monotonic() + _SECONDS
    while not held.endswith(b"\r\n\r\n") and len(held) < _MOST_BYTES and (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        piece = connection.recv(_MOST_BYTES - len(held))
        if not piece:
            break
        held += piece
    return held


def _response(status: int, form: str = _TEXT, body: str = "") -> bytes:
    content = body.encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {form}\r\ncontent-length: {len(content)}\r\n"
        "cache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode("ascii") + content
