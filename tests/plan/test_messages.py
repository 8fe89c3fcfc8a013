"""Laws of messages: frozen, and nothing in a reply beside one vector or one code."""

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from jangin.plan.messages import Kind, Order, Reply


def test_a_reply_carries_a_vector_or_a_code_and_nothing_else() -> None:
    """No count of examples, no loss, no time: each would be a release that nobody noised or charged."""
    assert [field.name for field in fields(Reply)] == ["site", "vector", "abstained"]


def test_an_order_is_the_same_for_every_site() -> None:
    assert [field.name for field in fields(Order)] == ["kind", "round", "vector"]


def test_messages_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Order(Kind.TRAIN, 1, np.zeros(2, np.float32)).round = 2  # type: ignore[misc]
