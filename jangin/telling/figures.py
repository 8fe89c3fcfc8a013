"""Pages over HTTP for a monitor: one request a connection, and the text of Prometheus.

HTTP/1.1 (RFC 9112); the text exposition format of Prometheus, version 0.0.4. The law: a request has 2 s and 4 KiB, and
only one is answered at a time; what listens on loopback answers nobody whose name for it is another, so that no web
page reaches it through a browser.
"""

import ipaddress
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
from typing import Final, NamedTuple, Self

__all__ = ["JSON", "TEXT", "Page", "Pages", "family", "labelled", "process"]

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
JSON: Final = "application/json"

_SECONDS: Final = 2.0
_MOST_BYTES: Final = 4096
_WAITING: Final = 8
_REQUEST: Final = re.compile(rb"([A-Z]+) (/[^ ?]*)(?:\?[^ ]*)? HTTP/1\.[01]\r\n")
_LOCAL: Final = re.compile(rb"\r\nhost:[ \t]*(127\.0\.0\.1|\[::1\]|localhost)(:[0-9]+)?[ \t]*\r\n", re.IGNORECASE)
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    421: "Misdirected Request",
    503: "Service Unavailable",
}


class Page(NamedTuple):
    """An answer: its status, the form of its body, and that."""

    status: int
    form: str
    body: str


class Pages(threading.Thread):
    """Answers one request after the other; a context manager."""

    def __init__(self, host: str, port: int, pages: Mapping[str, Callable[[], Page]]) -> None:
        """Listen.

        Args:
            host: an address of this machine.
            port: 0: any that is free.
            pages: by their paths, made anew for each request.

        Raises:
            OSError: the port cannot be had.
        """
        super().__init__(name="jangin-monitor", daemon=True)
        self._pages = {path.encode("ascii"): page for path, page in pages.items()}
        self._loopback, self._ended = _loopback(host), threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=_WAITING)

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
                connection.sendall(_response(self._answer(head)))

    def _answer(self, head: bytes) -> Page:
        asked = _REQUEST.match(head)
        if asked is None or not head.endswith(b"\r\n\r\n"):
            return Page(400, TEXT, "")
        if self._loopback and not _LOCAL.search(head):  # a page of somebody else's, whose name was led here
            return Page(421, TEXT, "")
        if asked[2] not in self._pages:
            return Page(404, TEXT, "")
        if asked[1] != b"GET":
            return Page(405, TEXT, "")
        return self._pages[asked[2]]()


def family(name: str, kind: str, what: str, values: float | Mapping[str, float]) -> Iterator[str]:
    """One metric: its help, its type, and a line for each of its labels."""
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} {kind}"
    if isinstance(values, Mapping):
        yield from (f"{name}{{{labels}}} {value}" for labels, value in values.items())
    else:
        yield f"{name} {values}"


def labelled(label: str, values: Mapping[str, float]) -> dict[str, float]:
    """Values under one label; its words are ours, and need no escape."""
    return {f'{label}="{word}"': value for word, value in sorted(values.items())}


def process() -> Iterator[str]:
    """What this process takes of the machine."""
    yield from family("process_cpu_seconds_total", "counter", "Processor time.", round(time.process_time(), 2))
    resident = _resident_bytes()
    if resident is not None:
        yield from family("process_resident_memory_bytes", "gauge", "Resident memory.", resident)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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


def _response(page: Page) -> bytes:
    content = page.body.encode()
    head = (
        f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\ncontent-type: {page.form}\r\n"
        f"content-length: {len(content)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode("ascii") + content
