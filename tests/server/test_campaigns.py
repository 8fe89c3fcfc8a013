"""Laws of a campaign's life: four eyes, one order of steps, and nothing proposed that cannot run."""

from datetime import timedelta
from importlib.resources import files
from typing import Any

import pytest

from jangin.errors import JanginError, PlanError, ServerError, SiteError
from jangin.server import campaigns
from jangin.server.life import State
from jangin.server.store import CampaignRow, Outcome, RoundEntry, plan_of

INSTALLED = files("jangin.configs").joinpath("lines", "national-bof-blow.yaml")


@pytest.fixture
def life(world: Any, plan: Any) -> Any:
    """Steps of one campaign's life, by the people who make them."""

    class Life:
        hash = plan().hash

        def propose(self, person: str = "operator", **changes: object) -> str:
            return world.propose(plan(**changes), person)

        def approve(self, person: str = "approver") -> None:
            campaigns.approve(world.store, world.members, self.hash, world.keys[person], world.now)

        def start(self) -> None:
            campaigns.start(world.store, world.members, self.hash, world.now)

        @property
        def state(self) -> State:
            return campaigns.status(world.store, self.hash).state

    return Life()


def test_proposed_approved_running(world: Any, plan: Any, life: Any) -> None:
    sites = world.sites(2)
    assert life.propose() == plan().hash
    assert life.state is State.PROPOSED
    life.approve()
    assert life.state is State.APPROVED
    for site in sites:
        world.store.approve(life.hash, site.name, site.approval(life.hash, world.now))
    life.start()
    assert life.state is State.RUNNING
    assert plan_of(world.store.campaign(life.hash)) == plan()


def test_nobody_approves_a_plan_of_their_own(life: Any) -> None:
    life.propose("both")
    with pytest.raises(SiteError, match=r"JG-site-118 .*operator, approver, and only both"):
        life.approve("both")
    assert life.state is State.PROPOSED
    life.approve("approver")


@pytest.mark.parametrize(("person", "code"), [("approver", "JG-site-117"), ("independent", "JG-site-117")])
def test_only_an_operator_proposes_and_only_an_approver_approves(life: Any, person: str, code: str) -> None:
    with pytest.raises(SiteError, match=code):
        life.propose(person)
    life.propose()
    with pytest.raises(SiteError, match="JG-site-117"):
        life.approve("independent")
    assert life.state is State.PROPOSED


def test_steps_have_one_order(life: Any) -> None:
    with pytest.raises(ServerError, match="JG-server-330"):
        life.approve()
    life.propose()
    with pytest.raises(ServerError, match="JG-server-331"):
        life.propose()
    with pytest.raises(ServerError, match=r"JG-server-332 .*is proposed; start is possible from: consulting"):
        life.start()
    life.approve()
    with pytest.raises(ServerError, match="JG-server-332"):
        life.approve()


def test_a_campaign_starts_with_enough_approvals_that_hold(world: Any, life: Any) -> None:
    sites = world.sites(3)
    life.propose()
    life.approve()
    world.store.approve(life.hash, "site-0", sites[0].approval(life.hash, world.now))
    world.store.approve(life.hash, "site-1", sites[2].approval(life.hash, world.now))
    with pytest.raises(ServerError, match=r"JG-server-333 .*approved so far by site-0; at least 2"):
        life.start()
    world.store.approve(life.hash, "site-2", sites[2].approval(life.hash, world.now))
    life.start()


def test_an_approval_by_keys_that_were_replaced_counts_no_more(world: Any, plan: Any, life: Any) -> None:
    sites = world.sites(2)
    life.propose()
    life.approve()
    for site in sites:
        world.store.approve(life.hash, site.name, site.approval(life.hash, world.now))

    def counted() -> tuple[str, ...]:
        return campaigns.approved_sites(world.store, plan(), world.members.roster(world.now), world.now)

    assert counted() == ("site-0", "site-1")
    world.confirm(world.enrolled("site-0"))
    assert counted() == ("site-1",)


