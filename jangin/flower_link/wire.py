"""The form of every message between site and server, and the records in which Flower carries it.

A message is one ConfigRecord `jangin` = {v, kind, campaign, round, body} and beside it at most one flat array,
float32 or, when masked, uint32, little-endian.

The law: what is not exactly this form is refused under one code (JG-site-210), whoever sent it; nothing of a refused
message is used; neither body nor vector is ever shown.
"""

import json
import re
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final, NamedTuple

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message.arraychunk import ArrayChunk
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_body,
    get_object_children_ids_from_object_content,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from numpy.typing import NDArray

from jangin.errors import LinkError

__all__ = [
    "MOST_BODY_BYTES",
    "MOST_BYTES",
    "MOST_OBJECTS",
    "MOST_VALUES",
    "Answer",
    "Taken",
    "Wire",
    "inflate",
    "pack",
    "parts",
    "read",
    "unpack",
]

MOST_BODY_BYTES: Final = 2**24
MOST_VALUES: Final = 2**28
# A whole message as Flower stores it: body, 2**28 values of four bytes in pieces of 5 MiB, and what holds them.
MOST_BYTES: Final = MOST_BODY_BYTES + 4 * MOST_VALUES + 2**20
MOST_OBJECTS: Final = 256

_VERSION = 1
_RECORD, _VECTOR = "jangin", "vector"
_KEYS = {"v", "kind", "campaign", "round", "body"}
_FORMS = {"float32": "<f4", "uint32": "<u4"}
_RAW = "jangin.little-endian"
_ARRAY = f"{Array.__qualname__} ".encode()
_KIND = re.compile(r"[a-z][a-z_]{0,31}")
_CAMPAIGN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, eq=False)
class Wire:
    """One message.

    Attributes:
        kind: what it is, lower-case letters and underscores, e.g. `train`.
        campaign: whose it is: a name or hash of at most 128 letters, digits, dots, dashes and underscores.
        round: from 0, below 2**31.
        body: canonical CBOR, at most `MOST_BODY_BYTES`.
        vector: shape (values,), float32 or uint32, at most `MOST_VALUES`; or None.

    Raises:
        LinkError: JG-site-210, a value outside this form.
    """

    kind: str
    campaign: str
    round: int
    body: bytes = field(default=b"", repr=False)
    vector: NDArray[np.float32] | NDArray[np.uint32] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if type(self.kind) is not str or not _KIND.fullmatch(self.kind):
            raise _refused("its kind is not a lower-case word")
        if type(self.campaign) is not str or not _CAMPAIGN.fullmatch(self.campaign):
            raise _refused("its campaign is not a name of at most 128 letters and digits")
        if type(self.round) is not int or not 0 <= self.round < 2**31:
            raise _refused("its round is not a number from 0")
        if type(self.body) is not bytes or len(self.body) > MOST_BODY_BYTES:
            raise _refused(f"its body is not bytes, at most {MOST_BODY_BYTES}")
        if self.vector is not None:
            if type(self.vector) is not np.ndarray or self.vector.ndim != 1 or self.vector.dtype.name not in _FORMS:
                raise _refused("its vector is not a flat array of float32 or uint32")
            if self.vector.size > MOST_VALUES:
                raise _refused(f"its vector has {self.vector.size} values, more than {MOST_VALUES}")


class Answer(NamedTuple):
    """What came back for one message: the site's, or why none can come any more."""

    message: str
    site: str
    content: Wire | LinkError


class Taken(NamedTuple):
    """What came back for one message, unread: Flower's objects by id, of which `reply` is the message itself."""

    message: str
    site: str
    reply: str
    contents: dict[str, bytes] | LinkError


def read(taken: Taken) -> Answer:
    """What a site sent, read; its contents are emptied on the way."""
    try:
        if isinstance(taken.contents, LinkError):
            raise taken.contents
        return Answer(taken.message, taken.site, inflate(taken.reply, taken.contents))
    except LinkError as refused:
        return Answer(taken.message, taken.site, refused)


def pack(wire: Wire) -> RecordDict:
    """The records that carry a message."""
    header = ConfigRecord({"v": _VERSION})
    header["kind"], header["campaign"], header["round"], header["body"] = (
        wire.kind,
        wire.campaign,
        wire.round,
        wire.body,
    )
    records = RecordDict({_RECORD: header})
    if wire.vector is not None:
        name = wire.vector.dtype.name
        raw = wire.vector.astype(_FORMS[name], copy=False).tobytes()
        records[_VECTOR] = ArrayRecord({_VECTOR: Array(name, wire.vector.shape, _RAW, raw)})
    return records


