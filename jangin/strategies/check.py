"""The plan checker: what cannot hold together is refused before anything starts, with what would work."""

from typing import get_args

from jangin.errors import PlanError
from jangin.plan.blocks import (
    FedAdamBlock,
    FedAvgBlock,
    FedAvgMBlock,
    FedBnBlock,
    FedProxBlock,
    FedYogiBlock,
    FlowerBlock,
    MrMtlBlock,
    PrivacyBlock,
    ScaffoldBlock,
    StrategyBlock,
)
from jangin.plan.cells import FEWEST_CELLS
from jangin.privacy.releases import Unit
from jangin.strategies import build

__all__ = ["check"]


def _names(*blocks: type[StrategyBlock]) -> list[str]:
    return [str(get_args(block.model_fields["name"].annotation)[0]) for block in blocks]


_OF_ONE_STEP = _names(FedAdamBlock, FedAvgBlock, FedAvgMBlock, FedYogiBlock, FlowerBlock)
_FROM_ONE_START = [*_OF_ONE_STEP, *_names(FedProxBlock)]
_SUMS = [*_FROM_ONE_START, *_names(MrMtlBlock, ScaffoldBlock, FedBnBlock)]


def check(strategy: StrategyBlock, privacy: PrivacyBlock) -> None:
    """Refuse a pair of blocks that cannot hold together.

    Raises:
        PlanError: JG-plan-021, single updates under secure aggregation without cells; JG-plan-023, M1 for the unit
            site; JG-plan-026, M3 for another unit than the master, or M2 or M3 with a strategy that needs more than
            sums from one public start; JG-plan-027, a pull that goes past the mean; JG-plan-031, M2 for another unit
            than the episode; JG-plan-033, so few sites that those on the server's side could open two sums;
            JG-plan-035, M2 with several local steps; JG-plan-043, cells with a strategy or a mechanism that has no use
            for them.
    """
    if privacy.sums_only:
        single = build(strategy).consumes == "updates"
        if single and privacy.cells < FEWEST_CELLS:
            sums, least = ", ".join(_SUMS), FEWEST_CELLS
            raise PlanError("JG-plan-021", where="strategy.name", strategy=strategy.name, sums=sums, least=least)
        if privacy.cells > 1 and (not single or (privacy.shares_noise and privacy.epsilon != "none")):
            raise PlanError("JG-plan-043", where="privacy.cells", strategy=strategy.name, mechanism=privacy.mechanism)
        _check_cohort(privacy)
    if isinstance(strategy, MrMtlBlock) and strategy.lr * strategy.lam > 1:
        raise PlanError("JG-plan-027", where="strategy.lam", lam=strategy.lam, lr=strategy.lr, most=1 / strategy.lr)
    if privacy.epsilon == "none":
        return
    match privacy.mechanism:
        case "M1":
            if privacy.unit is Unit.SITE:
                raise PlanError("JG-plan-023", where="privacy.unit")
        case "M2":
            if privacy.unit is not Unit.EPISODE:
                raise PlanError("JG-plan-031", where="privacy.unit", unit=privacy.unit.value)
            if strategy.local_steps > 1:
                steps, rounds = strategy.local_steps, strategy.rounds * strategy.local_steps
                raise PlanError("JG-plan-035", where="strategy.local_steps", steps=steps, rounds=rounds)
            _check_start(strategy, privacy, _OF_ONE_STEP)
        case "M3":
            if privacy.unit is not Unit.MASTER:
                _refuse("privacy.unit", f"unit {privacy.unit}", privacy, _FROM_ONE_START)
            _check_start(strategy, privacy, _FROM_ONE_START)
        case _:
            raise ValueError(f"Expected a mechanism: {privacy.mechanism!r}.")


def _check_cohort(privacy: PrivacyBlock) -> None:
    """The sites of a sum are enough for those who may collude."""
    n_plan, c_max = privacy.n_plan, privacy.c_max
    if n_plan is not None and n_plan < privacy.fewest:
        raise PlanError(
            "JG-plan-033",
            where="privacy.n_plan",
            n_plan=n_plan,
            c_max=c_max,
            least=privacy.fewest,
            most=(n_plan - 1) // 3,
        )


def _check_start(strategy: StrategyBlock, privacy: PrivacyBlock, those: list[str]) -> None:
    if strategy.name not in those:
        _refuse("strategy.name", f"strategy {strategy.name}", privacy, those)


def _refuse(where: str, value: str, privacy: PrivacyBlock, sums: list[str]) -> None:
    raise PlanError("JG-plan-026", where=where, mechanism=privacy.mechanism, value=value, sums=", ".join(sums))