def test_signatures_are_looked_at_again_at_the_start(world: Any, life: Any) -> None:
    sites = world.sites(2)
    life.propose()
    life.approve()
    for site in sites:
        world.store.approve(life.hash, site.name, site.approval(life.hash, world.now))
    world.now += timedelta(days=31)
    with pytest.raises(SiteError, match="JG-site-120"):
        life.start()
    world.now += timedelta(days=365)
    with pytest.raises(SiteError, match="JG-site-116"):
        life.start()
    assert life.state is State.APPROVED


FIVE = {"sites.invite": [f"site-{number}" for number in range(5)]}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (
            {"privacy.secure_aggregation": "required", "privacy.n_plan": 2, "privacy.nominal_units": 50},
            "JG-plan-033",
        ),
        ({"model_line": "national-weld"}, "JG-plan-003 model_line: .*is installed; the nearest: national-"),
        ({"model_line": str(INSTALLED)}, "JG-plan-003 model_line: .*never a file"),
        ({"model_line": "../lines/national-bof-blow.yaml"}, "JG-plan-003 model_line: .*never a file"),
        ({"model_line": "../lines/national-bof-blow"}, "JG-plan-003 model_line: .*is installed"),
        ({"process": "pipe.tig_weld"}, "JG-plan-003"),
        ({"model": {"name": "cnn1d", "channels": [8]}}, "JG-plan-011"),
        ({"strategy.name": "fedbn"}, "JG-plan-045"),
        ({"evaluate": {"metrics": ["mae"], "bound": [0, 500]}}, "JG-plan-041"),
        ({**FIVE, "evaluate": {"metrics": ["accuracy"], "bound": [0, 1]}}, "JG-plan-042 .*regression.* mae, mse, rmse"),
        (
            {
                **FIVE,
                "evaluate": {"metrics": ["mae"], "bound": [0, 1], "every": 1, "epsilon_share": 0.02},
                "privacy": {"epsilon": 4, "nominal_units": 400, "windows_per_episode": 1},
            },
            "JG-privacy-037 evaluate: .* with 5 sites",
        ),
    ],
)
def test_what_cannot_run_is_never_proposed(world: Any, life: Any, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(JanginError, match=code):
        life.propose(**changes)
    assert world.store.campaigns() == []


def test_a_hash_is_named_by_eight_of_its_first_digits_or_more(world: Any) -> None:
    hashes = ["a" * 64, "a" * 12 + "b" * 52, "c" * 64]
    for number, one in enumerate(hashes):
        world.store.draft(CampaignRow(one, f"campaign-{number}", b"", State.DRAFT), ["site-0"], "operator")
    assert campaigns.named(world.store, "c" * 8) == campaigns.named(world.store, "c" * 64) == hashes[2]
    assert [campaigns.named(world.store, one[:13]) for one in hashes] == hashes
    with pytest.raises(ServerError, match=r"JG-server-354 aaaaaaaa: 2 campaigns"):
        campaigns.named(world.store, "a" * 8)
    for text in ("c" * 7, "d" * 8, "C" * 8, "", "c" * 65, "........"):
        with pytest.raises(ServerError, match="JG-server-330"):
            campaigns.named(world.store, text)


def test_status_names_everybody(world: Any, life: Any) -> None:
    life.propose()
    failed = RoundEntry(1, 1, Outcome.FAILED, ["site-0"], {"site-1": "local"}, {}, ["site-2"], 20.0, "too few")
    done = RoundEntry(1, 2, Outcome.FINISHED, ["site-0", "site-1"], {}, {"site-2": "JG-server-340"}, [], 0.2)
    for entry in (failed, done):
        world.store.record(life.hash, entry)
    status = campaigns.status(world.store, life.hash)
    assert (status.round, status.rounds, status.attempts) == (1, 4, [failed, done])
    assert (status.invited, status.approved) == (("site-0", "site-1", "site-2"), [])


def test_a_plan_of_cells_is_never_proposed(world: Any, plan: Any) -> None:
    sites = [f"site-{number}" for number in range(12)]
    privacy = {"privacy.secure_aggregation": "required", "privacy.nominal_units": 8, "privacy.c_max": 1}
    cells = plan(**{"sites.invite": sites, "strategy.name": "median", "privacy.cells": 3, **privacy})
    with pytest.raises(PlanError, match=r"JG-plan-044 privacy\.cells: 3 cells run in simulations only"):
        world.propose(cells)
    assert not world.store.campaigns()
