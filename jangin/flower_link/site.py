"""A site's end of the connection: Flower's Fleet API from one light process, nothing else of Flower's node.

`FleetHttpClient` is the client below `http_request_response`, which ends or interrupts its own process on a refusal
and retries without end; here every call is bounded and every end is an exception.

The law: nothing that the server sends is ever run, and no FAB is ever asked for; each way to fail has its own code
with a way out.

| JG-site- | seen as |
|---|---|
| 201 | no answer |
| 202 | a certificate that the given roots do not vouch for, or no TLS |
| 203 | the key is not registered |
| 204 | a refused signature, and a clock that explains it |
| 205 | the key is connected already, from elsewhere or from a process that just died |
| 206 | a server that forgot this connection, or struck the key off |
| 207 | an answer that the protocol does not have |
| 208 | a campaign that is over |
| 209 | a reply that came too late, or twice |
| 210 | a message of another form (wire.py) |
| 400 | a certificate by somebody whom the given roots do not know, named |
"""

import logging
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import (
    HEARTBEAT_MAX_INTERVAL,
    HEARTBEAT_MIN_INTERVAL,
    SYSTEM_TIME_TOLERANCE,
    TIMESTAMP_HEADER,
    TIMESTAMP_TOLERANCE,
)
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree, PullObjectRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    FLWR_COMPONENT_NAME_METADATA_KEY,
    FLWR_PACKAGE_NAME_METADATA_KEY,
    FLWR_PACKAGE_VERSION_METADATA_KEY,
)
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.version import package_name, package_version
from flwr.supernode.fleet_http_client import FleetHttpClient

from jangin.errors import LinkError
from jangin.flower_link.line import KEEP, silence
from jangin.flower_link.wire import MOST_BYTES, Wire, inflate, pack, parts

__all__ = ["NODE_HEADER", "Incoming", "SiteLink"]

NODE_HEADER = "jangin-node"
"""In the answer to a refused activation: `unknown` or `online`, from `EmbeddedLink`."""

_log = logging.getLogger(__name__)

Q = TypeVar("Q")
A = TypeVar("A")

_NOBODY = "JG-site-201"
_PASSING = (429, 500, 502, 503, 504)


@dataclass(frozen=True, eq=False)
class Incoming:
    """A message from the server, and what its reply needs to find the way back.

    Attributes:
        wire: the message.
        envelope: as Flower has it.
        made: the last answer and its message: sent again, it is the same one, and goes on where it was cut off.
    """

    wire: Wire
    envelope: Message = field(repr=False)
    made: list[tuple[Wire, Message]] = field(default_factory=list, repr=False)


