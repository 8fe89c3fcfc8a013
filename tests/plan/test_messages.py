"""Laws of messages: frozen, and nothing in a reply beside what its order may be answered with."""

from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jangin.codec import cbor
from jangin.plan.messages import (
    ANSWERS,
    Content,
    Kind,
    Order,
    Reply,
    Said,
    order_body,
    read_order,
    read_reply,
    read_said,
    read_step,
    reply_body,
    said_body,
    step_body,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
MOMENTS = arrays(np.float64, st.integers(0, 9), elements=FINITE)
UPDATE = np.ones(3, np.float32)
NOTHING = np.empty(0, np.float32)


def test_a_reply_carries_a_vector_or_a_code_and_nothing_else() -> None:
    """No count of examples, no loss, no time: each would be a release that nobody noised or charged."""
    assert [field.name for field in fields(Reply)] == ["site", "vector", "abstained"]


def test_an_order_is_the_same_for_every_site() -> None:
    assert [field.name for field in fields(Order)] == ["kind", "round", "vector", "scaling", "hold", "manifest"]


def test_an_answer_to_a_step_of_a_sum_carries_a_message_a_masked_vector_or_a_code() -> None:
    assert [field.name for field in fields(Said)] == ["site", "message", "vector", "abstained"]


@pytest.mark.parametrize("kind", Kind)
def test_an_answer_to_a_step_is_taken_as_the_table_says(kind: Kind) -> None:
    words = np.ones(3, np.uint32) if kind is Kind.MASK else None
    for said in (Said("site-1", b"x", words), Said("site-1", None, None, "local")):
        if (Content.SUM if said.message else Content.CODE) in ANSWERS[kind]:
            assert read_said(kind, "site-1", said_body(said), said.vector) == said
        else:
            with pytest.raises(ValueError, match="answered"):
                read_said(kind, "site-1", said_body(said), said.vector)


@pytest.mark.parametrize(
    ("body", "vector"),
    [
        ({"content": "sum", "abstained": None, "message": None}, None),
        ({"content": "code", "abstained": "local", "message": b"x"}, None),
        ({"content": "code", "abstained": None, "message": b"x"}, None),
        ({"content": "sum", "abstained": None, "message": "x"}, None),
        ({"content": "sum", "abstained": None, "message": b"x", "loss": 0.1}, None),
        ({"content": "code", "abstained": "local", "message": None}, np.ones(3, np.uint32)),
        ({"content": "code", "abstained": "master kim was ill", "message": None}, None),
    ],
)
def test_what_is_no_answer_to_a_step_is_refused(body: object, vector: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="Expected"):
        read_said(Kind.MASK, "site-1", cbor.encode(body), vector)


def test_a_step_arrives_as_it_was_sent() -> None:
    assert read_step(step_body(b"message", 3.0)) == (b"message", 3.0)
    for wrong in ({"deadline_s": 0.0, "message": b""}, {"deadline_s": 1.0, "message": ""}, {"message": b""}):
        with pytest.raises(ValueError, match="Expected"):
            read_step(cbor.encode(wrong))


def test_messages_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Order(Kind.TRAIN, 1, np.zeros(2, np.float32)).round = 2  # type: ignore[misc]


@given(mean=MOMENTS, deadline=st.floats(1e-3, 1e6))
def test_an_order_arrives_as_it_was_sent(mean: np.ndarray, deadline: float) -> None:
    deviation = np.abs(mean) + 1.0
    order = Order(Kind.TRAIN, 7, UPDATE, (mean, deviation), hold=deadline > 1)
    arrived, deadline_s = read_order("train", 7, order_body(order, deadline), UPDATE)
    assert (arrived.kind, arrived.round, arrived.hold, deadline_s) == (Kind.TRAIN, 7, order.hold, deadline)
    assert arrived.scaling is not None
    assert all(np.array_equal(one, other) for one, other in zip(arrived.scaling, (mean, deviation), strict=True))


@pytest.mark.parametrize("kind", [Kind.SCALE, Kind.COLLECT])
def test_an_order_without_parameters_or_scaling_arrives_without(kind: Kind) -> None:
    arrived, _ = read_order(kind, 0, order_body(Order(kind, 0, NOTHING), 1.0), None)
    assert arrived.vector.tolist() == []
    assert (arrived.scaling, arrived.hold) == (None, False)


@given(moments=MOMENTS)
def test_moments_arrive_to_the_last_bit(moments: np.ndarray) -> None:
    arrived = read_reply(Kind.SCALE, "site-1", reply_body(Reply("site-1", moments)), None)
    assert arrived.site == "site-1"
    assert np.array_equal(arrived.vector, moments)


REPLIES = {
    Content.MOMENTS: Reply("site-1", np.ones(3)),
    Content.UPDATE: Reply("site-1", UPDATE),
    Content.HELD: Reply("site-1", None),
    Content.CODE: Reply("site-1", None, "local"),
}


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("content", REPLIES)
def test_a_reply_is_taken_as_the_table_says(kind: Kind, content: Content) -> None:
    sent = REPLIES[content]
    assert sent.content is content
    if content in ANSWERS[kind]:
        arrived = read_reply(kind, "site-1", reply_body(sent), sent.update)
        assert arrived.content is content
        assert arrived.update is sent.update
        assert arrived.abstained == sent.abstained
    else:
        with pytest.raises(ValueError, match="answered"):
            read_reply(kind, "site-1", reply_body(sent), sent.update)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("body", "vector"),
    [
        ({"content": "update", "abstained": None, "moments": None}, None),
        ({"content": "moments", "abstained": None, "moments": None}, None),
        ({"content": "held", "abstained": None, "moments": None}, UPDATE),
        ({"content": "code", "abstained": "local", "moments": None}, UPDATE),
        ({"content": "update", "abstained": None, "moments": bytes(8)}, UPDATE),
        ({"content": "code", "abstained": "master kim was ill", "moments": None}, None),
        ({"content": "moments", "abstained": None, "moments": bytes(7)}, None),
        ({"content": "moments", "abstained": None, "moments": np.array([np.nan]).tobytes()}, None),
        ({"content": "update", "abstained": None, "moments": None}, np.array([np.inf], np.float32)),
        ({"content": "update", "abstained": None, "moments": None, "loss": 0.1}, UPDATE),
        ({"abstained": None, "moments": None}, UPDATE),
        ([], UPDATE),
    ],
)
def test_what_is_not_a_reply_is_refused(kind: Kind, body: object, vector: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="Expected"):
        read_reply(kind, "site-1", cbor.encode(body), vector)


