"""FedBN: FedAvg in which each site keeps the parameters of its normalisation layers.

Li et al. 2021, "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization" (ICLR, arXiv 2102.07623),
Algorithm 1. There the layers are BatchNorm, with scale, shift and running statistics. No model here has BatchNorm,
which mixes records and cannot be trained privately: the layers are GroupNorm (cnn1d) or LayerNorm (transformer), what
stays is their scale and shift, and there are no statistics. A model without such layers is refused (JG-plan-045).

Privacy: what stays is trained in the same clipped and noised steps as what is sent; keeping it costs nothing more.
"""

from jangin.strategies.base import LocalRule
from jangin.strategies.fedavg import FedAvg

__all__ = ["FedBn"]


def FedBn(server_lr: float) -> FedAvg:  # noqa: N802 - named as the algorithm
    """FedAvg of all parameters but those of normalisation layers."""
    return FedAvg(server_lr, LocalRule(keeps_normalisation=True))
