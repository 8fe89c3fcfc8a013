"""Which round's model a campaign ends with, and when it ends early: by the figures of its evaluations.

The law: nothing here looks at anything but figures that were released and charged, so all of it is post-processing
(Dwork and Roth 2014, Proposition 2.1); what was chosen follows from the database alone, before a crash and after it.
"""

from collections.abc import Sequence

from jangin.plan.training_plan import TrainingPlan
from jangin.server.store import EvaluationEntry

__all__ = ["best_round", "stopped"]


def best_round(plan: TrainingPlan, evaluations: Sequence[EvaluationEntry]) -> int | None:
    """The evaluated round with the best figure of the decisive metric, the first of several; None without a figure."""
    from jangin.training.metrics import METRICS

    best: tuple[int, float] | None = None
    for entry in evaluations:
        if plan.evaluate is None or not entry.figures:
            continue
        metric = plan.evaluate.decisive
        value = entry.figures[metric][0]
        if best is None or METRICS[metric].better(value, best[1]):
            best = entry.round, value
    return None if best is None else best[0]


def stopped(plan: TrainingPlan, evaluations: Sequence[EvaluationEntry]) -> str:
    """Why training ends before the last round: `stop_if` holds after the newest figure; empty where it goes on."""
    best, shown = best_round(plan, evaluations), [entry.round for entry in evaluations if entry.figures]
    if plan.evaluate is None or plan.evaluate.stop_if is None or best is None:
        return ""
    rule, last = plan.evaluate.stop_if, shown[-1]
    if last - best < rule.no_gain_rounds or last >= plan.strategy.rounds:
        return ""
    return f"no gain of {rule.metric} from round {best} to round {last}"
