"""One site: its examples, what it keeps between rounds, and its answers to orders.

The law: what an answer carries is an update, or moments, and nothing else; with a mechanism both are noised here, and
where vectors are added up in secret they leave as a contribution to a sum and in no other form.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jangin.errors import PrivacyError
from jangin.models.layout import Vector
from jangin.plan.blocks import StrategyBlock
from jangin.plan.messages import Kind, Order, Reply
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import MasterSum, SharedNoise
from jangin.privacy.sampling import UnitIndex
from jangin.records.examples import Examples, ExamplesAside
from jangin.strategies.base import LocalRule
from jangin.strategies.finetune import FineTune
from jangin.training.draws import seeded_batches
from jangin.training.loop import Learner
from jangin.training.masters import clipped, master_sum
from jangin.training.rows import Inputs, RowsAside
from jangin.training.scaling import Scaling
from jangin.training.summing import Encoding

__all__ = ["Site"]


class Site:
    """A site's side of a campaign."""

    def __init__(
        self,
        name: str,
        train: Examples | ExamplesAside,
        scaling: Scaling,
        learner: Learner,
        seed: int,
        enrolled: NDArray[np.int64] | None = None,
        encoding: Callable[[Kind, int], Encoding | None] | None = None,
    ) -> None:
        """Take what a site has before the campaign: its training examples and the public scaling.

        `encoding` is that of the campaign's recipe; None where nothing is added up in the ring.

        Under M3 `enrolled`, (masters,), are the unit numbers of those who are enrolled, with or without examples, and
        examples of others are left out; None where everybody with examples is.

        Raises:
            ValueError: under M3, examples on disk some of which are of others.
        """
        if isinstance(learner.mechanism, MasterSum):
            masters = np.unique(train.units if enrolled is None else enrolled)
            if isinstance(train, Examples):
                train = train[np.isin(train.units, masters)]
            elif not np.isin(train.units, masters).all():
                raise ValueError("Expected examples of enrolled masters alone.")
            self._masters = [np.flatnonzero(train.units == master) for master in masters]
        self.name, self._encoding = name, encoding
        self.learner, self._train, self._seed = learner, train, seed
        self.units = UnitIndex(train.units)
        self._random = SecureRandom() if learner.mechanism else None
        self._kept: Vector | None = None
        self._control: Vector | None = None
        self._place: Vector | None = None
        self.use(scaling)

    @property
    def sums(self) -> bool:
        """Whether what it gives is added up in the ring."""
        return self._encoding is not None

    def use(self, scaling: Scaling) -> None:
        """Scale the examples anew; those on disk are scaled as they are read."""
        self.scaling, train = scaling, self._train
        self._inputs: Inputs = torch.empty(0)  # what was scaled before makes room
        self._targets = scaling.apply_targets(train.targets)
        self._inputs = (
            scaling.apply_inputs(train.inputs) if isinstance(train, Examples) else RowsAside(train.inputs, scaling)
        )

    def examples(self, order: Order) -> tuple[Tensor, Tensor]:
        """Inputs and targets, scaled as the order says, (rows, ...) each.

        Raises:
            ValueError: inputs on disk.
        """
        self._scale(order)
        return self._in_memory(), self._targets

    def batches(self, order: Order, block: StrategyBlock) -> NDArray[np.intp]:
        """The row numbers of every step of a round without a mechanism, (steps, rows) (training/draws.py)."""
        return seeded_batches(len(self._train), block.batch, block.local_steps, self._seed, self.name, order.round)

    def answer(self, order: Order, block: StrategyBlock, rule: LocalRule) -> Reply:
        """Carry out one order; the answer is for the server's eyes.

        Raises:
            PrivacyError: JG-privacy-007, moments for which no noise was calibrated; JG-privacy-033, a vector that only
                its sum may show. ValueError: no order at all.
        """
        if self.sums or isinstance(self.learner.mechanism, SharedNoise):
            raise PrivacyError("JG-privacy-033", where=self.name)
        return Reply(self.name, self._vector(order, block, rule))

    def contribution(self, order: Order, block: StrategyBlock, rule: LocalRule) -> NDArray[np.uint32]:
        """Carry out one order; what the site gives to a secret sum, in whole steps modulo 2**32, shape (d,).

        Guarantee: under M2 and M3 one site's share in one release of the campaign, fresh in every call; under M1 the
        noise that its update has anyway.

        Raises:
            PrivacyError: JG-privacy-007, moments for which no noise was calibrated; JG-privacy-017, no grid is fine
                enough. ValueError: no order at all, or a campaign whose vectors are sent as they are.
        """
        vector = self._vector(order, block, rule).astype(np.float64)
        encoding = self._encoding(order.kind, len(vector)) if self._encoding else None
        if encoding is None:
            raise ValueError("Expected a campaign that adds up in the ring.")
        if order.kind is Kind.TRAIN and not isinstance(self.learner.mechanism, SharedNoise):
            vector = clipped(vector, encoding.grid.clip)
        return encoding.grid.released(vector, self._random or SecureRandom()).astype(np.uint32)

    def _vector(self, order: Order, block: StrategyBlock, rule: LocalRule) -> Vector | NDArray[np.float64]:
        """What an order asks for, (d,): under M2 and M3 without any noise yet."""
        match order.kind:
            case Kind.SCALE:
                mechanism = self.learner.mechanism
                release = mechanism.scaling if mechanism else None
                if mechanism and release is None:
                    raise PrivacyError("JG-privacy-007", where=self.name)
                if isinstance(mechanism, SharedNoise):
                    return self.scaling.clipped_moments(self._train)
                return self.scaling.moments(self._train, release, self._random)
            case Kind.TRAIN:
                self._scale(order)
                mechanism = self.learner.mechanism
                if isinstance(mechanism, SharedNoise):
                    return self._clipped_sum(mechanism, order, block, rule)
                return self._update(order, block, rule)
            case _:
                raise ValueError(f"Expected an order: {order.kind!r}.")

    def begin(self, shared: Vector, rule: LocalRule) -> Vector:
        """Where the site's next round begins, (size,): at its own parameters if the rule keeps them, else `model`."""
        return self._kept.copy() if rule.keeps and self._kept is not None else self.model(shared)

    def model(self, shared: Vector) -> Vector:
        """Shared parameters of the campaign, personal ones as the site keeps them; (size,)."""
        whole = (self.learner.initial if self._kept is None else self._kept).copy()
        whole[self.learner.model.layout.shared] = shared
        return whole

    def kept(self) -> Vector | None:
        """What the site's last training left; None before there was one.

        All parameters, (size,), and under a rule with control the site's own after them, (size + d,). What later rounds
        need of it: the personal parts, the control, and everything where the strategy's rule keeps it. It holds the
        steps of every round that trained, also of one whose update was lost: the next update carries them.
        """
        if self._kept is None:
            return None
        return self._kept.copy() if self._control is None else np.concatenate([self._kept, self._control])

    def keep(self, vector: Vector) -> None:
        """Take back what `kept` gave, (size,) or (size + d,), e.g. in a new process.

        Raises:
            ValueError: another shape.
        """
        size, shared = len(self.learner.initial), len(self.learner.model.layout.shared)
        if vector.shape not in ((size,), (size + shared,)):
            raise ValueError(f"Expected a vector of {size} or {size + shared} values: shape {vector.shape}.")
        if self._place is None:
            kept = vector.astype(np.float32)
        else:
            kept = self._place
            kept[:] = vector
        self._kept, self._control = kept[:size], kept[size:] if len(kept) > size else None

    def keep_at(self, place: Vector) -> None:
        """Keep from now on at `place`, which has the shape of what is kept, so that forked processes may share it."""
        before, self._place = self.kept(), place
        if before is not None:
            self.keep(before)

    def lead(self, control: Vector) -> Vector:
        """How far the server's control is ahead of the site's own: under both, the gradient of a linear term, (d,)."""
        return control if self._control is None else control - self._control

    def finetuned(self, shared: Vector, rule: FineTune) -> Vector:
        """The personalised model, (size,): from the site's model on by itself, without noise; it never leaves."""
        data = self._in_memory(), self._targets
        self.learner.fit(self.model(shared), *data, rule.batch, rule.steps, rule.lr, self._seed, self.name, "finetune")
        return self.learner.model.read()

    def _scale(self, order: Order) -> None:
        """Scale as the order says."""
        if order.scaling is not None and not self._uses(*order.scaling):
            self.use(self.scaling.standardised(*order.scaling))

    def _in_memory(self) -> Tensor:
        if not isinstance(self._inputs, Tensor):
            raise ValueError("Expected inputs in memory.")
        return self._inputs

    def _uses(self, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> bool:
        own = self.scaling.mean, self.scaling.deviation
        return all(
            one is other or np.array_equal(one, other) for one, other in zip(own, (mean, deviation), strict=True)
        )

    def _clipped_sum(
        self, mechanism: SharedNoise, order: Order, block: StrategyBlock, rule: LocalRule
    ) -> NDArray[np.float64]:
        """The sum over units of their clipped vectors, (size,), at the public parameters of the round."""
        learner, data, random = self.learner, (self._inputs, self._targets), self._random or SecureRandom()
        if isinstance(mechanism, MasterSum):
            return master_sum(learner, mechanism.clip, order.vector, data, self._masters, block, rule, random)
        learner.model.load(order.vector)
        return learner.clipped_sum(*data, self.units, random)

    def _update(self, order: Order, block: StrategyBlock, rule: LocalRule) -> Vector:
        learner = self.learner
        start, control = rule.parts(order.vector)
        lead = None if control is None else self.lead(control)
        learner.model.load(self.begin(start, rule))
        if self._random is None:
            gradients = learner.gradients(self._inputs, self._targets, self.batches(order, block))
        else:
            gradients = learner.private_gradients(
                self._inputs, self._targets, self.units, block.local_steps, self._random
            )
        if lead is not None:  # its gradient is that of a linear term
            pull = torch.from_numpy(lead.copy())
            rule = replace(rule, penalty_gradient=lambda w, w_t: pull)
        learner.descend(gradients, block.lr, rule, start)
        kept = learner.model.read()
        update: Vector = kept[learner.model.layout.shared] - start
        if lead is not None:  # what the site's own gradients moved: strategies/scaffold.py
            path = block.local_steps * block.lr
            update = (update + path * lead).astype(np.float32)
            kept = np.concatenate([kept, update / np.float32(-path)])
        self.keep(kept)
        return update.astype(np.float32)
