"""Laws of the roster: two people, thirty days, versions that only grow, and no crowd of newcomers unseen."""

from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jangin.errors import SiteError
from jangin.trust.roster import MAX_LIFE, Roster, RosterChange, RosterSite, Status, compare, verify_roster
from jangin.trust.staff import Staff, verify_staff

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="session")
def staff(federation: Any) -> Staff:
    return verify_staff(federation.staff(), federation.root.public, federation.now)


def roster(federation: Any, version: int, sites: dict[str, RosterSite]) -> Roster:
    return Roster(
        version=version, issued=federation.start, staff=1, valid_until=federation.start + MAX_LIFE, sites=sites
    )


def change(federation: Any, before: dict[str, RosterSite], after: dict[str, RosterSite]) -> RosterChange:
    return compare(roster(federation, 1, before), roster(federation, 2, after))


def test_an_operator_and_an_independent_body_make_a_roster(federation: Any, staff: Staff) -> None:
    read = verify_roster(federation.roster(), staff, federation.now)
    assert sorted(read.sites) == ["site-1", "site-2", "site-3"]
    assert read.sites["site-1"].fingerprint == federation.identity("site-1").fingerprint
    assert read.sites["site-1"].node.key_size == 384


@pytest.mark.parametrize(
    ("code", "signers"),
    [
        ("JG-site-114", ("kim",)),
        ("JG-site-114", ()),
        ("JG-site-117", ("kim", "lee")),
        ("JG-site-117", ("park", "lee")),
        ("JG-site-118", ("kim", "kim-two")),
        ("JG-site-112", ("kim", "park", "root")),
        ("JG-site-112", ("kim", "site-1")),
    ],
)
def test_a_roster_of_anybody_else_is_refused(
    code: str, signers: tuple[str, ...], federation: Any, staff: Staff
) -> None:
    with pytest.raises(SiteError, match=code):
        verify_roster(federation.roster(signers=signers), staff, federation.now)


def test_a_roster_counts_until_the_second_it_ends(federation: Any, staff: Staff) -> None:
    end = federation.start + MAX_LIFE
    assert verify_roster(federation.roster(), staff, end - SECOND)
    with pytest.raises(SiteError, match="JG-site-120"):
        verify_roster(federation.roster(), staff, end)


@pytest.mark.parametrize("life", [timedelta(0), -SECOND, MAX_LIFE + SECOND])
def test_a_roster_lives_between_a_second_and_thirty_days(life: timedelta, federation: Any) -> None:
    assert federation.roster(valid_until=federation.start + SECOND)
    with pytest.raises(ValueError, match="at most 30 days"):
        federation.roster(valid_until=federation.start + life)


def test_a_roster_from_the_future_is_refused(federation: Any, staff: Staff) -> None:
    issued = federation.now + federation.day
    with pytest.raises(SiteError, match="JG-site-119"):
        verify_roster(federation.roster(issued=issued, valid_until=issued + MAX_LIFE), staff, federation.now)


def test_a_roster_signed_under_a_newer_staff_list_waits_for_it(federation: Any, staff: Staff) -> None:
    data = federation.roster(staff=2)
    with pytest.raises(SiteError, match="JG-site-123"):
        verify_roster(data, staff, federation.now)
    newer = verify_staff(federation.staff(2), federation.root.public, federation.now)
    assert verify_roster(data, newer, federation.now)


def test_two_sites_never_share_a_key(federation: Any) -> None:
    one = federation.site("site-1")
    for twin in (federation.site("site-2", keys="site-1", node="other"), federation.site("site-2", node="site-1")):
        with pytest.raises(ValueError, match="two sites have one key"):
            federation.roster(sites={"site-1": one, "site-2": twin})


@pytest.mark.parametrize("name", ["", "Site-1", "-site", "site 1", "site\n", "s" * 64])
def test_a_site_has_a_plain_id(name: str, federation: Any) -> None:
    with pytest.raises(ValueError, match="pattern"):
        federation.roster(sites={name: federation.site("site-1")})


