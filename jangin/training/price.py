"""What a plan costs, before anything runs."""

from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.releases import Cost
from jangin.training.mechanism import mechanism

__all__ = ["price"]


def price(plan: TrainingPlan) -> Cost | None:
    """What a plan asks of every unit of a site; None where it promises NO DIFFERENTIAL PRIVACY.

    The noise is calibrated for it, which takes about a second.

    Raises:
        PlanError: JG-plan-020, delta too large. PrivacyError: JG-privacy-002, no noise is enough.
    """
    asked = mechanism(plan.privacy, plan.strategy, plan.privacy.nominal_units or 1, plan.evaluate)
    return None if asked is None else asked.cost(plan.charged_rounds)
