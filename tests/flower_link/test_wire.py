"""Laws of the message form: what is packed comes back whole, and nothing else comes through."""

import contextlib
import tracemalloc
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jangin.errors import LinkError
from jangin.flower_link import wire as form
from jangin.flower_link.wire import MOST_OBJECTS, Wire, inflate, pack, parts, unpack

VECTORS = st.none() | hnp.arrays(
    st.sampled_from([np.dtype("<f4"), np.dtype("<u4"), np.dtype(">f4")]), st.integers(0, 40)
)
WIRES = st.builds(
    Wire,
    kind=st.from_regex(r"[a-z][a-z_]{0,31}", fullmatch=True),
    campaign=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True),
    round=st.integers(0, 2**31 - 1),
    body=st.binary(max_size=60),
    vector=VECTORS,
)
HEADER: dict[str, Any] = {"v": 1, "kind": "train", "campaign": "c", "round": 0, "body": b""}


def objects(records: RecordDict) -> tuple[str, dict[str, bytes]]:
    """What Flower stores of a message with these records: its id, and every object by id."""
    message = make_message(Metadata(1, "", 1, 2, "", "", 1.8e9, 60.0, "query"), records)
    nested = get_all_nested_objects(message)
    return message.object_id, {object_id: part.deflate() for object_id, part in nested.items()}


def same(one: Wire, other: Wire) -> bool:
    vectors = (one.vector, other.vector)
    if (one.vector is None) != (other.vector is None):
        return False
    if one.vector is not None and other.vector is not None:
        np.testing.assert_array_equal(*vectors)
        assert other.vector.dtype.name == one.vector.dtype.name
    return (one.kind, one.campaign, one.round, one.body) == (other.kind, other.campaign, other.round, other.body)


@given(WIRES)
def test_a_message_survives_its_records_and_its_bytes(wire: Wire) -> None:
    assert same(wire, unpack(pack(wire)))
    assert same(wire, inflate(*objects(pack(wire))))


@pytest.mark.parametrize("values", [np.zeros(5_000_000), np.arange(5_000_000) % 1_310_720, np.arange(5_000_000)])
def test_a_vector_of_many_parts_is_whole_however_many_are_alike(values: Any) -> None:
    wire = Wire("train", "c", 0, b"", values.astype(np.float32))
    root, contents = objects(pack(wire))
    assert same(wire, inflate(root, contents))
    assert contents == {}


def test_a_message_is_read_in_little_more_room_than_it_takes() -> None:
    tracemalloc.start()
    try:
        root, contents = objects(pack(Wire("train", "c", 0, b"", np.arange(5_000_000, dtype=np.float32))))
        sent = sum(map(len, contents.values()))
        tracemalloc.reset_peak()
        wire = inflate(root, contents)
        assert wire.vector is not None
        assert wire.vector.nbytes < tracemalloc.get_traced_memory()[1] < sent + 3 * 5 * 2**20
    finally:
        tracemalloc.stop()


def test_parts_that_repeat_beyond_all_bounds_are_refused_before_they_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "MOST_VALUES", 2**16)
    root, contents = objects(pack(Wire("train", "c", 0, b"", np.ones(2**16, np.float32))))
    array = next(object_id for object_id, content in contents.items() if content.startswith(b"Array "))
    contents[array] = contents[array].replace(b"[0]", b"[" + b"0, " * 4_000 + b"0]")
    tracemalloc.start()
    try:
        with refused():
            inflate(root, contents)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@given(hnp.arrays(np.dtype(">f4"), 3))
def test_a_vector_is_little_endian_on_the_wire(vector: Any) -> None:
    record = pack(Wire("train", "c", 0, b"", vector))["vector"]
    assert isinstance(record, ArrayRecord)
    assert record["vector"].data == vector.astype("<f4").tobytes()


def test_neither_body_nor_vector_is_shown() -> None:
    assert repr(Wire("train", "c", 3, b"secret", np.ones(2, np.float32))) == (
        "Wire(kind='train', campaign='c', round=3)"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": ""},
        {"kind": "Train"},
        {"kind": "train\n"},
        {"kind": b"train"},
        {"kind": "x" * 33},
        {"campaign": ""},
        {"campaign": "../c"},
        {"campaign": "c" * 129},
        {"campaign": "캠페인"},
        {"round": -1},
        {"round": 2**31},
        {"round": True},
        {"round": 1.0},
        {"body": "text"},
        {"body": bytearray(b"x")},
        {"vector": np.ones((2, 2), np.float32)},
        {"vector": np.ones(2, np.float64)},
        {"vector": np.ones(2, np.int32)},
        {"vector": [1.0]},
        {"vector": np.float32(1)},
    ],
)
def test_a_value_of_another_form_is_never_sent(wrong: dict[str, Any]) -> None:
    with refused():
        Wire(**{"kind": "train", "campaign": "c", "round": 0} | wrong)


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = objects(pack(Wire("train", "c", 0, b"12345", np.ones(5, np.float32))))
    monkeypatch.setattr(form, "MOST_BYTES", sum(map(len, whole[1].values())) - 1)
    with refused("more than"):
        inflate(*whole)
    monkeypatch.setattr(form, "MOST_BODY_BYTES", 4)
    with refused("at most 4"):
        Wire("train", "c", 0, b"12345")
    monkeypatch.setattr(form, "MOST_VALUES", 4)
    with refused("more than 4"):
        Wire("train", "c", 0, b"", np.ones(5, np.float32))


