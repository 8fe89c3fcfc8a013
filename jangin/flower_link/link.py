"""The server's end: Flower's SuperLink inside our process, and a campaign's messages straight on its memory.

The law: only the Fleet API, /health and our own site API answer; only registered keys come in; a site is known by its
name and its key, never by what it says; nothing here waits for a site. The SuperLink is a switch and keeps nothing:
after a restart keys are registered again and a campaign is a new run.

| JG-server- | seen as |
|---|---|
| 201 | a listener that cannot start |
| 202 | a key under two names |
| 203 | a site that is not registered, or has never connected |
| 204 | a run that ended without its owner |
| 205 | a message that ran out of time |
"""

import asyncio
import logging
import socket
import threading
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import uvicorn
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import HTTPException
from flwr.app import RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import (
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    SUPERLINK_NODE_ID,
    SYSTEM_TIME_TOLERANCE,
    TIMESTAMP_HEADER,
    TIMESTAMP_TOLERANCE,
    Status,
    SubStatus,
)
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.proto.message_pb2 import ObjectTree, PullObjectResponse
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    FLWR_IN_MEMORY_DB_NAME,
    NOOP_FEDERATION_ID,
    NodeStatus,
    TaskType,
)
from flwr.supercore.date import now
from flwr.supercore.error.http import http_error_translator
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.object_store.object_store import NoObjectInStoreError
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, public_key_to_bytes, verify_signature
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from flwr.supercore.run import RunStatus
from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app
from flwr.superlink.servicer.fleet import fleet_handlers
from google.protobuf.message import DecodeError
from starlette.requests import Request
from starlette.responses import Response

from jangin.codec import cbor
from jangin.errors import LinkError, catalogue
from jangin.flower_link.bounds import CALLER, Bounds, Caller, Turnstile
from jangin.flower_link.line import PROTOCOL_HEADER
from jangin.flower_link.listener import CONNECTION, Listener
from jangin.flower_link.site import NODE_HEADER
from jangin.flower_link.wire import MOST_BODY_BYTES, MOST_BYTES, Answer, Taken, Wire, pack, parts, read
from jangin.version import PROTOCOL

__all__ = ["MOST_REQUEST_BYTES", "SITE_API", "Answer", "Asgi", "EmbeddedLink", "Run"]

Asgi = Callable[[Any, Any, Callable[[Any], Awaitable[None]]], Awaitable[None]]
"""An ASGI 3 application: scope, receive, send."""

SITE_API: Final = "/v1/jangin/"
MOST_REQUEST_BYTES: Final = MOST_BODY_BYTES + 2**20

