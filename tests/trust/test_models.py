"""Laws of a model's documents: one form, one signature that counts, and nothing else opens."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.codec import cbor
from jangin.errors import SiteError
from jangin.trust.envelope import Kind, seal
from jangin.trust.keys import Identity
from jangin.trust.measurements import Measurement, verify_measurement
from jangin.trust.models import (
    FILES,
    ModelVersion,
    Withdrawal,
    peek_model,
    verify_receipt,
    verify_release,
    verify_withdrawal,
)
from jangin.trust.staff import Role, Staff, StaffKey

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEYS = {name: Identity.generate() for name in ("approver", "evaluator", "operator", "server")}
STAFF = Staff(
    version=1,
    issued=NOW,
    keys=tuple(
        StaffKey(person=role.value, key=KEYS[role.value].public_text, roles=(role,), expires=NOW + timedelta(days=9))
        for role in (Role.APPROVER, Role.EVALUATOR, Role.OPERATOR)
    ),
)
TREE: dict[str, Any] = {
    "issued": NOW.isoformat(),
    "line": "national-bof-blow",
    "version": 3,
    "campaign": "ab" * 32,
    "operator": "kim",
    "process": "steel.bof_blow",
    "contributors": ["site-0", "site-1"],
    "files": {name: {"size": 7, "sha256": "cd" * 32} for name in FILES},
    "model": {"name": "mlp", "hidden": [64, 64]},
    "parameters": 100,
    "privacy": "NO DIFFERENTIAL PRIVACY",
    "purposes": ["skill_preservation"],
    "prohibited": ["dismissal", "worker_evaluation"],
    "recipients": "contributors",
    "export": "domestic_only",
}
MANIFEST = ModelVersion.model_validate(TREE)
RELEASE = seal(Kind.MODEL, MANIFEST.payload, KEYS["approver"])
MEASURED = Measurement(issued=NOW, campaign="ab" * 32, figure="reject_rate", value=0.07, note="line 2, October")
TAKEN = Withdrawal(issued=NOW, line="national-bof-blow", version=3, model=MANIFEST.hash, reason="it fails")


def test_one_payload_is_the_servers_receipt_and_an_approvers_release() -> None:
    receipt = seal(Kind.MODEL, MANIFEST.payload, KEYS["server"])
    assert verify_receipt(receipt, KEYS["server"].public) == peek_model(RELEASE) == MANIFEST
    assert verify_release(RELEASE, STAFF, NOW) == (MANIFEST, "approver")
    with pytest.raises(SiteError, match="JG-site-112"):
        verify_release(receipt, STAFF, NOW)
    with pytest.raises(SiteError, match="JG-site-112"):
        verify_receipt(RELEASE, KEYS["server"].public)
    with pytest.raises(SiteError, match="JG-site-116"):
        verify_release(RELEASE, STAFF, NOW + timedelta(days=9))


def test_each_document_needs_its_own_role() -> None:
    for person in ("approver", "operator"):  # to take back one is enough
        assert verify_withdrawal(seal(Kind.WITHDRAWAL, TAKEN.payload, KEYS[person]), STAFF, NOW) == (TAKEN, person)
    with pytest.raises(SiteError, match="JG-site-117"):
        verify_withdrawal(seal(Kind.WITHDRAWAL, TAKEN.payload, KEYS["evaluator"]), STAFF, NOW)
    measured = seal(Kind.MEASUREMENT, MEASURED.payload, KEYS["evaluator"])
    assert verify_measurement(measured, STAFF, NOW) == (MEASURED, "evaluator")
    for verify, document in ((verify_release, MANIFEST), (verify_measurement, MEASURED)):
        with pytest.raises(SiteError, match="JG-site-117"):
            verify(seal(document.kind, document.payload, KEYS["operator"]), STAFF, NOW)


@pytest.mark.parametrize(
    "changed",
    [
        {"contributors": ["site-1", "site-0"]},
        {"contributors": ["site-0", "site-0"]},
        {"files": {"final.safetensors": TREE["files"]["final.safetensors"]}},
        {"files": {**TREE["files"], "model.pickle": {"size": 1, "sha256": "cd" * 32}}},
        {"line": "../etc"},
        {"version": 0},
        {"recipients": "everybody"},
    ],
)
def test_a_manifest_of_another_form_is_none(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ModelVersion.model_validate(TREE | changed)


def test_who_may_have_a_model_is_in_its_manifest() -> None:
    theirs = MANIFEST.model_copy(update={"recipients": "roster"})
    assert [MANIFEST.may_have("site-1"), MANIFEST.may_have("site-2"), theirs.may_have("site-2")] == [True, False, True]


@pytest.mark.fuzz
@given(place=st.integers(0, len(RELEASE) - 1), bits=st.integers(1, 255))
def test_no_byte_of_a_signed_manifest_can_change(place: int, bits: int) -> None:
    changed = RELEASE[:place] + bytes([RELEASE[place] ^ bits]) + RELEASE[place + 1 :]
    with pytest.raises(SiteError):
        verify_release(changed, STAFF, NOW)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**40) | st.text(max_size=6) | st.binary(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*TREE, "x"]), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.fuzz
@given(tree=VALUES)
def test_whatever_is_signed_is_a_manifest_or_is_refused(tree: Any) -> None:
    whole = cbor.decode(MANIFEST.payload)
    for value in (tree, whole | tree if isinstance(tree, dict) else tree):
        try:
            payload = cbor.encode(value)
        except ValueError:
            continue
        try:
            manifest, _ = verify_release(seal(Kind.MODEL, payload, KEYS["approver"]), STAFF, NOW)
        except SiteError as error:
            if error.code not in {"JG-site-115", "JG-site-118", "JG-site-119"}:
                raise
            continue
        assert manifest.payload == payload
