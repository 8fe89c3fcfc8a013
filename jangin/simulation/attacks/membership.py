"""Membership inference: was this record among those that a model was trained on?

Likelihood ratios over shadow models (LiRA: Carlini et al. 2022, arXiv 2112.03570), of a score read off the released
model (the loss of the record: Yeom et al. 2018, arXiv 1709.01604) or off a site's updates (how much of the record's
gradient is in them: after Nasr, Shokri and Houmansadr 2019, arXiv 1812.00910, here by least squares over all
candidates at once). The law: under (epsilon, delta) no attacker's curve passes `most_true_positives`, whatever the
attacker knows; one that stays far below may only be a weak attacker.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jangin.models.layout import Vector
from jangin.privacy.releases import SharedNoise
from jangin.simulation.attacks.gradients import losses_at, of_rows
from jangin.training.loop import Learner

__all__ = ["Roc", "likelihood_ratios", "loss_scores", "most_true_positives", "roc", "update_scores"]

Scores = NDArray[np.float64]

_ROUNDING = 1e-9  # of a squared gradient: what float32 leaves of an update without noise


def loss_scores(learner: Learner, released: Vector, inputs: Tensor, targets: Tensor) -> Scores:
    """Minus the log of each candidate's loss under a released model, (candidates,); higher for what it has learnt.

    Args:
        learner: of the campaign.
        released: parameters, shape (size,).
        inputs: scaled inputs of the candidates, shape (candidates, ...).
        targets: their scaled targets.
    """
    with torch.no_grad():
        losses = losses_at(learner.model, learner.task, torch.from_numpy(released), inputs, targets)
    scores: Scores = -np.log(losses.numpy().astype(np.float64) + np.finfo(np.float32).tiny)
    return scores


def update_scores(
    learner: Learner, start: Vector, update: Vector, lr: float, inputs: Tensor, targets: Tensor
) -> Scores:
    """How often each candidate's gradient seems to be in one site's update of one local step, (candidates,).

    The update is -lr / L times a sum of some candidates' gradients, clipped as the site clips them, plus noise: the
    linear estimate of least mean squared error of who is in it, each candidate held to be a record with probability
    1/2. Without privacy there is no noise but float32's, and the weights are 1 / batch instead of 1.

    Args:
        learner: of the campaign.
        start: parameters of the order, shape (size,).
        update: the site's answer, shape (size,); no parameters are personal.
        lr: learning rate of the site.
        inputs: scaled inputs of the candidates, one a privacy unit, shape (candidates, ...).
        targets: their scaled targets.

    Raises:
        TypeError: a mechanism that clips something else than gradients.
    """
    mechanism = learner.mechanism
    if isinstance(mechanism, SharedNoise):
        raise TypeError("Expected noise of a site by itself: M1.")
    each = of_rows(learner.model, learner.task, torch.from_numpy(start), inputs, targets)
    total = torch.from_numpy(update).double() / -lr
    if mechanism is None:
        each = each.double()
        noise = _ROUNDING * float(each.square().sum(dim=1).mean())
    else:
        each = (each * (mechanism.clip / each.norm(dim=1, keepdim=True)).clamp(max=1.0)).double()
        total *= mechanism.divisor
        share = mechanism.steps.sampling_probability / 2.0
        noise = (mechanism.steps.noise_multiplier * mechanism.clip) ** 2 / (share * (1.0 - share))
    products = each @ each.T
    products.diagonal().add_(noise)
    estimate: Scores = torch.linalg.solve(products, each @ total).numpy()
    return estimate


def likelihood_ratios(scores: Scores, shadows: Scores, included: NDArray[np.bool_]) -> Scores:
    """The log of how much better `in` explains each score than `out`, (runs, candidates).

    Carlini et al. 2022, Algorithm 1: normal distributions of a candidate's score over the shadow models with and
    without it. No shadow is judged itself.

    Args:
        scores: of the models that are judged, shape (runs, candidates).
        shadows: scores of models that the attacker has trained, shape (shadows, candidates).
        included: which candidates each shadow was trained on, of the shape of `shadows`.

    Raises:
        ValueError: a candidate that is in or out in fewer than two shadows.
    """
    if min(included.sum(axis=0).min(), (~included).sum(axis=0).min()) < 2:
        raise ValueError("Expected every candidate in and out in at least two shadows each.")
    floor = 1e-12 * shadows.var() + np.finfo(float).tiny

    def log_density(side: NDArray[np.bool_]) -> Scores:
        mean = shadows.mean(axis=0, where=side)
        variance = np.maximum(shadows.var(axis=0, where=side, ddof=1), floor)
        density: Scores = -0.5 * ((scores - mean) ** 2 / variance + np.log(variance))
        return density

    return log_density(included) - log_density(~included)


@dataclass(frozen=True)
class Roc:
    """An attacker's curve over all thresholds, from nothing accused to everything accused.

    Attributes:
        false_positives: share of those left out that are accused, ascending from 0 to 1, shape (thresholds,).
        true_positives: share of those used that are accused, shape (thresholds,).
    """

    false_positives: Scores
    true_positives: Scores

    @property
    def area(self) -> float:
        """Under the curve: 1/2 is a coin, 1 is certainty."""
        return float(np.trapezoid(self.true_positives, self.false_positives))

    @property
    def advantage(self) -> float:
        """The most by which true positives exceed false ones (Yeom et al. 2018, definition 4)."""
        return float((self.true_positives - self.false_positives).max())

    def at(self, false_positives: float) -> float:
        """True positives where at most this share is accused falsely."""
        return float(self.true_positives[self.false_positives <= false_positives].max())


def roc(scores: Scores, included: NDArray[np.bool_]) -> Roc:
    """The curve of accusing where a score is high; any shape, pooled. Equal scores are accused together."""
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked, used = scores.ravel()[order], included.ravel()[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    true, false = (np.append(0.0, np.cumsum(side)[last] / side.sum()) for side in (used, ~used))
    return Roc(false, true)


def most_true_positives(false_positives: Scores, epsilon: float, delta: float) -> Scores:
    """The largest share of true positives that (epsilon, delta) leaves anybody at these false positives.

    Kairouz, Oh and Viswanath 2015 (arXiv 1311.0776), Theorem 2.1: TPR <= e^eps FPR + delta, and its mirror
    1 - TPR >= e^-eps (1 - delta - FPR).
    """
    direct = np.exp(epsilon) * false_positives + delta
    mirror = 1.0 - np.exp(-epsilon) * (1.0 - delta - false_positives)
    most: Scores = np.minimum(np.minimum(direct, mirror), 1.0)
    return most
