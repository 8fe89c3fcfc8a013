"""FedAvg: the mean of the sites' updates, taken as a step.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data" (AISTATS,
arXiv 1602.05629), Algorithm 1, with equal weights instead of self-reported example counts, and the server step
of Reddi et al. 2021 (arXiv 2003.00295, Algorithm 1): x <- x + eta * mean(delta).
"""

from dataclasses import dataclass, field
from typing import Literal

from jangin.strategies.base import Gathered, LocalRule, Vector, moved

__all__ = ["FedAvg"]


@dataclass(frozen=True)
class FedAvg:
    """Its state is the parameters. `server_lr` is eta; 1 gives plain FedAvg."""

    server_lr: float = 1.0
    local: LocalRule = field(default_factory=LocalRule)
    consumes: Literal["sum"] = "sum"

    def init(self, parameters: Vector) -> Vector:
        """The parameters themselves, (d,)."""
        return parameters

    def update(self, state: Vector, gathered: Gathered, cohort: int) -> tuple[Vector, Vector]:
        """One step along the mean update; shapes (d,)."""
        step = self.server_lr * gathered
        step /= cohort
        parameters = moved(state, step)
        return parameters, parameters
