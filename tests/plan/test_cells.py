"""Laws of cells: each site is in one, nobody chooses which, and each has the terms of a sum of its own."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import Peers, a_manifest, step_once

from jangin.codec.document import parse
from jangin.errors import PlanError, SumError
from jangin.plan.cells import split
from jangin.plan.terms import terms, terms_of_cells
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.secure_sum.server import ServerSum
from jangin.privacy.secure_sum.table import Step

PLANS = st.binary(min_size=32, max_size=32).map(bytes.hex)
NAMES = st.lists(st.from_regex(r"[a-z0-9-]{1,12}", fullmatch=True), min_size=1, max_size=40, unique=True)
SITES = [f"site-{number}" for number in range(14)]


def plan(**privacy: object) -> TrainingPlan:
    """A plan of fourteen sites in three cells, with other settings of its privacy block."""
    tree: dict[str, Any] = {
        "campaign": "cells",
        "process": "pipe.tig_weld",
        "model_line": "national-weld",
        "sites": {"invite": SITES, "min_sites": 12},
        "model": {"name": "linear"},
        "strategy": {"name": "median", "rounds": 3, "local_steps": 1, "batch": 8, "lr": 0.05},
        "privacy": {"secure_aggregation": "required", "nominal_units": 40, "c_max": 1, "cells": 3, **privacy},
        "governance": {
            "purposes": ["skill_preservation"],
            "prohibited": ["worker_evaluation", "dismissal"],
            "release": {"recipients": "contributors", "export": "domestic_only"},
        },
    }
    return parse(tree, TrainingPlan, "plan.yaml")


@given(PLANS, NAMES, st.integers(1, 8))
def test_every_site_is_in_exactly_one_cell_and_sizes_differ_by_at_most_one(
    campaign: str, sites: list[str], cells: int
) -> None:
    parts = split(campaign, sites, cells)
    assert sorted(site for part in parts for site in part) == sorted(sites)
    sizes = [len(part) for part in parts]
    assert len(sizes) == cells
    assert max(sizes) - min(sizes) <= 1


@given(PLANS, NAMES, st.integers(1, 8), st.randoms())
def test_the_split_depends_on_the_plan_alone_and_not_on_the_order_of_its_sites(
    campaign: str, sites: list[str], cells: int, random: Any
) -> None:
    shuffled = random.sample(sites, len(sites))
    assert split(campaign, shuffled, cells) == split(campaign, sites, cells)


def test_the_split_never_changes() -> None:
    """Sites and servers of different versions have to agree on it."""
    assert [sorted(cell) for cell in split("ab" * 32, ["a", "b", "c", "d", "e"], 2)] == [["b", "d", "e"], ["a", "c"]]


def test_another_plan_is_another_split() -> None:
    assert len({split(f"{number:064x}", SITES, 3) for number in range(20)}) == 20


def test_each_site_finds_its_own_cell_in_the_plan() -> None:
    made = plan()
    cells = terms_of_cells(made)
    assert [len(cell.invited) for cell in cells] == [5, 5, 4]
    for site in SITES:
        (own,) = [cell for cell in cells if site in cell.invited]
        assert terms(made, site) == own
        assert own.n_plan == 4
    with pytest.raises(SumError, match="JG-sum-007"):
        terms(made, "site-14")


def test_without_cells_all_sites_are_in_one_sum_and_the_hash_is_as_before() -> None:
    one = plan(cells=1)
    assert terms(one, SITES[0]).invited == set(SITES)
    assert terms(one, SITES[0]).n_plan == 12
    assert "cells" not in one.model_dump(mode="json")["privacy"]
    assert plan(cells=3).hash != one.hash


@pytest.mark.parametrize("asked", [{"n_plan": 5}, {"cells": 4}, {"c_max": 2}, {"cells": 15}])
def test_a_sum_that_the_smallest_cell_cannot_begin_is_refused(asked: dict[str, object]) -> None:
    assert plan(n_plan=4).privacy.n_plan == 4
    with pytest.raises(PlanError, match=r"JG-plan-034 privacy\.(n_plan|cells): .* can be in one"):
        plan(**asked)


def test_a_site_refuses_a_cohort_with_anybody_of_another_cell() -> None:
    made = plan()
    own = sorted(terms_of_cells(made)[0].invited)
    stranger = min(terms_of_cells(made)[1].invited)
    peers = Peers.of([*own, stranger])
    identities = {name: key.public_key() for name, key in peers.keys.items()}
    manifest = a_manifest(campaign=made.hash)
    lying = ServerSum(manifest, replace(terms(made, own[0]), invited=frozenset([*own, stranger])), identities)
    peers.begin(manifest, terms(made, own[0]), identities)
    step_once(lying, peers, {})
    for name in own:
        with pytest.raises(SumError, match=rf"JG-sum-007 .*{stranger}"):
            peers.answer(name, Step.SHARE, lying.request(name))
        assert not peers.machines[name].released