@pytest.mark.parametrize(
    "change",
    [
        {"deadline_s": 0.0},
        {"deadline_s": "soon"},
        {"mean": bytes(8)},
        {"mean": bytes(8), "deviation": bytes(8)},
        {"mean": bytes(16), "deviation": np.ones(1).tobytes()},
        {"code": "print('here')"},
        {"hold": 1},
    ],
)
def test_what_is_not_an_order_is_refused(change: dict[str, object]) -> None:
    body = {"deadline_s": 1.0, "hold": False, "mean": None, "deviation": None, **change}
    with pytest.raises(ValueError, match="Expected"):
        read_order("train", 1, cbor.encode(body), UPDATE)


@pytest.mark.parametrize(
    ("kind", "vector", "terms"),
    [
        (Kind.TRAIN, None, {}),
        (Kind.SCALE, UPDATE, {}),
        (Kind.COLLECT, UPDATE, {}),
        (Kind.SCALE, None, {"hold": True}),
        (Kind.COLLECT, None, {"scaling": (np.zeros(1), np.ones(1))}),
        (Kind.EVALUATE, None, {}),
        (Kind.EVALUATE, UPDATE, {"hold": True}),
    ],
)
def test_an_order_carries_what_its_kind_has(kind: Kind, vector: Any, terms: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected parameters"):
        read_order(kind, 1, order_body(Order(kind, 1, NOTHING, **terms), 1.0), vector)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="run_code"):
        read_order("run_code", 1, order_body(Order(Kind.TRAIN, 1, UPDATE), 1.0), UPDATE)


@pytest.mark.fuzz
@given(data=st.binary(max_size=200))
def test_no_bytes_crash_the_readers(data: bytes) -> None:
    for read in (lambda: read_reply(Kind.TRAIN, "site-1", data, None), lambda: read_order("train", 1, data, UPDATE)):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says, it is that
            read()
