"""Laws of plans, approvals and stops: two people, one hash, one site."""

from datetime import timedelta
from typing import Any

import pytest

from jangin.codec import cbor
from jangin.errors import ServerError, SiteError
from jangin.plan.training_plan import TrainingPlan
from jangin.trust.approvals import verify_approval, verify_plan, verify_proposal, verify_stop
from jangin.trust.envelope import MAX_AHEAD, Kind, countersign, seal
from jangin.trust.roster import Roster, Status, verify_roster
from jangin.trust.staff import Staff, verify_staff


@pytest.fixture(scope="session")
def staff(federation: Any) -> Staff:
    return verify_staff(federation.staff(), federation.root.public, federation.now)


@pytest.fixture(scope="session")
def roster(federation: Any, staff: Staff) -> Roster:
    sites = federation.sites(2) | {
        "site-s": federation.site("site-s", Status.SUSPENDED),
        "site-r": federation.site("site-r", Status.REVOKED),
    }
    return verify_roster(federation.roster(sites=sites), staff, federation.now)


def test_a_plan_goes_from_operator_to_approver(federation: Any, staff: Staff) -> None:
    proposal = federation.plan(("kim",))
    proposed = verify_proposal(proposal, staff, federation.now)
    assert (proposed.operator.person, proposed.approver) == ("kim.minji", None)
    approved = verify_plan(countersign(proposal, Kind.PLAN, federation.identity("lee")), staff, federation.now)
    assert (approved.operator.person, getattr(approved.approver, "person", None)) == ("kim.minji", "lee.jihoon")
    assert approved.hash == proposed.hash == federation.plan_hash


@pytest.mark.parametrize(
    ("code", "signers"),
    [
        ("JG-site-114", ("kim",)),
        ("JG-site-117", ("kim", "park")),
        ("JG-site-117", ("lee", "park")),
        ("JG-site-118", ("kim", "kim-two")),
        ("JG-site-112", ("kim", "site-1")),
        ("JG-site-112", ("root", "lee")),
    ],
)
def test_a_plan_without_an_operator_and_another_approver_is_refused(
    code: str, signers: tuple[str, ...], federation: Any, staff: Staff
) -> None:
    with pytest.raises(SiteError, match=code):
        verify_plan(federation.plan(signers), staff, federation.now)


@pytest.mark.parametrize(("code", "signers"), [("JG-site-117", ("lee",)), ("JG-site-114", ())])
def test_a_proposal_without_an_operator_is_refused(
    code: str, signers: tuple[str, ...], federation: Any, staff: Staff
) -> None:
    with pytest.raises(SiteError, match=code):
        verify_proposal(federation.plan(signers), staff, federation.now)


def test_a_plan_that_is_no_canonical_cbor_is_refused(federation: Any, staff: Staff) -> None:
    data = seal(Kind.PLAN, b"campaign: x", federation.identity("kim"), federation.identity("lee"))
    with pytest.raises(SiteError, match="JG-site-115"):
        verify_plan(data, staff, federation.now)


def test_the_hash_that_is_signed_is_the_training_plans_own(federation: Any, staff: Staff) -> None:
    plan = TrainingPlan.model_validate(
        {
            "campaign": "steel-2026-11",
            "process": "steel.bof_blow",
            "model_line": "national-bof-blow",
            "sites": {"invite": ["site-1", "site-2"], "min_sites": 2},
            "model": {"name": "linear"},
            "strategy": {"name": "fedavg", "rounds": 2, "local_steps": 1, "batch": 8, "lr": 0.5},
            "privacy": {"epsilon": "none"},
            "governance": {
                "purposes": ["safety"],
                "prohibited": ["worker_evaluation", "dismissal"],
                "release": {"recipients": "contributors", "export": "domestic_only"},
            },
        }
    )
    signed = verify_plan(federation.plan(plan=plan.model_dump(mode="json")), staff, federation.now)
    assert signed.hash == plan.hash
    assert TrainingPlan.model_validate(cbor.decode(signed.payload)) == plan


def test_another_value_is_another_hash(federation: Any, staff: Staff) -> None:
    other = verify_plan(federation.plan(plan={"rounds": 9}), staff, federation.now)
    assert other.hash != federation.plan_hash


def test_one_operator_stops_a_campaign(federation: Any, staff: Staff) -> None:
    order = verify_stop(federation.stop(), staff, federation.plan_hash, federation.now)
    assert order.reason == "the furnace is being relined"


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("JG-site-126", {"plan": "0" * 64}),
        ("JG-site-117", {"signers": ("lee",)}),
        ("JG-site-114", {"signers": ()}),
        ("JG-site-112", {"signers": ("site-1",)}),
    ],
)
def test_a_stop_for_another_plan_or_by_anybody_else_is_refused(
    code: str, changed: dict[str, Any], federation: Any, staff: Staff
) -> None:
    with pytest.raises(SiteError, match=code):
        verify_stop(federation.stop(**changed), staff, federation.plan_hash, federation.now)


@pytest.mark.parametrize("reason", ["", "x" * 501])
def test_a_stop_says_why_in_a_few_words(reason: str, federation: Any) -> None:
    with pytest.raises(ValueError, match="String should have"):
        federation.stop(reason=reason)


def test_an_active_site_approves_a_plan_by_its_hash(federation: Any, roster: Roster) -> None:
    approval = verify_approval(federation.approval(), roster, "site-1", federation.plan_hash, federation.now)
    assert (approval.site, approval.plan, approval.nonce) == ("site-1", federation.plan_hash, "ab" * 32)


@pytest.mark.parametrize(
    ("code", "site", "changed"),
    [
        ("JG-server-101", "site-9", {}),
        ("JG-server-101", "site-s", {}),
        ("JG-server-101", "site-r", {}),
        ("JG-server-102", "site-1", {"signer": "site-2"}),
        ("JG-server-102", "site-1", {"signer": "kim"}),
        ("JG-server-103", "site-1", {"plan": "0" * 64}),
        ("JG-server-103", "site-1", {"site": "site-2"}),
    ],
)
def test_any_other_approval_is_refused(
    code: str, site: str, changed: dict[str, Any], federation: Any, roster: Roster
) -> None:
    signer = changed.get("signer", site)
    data = federation.approval(**{"name": site, **changed, "signer": signer})
    with pytest.raises(ServerError, match=code):
        verify_approval(data, roster, site, federation.plan_hash, federation.now)


@pytest.mark.parametrize(
    "bend", [lambda data: data[:-1], lambda data: data.replace(b"approval", b"roster"), lambda _: b""]
)
def test_an_approval_that_was_changed_is_refused_in_the_servers_words(
    bend: Any, federation: Any, roster: Roster
) -> None:
    with pytest.raises(ServerError, match=r"JG-server-102 .*JG-site-11"):
        verify_approval(bend(federation.approval()), roster, "site-1", federation.plan_hash, federation.now)


def test_an_approval_from_the_future_is_refused(federation: Any, roster: Roster) -> None:
    data = federation.approval(issued=federation.now + MAX_AHEAD + timedelta(seconds=1))
    with pytest.raises(ServerError, match="JG-site-119"):
        verify_approval(data, roster, "site-1", federation.plan_hash, federation.now)


@pytest.mark.parametrize("nonce", ["", "ab" * 31, "ab" * 33, "AB" * 32])
def test_a_nonce_is_thirty_two_bytes(nonce: str, federation: Any) -> None:
    with pytest.raises(ValueError, match="pattern"):
        federation.approval(nonce=nonce)
