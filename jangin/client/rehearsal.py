"""Rehearsals in the worker, on made-up rows: one private step of a small network, and one round of a campaign.

By the first a site knows that it can train; by the second the ministry knows which sites can train what a plan says.

The law: no record is opened here; rows follow from the plan alone, so that what is made of them, with the noise of a
round, tells nothing of any record; nothing is kept and nothing charged.
"""

from typing import Final

import numpy as np
import torch

from jangin.models.flat import FlatModel
from jangin.models.layout import Vector
from jangin.models.networks import build
from jangin.models.spec import MlpSpec
from jangin.models.tasks import Task
from jangin.plan.messages import Kind, Order
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease, Guarantee, LocalDpSgd, Relation, Unit
from jangin.privacy.sampling import UnitIndex
from jangin.records.examples import Examples
from jangin.strategies.base import LocalRule
from jangin.training.loop import Learner
from jangin.training.recipe import Recipe
from jangin.training.site import Site

__all__ = ["made_up", "made_update", "rehearse"]

_MOST_UNITS: Final = 1024
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


def made_up(plan: TrainingPlan, recipe: Recipe) -> Examples:
    """Rows of nobody for a round of a plan: the same at every site, as many units as are public, at most 1,024.

    A unit has as many rows as a step takes of it.
    """
    privacy, batch = plan.privacy, plan.strategy.batch
    units = min(privacy.nominal_units or batch, _MOST_UNITS)
    rows = np.repeat(np.arange(units), batch if privacy.unit is Unit.MASTER else privacy.windows_per_episode)
    random, numbers = np.random.default_rng(0), rows.astype(np.int64)
    inputs = random.normal(size=(len(rows), *recipe.input_shape)).astype(np.float32)
    if recipe.task is Task.REGRESSION:
        return Examples(inputs, random.normal(size=(len(rows), recipe.outputs)).astype(np.float32), numbers)
    return Examples(inputs, random.integers(max(recipe.outputs, 2), size=len(rows)), numbers)


def made_update(site: Site, vector: Vector, recipe: Recipe, rule: LocalRule) -> Vector:
    """What a round makes of made-up rows, noise and all, (shared values,), float32.

    Where a plan adds up in secret it goes through the ring and back, and into no sum.

    Raises:
        PrivacyError: JG-privacy-017, no grid is fine enough. TypeError: no update came of it (a bug).
    """
    order = Order(Kind.TRAIN, 1, vector)
    encoding = recipe.encoding(Kind.TRAIN, len(site.learner.model.layout.shared))
    if encoding is None:
        update = site.answer(order, recipe.strategy, rule).update
    else:
        update = encoding.total(site.contribution(order, recipe.strategy, rule).view(np.int32)).astype(np.float32)
    if update is None:
        raise TypeError("Expected an update.")
    return update.astype("<f4", copy=False)
