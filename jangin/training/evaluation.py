"""Evaluation: how good the model of a round is on a site's hold-out, told by one sum over its units.

The law: what an answer carries is the sum of `privacy/losses.py` and nothing else; with a mechanism it is noised here,
and where vectors are added up in secret it leaves as a contribution to a sum and in no other form. What the site keeps
for itself of the model is used and never sent. An answer that is not finite is as bad as can be; a record that is not
gives nothing.
"""

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jangin.errors import PrivacyError
from jangin.models.layout import Vector
from jangin.models.tasks import Task
from jangin.plan.messages import Kind, Order, Reply
from jangin.plan.training_plan import Evaluation
from jangin.privacy.losses import Bounds, clipped_loss_sum, loss_deviation, loss_sum, mean_losses
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import SharedNoise
from jangin.records.examples import Examples, ExamplesAside
from jangin.training.recipe import Recipe
from jangin.training.scaling import Scaling

__all__ = ["Evaluator", "figures", "loss_bounds"]

_SQUARED = ("mse", "rmse")


class Evaluator:
    """A site's side of a campaign's evaluations."""

    def __init__(self, name: str, held_out: Examples | ExamplesAside, recipe: Recipe) -> None:
        """Take the examples of the hold-out; no other is ever asked for.

        Raises:
            ValueError: a campaign that does not evaluate. Also what `Recipe.learner` raises.
        """
        if recipe.evaluation is None:
            raise ValueError("Expected a campaign that evaluates.")
        self.name, self._held_out, self._recipe, self._evaluation = name, held_out, recipe, recipe.evaluation
        self._learner, self._public = recipe.learner(), recipe.public_scaling()
        self._initial = self._learner.model.read()
        self._random = SecureRandom()

    @property
    def sizes(self) -> tuple[int, int]:
        """How many parameters and columns of a scaling an order has."""
        return len(self._learner.model.layout.shared), len(self._public.center)

    def answer(self, order: Order, own: Vector | None = None) -> Reply:
        """Judge the model of an order; `own`, as `Site.kept` gives it, is what the site keeps for itself.

        Guarantee: one of the mechanism's evaluations, fresh in every call.

        Raises:
            PrivacyError: JG-privacy-033, a vector that only its sum may show; JG-privacy-038, no noise was calibrated.
            ValueError: no such order.
        """
        if self._recipe.summing is not None or isinstance(self._recipe.mechanism, SharedNoise):
            raise PrivacyError("JG-privacy-033", where=self.name)
        return Reply(self.name, self._sum(order, own))

    def contribution(self, order: Order, own: Vector | None = None) -> NDArray[np.uint32]:
        """The same as what the site gives to a secret sum, in whole steps modulo 2**32, shape (1 + metrics,).

        Guarantee: under M2 and M3 one site's share in one of the evaluations, fresh in every call; under M1 the noise
        that it has anyway.

        Raises:
            PrivacyError: JG-privacy-017, no grid is fine enough; JG-privacy-038. ValueError: no such order, or a
                campaign whose vectors are sent as they are.
        """
        total = self._sum(order, own)
        encoding = self._recipe.encoding(Kind.EVALUATE, len(total))
        if encoding is None:
            raise ValueError("Expected a campaign that adds up in the ring.")
        return encoding.grid.released(total, self._random).astype(np.uint32)

    def _sum(self, order: Order, own: Vector | None) -> NDArray[np.float64]:
        """What an order asks for, (1 + metrics,): under M2 and M3 without any noise yet."""
        if order.kind is not Kind.EVALUATE:
            raise ValueError(f"Expected an evaluation: {order.kind!r}.")
        mechanism, bounds = self._recipe.mechanism, loss_bounds(self._evaluation)
        if mechanism is not None and mechanism.evaluation is None:
            raise PrivacyError("JG-privacy-038", where=self.name)
        losses, units = self._losses(order, own), self._held_out.units
        if mechanism is None or mechanism.evaluation is None or isinstance(mechanism, SharedNoise):
            return clipped_loss_sum(losses, units, bounds)
        return loss_sum(losses, units, bounds, mechanism.evaluation, self._random)

    def _losses(self, order: Order, own: Vector | None) -> NDArray[np.float64]:
        """The loss of every example by every metric, (examples, metrics)."""
        if not len(self._held_out):
            return np.zeros((0, len(self._evaluation.metrics)))
        model = self._learner.model
        whole = (self._initial if own is None else own[: len(self._initial)]).copy()
        whole[model.layout.shared] = order.vector
        model.load(whole)
        scaling = self._public if order.scaling is None else self._public.standardised(*order.scaling)
        return np.concatenate([self._losses_of(part, scaling) for part in self._held_out.parts()])

    def _losses_of(self, part: Examples, scaling: Scaling) -> NDArray[np.float64]:
        """The same for some examples, by the model of the moment."""
        predicted = scaling.restore(self._learner.predict(scaling.apply_inputs(part.inputs))).astype(np.float64)
        answered = _finite(predicted)
        if self._recipe.task is Task.REGRESSION:
            losses = self._errors(np.where(answered[:, None], predicted - part.targets, np.inf))
        else:
            taken = predicted.argmax(axis=1) if predicted.ndim == 2 else (predicted > 0.5).astype(np.int64)
            hits = (answered & (taken == part.targets)).astype(np.float64)
            losses = np.repeat(hits[:, None], len(self._evaluation.metrics), axis=1)
        losses[~(_finite(part.inputs) & _finite(part.targets))] = np.nan
        return losses

    def _errors(self, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Absolute or squared errors, (examples, metrics), means over targets in parts of their public ranges."""
        ranges = self._recipe.targets
        if errors.shape[1] > 1 and ranges is not None:
            errors = errors / (ranges.high - ranges.low)
        absolute, squared = np.abs(errors).mean(axis=1), np.square(errors).mean(axis=1)
        return np.stack([squared if one in _SQUARED else absolute for one in self._evaluation.metrics], axis=1)


def _finite(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows hold nothing but finite numbers, (rows,)."""
    finite: NDArray[np.bool_] = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
    return finite


def loss_bounds(evaluation: Evaluation) -> Bounds:
    """The lowest and highest loss of a unit by each metric, each (metrics,): squares for `mse` and `rmse`."""
    low, high = (
        np.array([edge**2 if metric in _SQUARED else edge for metric in evaluation.metrics])
        for edge in evaluation.bound
    )
    return low, high


def figures(recipe: Recipe, total: NDArray[Any], sites: int) -> dict[str, tuple[float, float]]:
    """Each metric over the hold-outs of so many sites, and the standard deviation of its noise.

    Post-processing of the sum over sites, (1 + metrics,). The deviation is that of `loss_deviation`, to first order.

    Raises:
        ValueError: a campaign that does not evaluate.
    """
    evaluation = recipe.evaluation
    if evaluation is None:
        raise ValueError("Expected a campaign that evaluates.")
    bounds = loss_bounds(evaluation)
    release = recipe.mechanism.evaluation if recipe.mechanism else None
    part = loss_deviation(release, len(evaluation.metrics), max(float(total[0]), 1.0), sites)
    found: dict[str, tuple[float, float]] = {}
    for metric, mean, low, high in zip(evaluation.metrics, mean_losses(total, bounds), *bounds, strict=True):
        value, deviation = float(mean), part * float(high - low)
        if metric == "rmse":
            value = sqrt(value)
            deviation = min(deviation / (2 * value), sqrt(deviation)) if value else sqrt(deviation)
        found[metric] = value, deviation
    return found