_MOST_SMALL_BYTES: Final = 2**20  # of a request that carries no part of a message
_MOST_TAKEN_BYTES: Final = 2**25  # at one look; what else has come is there at the next
_FLEET: Final = "/v1/fleet/"
_PUSH_OBJECT: Final = f"{_FLEET}push-object"
_RESTS: Final = frozenset({f"{_FLEET}pull-messages", f"{_FLEET}confirm-message-received"})  # after which a site rests
_ACTIVATE: Final = f"{_FLEET}activate-node"
_ENROLL: Final = f"{SITE_API}enroll"
_KEY_HEADER: Final = FLEET_HTTP_PUBLIC_KEY_HEADER.lower().encode()
_SIGNATURE_HEADER: Final = FLEET_HTTP_SIGNATURE_HEADER.lower().encode()
_TIME_HEADER: Final = TIMESTAMP_HEADER.lower().encode()
_CONTENT_TAG: Final = bytes([PullObjectResponse.DESCRIPTOR.fields_by_name["object_content"].number << 3 | 2])
_SLICE_BYTES: Final = 2**16
_MOST_CARRIED_BYTES: Final = 2**20  # by a connection that stays open through a site's rest
_BEAT_SECONDS = 10.0
_START_SECONDS = 30.0
_GRACE_SECONDS = 1
_STOP_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Run:
    """One campaign's messages, from `EmbeddedLink.open_run`; used by one thread, beside other runs."""

    def __init__(self, link: "EmbeddedLink", campaign: str) -> None:
        """Open a run of Flower's that carries no app.

        Raises:
            RuntimeError: a new run that does not start (a bug).
        """
        self.campaign = campaign
        self._link, self._state = link, link.state
        self._id = self._state.create_run(
            fab_id=None,
            fab_version=None,
            fab_hash=None,
            override_config={},
            federation_id=NOOP_FEDERATION_ID,
            federation_config=None,
            flwr_aid=NOOP_FLWR_AID,
            primary_task_type=TaskType.SERVER_APP,
        )
        task = self._state.get_run_info(run_ids=[self._id])[0].primary_task_id
        if task is None or self._state.claim_task(task) is None or not self._state.activate_task(task):
            raise RuntimeError("Expected a new run to start.")
        self._task = task
        self._sites: dict[str, str] = {}
        self._packed: tuple[Wire, RecordDict, ObjectTree, dict[str, InflatableObject]] | None = None
        self._open = True

    def push(self, site: str, wire: Wire, *, ttl_seconds: float = 43_200.0) -> str:
        """Leave a message for a site, which it takes at its next poll; one `wire` for many sites is stored once.

        Args:
            site: its registered name; it may be offline, but must have connected since the start.
            wire: the message.
            ttl_seconds: how long message and reply are worth keeping.

        Returns:
            The message's id.

        Raises:
            LinkError: JG-server-203, no such site; JG-server-204, the run has ended.
        """
        self._still()
        metadata = Metadata(
            run_id=self._id,
            message_id="",
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=self._link.node_of(site),
            reply_to_message_id="",
            group_id=str(wire.round),
            created_at=now().timestamp(),
            ttl=ttl_seconds,
            message_type="query",
        )
        if self._packed is None or self._packed[0] is not wire:
            records = pack(wire)
            with no_object_id_recompute():  # once: each hashes the whole vector
                self._packed = wire, records, get_object_tree(records), get_all_nested_objects(records)
        _, records, below, objects = self._packed
        message = make_message(metadata, records)
        store, tree = self._link.store, ObjectTree(object_id=message.object_id, children=[below])
        # In one step, so that a site's confirmation cannot remove what this message shares with another's.
        with store.lock_store:
            missing = store.preregister(self._id, tree)
        for object_id in missing:
            store.put(object_id, objects.get(object_id, message).deflate())
        # Flower has no setter. The message is stored last: a site never meets one that is not whole.
        metadata.__dict__["_message_id"] = tree.object_id
        if self._state.store_message_ins(remove_content_from_message(message)) is None:
            store.delete(tree.object_id)
            raise LinkError("JG-server-203", where=site)
        self._sites[tree.object_id] = site
        return tree.object_id

    def pull(self, messages: Collection[str]) -> list[Answer]:
        """As `take`, read."""
        return [read(taken) for taken in self.take(messages)]

    def take(self, messages: Collection[str]) -> list[Taken]:
        """What has come for these ids since the last look, each once; never waits.

        A reply that is still arriving is left for a later look; Flower drops it when nothing of it comes for 180 s,
        and the site may then reply again. A site that is offline is no failure: it may come back. Once 32 MiB are
        taken the rest is left for the next look. A wire that is pushed after a look is packed anew.

        Raises:
            LinkError: JG-server-204, the run has ended.
            KeyError: an id that this run did not push, or has answered.
        """
        self._still()
        self._packed = None
        sites = {message: self._sites[message] for message in messages}
        taken, left = [], _MOST_TAKEN_BYTES
        for message, site in sites.items():
            with self._state.lock:
                reply = self._state.message_ins_id_to_message_res_id.get(message)
                asked = self._state.message_ins_store.get(message)
            contents: dict[str, bytes] | LinkError | None
            if asked is None or asked.metadata.created_at + asked.metadata.ttl <= now().timestamp():
                contents = LinkError("JG-server-205", where=site, campaign=self.campaign)
            else:
                contents = None if reply is None else self._contents(reply)
            if contents is not None:
                self.forget([message])
                taken.append(Taken(message, site, reply or "", contents))
                left -= 0 if isinstance(contents, LinkError) else sum(map(len, contents.values()))
            if left <= 0:
                break
        return taken

    def forget(self, messages: Collection[str]) -> None:
        """Drop messages and whatever has come or still comes for them: a reply from now on is refused (JG-site-209)."""
        for message in messages:
            with self._state.lock:
                reply = self._state.message_ins_id_to_message_res_id.get(message)
                self._state.delete_messages({message})
            for object_id in filter(None, (reply, message)):
                self._link.store.delete(object_id)
            self._sites.pop(message, None)

    def close(self) -> None:
        """End the run: everything of it is dropped, and sites that still work for it are told (JG-site-208)."""
        if self._open:
            self._open, self._packed = False, None
            self._link.closed(self)
            self._state.stop_run(self._id)

    def beat(self) -> None:
        """Keep Flower from ending the run as abandoned; the link calls this every 10 s, Flower's patience is 60 s."""
        if self._open and not self._state.acknowledge_task_heartbeat(self._task):
            _log.warning("The run of campaign %s has ended: no heartbeat for 60 s.", self.campaign)
            self.close()

    def _still(self) -> None:
        if not self._open:
            raise LinkError("JG-server-204", where=self.campaign)

    def _contents(self, reply: str) -> dict[str, bytes] | LinkError | None:
        """A reply's objects by id; None while some are missing."""
        try:
            contents: dict[str, bytes] = {}
            for object_id in parts(self._link.store.get_object_tree(reply)):
                content = self._state.get_object(self._id, object_id)
                if not content:
                    return None
                contents[object_id] = content
        except NoObjectInStoreError:
            return None
        except LinkError as refused:
            return refused
        if sum(map(len, contents.values())) > MOST_BYTES:
            return LinkError("JG-site-210", problem=f"it has more than {MOST_BYTES} bytes")
        return contents


