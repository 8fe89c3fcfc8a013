"""SCAFFOLD: FedAvg whose sites take each other's gradients into account, by control variates.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning" (ICML, arXiv 1910.06378),
Algorithm 1, Option II, letters as there: site i takes K steps y_i <- y_i - eta_l (g_i(y_i) - c_i + c) from x, then
c_i <- c_i - c + (x - y_i) / (K eta_l); the server takes x <- x + eta_g mean(y_i - x) and c <- mean(c_i).

One vector goes up, as in FedAvg: u_i = (y_i - x) + K eta_l (c - c_i), what the site's own gradients moved. It will do:
the new c_i is -u_i / (K eta_l), the mean of the site's gradients over the round; their mean, the new c, is
-mean(u_i) / (K eta_l); and as the old c was the mean of the old c_i, the c - c_i cancel over all sites and
mean(u_i) = mean(y_i - x). So a sum is all that the server needs, and secure aggregation may hide the rest.

Assumed: all invited sites take part (|S| = N). Where some are missing, x and c are taken from those that are there,
without the paper's c + |S|/N mean(new c_i - old c_i); a site's c_i may then be of an older round. As neither a new c_i
nor the new c depends on an old one, a lost or clipped update leaves no trace in later rounds.

Privacy: under M1 u_i, c_i and c are made of noised gradients alone and read no record: they are covered by the promise
that covers FedAvg's update, and cost nothing more. The c of an order says no more than the step that x just took.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from jangin.strategies.base import Gathered, LocalRule, Vector, moved

__all__ = ["Scaffold", "ScaffoldState"]


@dataclass(frozen=True)
class ScaffoldState:
    """Parameters x and the control variate c, each (d,), float32."""

    parameters: Vector
    control: Vector


@dataclass(frozen=True)
class Scaffold:
    """`server_lr` is eta_g; `local_steps` is K and `lr` eta_l, those of the sites."""

    local_steps: int
    lr: float
    server_lr: float = 1.0
    local: LocalRule = field(default_factory=lambda: LocalRule(control=True))
    consumes: Literal["sum"] = "sum"

    def init(self, parameters: Vector) -> ScaffoldState:
        """No control yet."""
        return ScaffoldState(parameters, np.zeros_like(parameters))

    def update(self, state: ScaffoldState, gathered: Gathered, cohort: int) -> tuple[Vector, ScaffoldState]:
        """One step along the mean of what gradients moved, and their mean as the new control; shapes (d,)."""
        mean = gathered / cohort
        parameters = moved(state.parameters, self.server_lr * mean)
        control = (-mean / (self.local_steps * self.lr)).astype(np.float32)
        return parameters, ScaffoldState(parameters, control)
