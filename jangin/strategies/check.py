"""The plan checker: what cannot hold together is refused before anything starts, with what would work."""

from typing import get_args

from jangin.errors import PlanError
from jangin.plan.blocks import FedAdamBlock, FedAvgBlock, FedProxBlock, PrivacyBlock, StrategyBlock
from jangin.privacy.releases import Unit
from jangin.strategies import build

__all__ = ["check"]

_NAMES = [str(get_args(b.model_fields["name"].annotation)[0]) for b in (FedAdamBlock, FedAvgBlock, FedProxBlock)]
_SUMS = ", ".join(_NAMES)


def check(strategy: StrategyBlock, privacy: PrivacyBlock) -> None:
    """Refuse a pair of blocks that cannot hold together.

    Raises:
        PlanError: JG-plan-021, single updates under secure aggregation; JG-plan-022, secure aggregation, which is
            not built yet; JG-plan-023, M1 for the unit site; JG-plan-026, M3 for another unit than the master, or a
            strategy that needs more than sums from one public start.
    """
    if privacy.secure_aggregation == "required":
        if build(strategy).consumes == "updates":
            raise PlanError("JG-plan-021", where="strategy.name", strategy=strategy.name, sums=_SUMS)
        raise PlanError("JG-plan-022", where="privacy.secure_aggregation")
    if privacy.epsilon == "none":
        return
    if privacy.mechanism == "M3":
        if privacy.unit is not Unit.MASTER:
            raise PlanError("JG-plan-026", where="privacy.unit", value=f"unit {privacy.unit}", sums=_SUMS)
        if strategy.name not in _NAMES:
            raise PlanError("JG-plan-026", where="strategy.name", value=f"strategy {strategy.name}", sums=_SUMS)
    elif privacy.unit is Unit.SITE:
        raise PlanError("JG-plan-023", where="privacy.unit")
