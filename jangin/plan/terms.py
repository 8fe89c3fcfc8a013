"""What a plan fixes for its secure sums, as sites and server both read it out of the plan.

The law: everything here follows from the plan alone; the server has no other way to say it.
"""

from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.secure_sum.policy import Terms, threshold

__all__ = ["terms"]

_FEWEST_ATTEMPTS = 3


def terms(plan: TrainingPlan) -> Terms:
    """The terms of a plan whose vectors are added up in secret.

    Without an n_plan a sum begins with as many as a round; without an n_min_final it is opened by more than two thirds
    of those. A round may be attempted three times, and once more than rounds are spare where that is more.
    """
    privacy = plan.privacy
    n_plan = privacy.n_plan or plan.sites.min_sites
    return Terms(
        invited=frozenset(plan.sites.invite),
        n_plan=n_plan,
        n_min_final=privacy.n_min_final or threshold(n_plan),
        c_max=privacy.c_max,
        attempts=max(_FEWEST_ATTEMPTS, privacy.spare_rounds + 1),
    )
