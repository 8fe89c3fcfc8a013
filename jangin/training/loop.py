"""The local loop: a model in place, a source of gradients, and steps of gradient descent."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jangin.errors import PlanError
from jangin.models.flat import FlatModel
from jangin.models.layout import Vector
from jangin.models.tasks import Task, predict, row_losses
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease, LocalDpSgd, MasterSum, Mechanism, SharedNoise, SharedSum
from jangin.privacy.sampling import Draw, UnitIndex
from jangin.privacy.step import noised_mean, private_step
from jangin.privacy.step.interface import refuse_mixing
from jangin.strategies.base import LocalRule
from jangin.training.draws import seeded_batches
from jangin.training.rows import Inputs, batches, drawn

__all__ = ["Learner"]

_ROWS_AT_ONCE = 8192
_MOST_HALVINGS = 10


class Learner:
    """One model that trains in place, for whichever data it is given next; sites share it, one after another.

    Attributes:
        initial: the parameters that it came with, (size,); not to be changed.
    """

    def __init__(self, model: FlatModel, task: Task, mechanism: Mechanism | None) -> None:
        """Prepare the private step once, where a mechanism asks for it.

        Raises:
            PrivacyError: JG-privacy-003 or -004, a model that cannot be trained privately.
            PlanError: JG-plan-026, a part that stays at the site under M2 or M3, whose rounds start from what is
                public.
        """
        self.model, self.task, self.mechanism = model, task, mechanism
        self.initial = model.read()
        if isinstance(mechanism, SharedNoise) and len(model.layout.shared) < model.layout.size:
            name = "M2" if isinstance(mechanism, SharedSum) else "M3"
            raise PlanError(
                "JG-plan-026", where="model.personal", mechanism=name, value="a personal part", sums="any of them"
            )
        match mechanism:
            case LocalDpSgd() | SharedSum():
                self._step = private_step(
                    model.module, lambda outputs, targets: row_losses(task, outputs, targets), mechanism.clip
                )
                self._windows = mechanism.windows
            case MasterSum():
                refuse_mixing(model.module, mechanism.clip)

    def seeded_gradients(
        self, inputs: Tensor, targets: Tensor, batch: int, steps: int, *key: object
    ) -> Iterator[Tensor]:
        """Gradients of mean losses over seeded batches, each (parameters,), at the parameters of the moment."""
        return self.gradients(inputs, targets, seeded_batches(len(inputs), batch, steps, *key))

    def gradients(self, inputs: Inputs, targets: Tensor, places: Iterable[NDArray[np.intp]]) -> Iterator[Tensor]:
        """Gradients of mean losses over batches of rows, each (parameters,), at the parameters of the moment."""
        for x, y in batches(inputs, targets, places):
            yield self.model.backward(row_losses(self.task, self.model.module(x), y).mean())

    def private_gradients(
        self, inputs: Inputs, targets: Tensor, units: UnitIndex, steps: int, random: SecureRandom
    ) -> Iterator[Tensor]:
        """Noised gradients by mechanism M1, each (parameters,), at the parameters of the moment.

        Guarantee: `steps` of the mechanism's `steps.count` releases. An empty draw still adds noise and steps.

        Raises:
            ValueError: a learner without that mechanism.
        """
        if not isinstance(self.mechanism, LocalDpSgd):
            raise ValueError(f"Expected mechanism M1: {self.mechanism!r}.")
        draws = self._draws(units, self.mechanism.steps, steps, random)
        for total in self._clipped_sums(inputs, targets, draws):
            yield torch.from_numpy(noised_mean(total, self.mechanism, random).astype(np.float32))

    def clipped_sum(
        self, inputs: Inputs, targets: Tensor, units: UnitIndex, random: SecureRandom
    ) -> NDArray[np.float64]:
        """One secret draw's clipped gradients under M2, summed, (parameters,), at the parameters of the moment.

        Sensitivity: one unit moves it by at most clip * (1 + 1e-5) in L2; nothing is noised here. An empty draw: zeros.

        Raises:
            ValueError: a learner without that mechanism.
        """
        if not isinstance(self.mechanism, SharedSum):
            raise ValueError(f"Expected mechanism M2: {self.mechanism!r}.")
        draws = self._draws(units, self.mechanism.share, 1, random)
        total: NDArray[np.float64] = next(self._clipped_sums(inputs, targets, draws)).numpy()
        return total

    def _draws(self, units: UnitIndex, release: GaussianRelease, count: int, random: SecureRandom) -> Iterator[Draw]:
        return (units.draw(release.sampling_probability, self._windows, random) for _ in range(count))

    def _clipped_sums(self, inputs: Inputs, targets: Tensor, draws: Iterable[Draw]) -> Iterator[Tensor]:
        """Of each draw the sum of its units' clipped gradients, at the parameters of the moment."""
        before: list[Tensor] = []
        for x, y, draw, last in drawn(inputs, targets, draws):
            before.append(self._step.clipped_sum(x, y, draw))
            if last:
                total, *others = before
                yield sum(others, start=total)
                before = []

    def descend(
        self, gradients: Iterator[Tensor], lr: float, rule: LocalRule | None = None, anchor: Vector | None = None
    ) -> None:
        """Take one step against each gradient.

        Args:
            gradients: each (size,), at the parameters of the moment.
            lr: learning rate.
            rule: may add a penalty of the shared parameters.
            anchor: what that penalty is held at, (d,); where the descent started, if it is not given.
        """
        vector = self.model.vector
        penalty = rule.penalty_gradient if rule else None
        if penalty is None:
            for gradient in gradients:
                vector.sub_(gradient, alpha=lr)
            return
        shared = torch.from_numpy(self.model.layout.shared)
        held = vector[shared] if anchor is None else torch.tensor(anchor)
        for gradient in gradients:
            pull = penalty(vector[shared], held)
            vector.sub_(gradient, alpha=lr).index_add_(0, shared, pull, alpha=-lr)

    def fit(
        self, start: Vector, inputs: Tensor, targets: Tensor, batch: int, steps: int, lr: float, *key: object
    ) -> None:
        """Descend from `start`, (size,), without privacy, at the learning rate that ends with the lowest loss.

        The rate starts at `lr` and is halved for as long as that ends lower, and until it ends below the start: a
        model fitted alone that diverged, or nearly did, would flatter the federation beside it. Where not even a
        thousandth of `lr` gains, `start` is as good as it gets and stays.
        """
        self.model.load(start)
        best, lowest = start, self.loss(inputs, targets)
        for halvings in range(_MOST_HALVINGS):
            self.model.load(start)
            self.descend(self.seeded_gradients(inputs, targets, batch, steps, *key), lr / 2**halvings)
            loss = self.loss(inputs, targets)
            if loss < lowest:
                best, lowest = self.model.read(), loss
            elif best is not start:
                break
        self.model.load(best)

    def loss(self, inputs: Tensor, targets: Tensor) -> float:
        """Mean loss over all rows at the parameters of the moment."""
        with torch.no_grad():
            return float(row_losses(self.task, self.model.module(inputs), targets).mean())

    def predict(self, inputs: Tensor) -> Vector:
        """Predictions for (rows, ...) by the parameters of the moment; shapes as in models/tasks.py."""
        with torch.no_grad():
            parts = [predict(self.task, self.model.module(part)) for part in torch.split(inputs, _ROWS_AT_ONCE)]
        return torch.cat(parts).numpy() if parts else np.empty(0, np.float32)
