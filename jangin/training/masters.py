"""Mechanism M3 inside a site: one clipped vector of every enrolled master, and their sum.

The law: a master's vector is made of the round's public parameters and his own episodes, and of nothing that another
master's episodes have touched; who has none, or ends with a value that is not finite, gives zeros.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from jangin.models.layout import Vector
from jangin.plan.blocks import LocalSteps
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.sampling import UnitIndex
from jangin.strategies.base import LocalRule
from jangin.training.loop import Learner
from jangin.training.rows import Inputs

__all__ = ["clipped", "master_sum"]


def master_sum(
    learner: Learner,
    clip: float,
    start: Vector,
    data: tuple[Inputs, Tensor],
    masters: Sequence[NDArray[np.intp]],
    block: LocalSteps,
    rule: LocalRule,
    random: SecureRandom,
) -> NDArray[np.float64]:
    """The masters' clipped changes of the parameters, summed, (size,).

    Sensitivity: adding or removing one master moves it by at most clip * (1 + 1e-5) in L2; changing one episode of his
    by at most twice that.

    Args:
        learner: trains in place.
        clip: L2 bound of one master's change.
        start: public parameters, (size,).
        data: the site's inputs and targets.
        masters: where each enrolled master's examples stand; nowhere for one who has none.
        block: local steps, and how many of his examples a step takes at most.
        rule: what the strategy adds to the descent.
        random: secret draws of examples.
    """
    total = np.zeros(len(start))
    for rows in masters:
        if len(rows):
            learner.model.load(start)
            places = (rows[some] for some in _draws(len(rows), block, random))
            learner.descend(learner.gradients(*data, places), block.lr, rule)
            total += clipped(learner.model.read().astype(np.float64) - start, clip)
    return total


def _draws(examples: int, block: LocalSteps, random: SecureRandom) -> Iterator[NDArray[np.intp]]:
    """The rows of each local step: all of a master's, or a fresh draw of `batch` of them."""
    own = UnitIndex(np.zeros(examples, np.int64))
    return (own.draw(1.0, block.batch, random).rows for _ in range(block.local_steps))


def clipped(change: NDArray[np.float64], clip: float) -> NDArray[np.float64]:
    """A vector, (size,), shortened to `clip` in L2 where it is longer; zeros where it is not finite."""
    norm = float(np.linalg.norm(change))
    return change * min(1.0, clip / max(norm, clip)) if np.isfinite(norm) else np.zeros(len(change))