class EmbeddedLink:
    """The SuperLink in this process, over TLS with node authentication; a context manager, listening while open."""

    def __init__(
        self,
        certificate: Path,
        key: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        site_api: Asgi | None = None,
        bounds: Bounds = Bounds(),  # noqa: B008 - frozen
    ) -> None:
        """Nothing listens before the link is entered.

        Args:
            certificate: the server's chain, PEM.
            key: its private key, PEM without a password.
            host: the address to listen on.
            port: 0 for any that is free; `port` tells which.
            site_api: an ASGI app that answers /v1/jangin/*; its lifespan is the caller's. It tells the `CALLER` of a
                request when its signature holds.
            bounds: what the listener bears.
        """
        self.host, self.port = host, port
        self._certificate, self._key = certificate, key
        self._app = create_app(_CONFIG, _Quiet)
        factory = self._app.state.linkstate_factory
        flowers, self.store = _memory(factory.state())
        self.state = factory.state_instance = _LinkState(flowers.federation_manager, self.store)
        self._server: uvicorn.Server | None = None
        self._listener: socket.socket | None = None
        self._nodes: dict[str, int] = {}
        self._keys: dict[bytes, str] = {}
        self._bounds, turnstile = bounds, Turnstile(bounds, time.monotonic)
        self._gate = _Gate(_Fleet(self._app, self.state, self.store), site_api, self._nodes, self._keys, turnstile)
        self._turnstile = turnstile
        self._runs: list[Run] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Listen.

        Raises:
            LinkError: JG-server-201, a port that is taken, or a certificate that cannot be used.
        """
        config = uvicorn.Config(
            self._gate,
            ssl_certfile=self._certificate,
            ssl_keyfile=self._key,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        catalogue()  # now, and not at the first refusal, for which all would wait
        try:
            config.load()
            self._listener = socket.create_server((self.host, self.port))
        except OSError as error:
            problem = error.strerror or type(error).__name__
            raise LinkError("JG-server-201", where=f"{self.host}:{self.port}", problem=problem) from None
        self.port = self._listener.getsockname()[1]
        self._server = Listener(config, self._bounds, self._turnstile)
        serving = threading.Thread(
            target=self._server.run, args=([self._listener],), name="jangin-superlink", daemon=True
        )
        beating = threading.Thread(target=self._beat, name="jangin-runs", daemon=True)
        self._threads = [serving, beating]
        for thread in self._threads:
            thread.start()
        return self._started(self._server, serving)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close every run and stop listening; a link is not entered twice."""
        for run in list(self._runs):
            run.close()
        self._stopped.set()
        if self._server is not None:
            self._server.should_exit = True
        for thread in self._threads:
            thread.join(_STOP_SECONDS)
        if self._listener is not None:
            self._listener.close()

    def register(self, site: str, public_key: ec.EllipticCurvePublicKey) -> None:
        """Let a site in under its key; a key it had before is struck off.

        Raises:
            LinkError: JG-server-202, the key is another site's.
        """
        key = public_key_to_bytes(public_key)
        with self._lock:
            node = self.state.get_node_id_by_public_key(key)
            if node is not None:
                if self._nodes.get(site) != node:
                    raise LinkError("JG-server-202", where=site)
                return
            self._strike_off(site)
            self._keys[key] = site
            self._nodes[site] = self.state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, 30.0, name=site)

    def unregister(self, site: str) -> None:
        """Strike a site off: from its next request on it is refused. A name that is not registered is let be."""
        with self._lock:
            self._strike_off(site)

    def online(self) -> Mapping[str, int]:
        """The registered sites that are there now, by name, with Flower's node ids."""
        nodes = self.state.get_node_info(statuses=[NodeStatus.ONLINE])
        return {node.name: node.node_id for node in nodes if self._nodes.get(node.name) == node.node_id}

    def open_run(self, campaign: str) -> Run:
        """A run for one campaign, kept alive until it or the link is closed."""
        run = Run(self, campaign)
        with self._lock:
            self._runs.append(run)
        return run

    def node_of(self, site: str) -> int:
        """Flower's id of a registered site.

        Raises:
            LinkError: JG-server-203.
        """
        if site not in self._nodes:
            raise LinkError("JG-server-203", where=site)
        return self._nodes[site]

    def closed(self, run: Run) -> None:
        """A run tells that it needs no more heartbeats."""
        with self._lock:
            self._runs = [other for other in self._runs if other is not run]

    def _started(self, server: uvicorn.Server, serving: threading.Thread) -> Self:
        """Wait until the listener answers, at most `_START_SECONDS`."""
        deadline = time.monotonic() + _START_SECONDS
        while not server.started and serving.is_alive() and time.monotonic() < deadline:
            serving.join(0.01)
        if not server.started:
            self.__exit__(None, None, None)
            raise LinkError("JG-server-201", where=f"{self.host}:{self.port}", problem="it did not start")
        return self

    def _strike_off(self, site: str) -> None:
        node = self._nodes.pop(site, None)
        if node is not None:
            key = self.state.get_node_info(node_ids=[node])[0].public_key
            self._keys.pop(key, None)
            self.state.delete_node(NOOP_FLWR_AID, node)
            # Flower keeps a deleted node's key as taken for ever; a suspended site may come back.
            with self.state.lock:
                self.state.node_public_key_to_node_id.pop(key, None)

    def _beat(self) -> None:
        while not self._stopped.wait(_BEAT_SECONDS):
            for run in list(self._runs):
                run.beat()


