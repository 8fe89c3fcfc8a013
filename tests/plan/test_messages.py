"""Laws of messages: frozen, and nothing in a reply beside one vector or one code."""

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jangin.codec import cbor
from jangin.plan.messages import Kind, Order, Reply, order_body, read_order, read_reply, reply_body

FINITE = st.floats(allow_nan=False, allow_infinity=False)
MOMENTS = arrays(np.float64, st.integers(0, 9), elements=FINITE)
UPDATE = np.ones(3, np.float32)


def test_a_reply_carries_a_vector_or_a_code_and_nothing_else() -> None:
    """No count of examples, no loss, no time: each would be a release that nobody noised or charged."""
    assert [field.name for field in fields(Reply)] == ["site", "vector", "abstained"]


def test_an_order_is_the_same_for_every_site() -> None:
    assert [field.name for field in fields(Order)] == ["kind", "round", "vector", "scaling"]


def test_messages_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Order(Kind.TRAIN, 1, np.zeros(2, np.float32)).round = 2  # type: ignore[misc]


@given(mean=MOMENTS, deadline=st.floats(1e-3, 1e6))
def test_an_order_arrives_as_it_was_sent(mean: np.ndarray, deadline: float) -> None:
    deviation = np.abs(mean) + 1.0
    order = Order(Kind.TRAIN, 7, UPDATE, (mean, deviation))
    arrived, deadline_s = read_order("train", 7, order_body(order, deadline), UPDATE)
    assert (arrived.kind, arrived.round, deadline_s) == (Kind.TRAIN, 7, deadline)
    assert arrived.scaling is not None
    assert all(np.array_equal(one, other) for one, other in zip(arrived.scaling, (mean, deviation), strict=True))


def test_an_order_without_parameters_or_scaling_arrives_without() -> None:
    arrived, _ = read_order("scale", 0, order_body(Order(Kind.SCALE, 0, np.empty(0, np.float32)), 1.0), None)
    assert arrived.vector.tolist() == []
    assert arrived.scaling is None


@given(moments=MOMENTS)
def test_moments_arrive_to_the_last_bit(moments: np.ndarray) -> None:
    arrived = read_reply("site-1", reply_body(Reply("site-1", moments)), None)
    assert arrived.site == "site-1"
    assert np.array_equal(arrived.vector, moments)


def test_an_update_rides_beside_the_body_and_a_code_alone() -> None:
    assert read_reply("site-1", reply_body(Reply("site-1", UPDATE)), UPDATE).vector is UPDATE
    assert read_reply("site-1", reply_body(Reply("site-1", None, "local")), None).abstained == "local"


@pytest.mark.parametrize(
    ("body", "vector"),
    [
        ({"abstained": None, "moments": None}, None),
        ({"abstained": "local", "moments": None}, UPDATE),
        ({"abstained": None, "moments": bytes(8)}, UPDATE),
        ({"abstained": "master kim was ill", "moments": None}, None),
        ({"abstained": None, "moments": bytes(7)}, None),
        ({"abstained": None, "moments": np.array([np.nan]).tobytes()}, None),
        ({"abstained": None, "moments": None}, np.array([np.inf], np.float32)),
        ({"abstained": None, "moments": None, "loss": 0.1}, UPDATE),
        ({"abstained": None}, UPDATE),
        ([], UPDATE),
    ],
)
def test_what_is_not_a_reply_is_refused(body: object, vector: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="Expected"):
        read_reply("site-1", cbor.encode(body), vector)


@pytest.mark.parametrize(
    "change",
    [
        {"deadline_s": 0.0},
        {"deadline_s": "soon"},
        {"mean": bytes(8)},
        {"mean": bytes(8), "deviation": bytes(8)},
        {"mean": bytes(16), "deviation": np.ones(1).tobytes()},
        {"code": "print('here')"},
    ],
)
def test_what_is_not_an_order_is_refused(change: dict[str, object]) -> None:
    body = {"deadline_s": 1.0, "mean": None, "deviation": None, **change}
    with pytest.raises(ValueError, match="Expected"):
        read_order("train", 1, cbor.encode(body), UPDATE)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="run_code"):
        read_order("run_code", 1, order_body(Order(Kind.TRAIN, 1, UPDATE), 1.0), UPDATE)


@pytest.mark.fuzz
@given(data=st.binary(max_size=200))
def test_no_bytes_crash_the_readers(data: bytes) -> None:
    for read in (lambda: read_reply("site-1", data, None), lambda: read_order("train", 1, data, UPDATE)):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says, it is that
            read()
