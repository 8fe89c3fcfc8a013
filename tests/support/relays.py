"""A relay between sites and their server that ends TLS on both sides and keeps every byte that sites send."""

import asyncio
import contextlib
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jangin.trust.certificates import issue, make_authority

__all__ = ["Relay"]


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
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._listening = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(20)
        self.address = f"127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"

    @property
    def sent(self) -> list[bytes]:
        """All that sites sent, a connection each."""
        return [bytes(one) for one in self._sent]

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
        kept = bytearray()
        self._sent.append(kept)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            answers, server = await asyncio.open_connection(*self._server, ssl=self._outward)
            await asyncio.gather(_pump(reader, server, kept), _pump(answers, writer, None))


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, kept: bytearray | None) -> None:
    """Pass on what comes until its end."""
    with contextlib.suppress(OSError):
        while data := await source.read(2**16):
            if kept is not None:
                kept += data
            target.write(data)
            await target.drain()
    target.close()
