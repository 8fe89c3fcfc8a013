"""Laws of a site's view: everything comes down from the root, at the time given, and never goes back."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.errors import SiteError
from jangin.trust.chain import Trust
from jangin.trust.roster import MAX_LIFE

YEAR = 365


@pytest.fixture(scope="session")
def trust(federation: Any) -> Trust:
    return federation.trust()  # type: ignore[no-any-return]


def test_a_site_follows_the_chain_down_to_a_plan(federation: Any, trust: Trust) -> None:
    plan = trust.plan(federation.plan(), federation.now)
    assert plan.hash == federation.plan_hash
    assert sorted(trust.roster(federation.now).sites) == ["site-1", "site-2", "site-3"]


def test_nothing_is_believed_before_staff_and_roster_came(federation: Any) -> None:
    bare = Trust(federation.root.public_text)
    with pytest.raises(SiteError, match="JG-site-125 There is no staff"):
        bare.with_roster(federation.roster(), federation.now)
    staffed = bare.with_staff(federation.staff(), federation.now)
    with pytest.raises(SiteError, match="JG-site-125 There is no roster"):
        staffed.plan(federation.plan(), federation.now)


def test_a_view_is_a_value(federation: Any, trust: Trust) -> None:
    before = trust.to_bytes()
    after, _ = trust.with_roster(federation.roster(2), federation.now)
    assert trust.to_bytes() == before != after.to_bytes()


def test_a_refused_document_changes_nothing(federation: Any, trust: Trust) -> None:
    before = trust.to_bytes()
    with pytest.raises(SiteError):
        trust.with_roster(federation.roster(2, ("kim",)), federation.now)
    with pytest.raises(SiteError):
        trust.with_staff(federation.staff(2, ("kim",)), federation.now)
    assert trust.to_bytes() == before


def test_versions_never_go_back_even_when_what_is_held_has_expired(federation: Any, trust: Trust) -> None:
    newer, _ = trust.with_roster(federation.roster(3), federation.now)
    late = federation.start + MAX_LIFE + federation.day
    data = federation.roster(2, issued=late, valid_until=late + MAX_LIFE)
    with pytest.raises(SiteError, match="JG-site-121"):
        newer.with_roster(data, late)
    after, _ = newer.with_roster(federation.roster(4, issued=late, valid_until=late + MAX_LIFE), late)
    assert after.roster(late).version == 4


def test_a_staff_list_never_goes_back(federation: Any, trust: Trust) -> None:
    newer = trust.with_staff(federation.staff(2), federation.now)
    with pytest.raises(SiteError, match="JG-site-121"):
        newer.with_staff(federation.staff(), federation.now)
    assert newer.with_staff(federation.staff(2), federation.now) == newer


def test_an_equivocating_server_is_caught_by_the_site_that_sees_both(federation: Any, trust: Trust) -> None:
    with pytest.raises(SiteError, match="JG-site-122"):
        trust.with_roster(federation.roster(sites=federation.sites(2)), federation.now)
    with pytest.raises(SiteError, match="JG-site-122"):
        trust.with_staff(federation.staff(without=("han",)), federation.now)


def test_the_same_roster_with_other_signatures_is_the_same_roster(federation: Any, trust: Trust) -> None:
    after, change = trust.with_roster(federation.roster(signers=("choi", "park")), federation.now)
    assert after.roster(federation.now).hash == trust.roster(federation.now).hash
    assert not change.newcomers


def test_a_crowd_of_newcomers_waits_for_a_yes_to_that_very_roster(federation: Any, trust: Trust) -> None:
    data, other = federation.roster(2, sites=federation.sites(9)), federation.roster(2, sites=federation.sites(8))
    with pytest.raises(SiteError, match="JG-site-124") as caught:
        trust.with_roster(data, federation.now)
    agreed = str(caught.value.coded.values["hash"])
    after, change = trust.with_roster(data, federation.now, agreed)
    assert len(after.roster(federation.now).sites) == 9
    assert change.newcomers == tuple(f"site-{number}" for number in range(4, 10))
    with pytest.raises(SiteError, match="JG-site-124"):
        trust.with_roster(other, federation.now, agreed)


def test_a_changed_key_is_named(federation: Any, trust: Trust) -> None:
    sites = federation.sites(3) | {"site-2": federation.site("site-2", node="new")}
    _, change = trust.with_roster(federation.roster(2, sites=sites), federation.now)
    assert change.rekeyed == ("site-2",)


def test_a_removed_signer_takes_the_roster_out_of_force_and_a_new_one_restores_it(
    federation: Any, trust: Trust
) -> None:
    without = trust.with_staff(federation.staff(2, without=("kim",)), federation.now)
    with pytest.raises(SiteError, match="JG-site-112"):
        without.plan(federation.plan(("choi", "lee")), federation.now)
    restored, _ = without.with_roster(federation.roster(2, ("choi", "park")), federation.now)
    assert restored.plan(federation.plan(("choi", "lee")), federation.now)
    with pytest.raises(SiteError, match="JG-site-112"):
        restored.plan(federation.plan(), federation.now)


def test_a_server_that_keeps_back_the_new_staff_list_loses_its_roster(federation: Any, trust: Trust) -> None:
    with pytest.raises(SiteError, match="JG-site-123"):
        trust.with_roster(federation.roster(2, staff=2), federation.now)


def test_without_a_roster_in_force_plans_wait_and_stops_do_not(federation: Any, trust: Trust) -> None:
    late = federation.start + MAX_LIFE
    with pytest.raises(SiteError, match="JG-site-120"):
        trust.plan(federation.plan(), late)
    assert trust.stop(federation.stop(), federation.plan_hash, late)
    with pytest.raises(SiteError, match="JG-site-116"):
        trust.stop(federation.stop(), federation.plan_hash, federation.start + YEAR * federation.day)


def test_a_clock_set_back_before_the_documents_is_refused(federation: Any, trust: Trust) -> None:
    with pytest.raises(SiteError, match="JG-site-119"):
        trust.plan(federation.plan(), federation.start - federation.day)


def test_a_view_comes_back_from_its_bytes(trust: Trust) -> None:
    assert Trust.from_bytes(trust.to_bytes()) == trust


@given(place=st.integers(0, 100_000), flip=st.integers(1, 255))
def test_a_view_that_was_tampered_with_believes_nothing(federation: Any, place: int, flip: int) -> None:
    data = bytearray(federation.trust().to_bytes())
    data[place % len(data)] ^= flip
    with pytest.raises(SiteError):
        Trust.from_bytes(bytes(data)).plan(federation.plan(), federation.now)


def test_a_held_document_that_is_none_stops_every_newer_one(federation: Any, trust: Trust) -> None:
    empty = json.loads(trust.staff_list)
    empty["payload"] = ""
    broken = replace(trust, staff_list=json.dumps(empty, sort_keys=True, separators=(",", ":")).encode())
    with pytest.raises(SiteError, match="JG-site-127"):
        broken.with_staff(federation.staff(2), federation.now)


@pytest.mark.parametrize("data", [b"", b"\xa0", b"\x80", b"\xff", b"\xa1drootax"])
def test_what_is_no_view_is_refused(data: bytes) -> None:
    with pytest.raises(SiteError, match="JG-site-127"):
        Trust.from_bytes(data)


@pytest.mark.parametrize("root", ["", "ssh-rsa AAAA", "-----BEGIN OPENSSH PRIVATE KEY-----"])
def test_a_root_that_is_no_public_key_is_refused(root: str) -> None:
    with pytest.raises(SiteError, match="JG-site-103"):
        Trust(root)
