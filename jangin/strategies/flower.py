"""Strategies across the border to Flower: its rules in our plans, ours in its apps.

`Flower` is strategy `flower`: a rule of `flwr.serverapp.strategy` (Flower 1.41) that takes no more of a round than the
mean update: FedAvg, FedAvgM, FedAdagrad, FedAdam, FedYogi. Flower's own code takes the step, in float64; weights are
equal, where Flower would take the number of examples that each site names. Flower's optimisers begin with v at 0 and
its FedAdam corrects for that, so they are not those of fedadam.py and fedyogi.py to the digit.

`as_flower` is the other way: any strategy here that asks nothing of its sites beyond plain training.

Privacy: a rule on the mean of noised updates is post-processing. A Flower app promises nothing by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jangin.errors import PlanError
from jangin.flower_link.rules import Moments, VectorStrategy, step
from jangin.strategies.base import Gathered, LocalRule, Strategy, Vector

__all__ = ["Flower", "FlowerState", "as_flower"]


@dataclass(frozen=True)
class FlowerState:
    """Parameters (d,), float32, the rule's first and second moments (d,), float64, and rounds taken (1,)."""

    parameters: Vector
    m: Gathered
    v: Gathered
    rounds: NDArray[np.int64]


@dataclass(frozen=True)
class Flower:
    """A rule of Flower's by the name of its class, with numbers by Flower's own names."""

    rule: str
    options: Mapping[str, float] = field(default_factory=dict)
    local: LocalRule = field(default_factory=LocalRule)
    consumes: Literal["sum"] = "sum"

    def init(self, parameters: Vector) -> FlowerState:
        """Zero moments."""
        none = Moments.none(len(parameters))
        return FlowerState(parameters, none.m, none.v, none.rounds)

    def update(self, state: FlowerState, gathered: Gathered, cohort: int) -> tuple[Vector, FlowerState]:
        """One step of the rule along the mean update; shapes (d,)."""
        moments, start = Moments(state.m, state.v, state.rounds), state.parameters.astype(np.float64)
        stepped, after = step(self.rule, self.options, moments, start, gathered / cohort)
        parameters = stepped.astype(np.float32)
        return parameters, FlowerState(parameters, after.m, after.v, after.rounds)


def as_flower(strategy: Strategy[Any], **sampling: Any) -> VectorStrategy:
    """A strategy for `strategy.start(grid, arrays)` of a Flower ServerApp.

    Its state is held in it: one object for one run. ClientApps answer as they do to Flower's FedAvg; numbers of
    examples weigh their metrics only.

    Args:
        strategy: from `build`, or made directly, e.g. `FedAdam(0.02)`.
        **sampling: what Flower's FedAvg is given, e.g. `fraction_train`, `min_train_nodes`.

    Raises:
        PlanError: JG-plan-048, a strategy that asks sites for more than plain training.
    """
    asked = [name for name, value in vars(strategy.local).items() if value]
    if asked:
        raise PlanError("JG-plan-048", where=type(strategy).__name__, asked=", ".join(asked))

    def rule(state: Any, start: Vector, gathered: Gathered, cohort: int) -> tuple[Vector, Any]:
        return strategy.update(strategy.init(start) if state is None else state, gathered, cohort)

    return VectorStrategy(rule, single=strategy.consumes == "updates", **sampling)
