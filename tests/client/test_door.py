"""Laws of the door: only agreed forms leave, each with one line in the egress log, and nothing else is ever logged."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.client.door import FORMS, Door, outward
from jangin.client.state import Journal
from jangin.codec import cbor
from jangin.errors import SiteError
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind as Form
from jangin.plan.messages import Reply, Said, reply_body, said_body
from jangin.privacy.secure_sum.dealing import PARCEL_BYTES
from jangin.trust.approvals import Approval
from jangin.trust.commitments import Commitment
from jangin.trust.envelope import Kind, countersign, seal
from jangin.trust.keys import Identity, NodeKey

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
CAMPAIGN = "ab" * 32
UPDATE = np.arange(4, dtype=np.float32)
KEY = Identity.generate()
APPROVAL = seal(Kind.APPROVAL, Approval(issued=NOW, site="site-0", plan=CAMPAIGN, nonce=CAMPAIGN).payload, KEY)
COMMITMENT = seal(Kind.COMMITMENT, Commitment(issued=NOW, site="site-0", entries=3, head=CAMPAIGN).payload, KEY)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=40)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "site.sqlite") as journal:
        yield journal


@pytest.fixture
def door(journal: Journal) -> Door:
    return Door(journal, lambda: NOW)


def order(kind: str = "train", campaign: str = CAMPAIGN) -> Wire:
    return Wire(kind, campaign, 1, b"", UPDATE)


def body(vector: Any = None, code: str | None = None) -> bytes:
    return reply_body(Reply("", vector, code))


def test_an_update_leaves_as_it_is_with_one_line(door: Door, journal: Journal) -> None:
    reply = Reply("site-0", UPDATE)
    wire = door.answer(order(), reply_body(reply), UPDATE)
    assert (wire.kind, wire.campaign, wire.round, wire.body) == ("train", CAMPAIGN, 1, reply_body(reply))
    np.testing.assert_array_equal(wire.vector, UPDATE)
    (line,) = journal.egress(10)
    raw = wire.body + UPDATE.tobytes()
    assert (line.time, line.kind, line.bytes) == (NOW, "train", len(raw))
    assert line.sha256 == hashlib.sha256(raw).hexdigest()
    assert "4 numbers" in line.says["en"]
    assert "4개" in line.says["ko"]


def test_moments_abstentions_and_what_is_held_leave_with_one_line_each(door: Door, journal: Journal) -> None:
    moments = np.arange(3, dtype=np.float64)
    door.answer(order("scale"), body(moments), None)
    door.answer(order("scale"), body(code="local"), None)
    door.answer(order(), body(code="JG-site-311"), None)
    door.answer(order(), body(), None)
    door.answer(order("collect"), body(UPDATE), UPDATE)
    assert [line.kind for line in journal.egress(10)] == ["scale", "scale", "train", "train", "collect"]
    assert "local" in journal.egress(10)[1].says["en"]
    assert "ready here" in journal.egress(10)[3].says["en"]


def test_a_rehearsal_says_that_nothing_was_charged_and_has_no_room_for_moments(door: Door, journal: Journal) -> None:
    door.answer(order("rehearse"), body(UPDATE), UPDATE)
    door.answer(order("rehearse"), body(code="local"), None)
    for content, vector in ((body(np.arange(3.0)), None), (body(), None), (body(code="JG-site-460"), None)):
        with pytest.raises(SiteError, match="JG-site-330"):
            door.answer(order("rehearse"), content, vector)
    sent, refused = journal.egress(10)
    assert all("nothing was charged" in line.says["en"] for line in (sent, refused))
    assert all("차감된 것" in line.says["ko"] for line in (sent, refused))
    assert "made-up rows, 4 numbers" in sent.says["en"]
    assert (journal.rehearsed(NOW), journal.rehearsed(NOW + timedelta(seconds=1))) == (2, 0)


def test_every_request_that_carries_something_has_its_line(door: Door, journal: Journal) -> None:
    keys = {"identity": Identity.generate().public_text, "node_key": NodeKey.generate().public_text}
    sent = door.request("enroll", {"token": "t0ken", **keys})
    assert cbor.decode(sent) == {"token": "t0ken", **keys}
    assert cbor.decode(door.request("approve", {"approval": APPROVAL})) == {"approval": APPROVAL}
    for what in ("campaigns", "ack"):
        assert door.request(what, {}) == cbor.encode({})
    assert [line.kind for line in journal.egress(10)] == ["enroll", "approve"]
    assert all("t0ken" not in line.says["en"] + line.says["ko"] for line in journal.egress(10))


@pytest.mark.parametrize(
    ("wire", "content", "vector"),
    [
        (order("scale"), body(), None),
        (order("collect"), body(), None),
        (order(), body(), UPDATE),
        (order(), body(np.zeros(3)), None),
        (order(), body(code="local"), UPDATE),
        (order(), body(UPDATE), UPDATE + np.float32("inf")),
        (order("scale"), body(UPDATE), UPDATE),
        (order(), cbor.encode({"content": "update", "abstained": None, "moments": None, "loss": 0.1}), UPDATE),
        (order(), b"names and values", UPDATE),
        (order(), body(code="JG-data-005"), None),
        (order(), body(code="JG-site-320"), None),
        (order("evaluate"), body(UPDATE), UPDATE),
        (order(campaign="steel-2026"), body(UPDATE), UPDATE),
    ],
)
def test_a_reply_of_another_form_does_not_leave(
    door: Door, journal: Journal, wire: Wire, content: bytes, vector: Any
) -> None:
    with pytest.raises(SiteError) as closed:
        door.answer(wire, content, vector)
    assert closed.value.code == "JG-site-330"
    assert journal.egress(10) == []


def test_a_refusal_never_shows_what_was_refused(door: Door) -> None:
    with pytest.raises(SiteError) as closed:
        door.request("enroll", {"token": "", "identity": "Kim Minji", "node_key": "Kim Minji"})
    assert "Kim" not in str(closed.value)


SHARES, ADVERT, SIGNED = bytes(3 * PARCEL_BYTES), bytes(128), bytes(64)
DEALING = cbor.encode({"parcels": SHARES, "seed_digest": bytes(32), "signature": SIGNED})
SHOWN = cbor.encode({"shares": bytes(3 * 96), "signature": SIGNED})
COMPLAINT = cbor.encode({"dealer": "site-1", "key": bytes(16), "signature": SIGNED})
WORDS = np.arange(4, dtype=np.uint32)


def said(message: bytes | None, vector: Any = None, code: str | None = None) -> Said:
    return Said("site-0", message, vector, code)


@pytest.mark.parametrize(
    ("kind", "answer", "name", "word"),
    [
        ("train", said(ADVERT), "advertise", "two fresh public keys"),
        ("scale", said(ADVERT), "advertise", "two fresh public keys"),
        ("share", said(DEALING), "share", "sealed for one site"),
        ("mask", said(b"", WORDS), "mask", "4 numbers; alone it is noise"),
        ("mask", said(COMPLAINT), "mask", "not what it signed"),
        ("certify", said(SIGNED), "certify", "signed the list"),
        ("unmask", said(SHOWN), "unmask", "no single vector"),
        ("train", said(None, code="local"), "advertise", "local"),
        ("mask", said(None, code="JG-sum-010"), "mask", "JG-sum-010"),
    ],
)
def test_each_answer_of_a_secure_sum_leaves_in_its_one_form_with_one_line(
    door: Door, journal: Journal, kind: str, answer: Said, name: str, word: str
) -> None:
    wire = door.say(order(kind), answer)
    assert (wire.kind, wire.round, wire.body) == (kind, 1, said_body(answer))
    np.testing.assert_equal(wire.vector, answer.vector)
    (line,) = journal.egress(10)
    raw = wire.body + (b"" if answer.vector is None else answer.vector.tobytes())
    assert (line.kind, line.bytes, line.sha256) == (name, len(raw), hashlib.sha256(raw).hexdigest())
    assert word in line.says["en"]
    assert CAMPAIGN[:12] in line.says["ko"]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("train", said(ADVERT + b"x")),
        ("train", said(ADVERT, WORDS)),
        ("train", said(b"", WORDS)),
        ("share", said(SHOWN)),
        ("share", said(DEALING + b"\x00")),
        ("mask", said(b"loss .1", WORDS)),
        ("mask", said(COMPLAINT.replace(b"site-1", b"Kim M."))),
        ("mask", said(b"")),
        ("certify", said(b"Kim Minji")),
        ("unmask", said(DEALING)),
        ("unmask", said(SHOWN, WORDS)),
        ("collect", said(ADVERT)),
        ("certify", said(None, code="JG-sum-012")),
        ("train", said(None, code="JG-site-323")),
        ("train", said(None, code="JG-site-321")),
        ("evaluate", said(b"a loss")),
    ],
)
def test_an_answer_of_a_secure_sum_of_another_form_does_not_leave(
    door: Door, journal: Journal, kind: str, answer: Said
) -> None:
    with pytest.raises(SiteError) as closed:
        door.say(order(kind), answer)
    assert closed.value.code == "JG-site-330"
    assert "Kim" not in str(closed.value)
    assert journal.egress(10) == []


def named(signed: bytes, name: bytes) -> bytes:
    """The same envelope, signed by somebody of this name."""
    return signed.replace(b'"keyid":"' + KEY.fingerprint.encode(), b'"keyid":"' + name)


@pytest.mark.parametrize(
    "content",
    [b"x", b"Kim Minji", COMMITMENT, APPROVAL + b" ", named(APPROVAL, b"Kim Minji"), seal(Kind.APPROVAL, b"Kim", KEY),
     countersign(APPROVAL, Kind.APPROVAL, Identity.generate())],
)  # fmt: skip
def test_an_approval_is_one_and_has_room_for_nothing_else(door: Door, journal: Journal, content: bytes) -> None:
    with pytest.raises(SiteError) as closed:
        door.request("approve", {"approval": content})
    assert (closed.value.code, "Kim" in str(closed.value)) == ("JG-site-330", False)
    with pytest.raises(SiteError, match="JG-site-330"):
        door.request("commit", {"commitment": APPROVAL})
    assert journal.egress(10) == []


def test_neither_way_of_answering_passes_for_the_other(door: Door) -> None:
    for kind, content, vector in (("train", said_body(said(ADVERT)), None), ("mask", said_body(said(b"")), UPDATE)):
        with pytest.raises(SiteError, match="JG-site-330"):
            door.answer(order(kind), content, vector)


@pytest.mark.parametrize(
    "vector",
    [
        np.arange(4, dtype=np.uint32),
        np.arange(4, dtype=np.float64),
        np.arange(4, dtype=">f4"),
        UPDATE.reshape(2, 2),
        np.array(["a loss"]),
        [0.5, 0.25],
    ],
)
def test_a_vector_of_another_form_does_not_leave_as_if_it_were_the_one_that_was_looked_at(
    door: Door, journal: Journal, vector: Any
) -> None:
    with pytest.raises(SiteError, match="JG-site-330"):
        door.answer(order(), body(UPDATE), vector)
    masked = WORDS.astype(">u4") if getattr(vector, "dtype", None) == np.uint32 else vector
    with pytest.raises(SiteError, match="JG-site-330"):
        door.say(order("mask"), said(b"", masked))
    assert journal.egress(10) == []


def test_what_leaves_is_what_was_looked_at_whatever_becomes_of_it_later(door: Door) -> None:
    vector = UPDATE.copy()
    wire = door.answer(order(), body(vector), vector)
    vector[:] = 87.62519
    np.testing.assert_array_equal(wire.vector, UPDATE)


CANARY = "Hong-Gildong-canary"
KEYS = {"identity": KEY.public_text, "node_key": NodeKey.generate().public_text}
PLACE = {"campaign": CAMPAIGN, "round": 1}


def summed(kind: Form, answer: Said) -> dict[str, Any]:
    """The fields of an answer of a secure sum."""
    raw = None if answer.vector is None else answer.vector.tobytes()
    return {**PLACE, "kind": kind, "body": said_body(answer), "vector": raw}


WELL_FORMED: dict[str, dict[str, Any]] = {
    "enroll": {"token": "t0ken", **KEYS},
    "campaigns": {},
    "ack": {},
    "renew": {"node_key": KEYS["node_key"]},
    "approve": {"approval": APPROVAL},
    "commit": {"commitment": COMMITMENT},
    "scale": {**PLACE, "body": body(np.ones(3)), "vector": None},
    "train": {**PLACE, "body": body(UPDATE), "vector": UPDATE.tobytes()},
    "collect": {**PLACE, "body": body(UPDATE), "vector": UPDATE.tobytes()},
    "evaluate": {**PLACE, "body": body(np.ones(3)), "vector": None},
    "rehearse": {**PLACE, "body": body(UPDATE), "vector": UPDATE.tobytes()},
    "advertise": summed(Form.TRAIN, said(ADVERT)),
    "share": summed(Form.SHARE, said(DEALING)),
    "mask": summed(Form.MASK, said(b"", WORDS)),
    "certify": summed(Form.CERTIFY, said(SIGNED)),
    "unmask": summed(Form.UNMASK, said(SHOWN)),
}
PLANTED = st.text(max_size=9).map(lambda end: CANARY + end)
LEAF = SCALAR | PLANTED | PLANTED.map(str.encode) | st.sampled_from([UPDATE, WORDS, NOW, object(), b"\xff", "local"])


def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Lists, tuples and mappings of these."""
    names = st.text(max_size=8) | PLANTED | st.integers()
    return st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(names, inner, max_size=3)


