"""Laws of the plan checker: what cannot hold together is refused, and everything else passes."""

from itertools import product
from typing import Any

import pytest
from pydantic import TypeAdapter

from jangin.codec.document import parse
from jangin.errors import PlanError
from jangin.plan.blocks import PrivacyBlock, StrategyBlock
from jangin.strategies.check import check

OF_THE_MEAN = ("fedadam", "fedavg", "fedavgm", "fedyogi", "flower")
WITH_OWN = ("mrmtl", "scaffold", "fedbn")
SUMS = (*OF_THE_MEAN, "fedprox", *WITH_OWN)


def strategy(name: str, **settings: object) -> StrategyBlock:
    rule = {"rule": "FedAdagrad"} if name == "flower" else {}
    content = {"name": name, "rounds": 1, "local_steps": 1, "batch": 1, "lr": 0.1, **rule, **settings}
    block: StrategyBlock = TypeAdapter(StrategyBlock).validate_python(content)
    return block


def privacy(**settings: Any) -> PrivacyBlock:
    return parse(settings, PrivacyBlock, "plan.yaml")


def test_single_updates_and_secure_aggregation_exclude_each_other_and_the_way_out_is_named() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-021 strategy\.name: strategy median") as caught:
        check(strategy("median"), privacy(secure_aggregation="required"))
    assert all(name in str(caught.value) for name in (*SUMS, "privacy.cells", "secure_aggregation: none"))


def test_single_updates_are_means_of_three_cells_or_more_under_secure_aggregation() -> None:
    for epsilon in ("none", 4):
        check(strategy("median"), privacy(epsilon=epsilon, secure_aggregation="required", cells=3))
        with pytest.raises(PlanError, match="JG-plan-021"):
            check(strategy("median"), privacy(epsilon=epsilon, secure_aggregation="required", cells=2))


@pytest.mark.parametrize("name", SUMS)
def test_cells_are_refused_where_one_sum_gives_the_same(name: str) -> None:
    with pytest.raises(
        PlanError, match=r"JG-plan-043 privacy\.cells: .*median with mechanism M1 or with epsilon: none"
    ):
        check(strategy(name), privacy(secure_aggregation="required", cells=3))


@pytest.mark.parametrize("mechanism", ["M2", "M3"])
def test_noise_is_not_shared_among_cells(mechanism: str) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-043 privacy\.cells: "):
        check(strategy("median"), privacy(epsilon=4, secure_aggregation="required", mechanism=mechanism, cells=3))


@pytest.mark.parametrize("name", SUMS)
def test_a_strategy_on_sums_passes_with_secure_aggregation(name: str) -> None:
    for epsilon in ("none", 4):
        check(strategy(name, local_steps=3), privacy(epsilon=epsilon, secure_aggregation="required"))


def test_sites_that_could_open_two_sums_are_too_many_and_what_would_work_is_named() -> None:
    check(strategy("fedavg"), privacy(secure_aggregation="required", n_plan=10, c_max=3))
    with pytest.raises(PlanError, match=r"JG-plan-033 privacy\.n_plan: 12 sites are too few for c_max 4") as caught:
        check(strategy("fedavg"), privacy(secure_aggregation="required", n_plan=12, c_max=4))
    for n_plan, c_max in ((caught.value.coded.values["least"], 4), (12, caught.value.coded.values["most"])):
        check(strategy("fedavg"), privacy(secure_aggregation="required", n_plan=n_plan, c_max=c_max))
        with pytest.raises(PlanError, match="JG-plan-033"):
            check(strategy("fedavg"), privacy(secure_aggregation="required", n_plan=n_plan, c_max=c_max + 1))


@pytest.mark.parametrize("unit", ["master", "site"])
def test_m2_hides_episodes_and_no_other_unit(unit: str) -> None:
    with pytest.raises(PlanError, match=rf"JG-plan-031 privacy\.unit: .*unit {unit}"):
        check(strategy("fedavg"), privacy(epsilon=4, unit=unit, mechanism="M2"))


