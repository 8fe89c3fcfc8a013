"""How updates become a model: one file a strategy, its paper at the head.

`base` is the interface, `check` the plan checker. Pure functions on flat vectors: the same object serves simulation
and field.
"""

from typing import Any

from jangin.plan.blocks import (
    FedAdamBlock,
    FedAvgBlock,
    FedAvgMBlock,
    FedBnBlock,
    FedProxBlock,
    FedYogiBlock,
    FlowerBlock,
    MedianBlock,
    MrMtlBlock,
    ScaffoldBlock,
    StrategyBlock,
)
from jangin.strategies.base import LocalRule, Strategy
from jangin.strategies.fedadam import FedAdam
from jangin.strategies.fedavg import FedAvg
from jangin.strategies.fedavgm import FedAvgM
from jangin.strategies.fedbn import FedBn
from jangin.strategies.fedprox import FedProx
from jangin.strategies.fedyogi import FedYogi
from jangin.strategies.median import Median
from jangin.strategies.mrmtl import MrMtl
from jangin.strategies.scaffold import Scaffold

__all__ = ["LocalRule", "Strategy", "build"]


def build(block: StrategyBlock) -> Strategy[Any]:
    """The strategy that a plan's `strategy:` block describes.

    Raises:
        TypeError: `block` is none of them.
    """
    match block:
        case FedAvgBlock():
            return FedAvg(block.server_lr)
        case FedAvgMBlock():
            return FedAvgM(block.server_lr, block.beta)
        case FedYogiBlock():
            return FedYogi(block.server_lr, block.beta1, block.beta2, block.tau)
        case FedAdamBlock():
            return FedAdam(block.server_lr, block.beta1, block.beta2, block.tau)
        case FedProxBlock():
            return FedProx(block.server_lr, block.mu)
        case MedianBlock():
            return Median(block.server_lr)
        case MrMtlBlock():
            return MrMtl(block.lam)
        case ScaffoldBlock():
            return Scaffold(block.local_steps, block.lr, block.server_lr)
        case FedBnBlock():
            return FedBn(block.server_lr)
        case FlowerBlock():
            from jangin.strategies.flower import Flower  # Flower takes a second to load

            return Flower(block.rule, block.options)
        case _:
            raise TypeError(f"Expected a strategy block: {block!r}.")