def test_a_tree_of_too_many_parts_is_refused() -> None:
    from flwr.proto.message_pb2 import ObjectTree

    leaves = [ObjectTree(object_id=f"{number:064x}") for number in range(MOST_OBJECTS)]
    assert len(parts(ObjectTree(object_id=leaves[0].object_id, children=leaves))) == MOST_OBJECTS
    with refused("more than"):
        parts(ObjectTree(object_id="root", children=leaves))


def arrays(**given: Any) -> ArrayRecord:
    whole = {"dtype": "float32", "shape": (1,), "stype": "jangin.little-endian", "data": b"1234"} | given
    return ArrayRecord({"vector": Array(**whole)})


@pytest.mark.parametrize(
    "records",
    [
        {},
        {"jangin": MetricRecord({"v": 1})},
        {"jangin": ConfigRecord({})},
        {"jangin": ConfigRecord(HEADER | {"note": "x"})},
        {"jangin": ConfigRecord({key: value for key, value in HEADER.items() if key != "body"})},
        {"jangin": ConfigRecord(HEADER), "more": ConfigRecord({})},
        {"jangin": ConfigRecord(HEADER | {"v": 2})},
        {"jangin": ConfigRecord(HEADER | {"v": True})},
        {"jangin": ConfigRecord(HEADER | {"v": 1.0})},
        {"jangin": ConfigRecord(HEADER | {"round": "0"})},
        {"jangin": ConfigRecord(HEADER | {"body": "text"})},
        {"jangin": ConfigRecord(HEADER | {"kind": ["train"]})},
        {"jangin": ConfigRecord(HEADER), "vector": ConfigRecord({})},
        {"jangin": ConfigRecord(HEADER), "vector": ArrayRecord()},
        {"jangin": ConfigRecord(HEADER), "vector": ArrayRecord([np.ones(1, np.float32)])},
        {"jangin": ConfigRecord(HEADER), "vector": arrays(stype="numpy.ndarray")},
        {"jangin": ConfigRecord(HEADER), "vector": arrays(dtype="float64", data=b"12345678")},
        {"jangin": ConfigRecord(HEADER), "vector": arrays(dtype="object")},
        {"jangin": ConfigRecord(HEADER), "vector": arrays(shape=(2,))},
        {"jangin": ConfigRecord(HEADER), "vector": arrays(shape=(1, 1))},
        {"jangin": ConfigRecord(HEADER), "vector": arrays(shape=())},
        {"jangin": ConfigRecord(HEADER), "vector": arrays(data=b"123")},
        {"jangin": ConfigRecord(HEADER), "vector": arrays(shape=(2**40,))},
    ],
)
def test_records_of_another_form_are_refused(records: dict[str, Any]) -> None:
    with refused():
        unpack(RecordDict(records))
    with refused():
        inflate(*objects(RecordDict(records)))


@pytest.mark.fuzz
@given(WIRES, st.data())
def test_mutated_bytes_are_refused_or_are_another_message(wire: Wire, data: st.DataObject) -> None:
    root, contents = objects(pack(wire))
    target = data.draw(st.sampled_from(sorted(contents)))
    mutated = bytearray(contents[target])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutated)))
        mutated[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    contents[target] = bytes(mutated)
    refused_or_whole(root, contents)


@pytest.mark.fuzz
@given(st.dictionaries(st.sampled_from(["root", "a", "b"]), st.binary(max_size=60)))
@example({"root": b"Message root 0\x00"})
@example({"root": b"Message a 0\x00", "a": b"RecordDict  2\x00{}"})
def test_any_bytes_are_refused_or_a_message(contents: dict[str, bytes]) -> None:
    refused_or_whole("root", contents)


def refused_or_whole(root: str, contents: dict[str, bytes]) -> None:
    wire = None
    with contextlib.suppress(LinkError):
        wire = inflate(root, contents)
    assert wire is None or same(wire, unpack(pack(wire)))


def refused(problem: str = "") -> Any:
    return pytest.raises(LinkError, match=f"JG-site-210.*{problem}")


def test_a_message_with_an_error_instead_of_records_is_refused() -> None:
    from flwr.app import Error

    message = make_message(Metadata(1, "", 1, 2, "", "", 1.8e9, 60.0, "query"), error=Error(1, "x"))
    assert isinstance(message, Message)
    with refused():
        inflate(message.object_id, {message.object_id: message.deflate()})