def test_m2_has_one_local_step_and_m1_is_named_for_more() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-035 strategy\.local_steps: .*not 5") as caught:
        check(strategy("fedavg", rounds=8, local_steps=5), privacy(epsilon=4, mechanism="M2"))
    assert "privacy.mechanism: M1" in str(caught.value)
    check(strategy("fedavg", rounds=caught.value.coded.values["rounds"]), privacy(epsilon=4, mechanism="M2"))
    check(strategy("fedavg", rounds=8, local_steps=5), privacy(epsilon=4, mechanism="M1"))


@pytest.mark.parametrize("name", ["median", "fedprox", *WITH_OWN])
def test_m2_refuses_what_its_one_step_from_one_start_makes_no_sense_of(name: str) -> None:
    with pytest.raises(PlanError, match=rf"JG-plan-026 strategy\.name: mechanism M2 .*strategy {name}") as caught:
        check(strategy(name), privacy(epsilon=4, mechanism="M2"))
    assert caught.value.coded.values["sums"] == ", ".join(OF_THE_MEAN)


@pytest.mark.parametrize("name", OF_THE_MEAN)
def test_m2_passes_with_steps_and_momentum_of_the_server(name: str) -> None:
    check(strategy(name), privacy(epsilon=4, mechanism="M2"))
    check(strategy(name), privacy(epsilon=4, mechanism="M2", secure_aggregation="required", n_plan=10))


@pytest.mark.parametrize("name", [*SUMS, "median"])
def test_local_noise_does_not_protect_a_whole_site(name: str) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-023 privacy\.unit"):
        check(strategy(name), privacy(epsilon=4, unit="site"))


@pytest.mark.parametrize(
    ("name", "unit", "epsilon"), list(product([*SUMS, "median"], ["episode", "master"], ["none", 4]))
)
def test_everything_else_passes(name: str, unit: str, epsilon: object) -> None:
    check(strategy(name), privacy(epsilon=epsilon, unit=unit))


def test_a_pull_past_the_mean_of_all_is_refused_and_the_most_that_holds_is_named() -> None:
    check(strategy("mrmtl", lr=0.5, lam=2.0), privacy())
    with pytest.raises(PlanError, match=r"JG-plan-027 strategy\.lam.*lr 0\.5 a lam of 2\.1") as caught:
        check(strategy("mrmtl", lr=0.5, lam=2.1), privacy())
    assert "at most 2" in str(caught.value)


def test_without_an_epsilon_no_unit_is_promised_anything() -> None:
    check(strategy("fedavg"), privacy(unit="site"))


@pytest.mark.parametrize("unit", ["episode", "site"])
def test_m3_hides_masters_and_no_other_unit(unit: str) -> None:
    with pytest.raises(PlanError, match=rf"JG-plan-026 privacy\.unit: .*unit {unit}"):
        check(strategy("fedavg"), privacy(epsilon=4, unit=unit, mechanism="M3"))


def test_m3_needs_a_strategy_on_sums_and_says_which() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-026 strategy\.name: .*strategy median") as caught:
        check(strategy("median"), privacy(epsilon=4, unit="master", mechanism="M3"))
    assert all(name in str(caught.value) for name in SUMS if name not in WITH_OWN)


@pytest.mark.parametrize("name", WITH_OWN)
def test_m3_refuses_a_strategy_by_which_a_site_keeps_anything(name: str) -> None:
    with pytest.raises(PlanError, match=rf"JG-plan-026 strategy\.name: .*strategy {name}"):
        check(strategy(name), privacy(epsilon=4, unit="master", mechanism="M3"))


@pytest.mark.parametrize("name", [name for name in SUMS if name not in WITH_OWN])
def test_m3_passes_with_every_strategy_on_sums_from_one_start(name: str) -> None:
    check(strategy(name), privacy(epsilon=4, unit="master", mechanism="M3"))
