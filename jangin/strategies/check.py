"""The plan checker: what cannot hold together is refused before anything starts, with what would work."""

from typing import get_args

from jangin.errors import PlanError
from jangin.plan.blocks import FedAdamBlock, FedAvgBlock, FedProxBlock, MrMtlBlock, PrivacyBlock, StrategyBlock
from jangin.privacy.releases import Unit
from jangin.strategies import build

__all__ = ["check"]

_SUMS = ", ".join(
    str(get_args(b.model_fields["name"].annotation)[0]) for b in (FedAdamBlock, FedAvgBlock, FedProxBlock, MrMtlBlock)
)


def check(strategy: StrategyBlock, privacy: PrivacyBlock) -> None:
    """Refuse a pair of blocks that cannot hold together.

    Raises:
        PlanError: JG-plan-021, single updates under secure aggregation; JG-plan-022, secure aggregation, which is
            not built yet; JG-plan-023, M1 for the unit site; JG-plan-027, a pull that goes past the mean.
    """
    if privacy.secure_aggregation == "required":
        if build(strategy).consumes == "updates":
            raise PlanError("JG-plan-021", where="strategy.name", strategy=strategy.name, sums=_SUMS)
        raise PlanError("JG-plan-022", where="privacy.secure_aggregation")
    if privacy.epsilon != "none" and privacy.unit is Unit.SITE:
        raise PlanError("JG-plan-023", where="privacy.unit")
    if isinstance(strategy, MrMtlBlock) and strategy.lr * strategy.lam > 1:
        raise PlanError("JG-plan-027", where="strategy.lam", lam=strategy.lam, lr=strategy.lr, most=1 / strategy.lr)
