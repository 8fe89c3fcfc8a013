"""FedAdam: Adam on the server, over the mean update as its gradient.

Reddi et al. 2021, "Adaptive Federated Optimization" (ICLR, arXiv 2003.00295), Algorithm 2 (FedAdam), letters as
there: m <- beta1 m + (1 - beta1) delta, v <- beta2 v + (1 - beta2) delta^2, x <- x + eta m / (sqrt(v) + tau).
No bias correction, v starts at tau^2. Under differential privacy delta is already noised: all of this is
post-processing.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from jangin.strategies.base import Gathered, LocalRule, Vector, moved

__all__ = ["AdamState", "FedAdam"]


@dataclass(frozen=True)
class AdamState:
    """Parameters and both moments, each (d,); the moments in float64."""

    parameters: Vector
    m: Gathered
    v: Gathered


@dataclass(frozen=True)
class FedAdam:
    """`server_lr` is eta."""

    server_lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    local: LocalRule = field(default_factory=LocalRule)
    consumes: Literal["sum"] = "sum"

    def init(self, parameters: Vector) -> AdamState:
        """Zero momentum; second moment tau squared."""
        return AdamState(parameters, np.zeros(len(parameters)), np.full(len(parameters), self.tau**2))

    def update(self, state: AdamState, gathered: Gathered, cohort: int) -> tuple[Vector, AdamState]:
        """One Adam step along the mean update; shapes (d,)."""
        delta = gathered / cohort
        m = self.beta1 * state.m + (1 - self.beta1) * delta
        v = self.second_moment(state.v, delta)
        parameters = moved(state.parameters, self.server_lr * m / (np.sqrt(v) + self.tau))
        return parameters, AdamState(parameters, m, v)

    def second_moment(self, v: Gathered, delta: Gathered) -> Gathered:
        """The next v, (d,), >= 0."""
        return self.beta2 * v + (1 - self.beta2) * delta**2
