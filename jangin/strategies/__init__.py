"""How updates become a model: one file a strategy, its paper at the head.

`base` is the interface, `check` the plan checker. Pure functions on flat vectors: the same object serves simulation
and field.
"""

from typing import Any

from jangin.plan.blocks import FedAdamBlock, FedAvgBlock, FedProxBlock, MedianBlock, MrMtlBlock, StrategyBlock
from jangin.strategies.base import LocalRule, Strategy
from jangin.strategies.fedadam import FedAdam
from jangin.strategies.fedavg import FedAvg
from jangin.strategies.fedprox import FedProx
from jangin.strategies.median import Median
from jangin.strategies.mrmtl import MrMtl

__all__ = ["LocalRule", "Strategy", "build"]


def build(block: StrategyBlock) -> Strategy[Any]:
    """The strategy that a plan's `strategy:` block describes.

    Raises:
        TypeError: `block` is none of them.
    """
    match block:
        case FedAvgBlock():
            return FedAvg(block.server_lr)
        case FedAdamBlock():
            return FedAdam(block.server_lr, block.beta1, block.beta2, block.tau)
        case FedProxBlock():
            return FedProx(block.server_lr, block.mu)
        case MedianBlock():
            return Median(block.server_lr)
        case MrMtlBlock():
            return MrMtl(block.lam)
        case _:
            raise TypeError(f"Expected a strategy block: {block!r}.")