def unpack(records: RecordDict) -> Wire:
    """The message that records carry; its vector is a read-only view of their bytes.

    Raises:
        LinkError: JG-site-210, not the form above.
    """
    header = records.get(_RECORD)
    if not isinstance(header, ConfigRecord) or set(records) - {_RECORD, _VECTOR}:
        raise _refused("it is not one record 'jangin' and at most one vector")
    if set(header) != _KEYS:
        raise _refused("its record has other keys than v, kind, campaign, round and body")
    if type(header["v"]) is not int or header["v"] != _VERSION:
        raise _refused(f"its version is not {_VERSION}")
    kind, campaign, number, body = (header[key] for key in ("kind", "campaign", "round", "body"))
    vector = _vector(records[_VECTOR]) if _VECTOR in records else None
    return Wire(kind, campaign, number, body, vector)  # type: ignore[arg-type]  # Wire looks


def parts(tree: ObjectTree) -> list[str]:
    """The ids of the objects that a message is announced to have.

    Raises:
        LinkError: JG-site-210, more than `MOST_OBJECTS`.
    """
    ids = list(dict.fromkeys(node.object_id for node in iterate_object_tree(tree)))
    if len(ids) > MOST_OBJECTS:
        raise _refused(f"it has {len(ids)} parts, more than {MOST_OBJECTS}")
    return ids


def inflate(object_id: str, contents: dict[str, bytes]) -> Wire:
    """The message that Flower's objects make up: `contents` by object id, emptied on the way.

    Raises:
        LinkError: JG-site-210, objects of more than `MOST_BYTES`, or that make up no message of the form above.
    """
    if sum(map(len, contents.values())) > MOST_BYTES:
        raise _refused(f"it has more than {MOST_BYTES} bytes")
    try:
        message = inflate_object_from_contents(object_id, contents, objects=_arrays(contents))
        records = message.content if isinstance(message, Message) else None
    except Exception:  # noqa: BLE001 - a peer's bytes may break Flower's reader in any way
        raise _refused("its parts make up no message") from None
    if records is None:
        raise _refused("its parts make up something else than a message")
    return unpack(records)


def _arrays(contents: dict[str, bytes]) -> dict[str, InflatableObject]:
    """The arrays among a message's objects, by id, taken out of them; Flower would hold each three times over."""
    heads = [object_id for object_id, content in contents.items() if content.startswith(_ARRAY)]
    return {object_id: _joined(contents.pop(object_id), contents) for object_id in heads}


def _joined(head: bytes, contents: dict[str, bytes]) -> Array:
    """One array; a chunk, which may stand in several places, is let go of after its last."""
    said, ids = json.loads(get_object_body(head, Array)), get_object_children_ids_from_object_content(head)
    chunks = [ids[index] for index in said["arraychunk_ids"]]
    if set(chunks) != set(ids):
        raise ValueError("Expected every chunk to have a place.")
    last = {chunk: place for place, chunk in enumerate(chunks)}
    data = BytesIO()  # what it holds in the end it gives without a copy
    for place, chunk in enumerate(chunks):
        data.write(get_object_body(contents.pop(chunk) if last[chunk] == place else contents[chunk], ArrayChunk))
        if data.tell() > 4 * MOST_VALUES:
            raise ValueError(f"Expected at most {MOST_VALUES} values.")
    return Array(said["dtype"], tuple(said["shape"]), said["stype"], data.getvalue())


def _vector(record: object) -> NDArray[np.float32] | NDArray[np.uint32]:
    """The one array of an array record."""
    if not isinstance(record, ArrayRecord) or set(record) != {_VECTOR}:
        raise _refused("its vector is not one array")
    array = record[_VECTOR]
    form = _FORMS.get(array.dtype) if isinstance(array.dtype, str) else None
    if form is None or array.stype != _RAW:
        raise _refused("its vector is not a flat array of float32 or uint32")
    if len(array.data) % 4 or tuple(array.shape) != (len(array.data) // 4,):
        raise _refused("its vector has another length than it says")
    return np.frombuffer(array.data, form)


def _refused(problem: str) -> LinkError:
    return LinkError("JG-site-210", problem=problem)
