"""Laws of the door: only agreed forms leave, each with one line in the egress log, and nothing else is ever logged."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jangin.client.door import FORMS, Door
from jangin.client.state import Journal
from jangin.codec import cbor
from jangin.errors import SiteError
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Reply, Said, reply_body, said_body
from jangin.privacy.secure_sum.dealing import PARCEL_BYTES
from jangin.trust.keys import Identity, NodeKey

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
CAMPAIGN = "ab" * 32
UPDATE = np.arange(4, dtype=np.float32)
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


def test_every_request_that_carries_something_has_its_line(door: Door, journal: Journal) -> None:
    keys = {"identity": Identity.generate().public_text, "node_key": NodeKey.generate().public_text}
    sent = door.request("enroll", {"token": "t0ken", **keys})
    assert cbor.decode(sent) == {"token": "t0ken", **keys}
    assert cbor.decode(door.request("approve", {"approval": b"x"})) == {"approval": b"x"}
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


@pytest.mark.fuzz
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    what=st.sampled_from([*FORMS, "logs", "status", ""]),
    fields=st.dictionaries(
        st.sampled_from(["token", "identity", "node_key", "approval", "campaign", "round", "body", "vector", "x"])
        | st.text(max_size=8),
        SCALAR,
        max_size=6,
    ),
)
def test_whatever_is_not_a_form_stays(door: Door, journal: Journal, what: str, fields: dict[str, Any]) -> None:
    before = len(journal.egress(10**6))
    allowed = (what in ("campaigns", "ack") and not fields) or (
        what == "approve" and set(fields) == {"approval"} and isinstance(fields["approval"], bytes)
    )
    if allowed:
        door.request(what, fields)
        return
    with pytest.raises(SiteError) as closed:
        door.request(what, fields)
    assert closed.value.code == "JG-site-330"
    assert len(journal.egress(10**6)) == before


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
    assert (wire.kind, wire.round, wire.body, wire.vector) == (kind, 1, said_body(answer), answer.vector)
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


def test_neither_way_of_answering_passes_for_the_other(door: Door) -> None:
    for kind, content, vector in (("train", said_body(said(ADVERT)), None), ("mask", said_body(said(b"")), UPDATE)):
        with pytest.raises(SiteError, match="JG-site-330"):
            door.answer(order(kind), content, vector)
