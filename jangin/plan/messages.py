"""What server and sites say to each other in a round: values, and the canonical CBOR bodies that carry them.

The law: an order carries only what every site gets alike; a reply carries what `ANSWERS` allows for its kind, and no
loss of a record and no name of a person. A vector of moments, of columns or of losses on the hold-out, counts units:
noised under privacy, plain without. float32 vectors ride beside the body; float64 ones (moments, scaling) in it.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from jangin.codec import cbor

__all__ = [
    "ANSWERS",
    "Content",
    "Kind",
    "Order",
    "Reply",
    "Said",
    "order_body",
    "order_digest",
    "read_order",
    "read_reply",
    "read_said",
    "read_step",
    "reply_body",
    "said_body",
    "step_body",
]


class Kind(StrEnum):
    """What is asked of a site."""

    SCALE = "scale"
    TRAIN = "train"
    COLLECT = "collect"
    EVALUATE = "evaluate"
    REHEARSE = "rehearse"
    SHARE = "share"
    MASK = "mask"
    CERTIFY = "certify"
    UNMASK = "unmask"


class Content(StrEnum):
    """What a reply is."""

    MOMENTS = "moments"
    UPDATE = "update"
    HELD = "held"
    SUM = "sum"
    CODE = "code"


ANSWERS: Final[Mapping[Kind, frozenset[Content]]] = {
    Kind.SCALE: frozenset({Content.MOMENTS, Content.SUM, Content.CODE}),
    Kind.TRAIN: frozenset({Content.UPDATE, Content.HELD, Content.SUM, Content.CODE}),
    Kind.COLLECT: frozenset({Content.UPDATE, Content.CODE}),
    Kind.EVALUATE: frozenset({Content.MOMENTS, Content.SUM, Content.CODE}),
    Kind.REHEARSE: frozenset({Content.UPDATE, Content.CODE}),
    Kind.SHARE: frozenset({Content.SUM, Content.CODE}),
    Kind.MASK: frozenset({Content.SUM, Content.CODE}),
    Kind.CERTIFY: frozenset({Content.SUM, Content.CODE}),
    Kind.UNMASK: frozenset({Content.SUM, Content.CODE}),
}
"""How each kind may be answered. HELD: the update is on the site's disk until COLLECT asks for it. SUM: a message of a
secure sum, which is all that a site says where its plan asks for one. To REHEARSE comes an update of made-up rows."""


@dataclass(frozen=True)
class Order:
    """One request to a cohort.

    Attributes:
        kind: what to do.
        round: from 1; 0 for what comes before training. EVALUATE: the round whose model it is. REHEARSE: 0, and 1 where
            the same is asked again of sites that are warm.
        vector: TRAIN, EVALUATE, REHEARSE: the shared parameters, shape (shared values,), float32; where the strategy
            has a control, TRAIN and REHEARSE: as many values of it after them. Else empty.
        scaling: TRAIN, EVALUATE: means and deviations, each (columns,), that the federation has learnt; None: public
            ranges.
        hold: TRAIN: whether the update is to wait at the site until it is asked for by COLLECT.
        manifest: of the secure sum that this order begins, as privacy/secure_sum writes it; None: the answer is in
            clear.
    """

    kind: Kind
    round: int
    vector: NDArray[np.float32]
    scaling: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    hold: bool = False
    manifest: bytes | None = None


@dataclass(frozen=True)
class Reply:
    """One site's answer in clear.

    Attributes:
        site: its name.
        vector: the update, shape (shared values,), float32; or moments, float64; None when abstaining or held. In a
            simulation of sums in which nobody masks, either of them in whole steps, uint32.
        abstained: the code of a polite refusal, or None.
    """

    site: str
    vector: NDArray[np.float32] | NDArray[np.float64] | NDArray[np.uint32] | None
    abstained: str | None = None

    @property
    def content(self) -> Content:
        """What it is."""
        if self.vector is None:
            return Content.HELD if self.abstained is None else Content.CODE
        return Content.UPDATE if self._is(np.float32) else Content.MOMENTS

    @property
    def update(self) -> NDArray[np.float32] | None:
        """The vector where it is an update, which rides beside the body."""
        return cast(NDArray[np.float32], self.vector) if self._is(np.float32) else None

    @property
    def moments(self) -> NDArray[np.float64] | None:
        """The vector where it is moments, which stand in the body."""
        return cast(NDArray[np.float64], self.vector) if self._is(np.float64) else None

    def _is(self, dtype: type[np.floating[Any]]) -> bool:
        return self.vector is not None and self.vector.dtype == dtype


@dataclass(frozen=True)
class Said:
    """One site's answer to a step of a secure sum.

    Attributes:
        site: its name.
        message: of the form of its step (privacy/secure_sum/messages.py); None when abstaining.
        vector: MASK: the masked vector, shape (values,), uint32; else None.
        abstained: the code of a polite refusal, or None.
    """

    site: str
    message: bytes | None
    vector: NDArray[np.uint32] | None = None
    abstained: str | None = None


_ORDERS = frozenset({Kind.SCALE, Kind.TRAIN, Kind.COLLECT, Kind.EVALUATE, Kind.REHEARSE})
_MODELLED = frozenset({Kind.TRAIN, Kind.EVALUATE, Kind.REHEARSE})
_CODE = re.compile(r"local|JG-[a-z]+-[0-9]{3}")
_NO_VECTOR: NDArray[np.float32] = np.empty(0, np.float32)


def order_body(order: Order, deadline_s: float) -> bytes:
    """The body of an order: {deadline_s, hold, manifest, mean, deviation}; its vector rides beside it.

    Args:
        order: what is asked.
        deadline_s: seconds that the site has, from receipt.
    """
    mean, deviation = (None, None) if order.scaling is None else map(_bytes, order.scaling)
    terms = {"deadline_s": float(deadline_s), "hold": order.hold, "manifest": order.manifest}
    return cbor.encode(terms | {"mean": mean, "deviation": deviation})


def read_order(kind: str, round: int, body: bytes, vector: NDArray[np.float32] | None) -> tuple[Order, float]:  # noqa: A002 - the field's word
    """The order and its deadline in seconds.

    Raises:
        ValueError: not an order: an unknown kind, other keys, wrong types, parameters or terms that its kind does not
            have, lengths that differ, values not finite.
    """
    value = _mapping(body, {"deadline_s", "hold", "manifest", "mean", "deviation"})
    hold, manifest = value["hold"], value["manifest"]
    deadline_s = _seconds(value["deadline_s"])
    if not isinstance(hold, bool):
        raise ValueError("Expected hold to be true or false.")
    if manifest is not None and (not isinstance(manifest, bytes) or hold):
        raise ValueError("Expected the bytes of a manifest, and nothing held with it.")
    scaling = None
    if value["mean"] is not None or value["deviation"] is not None:
        scaling = _values(value["mean"]), _values(value["deviation"])
        if len(scaling[0]) != len(scaling[1]) or (scaling[1] <= 0).any():
            raise ValueError("Expected as many deviations > 0 as means.")
    given = _NO_VECTOR if vector is None else vector
    if not np.isfinite(given).all():
        raise ValueError("Expected finite parameters.")
    order = Order(Kind(kind), round, given, scaling, hold, manifest)
    if order.kind not in _ORDERS or (manifest and order.kind in (Kind.COLLECT, Kind.REHEARSE)):
        raise ValueError(f"Expected an order: {kind}.")
    modelled, rehearses = order.kind in _MODELLED, order.kind is Kind.REHEARSE
    learnt, holds = scaling is not None, hold and order.kind is not Kind.TRAIN
    if modelled != bool(given.size) or (learnt and (rehearses or not modelled)) or holds:
        raise ValueError(
            f"Expected parameters, and scaling, with train and evaluate only, hold with train only: {kind}."
        )
    return order, deadline_s


def order_digest(order: Order) -> bytes:
    """What an order asks, 32 bytes; when and how its answer is fetched is no part of that."""
    scaling = None if order.scaling is None else [part.astype("<f8").tobytes() for part in order.scaling]
    head = cbor.encode({"kind": order.kind.value, "round": order.round, "scaling": scaling})
    return hashlib.sha256(head + order.vector.astype("<f4", copy=False).tobytes()).digest()


def step_body(message: bytes, deadline_s: float) -> bytes:
    """The body of a step of a secure sum: {deadline_s, message}."""
    return cbor.encode({"deadline_s": float(deadline_s), "message": message})


def read_step(body: bytes) -> tuple[bytes, float]:
    """The message of a step, and its deadline in seconds.

    Raises:
        ValueError: other keys or types.
    """
    value = _mapping(body, {"deadline_s", "message"})
    if not isinstance(value["message"], bytes):
        raise ValueError("Expected the bytes of a message.")
    return value["message"], _seconds(value["deadline_s"])


def said_body(said: Said) -> bytes:
    """The body of an answer to a step: {content, abstained, message}; a masked vector rides beside it."""
    content = Content.SUM if said.abstained is None else Content.CODE
    return cbor.encode({"content": content.value, "abstained": said.abstained, "message": said.message})


def read_said(kind: Kind, site: str, body: bytes, vector: NDArray[np.uint32] | None) -> Said:
    """The answer of a site that the transport has named, to a step of this kind.

    Raises:
        ValueError: not an answer: other keys, wrong types, a vector to another kind than MASK.
    """
    value = _mapping(body, {"content", "abstained", "message"})
    message, code = value["message"], _code(value["abstained"])
    if (code is None) != isinstance(message, bytes) or (message is not None and code is not None):
        raise ValueError("Expected a message or a code.")
    content = Content.SUM if code is None else Content.CODE
    if value["content"] != content or content not in ANSWERS[kind]:
        raise ValueError(f"Expected {kind} to be answered as it may be: {content}.")
    if vector is not None and (kind is not Kind.MASK or code is not None):
        raise ValueError("Expected a vector with mask only.")
    return Said(site, cast("bytes | None", message), vector, code)


def reply_body(reply: Reply) -> bytes:
    """The body of a reply: {content, abstained, moments}; an update rides beside it."""
    moments = None if reply.moments is None else _bytes(reply.moments)
    return cbor.encode({"content": reply.content.value, "abstained": reply.abstained, "moments": moments})


def read_reply(kind: Kind, site: str, body: bytes, vector: NDArray[np.float32] | None) -> Reply:
    """The reply of a site that the transport has named, to an order of this kind.

    Raises:
        ValueError: not a reply: other keys, wrong types, values not finite, something else than it says or than the
            order may be answered with.
    """
    value = _mapping(body, {"content", "abstained", "moments"})
    moments = None if value["moments"] is None else _values(value["moments"])
    code = _code(value["abstained"])
    if sum(part is not None for part in (code, moments, vector)) > 1:
        raise ValueError("Expected no more than one of update, moments and code.")
    if vector is not None and not np.isfinite(vector).all():
        raise ValueError("Expected a finite update.")
    reply = Reply(site, moments if vector is None else vector, code)
    if value["content"] != reply.content or reply.content not in ANSWERS[kind]:
        raise ValueError(f"Expected {kind} to be answered as it may be: {reply.content}.")
    return reply


def _mapping(body: bytes, keys: set[str]) -> dict[str, object]:
    value = cbor.decode(body)
    if not isinstance(value, dict) or set(value) != keys:
        raise ValueError(f"Expected the keys {', '.join(sorted(keys))}.")
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, float) or value <= 0:
        raise ValueError("Expected deadline_s > 0.")
    return value


def _code(value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and _CODE.fullmatch(value)):
        raise ValueError("Expected a code.")
    return value


def _bytes(values: NDArray[np.float64] | NDArray[np.float32]) -> bytes:
    return values.astype("<f8").tobytes()


def _values(data: object) -> NDArray[np.float64]:
    if not isinstance(data, bytes) or len(data) % 8:
        raise ValueError("Expected float64 values.")
    values = np.frombuffer(data, "<f8").astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("Expected finite values.")
    return values
