"""The recipe of a campaign: every public fact that its server and its sites share.

The law: two places with the same recipe make the same initial model, the same public scaling and the same mechanism;
nothing in it is read off anybody's records (a simulation says so where it does, in a warning).
"""

from dataclasses import dataclass

import numpy as np

from jangin.errors import PlanError
from jangin.models.flat import FlatModel
from jangin.models.lines import check_parts, input_range, input_shape, outputs, read_line, target_range
from jangin.models.networks import build, normalisation
from jangin.models.spec import ModelSpec
from jangin.models.tasks import Task
from jangin.plan.blocks import StrategyBlock
from jangin.plan.messages import Kind
from jangin.plan.training_plan import Evaluation, TrainingPlan
from jangin.privacy.moments import noise_deviation
from jangin.privacy.releases import Mechanism
from jangin.records.examples import Examples, PublicRange
from jangin.records.process import read_process
from jangin.strategies import build as build_strategy
from jangin.training.loop import Learner
from jangin.training.mechanism import mechanism
from jangin.training.metrics import METRICS
from jangin.training.scaling import Columns, Scaling
from jangin.training.summing import Encoding, Summing

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """What has to be known to train.

    Attributes:
        model: its specification.
        strategy: the strategy block.
        mechanism: of the private step; None for no differential privacy.
        task: what is predicted.
        input_shape: of one example, (features,), (channels, length) or (channels, height, width).
        outputs: of the model: targets of a regression, 1 logit, or classes.
        inputs: public range of the input columns, or None.
        targets: public range of a regression's targets, or None.
        nominal_units: public number of training units of a site.
        seed: of initial weights, and of batches where there is no mechanism.
        summing: how vectors are added up in the ring; None where they are sent as they are.
        evaluation: what is measured on hold-outs; None where nothing is.
    """

    model: ModelSpec
    strategy: StrategyBlock
    mechanism: Mechanism | None
    task: Task
    input_shape: tuple[int, ...]
    outputs: int
    inputs: PublicRange | None
    targets: PublicRange | None
    nominal_units: int
    seed: int
    summing: Summing | None = None
    evaluation: Evaluation | None = None

    @classmethod
    def of(cls, plan: TrainingPlan) -> "Recipe":
        """The recipe of a plan: its model line and process say what the examples are; no record is read.

        Raises:
            DataError: JG-data-060..071, a line that is unknown or does not fit its process. PlanError: JG-plan-003, a
                task that no model learns; JG-plan-020; JG-plan-042, a metric that says nothing about the task;
                JG-plan-065, parts of a model that are not those of the line.
                PrivacyError: JG-privacy-002, no noise is enough.
        """
        line = read_line(plan.model_line)
        process = read_process(line.process)
        nominal_units = plan.privacy.nominal_units or 1
        check_parts(plan.model, line, process)
        if plan.evaluate is not None:
            _check_metrics(plan.evaluate, Task(line.task))
        return cls(
            model=plan.model,
            strategy=plan.strategy,
            mechanism=mechanism(plan.privacy, plan.strategy, nominal_units, plan.evaluate),
            task=Task(line.task),
            input_shape=input_shape(line, process),
            outputs=outputs(line),
            inputs=input_range(line, process),
            targets=target_range(line) if line.task == "regression" else None,
            nominal_units=nominal_units,
            seed=plan.seed,
            summing=Summing.of(plan.privacy, len(plan.sites.invite), nominal_units),
            evaluation=plan.evaluate,
        )

    def encoding(self, kind: Kind, size: int) -> Encoding | None:
        """How vectors of `size` values that answer orders of this kind go into a sum; None: they are sent as they are.

        Raises:
            PrivacyError: JG-privacy-017, more sites or values than a grid that is fine enough holds.
        """
        return None if self.summing is None else self.summing.encoding(kind, self.mechanism, self.strategy.lr, size)

    def initial(self) -> FlatModel:
        """The model with its initial weights.

        Raises:
            PlanError: JG-plan-010..013, a model that cannot be built; JG-plan-045, one without normalisation layers,
                where the strategy leaves them to the sites.
        """
        module = build(self.model, self.input_shape, self.outputs, self.seed)
        personal = self.model.personal
        if build_strategy(self.strategy).local.keeps_normalisation:
            own = normalisation(module)
            if not own:
                raise PlanError("JG-plan-045", where="model.name", model=self.model.name, strategy=self.strategy.name)
            personal = (*personal, *own)
        return FlatModel(module, personal)

    def learner(self) -> Learner:
        """The model with its initial weights, ready to train.

        Raises:
            PlanError: as `initial`; JG-plan-026, a personal part under M2 or M3. PrivacyError: JG-privacy-003 or -004,
                a model that cannot be trained privately; JG-privacy-017, one of too many values for its sums.
        """
        learner = Learner(self.initial(), self.task, self.mechanism)
        self.encoding(Kind.TRAIN, len(learner.model.layout.shared))
        if self.learns_scaling:
            self.encoding(Kind.SCALE, 1 + 2 * len(self.public_scaling().center))
        if self.evaluation is not None:
            self.encoding(Kind.EVALUATE, 1 + len(self.evaluation.metrics))
        return learner

    def nobody(self) -> Examples:
        """No examples, in their shape."""
        targets = np.empty((0, self.outputs), np.float32) if self.task is Task.REGRESSION else np.empty(0, np.int64)
        return Examples(np.empty((0, *self.input_shape), np.float32), targets, np.empty(0, np.int64))

    def public_scaling(self) -> Scaling:
        """The scaling by public ranges alone."""
        private = self.mechanism is not None or self.summing is not None  # a box holds bounded columns only
        return Scaling.public(self.nobody(), self.task, self.inputs, self.targets, private)

    @property
    def learns_scaling(self) -> bool:
        """Whether moments are gathered before the first round."""
        return self.mechanism is None or self.mechanism.scaling is not None

    def scaling_noise(self, sites: int) -> float:
        """Standard deviation of the noise in a mean of moments over so many sites, in the columns' [-1, 1]."""
        release = self.mechanism.scaling if self.mechanism else None
        return noise_deviation(release, len(self.public_scaling().center), self.nominal_units * sites, sites)

    def learned_scaling(self, total: Columns, sites: int) -> Scaling:
        """The scaling from the moments of so many sites, summed, shape (1 + 2 * columns,)."""
        return self.public_scaling().learned(total, self.scaling_noise(sites))


def _check_metrics(evaluation: Evaluation, task: Task) -> None:
    for metric in evaluation.metrics:
        if task not in METRICS[metric].tasks:
            fitting = "accuracy" if task in METRICS["accuracy"].tasks else "mae, mse, rmse"
            raise PlanError("JG-plan-042", where="evaluate.metrics", metric=metric, task=task.value, fitting=fitting)
