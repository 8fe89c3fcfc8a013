"""Laws of envelopes: one form, every signature holds, and no byte changes unseen."""

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.errors import SiteError
from jangin.trust import envelope
from jangin.trust.approvals import Approval
from jangin.trust.envelope import MAX_AHEAD, Kind, countersign, open_envelope, peek, read_document, seal
from jangin.trust.keys import Identity

PAYLOAD = b"\xa1ajk"


def ring(*keys: Identity) -> dict[str, Any]:
    return {key.fingerprint: key.public for key in keys}


@pytest.fixture(scope="session")
def keys(federation: Any) -> list[Identity]:
    return [federation.identity(name) for name in ("one", "two", "three")]


def refused(data: bytes, keys: list[Identity], code: str, threshold: int = 1) -> None:
    with pytest.raises(SiteError) as caught:
        open_envelope(data, Kind.PLAN, ring(*keys), threshold)
    assert caught.value.code == code
    assert str(caught.value)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_enough_known_keys_signed_opens(count: int, keys: list[Identity]) -> None:
    opened = open_envelope(seal(Kind.PLAN, PAYLOAD, *keys[:count]), Kind.PLAN, ring(*keys), count)
    assert opened.payload == PAYLOAD
    assert set(opened.signers) == {key.fingerprint for key in keys[:count]}


@pytest.mark.parametrize("kind", Kind)
def test_only_the_kind_that_was_signed_opens(kind: Kind, keys: list[Identity]) -> None:
    data = seal(kind, PAYLOAD, keys[0])
    for asked in Kind:
        if asked is kind:
            assert open_envelope(data, asked, ring(*keys), 1).payload == PAYLOAD
        else:
            with pytest.raises(SiteError, match="JG-site-111"):
                open_envelope(data, asked, ring(*keys), 1)


def test_a_signature_does_not_move_to_another_kind(keys: list[Identity]) -> None:
    data = seal(Kind.ROSTER, PAYLOAD, keys[0]).replace(Kind.ROSTER.encode(), Kind.PLAN.encode())
    refused(data, keys, "JG-site-113")


def test_signatures_added_one_after_another_make_the_same_envelope(keys: list[Identity]) -> None:
    once = seal(Kind.PLAN, PAYLOAD, *keys)
    assert countersign(countersign(seal(Kind.PLAN, PAYLOAD, keys[2]), Kind.PLAN, keys[0]), Kind.PLAN, keys[1]) == once
    assert countersign(once, Kind.PLAN, keys[0]) == once


@given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_an_envelope_with_any_byte_changed_is_refused(federation: Any, place: int, flip: int) -> None:
    key, other = federation.identity("one"), federation.identity("two")
    data = bytearray(seal(Kind.PLAN, PAYLOAD, key, other))
    data[place % len(data)] ^= flip
    with pytest.raises(SiteError):
        open_envelope(bytes(data), Kind.PLAN, ring(key, other), 1)


def test_an_envelope_with_any_bit_changed_or_byte_dropped_is_refused(keys: list[Identity]) -> None:
    data = seal(Kind.PLAN, PAYLOAD, *keys[:2])
    bent = [
        data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
        for place in range(len(data))
        for bit in range(8)
    ]
    for other in [*bent, *(data[:place] + data[place + 1 :] for place in range(len(data)))]:
        with pytest.raises(SiteError):
            open_envelope(other, Kind.PLAN, ring(*keys), 1)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_what_is_no_envelope_is_refused_with_a_code(data: bytes) -> None:
    with pytest.raises(SiteError, match="JG-site-110"):
        open_envelope(data, Kind.PLAN, {}, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3),
)


@given(st.fixed_dictionaries({}, optional={"payload": JSON, "payloadType": JSON, "signatures": JSON}))
def test_json_of_another_shape_is_refused_with_a_code(value: dict[str, Any]) -> None:
    with pytest.raises(SiteError, match=r"JG-site-11[01]"):
        open_envelope(json.dumps(value).encode(), Kind.PLAN, {}, 1)


def rewritten(data: bytes, change: Any) -> bytes:
    value = json.loads(data)
    change(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(note="unsigned"),
        lambda value: value["signatures"][0].update(role="operator"),
        lambda value: value["signatures"].append(value["signatures"][0]),
        lambda value: value["signatures"].reverse(),
        lambda value: value.pop("signatures"),
        lambda value: value["signatures"][0].update(sig=7),
        lambda value: value.update(payload=value["payload"] + "="),
        lambda value: value.update(payload=value["payload"].replace("+", "-").replace("/", "_") + "\n"),
        lambda value: value.update(signatures=value["signatures"] * 9),
    ],
)
def test_a_second_form_or_a_field_beside_is_refused(change: Any, keys: list[Identity]) -> None:
    refused(rewritten(seal(Kind.PLAN, PAYLOAD, *keys[:2]), change), keys, "JG-site-110")


def test_spaces_another_order_and_a_key_twice_are_refused(keys: list[Identity]) -> None:
    data = seal(Kind.PLAN, PAYLOAD, keys[0])
    value = json.loads(data)
    refused(json.dumps(value).encode(), keys, "JG-site-110")
    refused(json.dumps(dict(reversed(value.items())), separators=(",", ":")).encode(), keys, "JG-site-110")
    refused(data[:-1] + b',"payload":"' + base64.b64encode(b"other") + b'"}', keys, "JG-site-110")


