"""Many sites, or a stranger, in a process of its own, for benchmarks/server.py; told what to do by lines on stdin.

Usage: python benchmarks/crowd.py WHO ADDRESS FOLDER SECONDS

sites   poll at the pace that the server sets, and answer every order with next to nothing
nodes   poll every so many SECONDS by Flower's Fleet API alone, as a stock SuperLink has it
flood   a stranger who asks 200 times a second, of all kinds in turn

Sites and nodes are our own client's links, a thread each; their keys lie in FOLDER/keys, the server's certificate in
FOLDER/ca.crt. SECONDS of 0 leave the pace to the server. `begin` on stdin forgets what was measured, `end` answers
with it in a line of JSON, and the end of stdin ends it all. The stranger comes only between the two.
"""

import asyncio
import json
import os
import random
import secrets
import ssl
import sys
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
import uvloop
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from jangin.client.api import SiteApi
from jangin.client.door import Door
from jangin.client.state import Journal
from jangin.codec import cbor
from jangin.errors import JanginError
from jangin.flower_link.site import Incoming, SiteLink
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Reply, read_order, reply_body
from jangin.trust.keys import Identity, NodeKey
from jangin.trust.requests import signed_bytes

RAMP_SECONDS, ACK_SECONDS, BACKOFF_SECONDS = 15.0, 2.0, 1.0
ABREAST = 8
"""How many sites at once move vectors: this process has no room for all of them."""
PIECE_VALUES = 2**20
FLOOD_A_SECOND, GIVE_UP_SECONDS = 200, 20.0


class Sites:
    """All sites of a folder, each in its thread."""

    def __init__(self, address: str, folder: Path, seconds: float, *, ours: bool = True) -> None:
        self._address, self._roots = address, (folder / "ca.crt").read_bytes()
        self._keys, self._seconds_set, self._ours = folder / "keys", seconds, ours
        self._moments = np.load(folder / "moments.npy") if (folder / "moments.npy").exists() else None
        self._names = sorted(path.stem for path in self._keys.glob("*.node"))
        self._room, self._lock = threading.Semaphore(ABREAST), threading.Lock()
        self._reset()

    def start(self) -> None:
        for name in self._names:
            threading.Thread(target=self._live, args=(name,), daemon=True).start()

    def begin(self) -> None:
        with self._lock:
            self._reset()

    def end(self) -> dict[str, object]:
        """Seconds of every poll (Fleet API) and ack (site API) since the beginning, failures by code, who is there."""
        with self._lock:
            return {**self._took, "failures": dict(self._failures), "there": len(self._there)}

    def _reset(self) -> None:
        self._took: dict[str, list[float]] = {"poll": [], "ack": []}
        self._failures: Counter[str] = Counter()
        self._there: set[str] = set()

    def _live(self, name: str) -> None:
        node = NodeKey.load(self._keys / f"{name}.node")
        time.sleep(random.uniform(0, RAMP_SECONDS * min(1, len(self._names) / 500)))
        with ExitStack() as stack:
            journal = stack.enter_context(Journal(Path(":memory:")))
            while True:
                try:
                    with ExitStack() as connected:
                        link = SiteLink(self._address, node.private, self._roots, timeout_seconds=10.0)
                        connected.enter_context(link)
                        api = connected.enter_context(self._api(name, journal)) if self._ours else None
                        self._poll(name, link, api)
                except JanginError as error:
                    with self._lock:
                        self._failures[error.code] += 1
                    time.sleep(random.uniform(0.5, 1.0) * BACKOFF_SECONDS)

    def _api(self, name: str, journal: Journal) -> SiteApi:
        identity, door = Identity.load(self._keys / f"{name}.identity"), Door(journal, now)
        nonce = partial(secrets.token_hex, 16)
        return SiteApi(self._address, name, identity, self._roots, door, clock=now, nonce=nonce)

    def _poll(self, name: str, link: SiteLink, api: SiteApi | None) -> None:
        """As the daemon does: a poll, an answer, an ack when it is due, a rest."""
        pace = self._seconds_set or (api.ack() if api else 0.0)
        held: Wire | None = None
        ack_due = 0.0
        while True:
            with self._room:
                began = time.monotonic()
                incoming = link.receive()
                if incoming is not None:
                    held = answer(name, link, incoming, held, self._moments)
                    continue
            self._note("poll", name, began)
            if api and time.monotonic() >= ack_due:
                began = time.monotonic()
                told = api.ack()
                self._note("ack", name, began)
                pace = self._seconds_set or told
                ack_due = began + (self._seconds_set or max(pace, ACK_SECONDS))
            time.sleep(pace * random.uniform(0.9, 1.1))

    def _note(self, what: str, name: str, began: float) -> None:
        with self._lock:
            self._took[what].append(time.monotonic() - began)
            self._there.add(name)