class _Gate:
    """What may be asked: the Fleet API, /health and our site API, in requests of bounded size and number."""

    def __init__(
        self,
        flower: Asgi,
        site_api: Asgi | None,
        sites: Mapping[str, int],
        keys: Mapping[bytes, str],
        turnstile: Turnstile,
    ) -> None:
        self._flower, self._site_api, self._turnstile = flower, site_api, turnstile
        self._sites, self._keys = sites, keys

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        """Pass one ASGI connection on, or refuse it."""
        if scope["type"] == "lifespan":
            return await self._flower(scope, receive, send)
        path, headers = scope["path"], dict(scope["headers"])
        place, status = scope["extensions"][CONNECTION], 0
        caller = Caller(self._turnstile, place, self._named(path, headers), enrols=path == _ENROLL)
        try:
            caller.come()
        except LinkError as error:
            return await _turned_away(send, error, path)
        scope["extensions"][CALLER] = caller

        async def watched(event: Any) -> None:
            nonlocal status
            status = event.get("status", status)
            place.carried += len(event.get("body", b""))
            if "headers" in event and path in _RESTS and place.carried > _MOST_CARRIED_BYTES:
                event["headers"] = [*event["headers"], (b"connection", b"close")]
            await send(event)

        try:
            await self._passed(path, headers, scope, receive, watched)
        finally:
            caller.go(status)

    async def _passed(self, path: str, headers: Mapping[bytes, bytes], scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on to whoever answers it."""
        length = headers.get(b"content-length", b"0")
        most = MOST_REQUEST_BYTES if path == _PUSH_OBJECT else _MOST_SMALL_BYTES
        if b"transfer-encoding" in headers or not length.isdigit() or int(length) > most:
            return await _status(send, 413)
        if path == _ACTIVATE:
            return await self._flower(scope, receive, self._explained(headers, send))
        if path == "/health":
            return await self._flower(scope, receive, _versioned(send))
        if path.startswith(_FLEET):
            return await self._flower(scope, receive, send)
        if path.startswith(SITE_API) and self._site_api is not None:
            return await self._site_api(scope, receive, send)
        return await _status(send, 404)

    def _named(self, path: str, headers: Mapping[bytes, bytes]) -> str:
        """The registered site that a request says it is of; empty where it names none. An enrolment is of none yet."""
        if path.startswith(_FLEET):
            return self._keys.get(_key(headers), "")
        site = headers.get(b"x-jangin-site", b"").decode("latin-1")
        return site if path.startswith(SITE_API) and path != _ENROLL and site in self._sites else ""

    def _explained(self, headers: Mapping[bytes, bytes], send: Callable[[Any], Awaitable[None]]) -> Any:
        """Tell a node whose signature was good, and nobody else, why it may not connect."""

        async def explain(event: Any) -> None:
            if event["type"] == "http.response.start" and event["status"] == 412:
                known = _key(headers) in self._keys
                event["headers"] = [*event["headers"], (NODE_HEADER.encode(), b"online" if known else b"unknown")]
            await send(event)

        return explain


class _Fleet:
    """The Fleet API as far as a site needs it: a node's key as Flower looks at it, then Flower's own handlers.

    Flower's web application, which answers /health, would pass each request through nine layers; they cost three times
    what all of this does. Its check of a key waits for the body; here the head is enough to turn a stranger away.
    """

    def __init__(self, flower: Asgi, state: InMemoryLinkState, store: InMemoryObjectStore) -> None:
        self._flower, self._state = flower, state
        self._handlers: Mapping[str, Callable[[Any], Any]] = {
            "activate-node": partial(fleet_handlers.activate_node, state=state),
            "deactivate-node": partial(fleet_handlers.deactivate_node, state=state),
            "send-node-heartbeat": partial(fleet_handlers.send_node_heartbeat, state=state),
            "pull-messages": partial(fleet_handlers.pull_messages, state=state, store=store),
            "pull-object": partial(fleet_handlers.pull_object, state=state),
            "confirm-message-received": partial(fleet_handlers.confirm_message_received, state=state, store=store),
            "push-messages": partial(_push_messages, state=state),
            "push-object": partial(fleet_handlers.push_object, state=state),
        }

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        """Answer one request; what Flower raises becomes the answer that Flower gives."""
        if scope["type"] == "lifespan" or not scope["path"].startswith(_FLEET):
            return await self._flower(scope, receive, send)
        form = PROTOBUF_REQUEST_TYPES.get((scope["method"], scope["path"]))
        handler = self._handlers.get(scope["path"].removeprefix(_FLEET))
        if form is None or handler is None:
            return await _status(send, 404)
        headers, caller = dict(scope["headers"]), scope["extensions"][CALLER]
        if (not caller.site and scope["path"] != _ACTIVATE) or not _signed(headers):
            return await _status(send, 401)  # whose body is not worth reading
        caller.vouch()

        async def answered(_: Request) -> Response:
            body, more = bytearray(), True
            while more:
                event = await receive()
                body += event.get("body", b"")
                more = event.get("more_body", False)
            try:
                asked = form.FromString(body)
            except DecodeError:  # or half of one, whose sender has gone
                return Response(status_code=400)
            body.clear()
            return _Parts(await asyncio.to_thread(self._handled, handler, asked, _key(headers)))

        response = await http_error_translator(Request(scope, receive), answered)
        return await response(scope, receive, send)

    def _handled(self, handler: Callable[[Any], Any], asked: Any, key: bytes) -> Sequence[bytes]:
        """The answer to a request whose key is that of the node which it speaks for, as bytes one after the other."""
        if isinstance(asked, ActivateNodeRequest):
            own = asked.public_key == key
        else:
            node = asked.node.node_id if hasattr(asked, "node") else asked.node_id
            own = self._state.get_node_id_by_public_key(key) == node
        if not own:
            raise HTTPException(401)
        answer = handler(asked)
        if isinstance(answer, PullObjectResponse) and answer.object_content:
            content = self._state.get_object(asked.run_id, asked.object_id)
            if content:  # the store's own bytes, where the answer would hold a copy for as long as its reader takes
                answer.ClearField("object_content")
                return answer.SerializeToString(), _CONTENT_TAG + _varint(len(content)), content
        return (answer.SerializeToString(),)


class _Parts(Response):
    """An answer that is written as its reader takes it."""

    media_type = PROTOBUF_MEDIA_TYPE

    def __init__(self, parts: Sequence[bytes]) -> None:
        super().__init__(headers={"content-length": str(sum(map(len, parts)))})
        self._written = parts

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for part in self._written:
            for start in range(0, len(part), _SLICE_BYTES):
                piece = memoryview(part)[start : start + _SLICE_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _key(headers: Mapping[bytes, bytes]) -> bytes:
    """The node's key that a request names; empty where it names none."""
    try:
        return b64decode(headers.get(_KEY_HEADER, b""), validate=True)
    except ValueError:
        return b""


def _signed(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the key that a request names signed its time, and that is now: as `node_auth.authenticate_node` looks."""
    try:
        stamp = headers[_TIME_HEADER].decode("ascii")
        age = (now() - datetime.fromisoformat(stamp)).total_seconds()
        signature = b64decode(headers[_SIGNATURE_HEADER], validate=True)
        held = verify_signature(bytes_to_public_key(_key(headers)), stamp.encode("ascii"), signature)
    except (KeyError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm):  # the last three: no key of ours
        return False
    return -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE and held


def _varint(number: int) -> bytes:
    """A length as protobuf writes it: seven bits a byte, lowest first."""
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes((*written, number))


def _push_messages(request: Any, state: InMemoryLinkState) -> Any:
    """Flower's handler, for replies of as many parts as a reply may have, and in nobody else's name."""
    try:
        for tree in request.message_object_trees:
            parts(tree)
    except LinkError:
        raise HTTPException(413) from None
    if any(message.metadata.src_node_id != request.node.node_id for message in request.messages_list):
        # Flower looks at the node that signed, not at the one that the reply says it is of. A site's own of before a
        # restart is of a node that nobody is any more: the same answer as to a run that is over.
        raise HTTPException(403)
    return fleet_handlers.push_messages(request, state)


def _versioned(send: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """Answer with the version of the protocol beside it."""

    async def say(event: Any) -> None:
        if event["type"] == "http.response.start":
            event["headers"] = [*event["headers"], (PROTOCOL_HEADER.encode(), str(PROTOCOL).encode())]
        await send(event)

    return say


async def _turned_away(send: Callable[[Any], Awaitable[None]], error: LinkError, path: str) -> None:
    """An answer to one that came too often; of our own API in its form."""
    body = b""
    if path.startswith(SITE_API):
        coded = error.coded.as_dict()
        body = cbor.encode({key: coded[key] for key in ("code", "message", "hint")})
    headers = [
        (b"retry-after", str(error.coded.values["seconds"]).encode()),
        (b"content-type", b"application/cbor"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _status(send: Callable[[Any], Awaitable[None]], status: int) -> None:
    """An empty answer; the connection is closed, since the request's body is not read."""
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


class _LinkState(InMemoryLinkState):
    """Flower's memory, for which a run that it does not know is over: Flower would fail on a reply to one.

    A site that worked while this process was restarted answers such a run; it is told so (JG-site-208).
    """

    def get_run_status(self, run_ids: set[int]) -> dict[int, RunStatus]:
        over = RunStatus(Status.FINISHED, SubStatus.STOPPED, "")
        return dict.fromkeys(run_ids, over) | super().get_run_status(run_ids)


class _Quiet(SuperLinkLifespan):
    """A SuperLink that starts no gRPC server and no other process, whatever the environment says."""

    def startup(self) -> None:
        """Nothing to start."""

    def shutdown(self) -> None:
        """Nothing to stop."""


def _memory(state: object) -> tuple[InMemoryLinkState, InMemoryObjectStore]:
    """The state and its store, which this file takes to be Flower's in-memory ones."""
    if isinstance(state, InMemoryLinkState) and isinstance(state.object_store, InMemoryObjectStore):
        return state, state.object_store
    raise RuntimeError(f"Expected an in-memory state: {type(state).__name__}.")


_CONFIG = SuperLinkLifespanConfig(
    control_address="",
    health_server_address=None,
    host="",
    port=0,
    insecure=False,
    certificates=None,
    superexec_auth_secret=None,
    authn_plugin=NoOpControlAuthnPlugin(),
    event_log_plugin=None,
    fleet_event_log_plugin=None,
    enable_event_log=False,
    artifact_provider=None,
    enable_supernode_auth=True,
    fleet_api_type="grpc-rere",
    fleet_api_address=None,
    simulation=False,
    ssl_ca_certfile=None,
    ssl_certfile=None,
    ssl_keyfile=None,
    database=FLWR_IN_MEMORY_DB_NAME,
    isolation="process",
    runtime_dependency_install=False,
)
