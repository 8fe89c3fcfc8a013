"""FedAvgM: FedAvg with momentum on the server.

Hsu, Qi and Brown 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification"
(arXiv 1909.06335), section 4.3, letters as there, the update's sign turned: v <- beta v + mean(delta),
w <- w + server_lr v. Under differential privacy delta is already noised: all of this is post-processing.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from jangin.strategies.base import Gathered, LocalRule, Vector, moved

__all__ = ["FedAvgM", "MomentumState"]


@dataclass(frozen=True)
class MomentumState:
    """Parameters and momentum, each (d,); the momentum in float64."""

    parameters: Vector
    v: Gathered


@dataclass(frozen=True)
class FedAvgM:
    """`beta` = 0 is FedAvg."""

    server_lr: float = 1.0
    beta: float = 0.9
    local: LocalRule = field(default_factory=LocalRule)
    consumes: Literal["sum"] = "sum"

    def init(self, parameters: Vector) -> MomentumState:
        """No momentum yet."""
        return MomentumState(parameters, np.zeros(len(parameters)))

    def update(self, state: MomentumState, gathered: Gathered, cohort: int) -> tuple[Vector, MomentumState]:
        """One step along the momentum; shapes (d,)."""
        v = self.beta * state.v + gathered / cohort
        parameters = moved(state.parameters, self.server_lr * v)
        return parameters, MomentumState(parameters, v)