class SiteLink:
    """One site's connection to the national server; a context manager, connected while it is open.

    `receive` and `reply` belong to one thread; the heartbeat has its own.

    Raises:
        ValueError: a heartbeat outside Flower's 10 s to 1800 s.
        LinkError: JG-site-202, the file of roots is empty.
    """

    def __init__(
        self,
        address: str,
        key: ec.EllipticCurvePrivateKey,
        roots: bytes,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        timeout_seconds: float = 30.0,
        retries: int = 3,
        backoff_seconds: float = 0.5,
        heartbeat_seconds: float = 15.0,
    ) -> None:
        """Nothing is sent before the link is entered.

        Args:
            address: `host:port`; always TLS.
            key: the node's P-384 key, which signs each request.
            roots: the certificates trusted for this server and no others, PEM.
            clock: the site's time, aware; it is what the requests say.
            timeout_seconds: the longest wait for one step of one request: connecting, sending, reading on.
            retries: how often a request is sent again where no answer came or the server was busy.
            backoff_seconds: the wait before the first of these; each further one is twice as long.
            heartbeat_seconds: how often the site says that it is there; after twice this the server calls it offline.
        """
        if not HEARTBEAT_MIN_INTERVAL <= heartbeat_seconds <= HEARTBEAT_MAX_INTERVAL:
            raise ValueError(f"Expected {HEARTBEAT_MIN_INTERVAL} <= heartbeat_seconds={heartbeat_seconds} <= 1800.")
        if not roots:  # Python would trust the machine's own authorities instead
            raise LinkError("JG-site-202", where=address, problem="the file of roots is empty")
        self._address, self._clock = address, clock
        self._retries, self._backoff, self._heartbeat = retries, backoff_seconds, heartbeat_seconds
        self._public_key = public_key_to_bytes(key.public_key())
        self._node: Node | None = None
        self._stopped = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="jangin-heartbeat", daemon=True)
        signing = _Signature(key, self._public_key, clock)
        context = ssl.create_default_context(cadata=roots.decode("ascii"))
        self._client = _Client(f"https://{address}", interceptors=[signing], verify=context, timeout=timeout_seconds)

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            LinkError: JG-site-201..207, 400.
        """
        hello = ActivateNodeRequest(public_key=self._public_key, heartbeat_interval=self._heartbeat)
        try:
            self._node = Node(node_id=self._call(self._client.ActivateNode, hello).node_id)
        except BaseException:
            self._client.close()
            raise
        self._beating.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop the heartbeat, say goodbye once, close; a link is not entered twice."""
        self._stopped.set()
        self._beating.join()
        try:
            self._client.DeactivateNode(DeactivateNodeRequest(node_id=self._there.node_id))
        except (httpx.HTTPError, ValueError) as failure:
            _log.debug("No goodbye: %s", type(failure).__name__)
        self._client.close()

    def receive(self) -> Incoming | None:
        """Ask once for a message; None where there is none, or where the server takes it back meanwhile.

        Raises:
            LinkError: JG-site-201..208, 400; JG-site-210, a message of another form, which is then lost.
        """
        answer = self._call(self._client.PullMessages, PullMessagesRequest(node=self._there))
        if not answer.messages_list:
            return None
        tree = answer.message_object_trees[0]
        try:
            envelope = message_from_proto(answer.messages_list[0])
        except ValueError:
            raise LinkError("JG-site-210", problem="Flower cannot read its envelope") from None
        run = envelope.metadata.run_id
        contents = self._fetch(run, tree)
        if contents is None:
            return None
        received = ConfirmMessageReceivedRequest(node=self._there, run_id=run, message_object_id=tree.object_id)
        self._call(self._client.ConfirmMessageReceived, received)
        return Incoming(inflate(tree.object_id, contents), envelope)

    def reply(self, incoming: Incoming, wire: Wire) -> None:
        """Answer a message; it has arrived when this returns.

        Raises:
            LinkError: JG-site-201..208, 400; JG-site-209, the server takes no reply to it (any more).
        """
        if not incoming.made or incoming.made[0][0] is not wire:
            incoming.made[:] = [(wire, Message(pack(wire), reply_to=incoming.envelope))]
        message = incoming.made[0][1]
        metadata = message.metadata
        with no_object_id_recompute():
            # Flower has no setter: the id of a reply is the hash of what it is.
            metadata.__dict__["_message_id"] = metadata.message_id or message.object_id
            objects, tree = get_all_nested_objects(message), get_object_tree(message)
            announced = PushMessagesRequest(
                node=self._there,
                messages_list=[message_to_proto(remove_content_from_message(message))],
                message_object_trees=[tree],
            )
            answer = self._call(self._client.PushMessages, announced)
            wanted = set(answer.objects_to_push)
            if tree.object_id not in wanted:
                raise LinkError("JG-site-209", where=self._address, campaign=wire.campaign, round=wire.round)
            # Children first, the message last: it is whole, and may be taken and removed, when that has come.
            for object_id in filter(wanted.__contains__, objects):
                part = PushObjectRequest(
                    node=self._there,
                    run_id=metadata.run_id,
                    session_id=answer.session_id,
                    object_id=object_id,
                    object_content=objects[object_id].deflate(),
                )
                if not self._call(self._client.PushObject, part).stored:
                    raise LinkError("JG-site-209", where=self._address, campaign=wire.campaign, round=wire.round)

    @property
    def _there(self) -> Node:
        if self._node is None:
            raise RuntimeError("Expected an entered SiteLink.")
        return self._node

    def _fetch(self, run: int, tree: ObjectTree) -> dict[str, bytes] | None:
        """The contents of every object of a tree, by id; None where the server has dropped one."""
        contents: dict[str, bytes] = {}
        left = MOST_BYTES
        for object_id in parts(tree):
            part = self._part(PullObjectRequest(node=self._there, run_id=run, object_id=object_id))
            if part is None:
                return None
            contents[object_id] = part
            left -= len(part)
            if left < 0:
                raise LinkError("JG-site-210", problem=f"it has more than {MOST_BYTES} bytes")
        return contents

    def _part(self, request: PullObjectRequest) -> bytes | None:
        """One object, which may still be on its way to the server; None where the server has it no more."""
        for attempt in range(self._retries + 1):
            answer = self._call(self._client.PullObject, request)
            if not answer.object_found:
                return None
            if answer.object_available:
                return answer.object_content
            if self._stopped.wait(self._backoff * 2**attempt):
                break
        raise LinkError("JG-site-210", problem="a part that it announces does not come")

    def _call(self, call: Callable[[Q], A], request: Q) -> A:
        """One request and its answer, sent again a bounded number of times."""
        attempt = 0
        while True:
            try:
                return call(request)
            except httpx.HTTPStatusError as error:
                failure, again = self._refusal(error.response), error.response.status_code in _PASSING
            except (httpx.RequestError, httpx.InvalidURL) as error:
                failure = silence(self._address, error)
                again = failure.code == _NOBODY
            except ValueError:
                failure, again = LinkError("JG-site-207", where=self._address, answer="unreadable"), False
            if not again or attempt >= self._retries or self._stopped.wait(self._backoff * 2**attempt):
                raise failure
            attempt += 1

    def _refusal(self, response: httpx.Response) -> LinkError:
        """What an answer that refuses a request means."""
        match response.status_code:
            case 401 if seconds := self._clock_off(response):
                return LinkError("JG-site-204", where=self._address, seconds=seconds)
            case 401 if self._node is not None:
                return LinkError("JG-site-206", where=self._address)
            case 412 if self._node is None and response.headers.get(NODE_HEADER) == "online":
                return LinkError("JG-site-205", where=self._address)
            case 401 | 412 if self._node is None:
                return LinkError("JG-site-203", where=self._address)
            case 403:
                return LinkError("JG-site-208", where=self._address)
            case status:
                return LinkError("JG-site-207", where=self._address, answer=status)

    def _clock_off(self, response: httpx.Response) -> int | None:
        """Seconds by which the site's clock is ahead of the server's, where that explains a refused signature.

        The server's Date header drops the fraction of a second: half of one is put back, and one given on either side.
        """
        try:
            server = parsedate_to_datetime(response.headers["date"])
            ahead = (self._clock() - server).total_seconds() - 0.5
        except (KeyError, ValueError, TypeError):
            return None
        late = -(TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE)
        return None if late + 1 < ahead < SYSTEM_TIME_TOLERANCE - 1 else round(ahead)

    def _beat(self) -> None:
        """Say that the site is there, until the link is left; what goes wrong here, `receive` meets too."""
        beat = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=self._heartbeat)
        while not self._stopped.wait(self._heartbeat):
            try:
                self._client.SendNodeHeartbeat(beat)
            except (httpx.HTTPError, ValueError) as failure:
                _log.debug("No heartbeat: %s", type(failure).__name__)


class _Client(FleetHttpClient):
    """Flower's client, whose connection stays open between two polls, and which goes nowhere else."""

    def __init__(self, url: str, *, verify: ssl.SSLContext, timeout: float, **more: Any) -> None:
        super().__init__(url, verify=verify, timeout=timeout, **more)
        self._client.close()
        self._client = httpx.Client(verify=verify, timeout=timeout, limits=KEEP)


class _Signature:
    """Signs each request's time with the node's key, as Flower's NodeAuthMiddleware wants it."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, public_key: bytes, clock: Callable[[], datetime]) -> None:
        self._key, self._clock = key, clock
        self._headers = {
            FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(public_key).decode("ascii"),
            FLWR_PACKAGE_NAME_METADATA_KEY: package_name,
            FLWR_PACKAGE_VERSION_METADATA_KEY: package_version,
            FLWR_COMPONENT_NAME_METADATA_KEY: "SuperNode",
        }

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Add the headers; the name is Flower's."""
        at = self._clock().isoformat()
        signature = b64encode(sign_message(self._key, at.encode("ascii"))).decode("ascii")
        context.request.headers.update(self._headers | {TIMESTAMP_HEADER: at, FLEET_HTTP_SIGNATURE_HEADER: signature})
        return call_next(context)
