"""Laws of canonical CBOR: one value, one string of bytes."""

import hashlib
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jangin.codec import cbor

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.binary(max_size=40)
    | st.text(max_size=40)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=30), inner, max_size=5),
    max_leaves=20,
)
# Values that Python calls equal, or that a careless codec would write alike.
ALIKE = st.recursive(
    st.sampled_from([None, False, 0, 0.0, -0.0, "", b"", True, 1, 1.0, "1", b"1", 2**53, float(2**53)]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["", "0", "1"]), inner, max_size=2),
    max_leaves=4,
)

# From RFC 8949, Appendix A.
PUBLISHED = [
    (0, "00"),
    (23, "17"),
    (24, "1818"),
    (1000000000000, "1b000000e8d4a51000"),
    (18446744073709551615, "1bffffffffffffffff"),
    (-18446744073709551616, "3bffffffffffffffff"),
    (-1000, "3903e7"),
    (0.0, "f90000"),
    (-0.0, "f98000"),
    (1.0, "f93c00"),
    (1.1, "fb3ff199999999999a"),
    (65504.0, "f97bff"),
    (100000.0, "fa47c35000"),
    (3.4028234663852886e38, "fa7f7fffff"),
    (1.0e300, "fb7e37e43c8800759c"),
    (5.960464477539063e-8, "f90001"),
    (-4.1, "fbc010666666666666"),
    (False, "f4"),
    (True, "f5"),
    (None, "f6"),
    (b"", "40"),
    (b"\x01\x02\x03\x04", "4401020304"),
    ("", "60"),
    ("IETF", "6449455446"),
    ("水", "63e6b0b4"),
    ([], "80"),
    ([1, [2, 3], [4, 5]], "8301820203820405"),
    ({}, "a0"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
]


def written(value: Any) -> object:
    """The value with its types and signs, so that only what should be written alike is equal."""
    match value:
        case list():
            return ("list", *map(written, value))
        case Mapping():
            return ("dict", frozenset((key, written(item)) for key, item in value.items()))
        case _:
            return type(value).__name__, repr(value)


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(("value", "expected"), PUBLISHED)
def test_the_published_vectors(value: object, expected: str) -> None:
    assert cbor.encode(value).hex() == expected
    assert written(cbor.decode(bytes.fromhex(expected))) == written(value)


def test_keys_are_ordered_by_their_encoded_bytes() -> None:
    # Written by hand: the length stands before the text, so "b" comes before "aa", and "é" (two bytes) after "zz".
    expected = "a4" + "616201" + "62616102" + "627a7a03" + "62c3a904"
    assert cbor.encode({"é": 4, "zz": 3, "aa": 2, "b": 1}).hex() == expected


def test_the_digest_is_sha256_over_tag_and_bytes() -> None:
    expected = "81693a5af6dc2f8c5c5f668f012969612bc2a5991f16821285dce1b4eac17d35"
    digest = cbor.digest("plan", {"a": 1, "b": [2, 3]})
    assert digest == hashlib.sha256(b"jangin/plan\x00" + bytes.fromhex("a26161016162820203")).digest()
    assert digest.hex() == expected


def test_one_value_has_another_digest_in_another_domain() -> None:
    assert cbor.digest("plan", {}) != cbor.digest("message", {})


@pytest.mark.fuzz
@given(VALUES)
def test_a_value_survives(value: object) -> None:
    assert written(cbor.decode(cbor.encode(value))) == written(value)


@pytest.mark.fuzz
@given(ALIKE, ALIKE)
def test_two_values_share_a_digest_only_if_they_are_one(one: object, other: object) -> None:
    same = written(one) == written(other)
    assert (cbor.digest("test", one) == cbor.digest("test", other)) is same


@pytest.mark.fuzz
@given(st.dictionaries(st.text(max_size=30), LEAVES, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(value: dict[str, object], random: Any) -> None:
    keys = list(value)
    random.shuffle(keys)
    assert cbor.encode({key: value[key] for key in keys}) == cbor.encode(value)


@pytest.mark.fuzz
@given(VALUES, st.data())
def test_mutated_bytes_are_refused_unless_they_are_another_values_own(value: object, data: st.DataObject) -> None:
    mutated = bytearray(cbor.encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(mutated)))
        piece = data.draw(st.binary(max_size=3))
        mutated[place : place + data.draw(st.integers(0, 2))] = piece
    refused_or_canonical(bytes(mutated))


@pytest.mark.fuzz
@given(st.binary(max_size=40))
@example(bytes.fromhex("d81c81d81d00"))  # a list that holds itself
@example(bytes.fromhex("c5821b7fffffffffffffff01"))  # 2 ** (2 ** 63 - 1)
@example(bytes.fromhex("9bffffffffffffffff"))  # a list of 2 ** 64 - 1 items
@example(b"\x81" * 100_000)
def test_any_bytes_are_refused_or_canonical(data: bytes) -> None:
    refused_or_canonical(data)


def refused_or_canonical(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except ValueError:
        return
    assert cbor.encode(value) == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("1801", "an integer longer than it needs to be"),
        ("fb3ff0000000000000", "a float longer than it needs to be"),
        ("780161", "a text whose length is longer than it needs to be"),
        ("9f01ff", "a list without a length"),
        ("7f6161ff", "a text in pieces"),
        ("a2616201616102", "keys out of order"),
        ("a2616101616102", "a key twice"),
        ("a10102", "a key that is no text"),
        ("0000", "bytes after the value"),
        ("", "nothing"),
        ("6261", "a text that breaks off"),
        ("62c328", "a text that is not UTF-8"),
        ("f97e00", "not a number"),
        ("f97c00", "infinity"),
        ("f7", "undefined"),
        ("c24101", "a tagged integer"),
        ("d9d9f701", "a self-described value"),
        ("c074323031332d30332d32315432303a30343a30305a", "a date"),
    ],
)
def test_what_is_not_canonical_is_refused(data: str, why: str) -> None:
    with pytest.raises(ValueError, match="Expected"):
        cbor.decode(bytes.fromhex(data))


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 2**64, -(2**64) - 1, {1: 2}, {"a": {b"b": 1}}, {1, 2}, bytearray(b"a"), "\ud800", 1j],
)
def test_what_is_outside_the_data_model_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"Expected|surrogates"):
        cbor.encode([value])


def test_what_can_be_written_can_be_read_at_any_depth() -> None:
    assert cbor.decode(cbor.encode(nested(64))) == nested(64)
    for depth in (65, 100_000):
        with pytest.raises(ValueError, match="Expected at most 64 levels"):
            cbor.encode(nested(depth))
        with pytest.raises(ValueError, match="Expected CBOR"):
            cbor.decode(b"\x81" * depth + b"\x01")


def test_tuples_and_enums_are_written_as_what_they_hold() -> None:
    class Word(StrEnum):
        ONE = "one"

    class Number(IntEnum):
        ONE = 1

    assert cbor.encode((Word.ONE, Number.ONE)) == cbor.encode(["one", 1])