ANYTHING = st.recursive(LEAF, deeper, max_leaves=8)


def encoded(tree: Any) -> bytes:
    """Its CBOR, where it has one."""
    try:
        return cbor.encode(tree)
    except (TypeError, ValueError, OverflowError):
        return CANARY.encode()


@st.composite
def altered(draw: st.DrawFn, tree: dict[str, Any], names: tuple[str, ...]) -> dict[Any, Any]:
    """A few of its parts gone, put in another's place, or given to it; messages inside it likewise."""
    tree = dict(tree)
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from((*tree, *names, "x")) | PLANTED)
        content = tree.get(name)
        match draw(st.sampled_from(("gone", "within", "other", "any", "any"))):
            case "gone":
                tree.pop(name, None)
            case "within" if isinstance(content, bytes):
                try:
                    inner = cbor.decode(content)
                except ValueError:
                    continue
                if isinstance(inner, dict):
                    tree[name] = encoded(draw(altered(inner, ("message", "abstained", "moments", "dealer"))))
            case "other":
                tree[name] = draw(st.sampled_from([part for form in WELL_FORMED.values() for part in form.values()]))
            case _:
                tree[name] = draw(ANYTHING | ANYTHING.map(encoded))
    return tree


def trees() -> st.SearchStrategy[tuple[Any, Any]]:
    """A name, and what is to leave under it."""
    named = st.sampled_from([*WELL_FORMED]) | LEAF
    one = st.sampled_from([*WELL_FORMED]).flatmap(
        lambda what: st.tuples(st.just(what), altered(WELL_FORMED[what], ("kind", "body", "vector", "token")))
    )
    return one | st.tuples(named, ANYTHING | one.map(lambda pair: pair[1]))


