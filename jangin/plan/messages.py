"""What server and sites say to each other in a round: values, and the canonical CBOR bodies that carry them.

The law: an order carries only what every site gets alike; a reply carries what `ANSWERS` allows for its kind, and no
loss and no name of a person. A vector of moments counts units: noised under privacy, plain without. float32 vectors
ride beside the body; float64 ones (moments, scaling) in it, exactly.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from jangin.codec import cbor

__all__ = ["ANSWERS", "Content", "Kind", "Order", "Reply", "order_body", "read_order", "read_reply", "reply_body"]


class Kind(StrEnum):
    """What is asked of a site."""

    SCALE = "scale"
    TRAIN = "train"
    COLLECT = "collect"


class Content(StrEnum):
    """What a reply is."""

    MOMENTS = "moments"
    UPDATE = "update"
    HELD = "held"
    CODE = "code"


ANSWERS: Final[Mapping[Kind, frozenset[Content]]] = {
    Kind.SCALE: frozenset({Content.MOMENTS, Content.CODE}),
    Kind.TRAIN: frozenset({Content.UPDATE, Content.HELD, Content.CODE}),
    Kind.COLLECT: frozenset({Content.UPDATE, Content.CODE}),
}
"""How each kind may be answered. HELD: the update is on the site's disk until COLLECT asks for it."""


@dataclass(frozen=True)
class Order:
    """One request to a cohort.

    Attributes:
        kind: what to do.
        round: from 1; 0 for what comes before training.
        vector: TRAIN: the shared parameters, shape (shared values,), float32. Else empty.
        scaling: TRAIN: means and deviations, each (columns,), that the federation has learnt; None: public ranges.
        hold: TRAIN: whether the update is to wait at the site until it is asked for by COLLECT.
    """

    kind: Kind
    round: int
    vector: NDArray[np.float32]
    scaling: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    hold: bool = False


@dataclass(frozen=True)
class Reply:
    """One site's answer.

    Attributes:
        site: its name.
        vector: the update, shape (shared values,), float32; or moments, float64; None when abstaining or held.
        abstained: the code of a polite refusal, or None.
    """

    site: str
    vector: NDArray[np.float32] | NDArray[np.float64] | None
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


_CODE = re.compile(r"local|JG-[a-z]+-[0-9]{3}")
_NO_VECTOR: NDArray[np.float32] = np.empty(0, np.float32)


def order_body(order: Order, deadline_s: float) -> bytes:
    """The body of an order: {deadline_s, hold, mean, deviation}; its vector rides beside it.

    Args:
        order: what is asked.
        deadline_s: seconds that the site has, from receipt.
    """
    mean, deviation = (None, None) if order.scaling is None else map(_bytes, order.scaling)
    terms = {"deadline_s": float(deadline_s), "hold": order.hold}
    return cbor.encode(terms | {"mean": mean, "deviation": deviation})


def read_order(kind: str, round: int, body: bytes, vector: NDArray[np.float32] | None) -> tuple[Order, float]:  # noqa: A002 - the field's word
    """The order and its deadline in seconds.

    Raises:
        ValueError: not an order: an unknown kind, other keys, wrong types, parameters or terms that its kind does not
            have, lengths that differ, values not finite.
    """
    value = _mapping(body, {"deadline_s", "hold", "mean", "deviation"})
    deadline_s, hold = value["deadline_s"], value["hold"]
    if not isinstance(deadline_s, float) or deadline_s <= 0:
        raise ValueError("Expected deadline_s > 0.")
    if not isinstance(hold, bool):
        raise ValueError("Expected hold to be true or false.")
    scaling = None
    if value["mean"] is not None or value["deviation"] is not None:
        scaling = _values(value["mean"]), _values(value["deviation"])
        if len(scaling[0]) != len(scaling[1]) or (scaling[1] <= 0).any():
            raise ValueError("Expected as many deviations > 0 as means.")
    given = _NO_VECTOR if vector is None else vector
    if not np.isfinite(given).all():
        raise ValueError("Expected finite parameters.")
    order = Order(Kind(kind), round, given, scaling, hold)
    trains = order.kind is Kind.TRAIN
    if trains != bool(given.size) or ((scaling is not None or hold) and not trains):
        raise ValueError(f"Expected parameters, scaling and hold with train only, and parameters always: {kind}.")
    return order, deadline_s


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
    code = value["abstained"]
    if code is not None and not (isinstance(code, str) and _CODE.fullmatch(code)):
        raise ValueError("Expected a code.")
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


def _bytes(values: NDArray[np.float64] | NDArray[np.float32]) -> bytes:
    return values.astype("<f8").tobytes()


def _values(data: object) -> NDArray[np.float64]:
    if not isinstance(data, bytes) or len(data) % 8:
        raise ValueError("Expected float64 values.")
    values = np.frombuffer(data, "<f8").astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("Expected finite values.")
    return values
