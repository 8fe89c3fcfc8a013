"""A relay between sites and their server that ends TLS on both sides and keeps every byte that passes."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jangin.trust.certificates import issue, make_authority

__all__ = ["Passed", "Relay"]


@dataclass(frozen=True)
class Passed:
    """One request and its answer, HTTP's heads with them.

    Attributes:
        path: what was asked.
        up: bytes of the request.
        down: bytes of the answer.
        content: bytes of the answer's body.
    """

    path: str
    up: int
    down: int
    content: int


class Relay:
    """Listens on loopback from its making to `close`; sites have to know its authority, `ca`, as their server's."""

    def __init__(self, folder: Path, server: str, roots: Path) -> None:
        """Relay to `server`, `host:port`, whose certificate is by `roots`."""
        now = datetime.now(UTC).replace(microsecond=0)
        authority = make_authority("a relay", now - timedelta(minutes=5), now + timedelta(days=1))
        own = issue(authority, ["127.0.0.1"], now - timedelta(minutes=5), now + timedelta(days=1))
        self.ca = folder / "relay.ca"
        for name, content in {"relay.ca": authority.chain, "relay.crt": own.chain, "relay.key": own.key}.items():
            (folder / name).write_bytes(content)
        self._inward = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._inward.load_cert_chain(folder / "relay.crt", folder / "relay.key")
        self._outward = ssl.create_default_context(cafile=str(roots))
        host, port = server.rsplit(":", 1)
        self._server = host, int(port)
        self._sent: list[bytearray] = []
        self._answered: list[bytearray] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._listening = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(20)
        self.address = f"127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"

    @property
    def sent(self) -> list[bytes]:
        """All that sites sent, a connection each."""
        return [bytes(one) for one in self._sent]

    @property
    def passed(self) -> list[Passed]:
        """Every request that was answered."""
        found = []
        for sent, answered in zip(list(self._sent), list(self._answered), strict=True):
            for (line, up, _), (_, down, content) in zip(_messages(sent), _messages(answered), strict=False):
                found.append(Passed(line.split()[1], up, down, content))
        return found

    def close(self) -> None:
        """End every connection."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._inward)

    async def _end(self) -> None:
        self._listening.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept, answered = bytearray(), bytearray()
        self._sent.append(kept)
        self._answered.append(answered)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            answers, server = await asyncio.open_connection(*self._server, ssl=self._outward)
            await asyncio.gather(_pump(reader, server, kept), _pump(answers, writer, answered))


def _messages(kept: bytearray) -> Iterator[tuple[str, int, int]]:
    """The whole messages of one side of an HTTP/1.1 connection: first line, bytes, bytes of the body."""
    data, start = bytes(kept), 0
    while (end := data.find(b"\r\n\r\n", start)) >= 0:
        first, *headers = data[start:end].decode("latin-1").split("\r\n")
        named = {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)}
        body = int(named.get("content-length", "0"))
        stop = end + 4 + body
        if stop > len(data):
            return
        yield first, stop - start, body
        start = stop


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, kept: bytearray) -> None:
    """Pass on what comes until its end."""
    with contextlib.suppress(OSError):
        while data := await source.read(2**16):
            kept += data
            target.write(data)
            await target.drain()
    target.close()