def worded(sent: bytes) -> str:
    """All of a body but its numbers, which any bytes of their length would be."""
    tree = cbor.decode(sent)
    return str({name: content for name, content in tree.items() if name != "moments"})


class Lines(list[Any]):
    """An egress log in memory."""

    log = list.append


def refused(send: Any) -> bool:
    """Whether the door refuses, in its one way, which shows nothing of what it was."""
    closed = None
    try:
        send()
    except SiteError as error:
        closed = error
    if closed is None:
        return False
    assert (closed.code, CANARY in str(closed)) == ("JG-site-330", False)
    assert closed.__context__ is None or closed.__suppress_context__  # a log would show it with what it holds
    return True


@pytest.mark.parametrize("what", WELL_FORMED)
def test_each_form_leaves_when_it_is_well_made(what: str) -> None:
    lines = Lines()
    Door(lines, lambda: NOW)._out(what, WELL_FORMED[what])
    assert [line.kind for line in lines] == ([what] if WELL_FORMED[what] else [])
    assert set(WELL_FORMED) == set(FORMS)


@pytest.mark.fuzz
@given(pair=trees())
def test_whatever_is_not_a_form_stays(pair: tuple[Any, Any]) -> None:
    what, fields = pair
    left: list[bytes] = []
    lines = Lines()
    if refused(lambda: left.extend(Door(lines, lambda: NOW)._out(what, fields).content)):
        assert lines == []
        return
    assert what in FORMS
    assert set(fields) - {"kind"} == set(WELL_FORMED[what]) - {"kind"}
    typed_by_a_person = what == "enroll" and CANARY in fields["token"]
    assert CANARY not in worded(left[0]) or typed_by_a_person
    assert [line.kind for line in lines] == ([what] if WELL_FORMED[what] else [])
    assert CANARY not in str([line.says for line in lines])


