"""FedYogi: FedAdam whose second moment forgets slowly what was large.

Reddi et al. 2021, "Adaptive Federated Optimization" (ICLR, arXiv 2003.00295), Algorithm 2 (FedYogi), letters as there:
v <- v - (1 - beta2) delta^2 sign(v - delta^2); all else is FedAdam's. One large delta^2 moves v by at most
(1 - beta2) of itself, and small ones bring it down by no more than that.
"""

from dataclasses import dataclass

import numpy as np

from jangin.strategies.base import Gathered
from jangin.strategies.fedadam import FedAdam

__all__ = ["FedYogi"]


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """`server_lr` is eta."""

    def second_moment(self, v: Gathered, delta: Gathered) -> Gathered:
        """The next v, (d,), >= 0."""
        squared = delta**2
        return v - (1 - self.beta2) * squared * np.sign(v - squared)
