"""From the outcomes of all seeds to the result: means, deviations, who is better off, the promise."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from jangin.models.layout import ParameterLayout, Vector
from jangin.models.lines import read_line
from jangin.privacy.statement import Deployment, Statement, promise_of, state
from jangin.simulation.experiment import NpzData
from jangin.simulation.result import COMPARED, Result, Scores, better_off, promise
from jangin.simulation.setting import Setting
from jangin.training.scaling import Scaling

__all__ = ["Outcome", "conclude", "stated"]


@dataclass(frozen=True)
class Outcome:
    """What one seed, or one real federation, came to.

    Attributes:
        scores: of each model, by name.
        rounds: one row a round: seed, round, federated (NaN where nobody judged), seconds.
        parameters: the final shared parameters, (d,), float32.
        layout: how the whole model is laid out.
        scaling: how inputs and outputs of that model are scaled.
        round_seconds: of the rounds alone.
    """

    scores: Mapping[str, Scores]
    rounds: Sequence[Mapping[str, float]]
    parameters: Vector
    layout: ParameterLayout
    scaling: Scaling
    round_seconds: float


def conclude(setting: Setting, outcomes: Sequence[Outcome], seconds: float) -> Result:
    """The result of an experiment that took so many seconds."""
    names = [name for name in (*COMPARED, "local_private") if name in outcomes[0].scores]
    totals = {name: [outcome.scores[name].total for outcome in outcomes] for name in names}
    sites = tuple(silo.name for silo in setting.federation.silos)
    by_site = {
        name: tuple(np.mean([outcome.scores[name].sites for outcome in outcomes], axis=0).tolist()) for name in names
    }
    figures = {name: fmean(totals[name]) if name in totals else None for name in (*COMPARED, *names)}
    client_rounds = len(sites) * sum(len(outcome.rounds) for outcome in outcomes)
    return Result(
        metric={"name": setting.metric_name, "higher_is_better": setting.metric.higher_is_better, **figures},
        std={name: float(np.std(totals[name])) if name in totals else None for name in figures},
        better_off=better_off(by_site, sites, setting.metric),
        privacy=promise(setting.mechanism, len(outcomes)),
        sites=sites,
        per_site=by_site,
        union={name: fmean(outcome.scores[name].union for outcome in outcomes) for name in names},
        rounds=tuple(row for outcome in outcomes for row in outcome.rounds),
        parameters=outcomes[0].parameters,
        layout=outcomes[0].layout,
        scaling=outcomes[0].scaling,
        client_rounds_per_second=client_rounds / sum(outcome.round_seconds for outcome in outcomes),
        seconds=seconds,
        peak_rss_mb=_peak_rss_mb(),
        warnings=setting.warnings,
    )


def stated(setting: Setting) -> Statement:
    """The privacy statement of one seed's run, which went through all its rounds.

    Raises:
        DataError: JG-data-060..071, a model line that cannot be used.
    """
    experiment, mechanism = setting.experiment, setting.mechanism
    data, rounds = experiment.data, experiment.strategy.rounds
    line = None if isinstance(data, NpzData) else read_line(data.model_line)
    deployment = Deployment(
        kind="simulation",
        name="simulation",
        plan_hash=experiment.digest("simulation"),
        model_line=line.line if line else None,
        process=line.process if line else None,
        sites=len(setting.federation.silos),
        rounds_planned=rounds,
        rounds_done=rounds,
        rounds_charged=rounds,
    )
    return state(
        deployment,
        promise_of(mechanism, experiment.privacy.charged_rounds(rounds)) if mechanism else None,
        runs=experiment.seeds,
    )


def _peak_rss_mb() -> float | None:
    """The most memory this process has had; None where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
