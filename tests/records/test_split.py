"""Laws of the hold-out rule."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.errors import DataError
from jangin.records.split import HOLDOUT_SHARE, Split, draw, draw_both_sides, fraction

keys = st.binary(min_size=32, max_size=32)
ids = st.frozensets(st.text(st.characters(codec="utf-8"), min_size=1), max_size=30)


@given(keys, st.text(st.characters(codec="utf-8")))
def test_a_fraction_is_the_head_of_the_hmac(key: bytes, identifier: str) -> None:
    head = hmac.new(key, identifier.encode(), hashlib.sha256).hexdigest()[:14]
    assert 0 <= fraction(key, identifier) < 1
    assert fraction(key, identifier) == pytest.approx(int(head, 16) / 16**14)


@given(keys, ids)
def test_every_unit_is_on_one_side(key: bytes, units: frozenset[str]) -> None:
    split = draw(key, units)
    assert sorted(split.train + split.holdout) == sorted(units)


@given(keys, keys, ids, ids)
def test_whoever_was_drawn_once_stays(key: bytes, other: bytes, before: frozenset[str], new: frozenset[str]) -> None:
    first = draw(key, before)
    second = draw(other, before | new, first)
    assert set(first.train) <= set(second.train)
    assert set(first.holdout) <= set(second.holdout)


@given(keys, ids, ids)
def test_with_one_key_the_order_of_arrival_changes_nothing(
    key: bytes, before: frozenset[str], new: frozenset[str]
) -> None:
    assert draw(key, before | new, draw(key, before)) == draw(key, before | new)


def test_one_in_five_is_set_aside() -> None:
    split = draw(bytes(32), [f"episode-{number}" for number in range(20_000)])
    assert len(split.holdout) / 20_000 == pytest.approx(HOLDOUT_SHARE, abs=0.01)


@given(keys, st.text(min_size=1, max_size=3))
def test_one_unit_cannot_be_split(key: bytes, unit: str) -> None:
    with pytest.raises(DataError, match="JG-data-029 here: 1 "):
        draw_both_sides([key] * 3, [unit], where="here")


def test_the_first_key_that_leaves_no_side_empty_is_taken() -> None:
    fresh = [bytes([number]) * 32 for number in range(50)]
    key, split = draw_both_sides(fresh, ["a", "b"])
    assert split == draw(key, ["a", "b"])
    assert {len(split.train), len(split.holdout)} == {1}
    earlier = [draw(passed, ["a", "b"]) for passed in fresh[: fresh.index(key)]]
    assert all(Split(("a", "b")) == passed or not passed.train for passed in earlier)
