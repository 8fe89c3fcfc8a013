"""What all seeds of an experiment have in common, and how a model is judged on the hold-outs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from jangin.models.layout import Vector
from jangin.privacy.releases import LocalDpSgd
from jangin.records.examples import Examples
from jangin.simulation.experiment import Experiment
from jangin.simulation.federation import Advance, Federation
from jangin.simulation.result import Scores
from jangin.training.metrics import Metric
from jangin.training.recipe import Recipe

__all__ = ["Setting", "joined"]


@dataclass(frozen=True)
class Setting:
    """One experiment, its data and its judge.

    Attributes:
        experiment: the file.
        federation: the sites.
        mechanism: of the private step; None for no differential privacy.
        nominal_units: public number of training units of a site.
        metric: the figure that is compared.
        per_site: means over sites instead of over all hold-out records.
        progress: told how far each kind of work is.
    """

    experiment: Experiment
    federation: Federation
    mechanism: LocalDpSgd | None
    nominal_units: int
    metric: Metric
    per_site: bool
    progress: Advance

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
        )

    def score(self, predict: Callable[[int, Examples], Vector], *, common: bool) -> Scores:
        """Judge one model, or one of each site.

        Args:
            predict: `(i, examples)` to the predictions of what site i would use, in the units of the targets.
            common: whether that is the same for all of them.
        """
        tests = [silo.test for silo in self.federation.silos]
        truths = [test.targets for test in tests]
        spans = None
        if self.federation.targets is not None:
            spans = self.federation.targets.high - self.federation.targets.low
        own = [predict(number, test) for number, test in enumerate(tests)]
        sites = tuple(self.metric(t, p, spans) for t, p in zip(truths, own, strict=True))
        truth = np.concatenate(truths)
        whole = self.metric(truth, np.concatenate(own), spans)
        known = [figure for figure in sites if not np.isnan(figure)]
        total = whole if not self.per_site else fmean(known) if known else float("nan")
        if common:
            return Scores(total, sites, whole)
        everything = joined(tests)
        union = [self.metric(truth, predict(number, everything), spans) for number in range(len(tests))]
        return Scores(total, sites, fmean(union))


def joined(parts: Sequence[Examples]) -> Examples:
    """All rows in site order; unit numbers of different sites may meet."""
    return Examples(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("inputs", "targets", "units"))
    )
