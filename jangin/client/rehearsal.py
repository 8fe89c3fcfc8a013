"""A rehearsal: one private step of a small network on made-up rows, in the worker, so that a site knows that it can.

The law: it opens no record and keeps, charges and releases nothing; the step is that of a campaign, noise and all.
"""

from typing import Final

import numpy as np
import torch

from jangin.models.flat import FlatModel
from jangin.models.networks import build
from jangin.models.spec import MlpSpec
from jangin.models.tasks import Task
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease, Guarantee, LocalDpSgd, Relation, Unit
from jangin.privacy.sampling import UnitIndex
from jangin.training.loop import Learner

__all__ = ["rehearse"]

_ROWS: Final = 64
_FEATURES: Final = 128
_OF_NOBODY: Final = LocalDpSgd(
    unit=Unit.EPISODE,
    clip=1.0,
    steps=GaussianRelease(noise_multiplier=1.0, sampling_probability=0.5, count=1),
    divisor=_ROWS / 2,
    windows=1,
    scaling=None,
    guarantee=Guarantee(Unit.EPISODE, Relation.ADD_OR_REMOVE, 1.0, 1e-5),
)
"""A mechanism for rows that nobody made; nothing is promised by it."""


def rehearse() -> None:
    """Train one step."""
    rows = np.random.default_rng(0).normal(size=(_ROWS, _FEATURES + 1)).astype(np.float32)
    inputs, targets = torch.from_numpy(rows[:, 1:]), torch.from_numpy(rows[:, :1])
    model = FlatModel(build(MlpSpec(name="mlp"), (_FEATURES,), 1, 0))
    learner = Learner(model, Task.REGRESSION, _OF_NOBODY)
    learner.descend(learner.private_gradients(inputs, targets, UnitIndex(np.arange(_ROWS)), 1, SecureRandom()), lr=0.1)
