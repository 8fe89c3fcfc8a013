"""Laws of membership: two people sign the roster, a token serves once and in time, fingerprints are shown first."""

from datetime import timedelta
from typing import Any

import pytest

from jangin.errors import ServerError, SiteError
from jangin.trust.keys import NodeKey
from jangin.trust.roster import Status

DAY = timedelta(days=1)


def test_from_invitation_to_the_roster(world: Any) -> None:
    token = world.members.invite("site-0", world.now)
    assert [(m.site, m.status, m.fingerprint) for m in world.members.members()] == [("site-0", "invited", None)]
    site = world.enrolled("site-0")
    shown = site.identity.fingerprint
    assert [(m.status, m.fingerprint) for m in world.members.members()] == [("waiting", shown)]
    assert world.members.fingerprints(["site-0"]) == {"site-0": shown}
    with pytest.raises(SiteError, match="JG-site-125"):
        world.members.roster(world.now)
    world.confirm(site)
    assert [(m.status, m.fingerprint) for m in world.members.members()] == [("active", shown)]
    assert world.members.roster(world.now).sites["site-0"].node_key == site.node.public_text
    assert token.count("-") == 3


@pytest.mark.parametrize(
    ("signers", "code"),
    [
        (["operator"], "JG-site-114"),
        (["operator", "approver"], "JG-site-117"),
        (["independent", "approver"], "JG-site-117"),
        (["both"], "JG-site-114"),
    ],
)
def test_a_roster_without_an_operator_and_an_independent_body_is_refused(
    world: Any, signers: list[str], code: str
) -> None:
    world.enrolled("site-0")
    with pytest.raises(SiteError, match=code):
        world.members.confirm(["site-0"], [world.keys[person] for person in signers], world.now)
    assert world.store.roster() == b""


def test_a_site_without_keys_is_not_confirmed(world: Any) -> None:
    world.members.invite("site-0", world.now)
    for site in ("site-0", "site-1"):
        with pytest.raises(ServerError, match=f"JG-server-321 {site}"):
            world.members.fingerprints([site])
        with pytest.raises(ServerError, match=f"JG-server-321 {site}"):
            world.members.confirm([site], [world.keys["operator"], world.keys["independent"]], world.now)


def test_each_roster_keeps_who_was_there_and_a_renewal_changes_nobody(world: Any) -> None:
    first = world.enrolled("site-0")
    world.confirm(first)
    second = world.enrolled("site-1")
    world.confirm(second)
    roster = world.members.roster(world.now)
    assert (roster.version, sorted(roster.active)) == (2, ["site-0", "site-1"])
    world.now += 20 * DAY
    world.confirm()
    renewed = world.members.roster(world.now)
    assert (renewed.version, renewed.sites) == (3, roster.sites)
    assert renewed.valid_until == world.now + 30 * DAY


def test_a_roster_out_of_force_counts_for_nothing_the_moment_it_ends(world: Any) -> None:
    world.sites(1)
    assert world.members.roster(world.now + 30 * DAY - timedelta(seconds=1)).active
    with pytest.raises(SiteError, match="JG-site-120"):
        world.members.roster(world.now + 30 * DAY)


def test_a_site_with_new_keys_waits_until_they_are_confirmed(world: Any) -> None:
    (old,) = world.sites(1)
    new = world.enrolled("site-0")
    assert [(m.status, m.fingerprint) for m in world.members.members()] == [("waiting", new.identity.fingerprint)]
    assert world.members.roster(world.now).sites["site-0"].identity == old.identity.public_text
    world.confirm(new)
    assert world.members.roster(world.now).sites["site-0"].identity == new.identity.public_text
    assert world.members.roster(world.now).sites["site-0"].status is Status.ACTIVE


def test_a_renewed_node_key_is_taken_up_by_the_next_roster_and_the_old_one_serves_until_then(world: Any) -> None:
    """Nobody names the site: its identity, which was compared by telephone, stays, and has signed the request."""
    one, other = world.sites(2)
    token, fresh = world.members.invite("site-0", world.now), NodeKey.generate().public_text
    before = world.members.roster(world.now).sites
    old = one.identity.public_text, one.node.public_text
    assert world.members.enroll("site-0", token, *old, world.now)
    with pytest.raises(ServerError, match="JG-server-318"):
        world.members.renew("site-0", other.node.public_text, world.now)
    world.members.renew("site-0", fresh, world.now)
    assert world.members.roster(world.now).sites == before
    assert [m.status for m in world.members.members()] == ["renewing", "active"]
    assert world.members.enroll("site-0", token, *old, world.now)
    world.confirm()
    after = world.members.roster(world.now).sites
    assert after == {**before, "site-0": before["site-0"].model_copy(update={"node_key": fresh})}
    assert [m.status for m in world.members.members()] == ["active", "active"]
    with pytest.raises(ServerError, match="JG-server-316"):
        world.members.enroll("site-0", token, *old, world.now)


@pytest.mark.parametrize("name", ["", "Site-0", "-site", "a" * 64, "site_0", "사업장", "site-0\n"])
def test_an_id_that_is_none_is_refused(world: Any, name: str) -> None:
    with pytest.raises(ServerError, match="JG-server-320"):
        world.members.invite(name, world.now)


def test_a_token_is_read_as_people_type_it_and_is_of_fresh_randomness(world: Any) -> None:
    token = world.members.invite("site-0", world.now, lambda count: bytes(range(count)))
    assert token == "AAAQ-EAYE-AUDA-OCAJ"
    site = world.enrolled("site-9")
    keys = site.identity.public_text, site.node.public_text
    with pytest.raises(ServerError, match="JG-server-318"):
        world.members.enroll("site-0", token, *keys, world.now)
    assert len({world.members.invite("site-1", world.now) for _ in range(20)}) == 20
