"""FedProx: FedAvg whose sites are held near the round's start.

Li et al. 2020, "Federated Optimization in Heterogeneous Networks" (MLSys, arXiv 1812.06127), Algorithm 2: each
site minimises F(w) + mu/2 * ||w - w_t||^2 (Eq. 2). The term reads no record, so it is added after clipping and noise.
"""

from jangin.strategies.base import LocalRule
from jangin.strategies.fedavg import FedAvg

__all__ = ["FedProx"]


def FedProx(server_lr: float, mu: float) -> FedAvg:  # noqa: N802 - named as the algorithm
    """FedAvg with the proximal gradient mu * (w - w_t) at the sites; mu = 0 is FedAvg."""
    return FedAvg(server_lr, LocalRule(penalty_gradient=lambda w, w_t: mu * (w - w_t)))
