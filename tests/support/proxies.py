"""A proxy that inspects TLS, as firms have them: it ends every tunnel itself, by certificates of its own authority.

The law: it takes any name for this machine, so that a name which no DNS knows is reached through it and in no other
way; it writes down every tunnel that is asked for and every request that it reads within one.
"""

import asyncio
import re
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from jangin.trust.certificates import issue, make_authority

__all__ = ["NAME", "InspectingProxy"]

NAME = "the firm's own proxy"

_REQUEST = re.compile(rb"(?:GET|POST) (\S+) HTTP/1\.1\r\n")
_HOLDS = 2**22


class InspectingProxy:
    """One proxy on loopback; a context manager, listening while it is open.

    Attributes:
        ca: file of its authority, PEM.
        tunnels: `HOST:PORT` of every CONNECT, in their order.
        requests: the path of every request that was read on its way to the server.
    """

    def __init__(self, folder: Path, server_ca: Path) -> None:
        """Make an authority in `folder`; the real server's certificate, for 127.0.0.1, is checked by `server_ca`."""
        now = datetime.now(UTC).replace(microsecond=0)
        self._life = now - timedelta(minutes=5), now + timedelta(days=1)
        self._authority = make_authority(NAME, *self._life)
        self._folder, self.ca = folder, folder / "proxy-ca.crt"
        self.ca.write_bytes(self._authority.chain)
        self._trusting = ssl.create_default_context(cafile=server_ca)
        self._shown: dict[str, ssl.SSLContext] = {}
        self.tunnels: list[str] = []
        self.requests: list[str] = []
        self.url = ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        open_ones: set[asyncio.Task[None]] = set()

        def begin(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._tunnel(near, back))
            open_ones.add(task)
            task.add_done_callback(open_ones.discard)

        listener = await asyncio.start_server(begin, "127.0.0.1", 0, limit=_HOLDS)
        self.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        listener.close()
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)

    async def _tunnel(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        writers = [back]
        try:
            method, target, _ = (await near.readuntil(b"\r\n\r\n")).decode("ascii").split(" ", 2)
            self.tunnels.append(target)
            host, port = target.rsplit(":", 1)
            if method != "CONNECT":
                return
            far, on = await asyncio.open_connection(
                "127.0.0.1", int(port), ssl=self._trusting, server_hostname="127.0.0.1", limit=_HOLDS
            )
            writers.append(on)
            back.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await back.drain()
            await back.start_tls(self._as(host))
            ways = [asyncio.create_task(self._carry(near, on, told=True)), asyncio.create_task(self._carry(far, back))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.IncompleteReadError):
            pass  # a broken or distrusted connection is the site's to report
        finally:
            for writer in writers:
                writer.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, told: bool = False) -> None:
        while piece := await source.read(2**16):
            if told and (request := _REQUEST.match(piece)):
                self.requests.append(request[1].decode("ascii"))
            sink.write(piece)
            await sink.drain()

    def _as(self, host: str) -> ssl.SSLContext:
        """What it shows in the place of a host."""
        if host not in self._shown:
            made = issue(self._authority, [host], *self._life)
            file = self._folder / f"{len(self._shown)}.pem"
            file.write_bytes(made.chain + made.key)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(file)
            self._shown[host] = context
        return self._shown[host]