@pytest.mark.fuzz
@given(
    kind=st.sampled_from([*Form, "persuade"]),
    content=ANYTHING.map(encoded)
    | st.sampled_from([form for form in WELL_FORMED.values() if "body" in form]).flatmap(
        lambda form: altered(cbor.decode(form["body"]), ("message", "abstained", "moments", "x")).map(encoded)
    ),
    vector=st.sampled_from([None, UPDATE, WORDS, np.ones(3), UPDATE.reshape(2, 2), CANARY]) | ANYTHING,
    message=ANYTHING | st.sampled_from([ADVERT, DEALING, SIGNED, SHOWN, COMPLAINT, b""]),
    code=st.none() | st.sampled_from(["local", "JG-site-311", "JG-site-320", "JG-sum-012"]) | ANYTHING,
)
def test_whatever_is_no_answer_stays(kind: str, content: bytes, vector: Any, message: Any, code: Any) -> None:
    asked, left = Wire(str(kind), CAMPAIGN, 1, b""), []
    door = Door(Lines(), lambda: NOW)
    refused(lambda: left.append(door.answer(asked, content, vector)))
    refused(lambda: left.append(door.say(asked, Said("site-0", message, vector, code))))
    for wire in left:
        assert (wire.kind, wire.campaign, wire.round) == (str(kind), CAMPAIGN, 1)
        assert CANARY not in worded(wire.body)
        told = cbor.decode(wire.body)
        assert told.keys() in ({"content", "abstained", "moments"}, {"content", "abstained", "message"})
        assert told["abstained"] is None or outward(told["abstained"]) == told["abstained"]
        assert wire.vector is None or wire.vector.dtype in (np.float32, np.uint32)


def test_more_than_a_message_may_be_does_not_leave(door: Door, journal: Journal) -> None:
    for what, changed in {
        "enroll": {"token": "t" * 201},
        "approve": {"approval": APPROVAL + bytes(2**16)},
        "train": {"body": bytes(2**24 + 1)},
        "commit": {"commitment": COMMITMENT.replace(b'"sig":"', b'"sig":"' + b"A" * 44)},
    }.items():
        with pytest.raises(SiteError, match="JG-site-330"):
            door._out(what, WELL_FORMED[what] | changed)
    assert journal.egress(10) == []
