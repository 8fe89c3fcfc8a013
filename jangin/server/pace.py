"""How long orders took, as the database knows it, for a plan that is still to run.

The law: only seconds that were measured of a campaign that trains alike, or of this very plan's rehearsal; what was
tried again or failed does not count.
"""

from jangin.plan.training_plan import TrainingPlan
from jangin.server.campaigns import plan_of
from jangin.server.forecast import Basis, Measured, public_pace
from jangin.server.store import Outcome, Store

__all__ = ["measured"]


def measured(store: Store, plan: TrainingPlan) -> Measured:
    """Where a plan's hours are estimated from: rounds of a campaign alike, else its last rehearsal, else a public pace.

    Of several campaigns the one with the nearest number of sites counts, of these the newest.
    """
    sites = len(plan.sites.invite)
    nearest: tuple[int, Measured] | None = None
    for row in store.campaigns():
        other = plan_of(row)
        if _alike(other) != _alike(plan):
            continue
        finished = [entry for entry in store.rounds(row.hash) if entry.outcome is Outcome.FINISHED]
        training = [entry.seconds for entry in finished if entry.round]
        apart = abs(len(other.sites.invite) - sites)
        if training and (nearest is None or apart <= nearest[0]):
            shown = [entry.seconds for entry in store.evaluations(row.hash) if entry.figures]
            scaling = [entry.seconds for entry in finished if not entry.round]
            nearest = apart, Measured(Basis.ROUNDS, row.hash, training, scaling, shown)
    return nearest[1] if nearest else _rehearsed(store, plan) or public_pace(plan)


def _alike(plan: TrainingPlan) -> tuple[object, ...]:
    """What decides how long a site trains and how often it is asked."""
    strategy, privacy = plan.strategy, plan.privacy
    work = strategy.name, strategy.local_steps, strategy.batch, privacy.nominal_units, privacy.windows_per_episode
    how = privacy.mechanism, privacy.epsilon == "none", privacy.secure_aggregation, privacy.unit
    return plan.model_line, plan.model, *work, *how


def _rehearsed(store: Store, plan: TrainingPlan) -> Measured | None:
    """The plan's last rehearsal that anybody was ready in; a secure sum's other exchanges by the public pace."""
    found = [entry.seconds for entry in store.rehearsals(plan.hash) if entry.done and entry.seconds]
    if not found:
        return None
    more = public_pace(plan).training[0] * 4 / 5 if plan.privacy.sums_only else 0.0
    return Measured(Basis.REHEARSAL, plan.hash, [found[-1] + more])
