"""The plan checker: what cannot hold together is refused before anything starts, with what would work."""

from typing import get_args

from jangin.errors import PlanError
from jangin.plan.blocks import FedAdamBlock, FedAvgBlock, FedProxBlock, MrMtlBlock, PrivacyBlock, StrategyBlock
from jangin.privacy.releases import Unit
from jangin.strategies import build

__all__ = ["check"]

_FROM_ONE_START = [
    str(get_args(b.model_fields["name"].annotation)[0]) for b in (FedAdamBlock, FedAvgBlock, FedProxBlock)
]
_SUMS = ", ".join([*_FROM_ONE_START, str(get_args(MrMtlBlock.model_fields["name"].annotation)[0])])


def check(strategy: StrategyBlock, privacy: PrivacyBlock) -> None:
    """Refuse a pair of blocks that cannot hold together.

    Raises:
        PlanError: JG-plan-021, single updates under secure aggregation; JG-plan-022, secure aggregation, which is
            not built yet; JG-plan-023, M1 for the unit site; JG-plan-026, M3 for another unit than the master, or a
            strategy that needs more than sums from one public start; JG-plan-027, a pull that goes past the mean.
    """
    if privacy.secure_aggregation == "required":
        if build(strategy).consumes == "updates":
            raise PlanError("JG-plan-021", where="strategy.name", strategy=strategy.name, sums=_SUMS)
        raise PlanError("JG-plan-022", where="privacy.secure_aggregation")
    if isinstance(strategy, MrMtlBlock) and strategy.lr * strategy.lam > 1:
        raise PlanError("JG-plan-027", where="strategy.lam", lam=strategy.lam, lr=strategy.lr, most=1 / strategy.lr)
    if privacy.epsilon == "none":
        return
    if privacy.mechanism == "M3":
        if privacy.unit is not Unit.MASTER:
            raise PlanError(
                "JG-plan-026", where="privacy.unit", value=f"unit {privacy.unit}", sums=", ".join(_FROM_ONE_START)
            )
        if strategy.name not in _FROM_ONE_START:
            value, those = f"strategy {strategy.name}", ", ".join(_FROM_ONE_START)
            raise PlanError("JG-plan-026", where="strategy.name", value=value, sums=those)
    elif privacy.unit is Unit.SITE:
        raise PlanError("JG-plan-023", where="privacy.unit")
