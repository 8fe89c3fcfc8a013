"""Laws of a plan that is altered in the database: it does not start, and no site's approval counts for it."""

from typing import Any

import pytest
from sqlalchemy import text

from jangin.codec import cbor
from jangin.errors import SiteError
from jangin.server import campaigns
from jangin.server.life import State
from jangin.server.store import plan_of
from jangin.trust.envelope import Kind, seal


@pytest.fixture
def approved(world: Any, plan: Any) -> str:
    """A campaign that two people signed and both sites approved."""
    sites = world.sites(2)
    campaign = world.propose(plan())
    campaigns.approve(world.store, world.members, campaign, world.keys["approver"], world.now)
    for site in sites:
        world.store.approve(campaign, site.name, site.approval(campaign, world.now))
    return campaign


def altered(world: Any, campaign: str, envelope: bytes) -> None:
    with world.store.database.writing() as database:
        database.execute(
            text("UPDATE campaigns SET envelope = :envelope WHERE hash = :hash"),
            {"envelope": envelope, "hash": campaign},
        )


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_plan_with_one_byte_altered_does_not_start(world: Any, approved: str, place: float) -> None:
    envelope = bytearray(world.store.campaign(approved).envelope)
    envelope[int(place * len(envelope))] ^= 1
    altered(world, approved, bytes(envelope))
    with pytest.raises(SiteError, match=r"JG-site-11\d"):
        campaigns.start(world.store, world.members, approved, world.now)
    assert world.store.campaign(approved).state is State.APPROVED


def test_another_plan_that_the_same_people_signed_has_no_sites_approval(world: Any, plan: Any, approved: str) -> None:
    longer = plan(**{"strategy.rounds": 400})
    signers = world.keys["operator"], world.keys["approver"]
    altered(world, approved, seal(Kind.PLAN, cbor.encode(longer.model_dump(mode="json")), *signers))
    roster = world.members.roster(world.now)
    assert campaigns.approved_sites(world.store, plan(), roster, world.now) == ("site-0", "site-1")
    found = plan_of(world.store.campaign(approved))
    assert campaigns.approved_sites(world.store, found, roster, world.now) == ()
    with pytest.raises(Exception, match="JG-server-333"):
        campaigns.start(world.store, world.members, approved, world.now)
