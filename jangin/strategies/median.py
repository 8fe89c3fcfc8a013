"""Coordinate-wise median: a sum-free rule that a minority of wrong sites cannot drag far.

Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (ICML,
arXiv 1803.01498), Algorithm 1, Option I. It needs every single update; under secure aggregation it takes
the cells' means instead (`plan/cells.py`), and a minority of cells with a wrong site in them cannot drag it far.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from jangin.strategies.base import Gathered, LocalRule, Vector, moved

__all__ = ["Median"]


@dataclass(frozen=True)
class Median:
    """Its state is the parameters; `server_lr` multiplies the median update."""

    server_lr: float = 1.0
    local: LocalRule = field(default_factory=LocalRule)
    consumes: Literal["updates"] = "updates"

    def init(self, parameters: Vector) -> Vector:
        """The parameters themselves, (d,)."""
        return parameters

    def update(self, state: Vector, gathered: Gathered, cohort: int) -> tuple[Vector, Vector]:
        """One step along the median of the updates (cohort, d), or of the cells' means (cells, d)."""
        parameters = moved(state, self.server_lr * np.median(gathered, axis=0))
        return parameters, parameters
