"""Laws of the plan checker: what cannot hold together is refused, and everything else passes."""

from itertools import product
from typing import Any

import pytest
from pydantic import TypeAdapter

from jangin.codec.document import parse
from jangin.errors import PlanError
from jangin.plan.blocks import PrivacyBlock, StrategyBlock
from jangin.strategies.check import check

SUMS = ("fedavg", "fedadam", "fedprox", "mrmtl")


def strategy(name: str, **settings: object) -> StrategyBlock:
    content = {"name": name, "rounds": 1, "local_steps": 1, "batch": 1, "lr": 0.1, **settings}
    block: StrategyBlock = TypeAdapter(StrategyBlock).validate_python(content)
    return block


def privacy(**settings: Any) -> PrivacyBlock:
    return parse(settings, PrivacyBlock, "plan.yaml")


def test_single_updates_and_secure_aggregation_exclude_each_other_and_the_way_out_is_named() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-021 strategy\.name: strategy median") as caught:
        check(strategy("median"), privacy(secure_aggregation="required"))
    assert all(name in str(caught.value) for name in (*SUMS, "secure_aggregation: none"))


@pytest.mark.parametrize("name", SUMS)
def test_a_plan_that_asks_for_secure_aggregation_does_not_run_without_it(name: str) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-022 privacy\.secure_aggregation"):
        check(strategy(name), privacy(secure_aggregation="required"))


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
    assert all(name in str(caught.value) for name in SUMS if name != "mrmtl")


def test_m3_refuses_a_strategy_by_which_a_site_keeps_anything() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-026 strategy\.name: .*strategy mrmtl"):
        check(strategy("mrmtl"), privacy(epsilon=4, unit="master", mechanism="M3"))


@pytest.mark.parametrize("name", [name for name in SUMS if name != "mrmtl"])
def test_m3_passes_with_every_strategy_on_sums_from_one_start(name: str) -> None:
    check(strategy(name), privacy(epsilon=4, unit="master", mechanism="M3"))
