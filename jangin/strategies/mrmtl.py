"""MR-MTL: mean-regularised multi-task learning; each site keeps a model of its own, held near the mean of all.

Liu, Hu, Wu and Smith 2022, "On Privacy and Personalization in Cross-Silo Federated Learning" (NeurIPS, arXiv
2206.07902), letters as there: silo k minimises F_k(w_k) + lambda/2 * ||w_k - w||^2, starting every round from its own
w_k, and the server's w is the mean of the w_k. Here a site sends w_k - w, whose mean moves w there.

Privacy: w_k is made of noised gradients, earlier w and the penalty, which reads no record: it is covered by the very
promise that covers what is sent, and keeping it costs nothing more. lambda = 0 is each site alone at that promise.
"""

from jangin.strategies.base import LocalRule
from jangin.strategies.fedavg import FedAvg

__all__ = ["MrMtl"]


def MrMtl(lam: float) -> FedAvg:  # noqa: N802 - named as the algorithm
    """FedAvg of sites that keep their own parameters; `lam` is lambda."""
    return FedAvg(1.0, LocalRule(penalty_gradient=lambda w_k, w: lam * (w_k - w), keeps=True))
