"""What a plan fixes for its secure sums, as sites and server both read it out of the plan.

The law: everything here follows from the plan alone; the server has no other way to say it.
"""

from jangin.errors import SumError
from jangin.plan.cells import split
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.secure_sum.policy import Terms, threshold

__all__ = ["terms", "terms_of_cells"]

_FEWEST_ATTEMPTS = 3


def terms(plan: TrainingPlan, site: str) -> Terms:
    """The terms of a site's sums: those of its cell.

    Raises:
        SumError: JG-sum-007, the plan does not invite the site.
    """
    for cell in terms_of_cells(plan):
        if site in cell.invited:
            return cell
    raise SumError("JG-sum-007", sites=[site])


def terms_of_cells(plan: TrainingPlan) -> tuple[Terms, ...]:
    """The terms of a plan whose vectors are added up in secret, for each of its cells; one without cells.

    Without an n_plan a sum begins with as many as a round, or a cell's part of them; without an n_min_final it is
    opened by more than two thirds of those. A round may be attempted three times, and once more than rounds are spare
    where that is more.
    """
    privacy = plan.privacy
    n_plan = privacy.n_plan or max(privacy.smallest_cell(plan.sites.min_sites), 1)
    return tuple(
        Terms(
            invited=cell,
            n_plan=n_plan,
            n_min_final=privacy.n_min_final or threshold(n_plan),
            c_max=privacy.c_max,
            attempts=max(_FEWEST_ATTEMPTS, privacy.spare_rounds + 1),
        )
        for cell in split(plan.hash, plan.sites.invite, privacy.cells)
    )
