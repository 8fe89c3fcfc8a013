"""What all seeds of an experiment have in common, and how a model is judged on the hold-outs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from statistics import fmean

import numpy as np

from jangin.errors import CodedText, PlanError
from jangin.models.layout import Vector
from jangin.models.tasks import Task
from jangin.plan.blocks import PrivacyBlock, check_delta
from jangin.privacy.releases import Mechanism, SharedNoise
from jangin.records.examples import Examples
from jangin.simulation.experiment import Experiment
from jangin.simulation.federation import Advance, Federation
from jangin.simulation.result import Scores
from jangin.strategies.check import check
from jangin.training.mechanism import mechanism as calibrated
from jangin.training.mechanism import refuse_noise
from jangin.training.metrics import METRICS, Metric
from jangin.training.recipe import Recipe
from jangin.training.summing import Summing
from jangin.training.threads import one_thread

__all__ = ["Setting", "joined", "prepare"]

_MOSTLY_NOISE = 0.1
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Setting:
    """One experiment, its data and its judge.

    Attributes:
        experiment: the file.
        federation: the sites.
        engine: how they are reached.
        mechanism: of the private step; None for no differential privacy.
        nominal_units: public number of training units of a site.
        metric_name: the figure that is compared.
        per_site: means over sites instead of over all hold-out records.
        progress: told how far each kind of work is.
        warnings: what was assumed.
    """

    experiment: Experiment
    federation: Federation
    engine: str
    mechanism: Mechanism | None
    nominal_units: int
    metric_name: str
    per_site: bool
    progress: Advance
    warnings: tuple[CodedText, ...] = ()

    @property
    def metric(self) -> Metric:
        """The metric of that name."""
        return METRICS[self.metric_name]

    def recipe(self, seed: int) -> Recipe:
        """What is public about the campaign with this seed."""
        return Recipe(
            model=self.experiment.model,
            strategy=self.experiment.strategy,
            mechanism=self.mechanism,
            task=self.federation.task,
            input_shape=self.federation.silos[0].train.inputs.shape[1:],
            outputs=self.federation.outputs,
            inputs=self.federation.inputs,
            targets=self.federation.targets,
            nominal_units=self.nominal_units,
            seed=seed,
            summing=Summing.of(self.experiment.privacy, len(self.federation.silos), self.nominal_units),
        )

    def score(self, predict: Callable[[int, Examples], Vector], *, common: bool, union: bool = True) -> Scores:
        """Judge one model, or one of each site.

        Args:
            predict: `(i, examples)` to the predictions of what site i would use, in the units of the targets.
            common: whether that is the same for all of them.
            union: whether each site's model is judged on all hold-outs too, as many times the work as there are sites.
        """
        tests = [silo.test for silo in self.federation.silos]
        truths = [test.targets for test in tests]
        spans = None
        if self.federation.targets is not None:
            spans = self.federation.targets.high - self.federation.targets.low
        with one_thread():  # many small hold-outs
            own = _together(predict, tests) if common else [predict(n, test) for n, test in enumerate(tests)]
        sites = tuple(self.metric(t, p, spans) for t, p in zip(truths, own, strict=True))
        truth = np.concatenate(truths)
        whole = self.metric(truth, np.concatenate(own), spans)
        known = [figure for figure in sites if not np.isnan(figure)]
        total = whole if not self.per_site else fmean(known) if known else float("nan")
        if common:
            return Scores(total, sites, whole)
        if not union:
            return Scores(total, sites, float("nan"))
        everything = joined(tests)
        of_all = [self.metric(truth, predict(number, everything), spans) for number in range(len(tests))]
        return Scores(total, sites, fmean(of_all))


def _together(predict: Callable[[int, Examples], Vector], tests: Sequence[Examples]) -> list[Vector]:
    """One model's predictions for each hold-out, for as many of them at a time as fill a batch."""
    firsts = accumulate((len(test.targets) for test in tests[:-1]), initial=0)
    own: list[Vector] = []
    for _, group in groupby(zip(firsts, tests, strict=True), lambda one: one[0] // _ROWS_AT_ONCE):
        several = [test for _, test in group]
        ends = np.cumsum([len(test.targets) for test in several])
        own += np.split(predict(0, joined(several)), ends[:-1])
    return own


def joined(parts: Sequence[Examples]) -> Examples:
    """All rows in site order; unit numbers of different sites may meet."""
    return Examples(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("inputs", "targets", "units"))
    )


