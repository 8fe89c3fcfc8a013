"""Engine `stacked`: sites are data in one process, and several of them train in one batched step.

The law: batches are those of training/draws.py for each site, seed and round, and replies come in site order: the
result is that of the engine `sequential` up to rounding, and the same to the bit for one seed and number of threads.

A group is as many sites as keep their parameters, and what a batch adds to them, within `_VALUES_IN_CACHE` float32
values, so that a step finds in the cache what the step before left there; with more sites it reads memory, with
fewer each product pays for its call. Groups share no state: each thread trains groups of its own.

What is not trained in a stack (moments, mechanisms, vectors of a sum in the ring, steps with control variates) is
answered site by site.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jangin.plan.blocks import StrategyBlock
from jangin.plan.messages import Kind, Order, Reply
from jangin.simulation.sequential import SequentialExchange
from jangin.strategies import Strategy
from jangin.training.site import Site
from jangin.training.stack import parts_of, stacked_step

__all__ = ["StackedExchange"]

_VALUES_IN_CACHE = 2**20
_MOST_SITES = 64
_VALUES_AT_ONCE = 2**20  # of inputs, that are laid out ahead of the steps that read them

Batch = tuple[Tensor, Tensor, Tensor]
"""Inputs (sites, rows, ...), targets and weights (sites, rows) of one step."""


class StackedExchange(SequentialExchange):
    """The sequential one, but for training that can be stacked: then sites train a group at a time."""

    def __init__(self, sites: Sequence[Site], block: StrategyBlock, strategy: Strategy[object]) -> None:
        """Take the sites, all of one learner, in the order in which they will answer."""
        super().__init__(sites, block, strategy)
        learner = sites[0].learner
        own_way = learner.mechanism is not None or self._rule.control
        self._stacks = not own_way and not any(site.sums for site in sites)
        self._layout = learner.model.layout
        if self._stacks:
            self._step = stacked_step(learner.model.module, learner.task)

    def pull(self) -> Iterator[Reply]:
        """Train and answer, group by group."""
        if not (self._stacks and self._pending and self._pending[0][1].kind is Kind.TRAIN):
            yield from super().pull()
            return
        sites, order = [site for site, _ in self._pending], self._pending[0][1]
        self._pending = []
        size = self._sites_at_once(sites[0].examples(order)[0][0].numel())
        yield from self._in_threads([sites[first : first + size] for first in range(0, len(sites), size)], order)

    def _sites_at_once(self, features: int) -> int:
        values = self._layout.size + self._block.batch * features
        return max(1, min(_MOST_SITES, _VALUES_IN_CACHE // values))

    def _in_threads(self, groups: Sequence[Sequence[Site]], order: Order) -> Iterator[Reply]:
        """Every group's replies, in order; as many groups at a time as torch has threads."""
        whole = torch.get_num_threads()
        threads = min(whole, len(groups))
        rooms: SimpleQueue[Tensor] = SimpleQueue()
        for _ in range(threads):
            rooms.put(torch.empty(len(groups[0]) * self._layout.size))

        def replies(group: Sequence[Site]) -> list[Reply]:
            room = rooms.get()
            try:
                return list(self._trained(group, order, room))
            finally:
                rooms.put(room)

        if threads == 1:
            room = rooms.get()
            for group in groups:
                yield from self._trained(group, order, room)
            return
        torch.set_num_threads(1)  # of a group; a new thread takes it over
        try:
            with ThreadPoolExecutor(threads) as pool:
                ahead: deque[Future[list[Reply]]] = deque()
                for group in groups:
                    ahead.append(pool.submit(replies, group))
                    if len(ahead) > threads:
                        yield from ahead.popleft().result()
                while ahead:
                    yield from ahead.popleft().result()
        finally:
            torch.set_num_threads(whole)

    def _trained(self, sites: Sequence[Site], order: Order, room: Tensor) -> Iterator[Reply]:
        """The replies of one group, after its steps, in a `room` of parameters that it may overwrite."""
        parts = parts_of(self._layout, room, len(sites))
        shared = [part for part, entry in zip(parts, self._layout.entries, strict=True) if entry.shared]
        values = torch.split(torch.tensor(order.vector), [part[0].numel() for part in shared])
        anchors = [anchor.view(part.shape[1:]) for part, anchor in zip(shared, values, strict=True)]
        pairs = list(zip(shared, anchors, strict=True))

        # 1. Where they begin: at the order, and at what is their own.
        own = self._rule.keeps or len(shared) < len(parts)
        if own:
            starts = np.stack([site.begin(order.vector, self._rule) for site in sites])
            sizes = [entry.size for entry in self._layout.entries]
            for part, start in zip(parts, torch.split(torch.from_numpy(starts), sizes, dim=1), strict=True):
                part.copy_(start.view(part.shape))
        else:
            for part, anchor in pairs:
                part.copy_(anchor)

        # 2. Their steps, each from one point: the pull is that of the parameters before it.
        penalty, lr = self._rule.penalty_gradient, self._block.lr
        for inputs, targets, weights in self._batches(sites, order):
            pulls = [penalty(part, anchor) for part, anchor in pairs] if penalty else []
            self._step(parts, inputs, targets, weights, lr)
            for part, pull in zip(shared, pulls, strict=False):
                part.sub_(pull, alpha=lr)

        # 3. What they keep, and what they send.
        if own:
            for site, vector in zip(sites, torch.cat([part.flatten(1) for part in parts], dim=1), strict=True):
                site.keep(vector.numpy())
        for part, anchor in pairs:
            part.sub_(anchor)
        for site, update in zip(sites, zip(*(part.flatten(1) for part in shared), strict=True), strict=True):
            yield Reply(site.name, torch.cat(update).numpy())

    def _batches(self, sites: Sequence[Site], order: Order) -> Iterator[Batch]:
        """Every step's batch; a site with fewer rows than others repeats one of its own, which weighs 0."""
        data = [site.examples(order) for site in sites]
        draws = [site.batches(order, self._block) for site in sites]
        rows = [min(self._block.batch, len(inputs)) for inputs, _ in data]
        most = max(rows)
        weights = torch.zeros(len(sites), most)
        for number, count in enumerate(rows):
            weights[number, :count] = 1 / count
        ahead = max(1, _VALUES_AT_ONCE // (weights.numel() * data[0][0][0].numel()))
        for first in range(0, self._block.local_steps, ahead):
            steps = min(ahead, self._block.local_steps - first)
            index = [_widened(list(islice(draw, steps)), most) for draw in draws]
            inputs, targets = (
                torch.stack([own[kind][drawn] for own, drawn in zip(data, index, strict=True)], dim=1)
                for kind in range(2)
            )
            for step in range(steps):
                yield inputs[step], targets[step], weights


def _widened(drawn: list[NDArray[np.intp]], rows: int) -> Tensor:
    """The row numbers of several steps with row 0 after them, (steps, rows)."""
    index = np.zeros((len(drawn), rows), np.intp)
    index[:, : len(drawn[0])] = drawn
    return torch.from_numpy(index)