def test_more_bytes_than_an_envelope_may_have_are_not_parsed(
    keys: list[Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = seal(Kind.PLAN, PAYLOAD, keys[0])
    monkeypatch.setattr(envelope, "MAX_ENVELOPE_BYTES", len(data))
    assert open_envelope(data, Kind.PLAN, ring(*keys), 1).payload == PAYLOAD
    monkeypatch.setattr(envelope, "MAX_ENVELOPE_BYTES", len(data) - 1)
    refused(data, keys, "JG-site-110")


def test_a_deep_json_is_refused(keys: list[Identity]) -> None:
    refused(b"[" * 100_000, keys, "JG-site-110")


def test_one_unknown_signature_spoils_the_rest(keys: list[Identity]) -> None:
    refused(seal(Kind.PLAN, PAYLOAD, *keys), keys[:2], "JG-site-112")


def test_one_signature_that_does_not_hold_spoils_the_rest(keys: list[Identity]) -> None:
    value = json.loads(seal(Kind.PLAN, PAYLOAD, *keys[:2]))
    value["signatures"][1]["sig"] = value["signatures"][0]["sig"]
    refused(json.dumps(value, sort_keys=True, separators=(",", ":")).encode(), keys, "JG-site-113")


@pytest.mark.parametrize("sig", [b"", b"short", bytes(64), bytes(65)])
def test_a_signature_of_any_length_that_is_none_is_refused(sig: bytes, keys: list[Identity]) -> None:
    def change(value: Any) -> None:
        value["signatures"][0]["sig"] = base64.b64encode(sig).decode()

    refused(rewritten(seal(Kind.PLAN, PAYLOAD, keys[0]), change), keys, "JG-site-113")


def test_signatures_of_another_key_under_a_known_name_are_refused(keys: list[Identity]) -> None:
    name, stranger = keys[0].fingerprint, keys[2].fingerprint
    data = seal(Kind.PLAN, PAYLOAD, keys[2]).replace(stranger.encode(), name.encode())
    refused(data, keys[:2], "JG-site-113")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_keys_than_needed_are_refused(count: int, keys: list[Identity]) -> None:
    refused(seal(Kind.PLAN, PAYLOAD, *keys[:count]), keys, "JG-site-114", threshold=count + 1)


def test_one_key_that_signs_twice_counts_once(keys: list[Identity]) -> None:
    refused(seal(Kind.PLAN, PAYLOAD, keys[0], keys[0]), keys, "JG-site-114", threshold=2)


def test_peeking_shows_what_nobody_has_checked(keys: list[Identity]) -> None:
    assert peek(seal(Kind.PLAN, PAYLOAD), Kind.PLAN) == PAYLOAD
    with pytest.raises(SiteError, match="JG-site-111"):
        peek(seal(Kind.PLAN, PAYLOAD), Kind.STOP)


def test_what_is_shown_of_an_unknown_key_is_short_and_on_one_line() -> None:
    stranger = "x" * 5_000 + "\nJG-site-000 forged"
    data = json.dumps(
        {"payload": "", "payloadType": Kind.PLAN, "signatures": [{"keyid": stranger, "sig": ""}]},
        sort_keys=True,
        separators=(",", ":"),
    ).encode()
    with pytest.raises(SiteError, match="JG-site-112") as caught:
        open_envelope(data, Kind.PLAN, {}, 1)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def approval(federation: Any) -> Approval:
    return Approval(issued=federation.start, site="site-1", plan=federation.plan_hash, nonce="ab" * 32)


def test_a_document_reads_back_from_its_payload(federation: Any) -> None:
    document = approval(federation)
    assert read_document(document.payload, Approval, federation.now) == document


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"\x80",
        b"\xa0",
        lambda payload: payload + b"\0",
        lambda payload: payload.replace(b"site-1", b"SITE-1"),
        lambda payload: payload.replace(b"2026-11-02T09:00:00Z", b"2026-11-02t09:00:00Z"),
        lambda payload: payload.replace(b"ab", b"AB"),
    ],
)
def test_a_payload_that_is_not_the_one_form_of_a_document_is_refused(payload: Any, federation: Any) -> None:
    given_ = payload(approval(federation).payload) if callable(payload) else payload
    with pytest.raises(SiteError, match="JG-site-115"):
        read_document(given_, Approval, federation.now)


def test_a_document_is_of_utc_and_whole_seconds(federation: Any) -> None:
    with pytest.raises(ValueError, match="whole seconds"):
        Approval(**{**dict(approval(federation)), "issued": federation.start + timedelta(milliseconds=1)})
    with pytest.raises(ValueError, match="timezone"):
        Approval(**{**dict(approval(federation)), "issued": federation.start.replace(tzinfo=None)})


def test_a_document_from_the_future_is_refused_beyond_the_leeway_of_clocks(federation: Any) -> None:
    document = approval(federation)
    assert read_document(document.payload, Approval, document.issued - MAX_AHEAD)
    with pytest.raises(SiteError, match="JG-site-119"):
        read_document(document.payload, Approval, document.issued - MAX_AHEAD - timedelta(seconds=1))


def test_kinds_do_not_share_a_hash(federation: Any) -> None:
    assert len({kind.noun for kind in Kind}) == len(Kind)