def prepare(
    experiment: Experiment, federation: Federation, engine: str, per_site: bool, accept_noise: bool, progress: Advance
) -> Setting:
    """Check an experiment against its data, calibrate its mechanism once, and note what has to be said.

    Raises:
        PlanError: JG-plan-003, a metric that means nothing for the task; JG-plan-020, delta too large.
        PrivacyError: JG-privacy-002, no noise is enough; JG-privacy-005 or -016, a plan of noise that is not accepted.
    """
    metric_name = experiment.metric or ("rmse" if federation.task is Task.REGRESSION else "accuracy")
    if federation.task not in METRICS[metric_name].tasks:
        fitting = ", ".join(name for name, one in METRICS.items() if federation.task in one.tasks)
        problem = f"for {federation.task.value} there are {fitting}"
        raise PlanError("JG-plan-003", where="metric", value=metric_name, problem=problem)
    nominal_units, warnings = _nominal_units(experiment, federation)
    privacy = _planned(experiment, federation)
    mechanism = calibrated(privacy, experiment.strategy, nominal_units)
    if isinstance(mechanism, SharedNoise) and not privacy.sums_only:
        warnings.append(
            CodedText(
                "JG-privacy-018",
                where="privacy.secure_aggregation",
                mechanism=experiment.privacy.mechanism,
                sites=mechanism.sites,
                honest=mechanism.honest,
                c_max=mechanism.c_max,
                epsilon=mechanism.coalition.epsilon,
            )
        )
    if mechanism is not None and not accept_noise:
        refuse_noise(mechanism, len(federation.silos))
    setting = Setting(experiment, federation, engine, mechanism, nominal_units, metric_name, per_site, progress)
    noise = setting.recipe(experiment.seed).scaling_noise(len(federation.silos))
    if noise > _MOSTLY_NOISE:
        warnings.append(CodedText("JG-privacy-012", where="privacy.scaling_share", noise=noise))
    return replace(setting, warnings=(*federation.warnings, *warnings))


def _planned(experiment: Experiment, federation: Federation) -> PrivacyBlock:
    """The privacy block with the number of sites that share noise and open sums.

    Raises:
        PlanError: JG-plan-033, too few of them; JG-plan-034, more than there are, or than a cell has.
    """
    sites = len(federation.silos)
    planned, there = experiment.privacy.among(sites), experiment.privacy.smallest_cell(sites)
    if planned.n_plan is not None and planned.n_plan > there:
        raise PlanError("JG-plan-034", where="privacy.n_plan", n_plan=planned.n_plan, sites=there)
    check(experiment.strategy, planned)
    return planned


def _nominal_units(experiment: Experiment, federation: Federation) -> tuple[int, list[CodedText]]:
    """The public number of units, and what has to be said about it.

    Raises:
        PlanError: JG-plan-020, delta too large for the nominal units, or for those there are where they are more.
    """
    given, most = experiment.privacy.nominal_units, federation.most_units
    if experiment.privacy.epsilon == "none":
        return given or most, []
    check_delta(experiment.privacy.delta, max(most, given or 0))
    if given is None:
        return most, [CodedText("JG-privacy-010", where="privacy.nominal_units", units=most)]
    if given < most:
        return given, [CodedText("JG-privacy-014", where="privacy.nominal_units", given=given, units=most)]
    return given, []