def test_only_active_sites_take_part(federation: Any) -> None:
    sites = {
        "a": federation.site("a"),
        "b": federation.site("b", Status.SUSPENDED),
        "c": federation.site("c", Status.REVOKED),
    }
    read = roster(federation, 1, sites)
    assert list(read.active) == list(read.identities) == ["a"]


def test_the_order_of_sites_changes_nothing_that_is_signed(federation: Any) -> None:
    sites = federation.sites(3)
    assert roster(federation, 1, sites).hash == roster(federation, 1, dict(reversed(sites.items()))).hash


def test_a_version_never_goes_back(federation: Any) -> None:
    held = roster(federation, 5, federation.sites(3))
    assert compare(held, held).newcomers == ()
    assert compare(held, roster(federation, 7, federation.sites(3)))
    with pytest.raises(SiteError, match="JG-site-121"):
        compare(held, roster(federation, 4, federation.sites(3)))


def test_two_rosters_of_one_version_are_noticed(federation: Any) -> None:
    with pytest.raises(SiteError, match="JG-site-122") as caught:
        compare(roster(federation, 5, federation.sites(3)), roster(federation, 5, federation.sites(2)))
    assert roster(federation, 5, federation.sites(2)).hash in str(caught.value)


@given(before=st.integers(1, 60), more=st.integers(0, 9))
@example(before=10, more=1)
@example(before=9, more=1)
@example(before=30, more=3)
@example(before=29, more=3)
def test_more_than_a_tenth_of_newcomers_needs_a_yes(federation: Any, before: int, more: int) -> None:
    kinds = [RosterSite.model_construct(identity=f"key {number}", node_key="") for number in range(before + more)]
    sites = {f"site-{number}": site for number, site in enumerate(kinds)}
    old, new = (
        Roster.model_construct(
            version=version, issued=federation.start, staff=1, valid_until=federation.now, sites=some
        )
        for version, some in ((1, dict(list(sites.items())[:before])), (2, sites))
    )
    assert compare(old, new).needs_consent is (Fraction(more, before) > Fraction(1, 10))


def test_a_changed_identity_is_named_and_counts_as_a_newcomer(federation: Any) -> None:
    after = federation.sites(20) | {"site-7": federation.site("site-7", keys="mallory")}
    changed = change(federation, federation.sites(20), after)
    assert changed == RosterChange(newcomers=("site-7",), gone=(), rekeyed=("site-7",), before=20)
    assert not changed.needs_consent


def test_a_changed_node_key_is_named_and_is_no_newcomer(federation: Any) -> None:
    after = federation.sites(3) | {"site-2": federation.site("site-2", node="new node")}
    assert change(federation, federation.sites(3), after) == RosterChange((), (), ("site-2",), 3)


def test_a_site_that_swaps_all_its_neighbours_is_noticed_though_the_number_stays(federation: Any) -> None:
    sybils = {f"site-{number}": federation.site(f"sybil-{number}") for number in (2, 3)}
    changed = change(federation, federation.sites(3), {"site-1": federation.site("site-1")} | sybils)
    assert changed.newcomers == changed.rekeyed == ("site-2", "site-3")
    assert changed.needs_consent


def test_a_suspended_site_comes_back_as_itself_and_a_revoked_one_as_a_newcomer(federation: Any) -> None:
    for status, newcomers in ((Status.SUSPENDED, ()), (Status.REVOKED, ("site-2",))):
        before = federation.sites(3) | {"site-2": federation.site("site-2", status)}
        changed = change(federation, before, federation.sites(3))
        assert changed.newcomers == newcomers


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.REVOKED, None])
def test_who_is_gone_is_named(status: Status | None, federation: Any) -> None:
    after = federation.sites(3)
    after |= {"site-2": federation.site("site-2", status)} if status else {}
    if status is None:
        del after["site-2"]
    assert change(federation, federation.sites(3), after).gone == ("site-2",)
