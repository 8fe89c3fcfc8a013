"""The interface of strategies: what they consume, how they update, and what they ask of a site's training.

The law: weights are public constants (here: equal), so nothing self-reported enters a sum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from jangin.models.layout import ParameterLayout

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Gathered", "LocalRule", "State", "Strategy", "Vector", "moved"]

State = TypeVar("State")
Vector = NDArray[np.float32]
Gathered = NDArray[np.float64]


@dataclass(frozen=True)
class LocalRule:
    """What a strategy adds to a site's own gradient descent.

    Attributes:
        penalty_gradient: gradient of a loss term that reads no record, from the site's shared parameters and those
            of the order, both (d,); of each value by itself, so that a part or several sites at once, (sites, ...),
            may be asked about too; added after clipping and noise, so it costs no privacy. None for no such term.
        keeps: whether a site begins each round at its own parameters instead of the order's; they are then its
            personalised model. They cost no privacy as long as they are made of noised values alone (M1).
        control: whether an order carries the server's control variate, (d,), after the parameters, and each site keeps
            one of its own (strategies/scaffold.py), whose difference is the gradient of a linear term that reads no
            record, in place of `penalty_gradient`; the strategy's state then has the server's as `control`.
        keeps_normalisation: whether the parameters of normalisation layers stay at the site (strategies/fedbn.py).
    """

    penalty_gradient: "Callable[[Tensor, Tensor], Tensor] | None" = None
    keeps: bool = False
    control: bool = False
    keeps_normalisation: bool = False

    def remembers(self, layout: ParameterLayout) -> bool:
        """Whether a site has something of its own from round to round, of a model that is laid out so."""
        return self.keeps or self.control or len(layout.shared) < layout.size

    def carried(self, parameters: Vector, state: Any) -> Vector:
        """What an order carries: the shared parameters, (d,), or under a control, (2 d,), the strategy's after them."""
        return np.concatenate([parameters, state.control]) if self.control else parameters

    def parts(self, vector: Vector) -> tuple[Vector, Vector | None]:
        """What an order carries, as the shared parameters and the control, (d,) each; None for no control."""
        if not self.control:
            return vector, None
        size = len(vector) // 2
        return vector[:size], vector[size:]


class Strategy(Protocol[State]):
    """An algorithm with all its state explicit.

    The law: neither method changes its arguments, and what one call returns depends on them alone.
    """

    @property
    def consumes(self) -> Literal["sum", "updates"]:
        """`sum` when the sum of the cohort's updates is enough (it then works under secure aggregation).

        `updates` when it needs each single one, or, under secure aggregation, the mean of each cell.
        """
        ...

    @property
    def local(self) -> LocalRule:
        """What sites add to their training."""
        ...

    def init(self, parameters: Vector) -> State:
        """The state before the first round, from the initial shared parameters (d,)."""
        ...

    def update(self, state: State, gathered: Gathered, cohort: int) -> tuple[Vector, State]:
        """The next shared parameters (d,) and state.

        Args:
            state: from `init` or the last `update`.
            gathered: updates (site's parameters minus the order's): their sum (d,) for `consumes = "sum"`,
                else one row a site, (cohort, d), or a cell, (cells, d).
            cohort: number of sites in it, >= 1.
        """
        ...


def moved(parameters: Vector, step: NDArray[np.float64]) -> Vector:
    """Parameters after a step, both (d,), added in float64 and rounded once, without a float64 copy of the whole."""
    return np.add(parameters, step, out=np.empty_like(parameters), dtype=np.float64, casting="same_kind")