def answer(name: str, link: SiteLink, incoming: Incoming, held: Wire | None, moments: np.ndarray | None) -> Wire | None:
    """Reply to one order; what stays held is the size of an update that is to be collected."""
    wire = incoming.wire
    if wire.kind == Kind.COLLECT:
        if held is not None:
            size = int.from_bytes(held.body, "big")
            link.reply(
                incoming, replace(wire, body=reply_body(Reply(name, update(name, size))), vector=update(name, size))
            )
        return None
    order, _ = read_order(wire.kind, wire.round, wire.body, wire.vector)
    size = order.vector.size
    vector = None if order.hold else moments if order.kind is Kind.SCALE else update(name, size)
    reply = Reply(name, vector)
    link.reply(incoming, replace(wire, body=reply_body(reply), vector=reply.update))
    return replace(wire, body=size.to_bytes(8, "big"), vector=None) if order.hold else None


def update(name: str, size: int) -> np.ndarray:
    """Next to nothing, and no two parts alike, of any sites: what is alike would be sent and stored once."""
    vector = np.zeros(size, np.float32)
    marked = vector[::PIECE_VALUES]
    marked[:] = (int.from_bytes(name.encode()[-4:], "big") % 2**20 + np.arange(len(marked)) / 2**4) / 2**30
    return vector


class Flood:
    """One stranger: whoever knows what a site knows, and has no key of one."""

    def __init__(self, address: str, folder: Path, seconds: float) -> None:
        del seconds
        self._host, self._port = address.split(":")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE  # a stranger does not care
        known = next((folder / "keys").glob("*.node"))
        self._requests = cycle(requests(known.stem, public_key_to_bytes(NodeKey.load(known).public)))
        self._answers: Counter[str] = Counter()
        self._loop = uvloop.new_event_loop()
        self._on = threading.Event()

    def start(self) -> None:
        threading.Thread(target=lambda: self._loop.run_until_complete(self._come()), daemon=True).start()

    def begin(self) -> None:
        self._answers.clear()
        self._on.set()

    def end(self) -> dict[str, object]:
        self._on.clear()
        return dict(self._answers)

    async def _come(self) -> None:
        due, asking = time.monotonic(), set[asyncio.Task[None]]()
        while True:
            due = max(due + 1 / FLOOD_A_SECOND, time.monotonic() - 1)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if self._on.is_set():
                task = self._loop.create_task(self._ask(next(self._requests)()))
                asking.add(task)
                task.add_done_callback(asking.discard)

    async def _ask(self, request: bytes) -> None:
        """One request on a connection of its own; its status, or `cut`."""
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                reader, writer = await asyncio.open_connection(self._host, int(self._port), ssl=self._context)
                try:
                    writer.write(request)
                    line = await reader.readline()
                finally:
                    writer.transport.abort()
            self._answers[line.split()[1].decode() if line else "cut"] += 1
        except (OSError, TimeoutError):
            self._answers["cut"] += 1


def requests(site: str, public_key: bytes) -> Iterator[Callable[[], bytes]]:
    """One of each kind, made anew each time."""
    stranger, node = Identity.generate(), NodeKey.generate()
    guess = {"token": "AAAA-AAAA-AAAA-AAAA", "identity": stranger.public_text, "node_key": node.public_text}
    signature = b64encode(os.urandom(104)).decode()

    def fleet(key: bytes) -> bytes:
        headers = {
            FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(key).decode(),
            FLEET_HTTP_SIGNATURE_HEADER: signature,
            TIMESTAMP_HEADER: now().isoformat(),
        }
        return raw("/v1/fleet/pull-messages", headers, os.urandom(16))

    def ours(what: str, name: str, body: dict[str, str]) -> bytes:
        path, data, at, nonce = (
            f"/v1/jangin/{what}",
            cbor.encode(body),
            str(int(now().timestamp())),
            os.urandom(16).hex(),
        )
        signed = stranger.sign(signed_bytes("POST", path, data, at, nonce, name)).hex()
        values = {"protocol": "2", "site": name, "time": at, "nonce": nonce, "signature": signed}
        return raw(path, {f"x-jangin-{key}": value for key, value in values.items()}, data)

    yield lambda: fleet(os.urandom(120))
    yield lambda: fleet(public_key)
    yield lambda: ours("ack", "nobody", {})
    yield lambda: ours("ack", site, {})
    yield lambda: ours("enroll", "nobody", guess)
    yield lambda: b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    yield lambda: b"GET /admin.php HTTP/1.1\r\nhost: x\r\n\r\n"


def raw(path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def now() -> datetime:
    return datetime.now(UTC)


def main(who: str, address: str, folder: str, seconds: str) -> None:
    kinds = {"sites": Sites, "nodes": partial(Sites, ours=False), "flood": Flood}
    crowd = kinds[who](address, Path(folder), float(seconds))
    crowd.start()
    for line in sys.stdin:
        answered = crowd.begin() if line.strip() == "begin" else crowd.end()
        print(json.dumps(answered), flush=True)
    os._exit(0)  # hundreds of threads in the middle of something


if __name__ == "__main__":
    main(*sys.argv[1:])
