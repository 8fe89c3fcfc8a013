"""The one listener: uvicorn's HTTP over TLS, with connections that are counted from the moment they are accepted.

The law: a connection is a stranger's until a request on it was signed by a registered site, and a stranger has little:
a place among so many, where the newest drives out the oldest; a handful of seconds in all, however slowly it sends;
one request after another, with a head of bounded size. Whom an address has too many of is closed before TLS. Of a
site's own connections the newest count.
"""

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jangin.flower_link.bounds import Bounds, Turnstile, address_of
from jangin.memory import give_back

__all__ = ["CONNECTION", "Connection", "Listener"]

CONNECTION: Final = "jangin.connection"
"""Under which extension of its ASGI scope a request finds its `Connection`."""

_PAUSE_SECONDS = 0.2
_MOST_DESCRIPTORS = 65_536
_LARGE_BYTES = 2**17  # below uvloop's buffer of each connection, 256 KiB, which goes with the connection
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s

_log = logging.getLogger(__name__)


class Connection(HttpToolsProtocol):
    """One connection; `scope["extensions"][CONNECTION]` of its requests.

    Attributes:
        address: where it comes from.
        site: which registered site has signed on it; empty while none has.
        carried: bytes of bodies, both ways. TLS and the loop keep buffers as large as these ever were, up to 1 MiB.
    """

    def __init__(self, entrance: "_Entrance", address: str, **uvicorns: Any) -> None:
        """Take the entrance it came through, where from, and what uvicorn gives a connection."""
        super().__init__(**uvicorns)
        self.address = address
        self._entrance, self._bounds = entrance, entrance.bounds
        self.site, self.carried = "", 0
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes: int | None = 0

    def vouch(self, site: str) -> None:
        """A registered site has signed a request on this connection."""
        if not self.site:
            self.site = site
            self.timeout_keep_alive = self._bounds.idle_seconds  # type: ignore[assignment]  # asyncio takes fractions
            self._set_deadline(self._bounds.request_seconds)
            self._entrance.known(self)

    def connection_made(self, transport: Any) -> None:
        """The handshake is done."""
        super().connection_made(transport)
        self._set_deadline(self._bounds.stranger_seconds)
        self._entrance.strange(self, self.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, by whomever."""
        super().connection_lost(exc)
        self._set_deadline(None)
        self._entrance.left(self)

    def data_received(self, data: bytes) -> None:
        """Read on; a head that does not end is not kept."""
        if self._head_bytes is not None:
            if self._head_bytes > self._bounds.head_bytes:
                self.abort()
                return
            self._head_bytes += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head_bytes = 0
        self.scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item]  # ours is no dictionary
        if self.site:
            self._set_deadline(self._bounds.request_seconds)

    def on_headers_complete(self) -> None:
        """A request's head is whole; none may come before the one before it is answered."""
        self._head_bytes = None
        if self.cycle is not None and not self.cycle.response_complete:
            self.abort()
        elif not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a request's body."""
        self.carried += len(body)
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._head_bytes = 0
        if not self.transport.is_closing():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """A request is answered."""
        if self.site:
            self._set_deadline(None)
        super().on_response_complete()

    def abort(self) -> None:
        """Close it now."""
        self.transport.abort()

    def _set_deadline(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.abort)


class _Entrance:
    """Accepts connections; for uvicorn it is an `asyncio.Server`."""

    def __init__(self, bounds: Bounds, turnstile: Turnstile, listener: socket.socket, ssl: Any) -> None:
        self.bounds = bounds
        self._turnstile, self._listener, self._ssl = turnstile, listener, ssl
        self._strangers: dict[object, Callable[[], object]] = {}
        self._sites: dict[str, dict[Connection, None]] = {}
        self._accepting: asyncio.Task[None] | None = None
        self._welcoming: set[asyncio.Task[None]] = set()

    def open(self, make: Callable[..., Connection]) -> None:
        """Accept from now on; `make` makes a connection for an address."""
        self._listener.setblocking(False)
        self._accepting = asyncio.get_running_loop().create_task(self._accept(make))

    def close(self) -> None:
        """Accept no more."""
        for task in (self._accepting, *self._welcoming):
            if task is not None:
                task.cancel()

    async def wait_closed(self) -> None:
        """Until no handshake is under way."""
        await asyncio.gather(*self._welcoming, return_exceptions=True)

    def strange(self, who: object, drop: Callable[[], object]) -> None:
        """There is one more stranger; where there are too many, the oldest goes."""
        self._strangers[who] = drop
        if len(self._strangers) > self.bounds.strangers:
            self._strangers.pop(next(iter(self._strangers)))()

    def known(self, connection: Connection) -> None:
        """One stranger less: it is a site's connection, and none of its address' strangers."""
        self._strangers.pop(connection, None)
        self._turnstile.connections.give_back(connection.address)
        held = self._sites.setdefault(connection.site, {})
        held[connection] = None
        if len(held) > self.bounds.connections_of_a_site:
            next(iter(held)).abort()

    def left(self, connection: Connection) -> None:
        """A connection is closed."""
        self._strangers.pop(connection, None)
        held = self._sites.get(connection.site, {})
        held.pop(connection, None)
        if not held:
            self._sites.pop(connection.site, None)

    async def _accept(self, make: Callable[..., Connection]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(self._listener)
            except OSError as error:  # no descriptor is left, or the other end has gone
                _log.debug("Cannot accept: %s", error)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            address = address_of(str(peer[0]))
            if self._turnstile.connections.take(address):
                with suppress(OSError):
                    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                accepted.close()
                continue
            task = loop.create_task(self._welcome(accepted, address, make))
            self._welcoming.add(task)
            task.add_done_callback(self._welcoming.discard)
            self.strange(task, task.cancel)

    async def _welcome(self, accepted: socket.socket, address: str, make: Callable[..., Connection]) -> None:
        """The handshake of one connection."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        with suppress(OSError):
            await loop.connect_accepted_socket(
                lambda: make(entrance=self, address=address),
                accepted,
                ssl=self._ssl,
                ssl_handshake_timeout=self.bounds.stranger_seconds,
            )
        self._strangers.pop(task, None)


class Listener(uvicorn.Server):
    """uvicorn behind `_Entrance`; cuts, after a moment's grace, connections that sites hold open at the end.

    An idle one never answers TLS's goodbye.
    """

    def __init__(self, config: uvicorn.Config, bounds: Bounds, turnstile: Turnstile) -> None:
        """Take uvicorn's settings, and what this listener bears."""
        super().__init__(config)
        self._bounds, self._turnstile = bounds, turnstile

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept on the one socket that is given."""
        await self.lifespan.startup()
        (listener,) = sockets or []
        _raise_descriptors()
        give_back(_LARGE_BYTES)
        entrance = _Entrance(self._bounds, self._turnstile, listener, self.config.ssl)
        uvicorns = {"config": self.config, "server_state": self.server_state, "app_state": self.lifespan.state}
        entrance.open(lambda **of_ours: Connection(**of_ours, **uvicorns))
        self.servers = [entrance]  # type: ignore[list-item]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as uvicorn does, then cut."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)  # so that each is told


def _raise_descriptors() -> None:
    """Let this process have as many descriptors as the machine lets it: each connection is one."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
