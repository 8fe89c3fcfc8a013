"""Engine `stacked`: sites are data in one process, and several of them train in one batched step.

The law: batches are those of training/draws.py for each site, seed and round, and what groups give is put together in
site order: the result is that of the engine `sequential` up to rounding, and without a mechanism the same to the bit
for one seed. Under mechanism M1 draws and noise are secret and fresh, as everywhere, and each site has its own.

A group is as many sites as keep their parameters, and what a batch adds to them, within `_VALUES_IN_CACHE` float32
values, so that a step finds in the cache what the step before left there; with more sites it reads memory, with
fewer each product pays for its call. Groups share no state: each thread trains groups of its own.

What is not trained in a stack is answered site by site: moments, vectors of a sum in the ring, mechanisms M2 and M3,
and M1 where the model is not affine maps with ReLU between or a unit may give several rows to a draw.
"""

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

from jangin.plan.blocks import StrategyBlock
from jangin.plan.messages import Kind, Order, Reply
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import LocalDpSgd
from jangin.privacy.sampling import UnitIndex
from jangin.server.rounds import RoundRecord
from jangin.simulation.sequential import SequentialExchange
from jangin.strategies import Strategy
from jangin.strategies.base import Gathered
from jangin.training.site import Site
from jangin.training.stack import parts_of, private_stacked_step, stacked_step
from jangin.training.threads import one_thread

__all__ = ["StackedExchange"]

_VALUES_IN_CACHE = 2**20
_MOST_SITES = 64
_VALUES_AT_ONCE = 2**20  # of inputs, that are laid out ahead of the steps that read them

Group = Sequence[Site]
Batch = tuple[Tensor, Tensor, Tensor]
"""Inputs (sites, rows, ...), targets, and of each row, (sites, rows), its weight or whether it is there."""
Moved = Sequence[tuple[Tensor, Tensor]]
"""Of each shared part where sites are, (sites, *shape), and what their updates count from, (*shape)."""
Given = TypeVar("Given")


class StackedExchange(SequentialExchange):
    """The sequential one, but for training that can be stacked: then sites train a group at a time."""

    def __init__(self, sites: Sequence[Site], block: StrategyBlock, strategy: Strategy[object]) -> None:
        """Take the sites, all of one learner, in the order in which they will answer."""
        super().__init__(sites, block, strategy)
        learner = sites[0].learner
        self._layout = learner.model.layout
        self._products = ThreadpoolController().select(user_api="blas")
        self._mechanism: LocalDpSgd | None = None
        self._stacks = not any(site.sums for site in sites)
        match learner.mechanism:
            case None:
                self._step = stacked_step(learner.model.module, learner.task)
            case LocalDpSgd() as mechanism:
                self._mechanism = mechanism
                single = mechanism.windows == 1 or all(site.units.most == 1 for site in sites)
                self._private_step = private_stacked_step(learner.model.module, learner.task, mechanism)
                self._stacks = self._stacks and single and self._private_step is not None
            case _:
                self._stacks = False

    def pull(self) -> Iterator[Reply]:
        """Train and answer, group by group."""
        if not (self._pending and self.stacks(self._pending[0][1])):
            yield from super().pull()
            return
        sites, order = [site for site, _ in self._pending], self._pending[0][1]
        self._pending = []

        def replies(group: Group, moved: Moved) -> list[Reply]:
            updates = torch.cat([(part - anchor).flatten(1) for part, anchor in moved], dim=1).numpy()
            return [Reply(site.name, update) for site, update in zip(group, updates, strict=True)]

        for some in self._trained(sites, order, replies):
            yield from some

    def stacks(self, order: Order) -> bool:
        """Whether sites carry out an order together."""
        return self._stacks and order.kind is Kind.TRAIN

    def total(self, order: Order) -> tuple[RoundRecord, Gathered]:
        """What `gather` (server/rounds.py) makes of all replies, without making them: the sum of updates, (d,).

        All is added up in float64, in site order within a group and group by group.
        """

        def summed(group: Group, moved: Moved) -> Tensor:
            sums = [part.sum(dim=0, dtype=torch.float64).sub_(anchor, alpha=len(group)) for part, anchor in moved]
            return torch.cat([one.flatten() for one in sums])

        total = np.zeros(len(self._layout.shared))
        for some in self._trained(list(self._sites.values()), order, summed):
            total += some.numpy()
        return RoundRecord(order.round, tuple(self._sites), {}, ()), total

    def _trained(self, sites: Group, order: Order, give: Callable[[Group, Moved], Given]) -> Iterator[Given]:
        """What `give` makes of every group and what its sites answer, in order.

        As many groups train at a time as torch has threads, each in a room that the next one overwrites.
        """
        # All are scaled before the first group trains: what stays beside what goes would leave the heap full of holes.
        features = max(site.examples(order)[0][0].numel() for site in sites)
        fitting = max(1, _VALUES_IN_CACHE // (self._layout.size + self._block.batch * features))
        rooms: SimpleQueue[Tensor] = SimpleQueue()

        def given(group: Group) -> Given:
            room = rooms.get()
            try:
                return give(group, self._train(group, order, parts_of(self._layout, room, len(group))))
            finally:
                rooms.put(room)

        with one_thread() as whole, warnings.catch_warnings(), self._products.limit(limits=1):
            # torch warns where it goes site by site: slower, and as right.
            warnings.simplefilter("ignore", UserWarning)
            size = min(fitting, _MOST_SITES, -(-len(sites) // whole))
            groups = [sites[first : first + size] for first in range(0, len(sites), size)]
            threads = min(whole, len(groups))
            for _ in range(threads):
                rooms.put(torch.empty(size * self._layout.size))
            yield from map(given, groups) if threads == 1 else self._abreast(given, groups, threads)

    def _abreast(self, given: Callable[[Group], Given], groups: Sequence[Group], threads: int) -> Iterator[Given]:
        """What is given for every group, in order, some of them at a time."""
        with ThreadPoolExecutor(threads) as pool:
            ahead: deque[Future[Given]] = deque()
            for group in groups:
                ahead.append(pool.submit(given, group))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _train(self, sites: Group, order: Order, parts: Sequence[Tensor]) -> Moved:
        """Where the steps of one group lead; `parts`, all of a model's, may hold anything before."""
        start, control = self._rule.parts(order.vector)
        penalty, lr = self._rule.penalty_gradient, self._block.lr
        shared = [part for part, entry in zip(parts, self._layout.entries, strict=True) if entry.shared]
        anchors = [one.view(part.shape[1:]) for one, part in zip(self._split(start), shared, strict=True)]

        # 1. Where they begin: at the order, and at what is their own.
        own = self._rule.remembers(self._layout)
        starts: Sequence[Tensor] | None = None
        if self._rule.keeps or len(shared) < len(parts):
            begun = np.stack([site.begin(start, self._rule) for site in sites])
            sizes = [entry.size for entry in self._layout.entries]
            for part, values in zip(parts, torch.split(torch.from_numpy(begun), sizes, dim=1), strict=True):
                part.copy_(values.view(part.shape))
        elif penalty or self._mechanism:
            for part, anchor in zip(shared, anchors, strict=True):
                part.copy_(anchor)
        else:
            starts = anchors
        leads: list[Tensor] = []
        if control is not None:
            ahead = self._split(np.stack([site.lead(control) for site in sites]))
            leads = [one.view(part.shape) for one, part in zip(ahead, shared, strict=True)]

        # 2. Their steps, each from one point: the pull is that of the parameters before it.
        random = SecureRandom() if self._mechanism else None
        for inputs, targets, weights in self._draws(sites, order, random) if random else self._batches(sites, order):
            pulls = [penalty(part, anchor) for part, anchor in zip(shared, anchors, strict=True)] if penalty else leads
            if random and self._private_step:
                self._private_step(parts, inputs, targets, weights, lr, random)
            else:
                self._step(parts, inputs, targets, weights, lr, starts)
            starts = None
            for part, pull in zip(shared, pulls, strict=False):
                part.sub_(pull, alpha=lr)

        # 3. What they keep, and give.
        kept = [part.flatten(1) for part in parts] if own else []
        if leads:  # what their own gradients moved: strategies/scaffold.py
            path = self._block.local_steps * lr
            shared = [part.add(lead, alpha=path) for part, lead in zip(shared, leads, strict=True)]
            kept += [((part - anchor) / -path).flatten(1) for part, anchor in zip(shared, anchors, strict=True)]
        if own:
            for site, vector in zip(sites, torch.cat(kept, dim=1), strict=True):
                site.keep(vector.numpy())
        return list(zip(shared, anchors, strict=True))

    def _split(self, values: NDArray[np.float32]) -> Sequence[Tensor]:
        """Values of the shared parameters, (..., d), by part, (..., size) each."""
        sizes = [entry.size for entry in self._layout.entries if entry.shared]
        return torch.split(torch.tensor(values), sizes, dim=-1)

    def _batches(self, sites: Group, order: Order) -> Iterator[Batch]:
        """Every step's batch; a site with fewer rows than others repeats one of its own, which weighs 0."""
        data = [site.examples(order) for site in sites]
        drawn = [site.batches(order, self._block) for site in sites]
        steps, most = self._block.local_steps, max(one.shape[1] for one in drawn)
        index = np.zeros((len(sites), steps, most), np.intp)
        shares = np.zeros((len(sites), most), np.float32)
        for number, one in enumerate(drawn):
            index[number, :, : one.shape[1]] = one
            shares[number, : one.shape[1]] = 1 / one.shape[1]
        weights = torch.from_numpy(shares)
        ahead = max(1, _VALUES_AT_ONCE // (weights.numel() * data[0][0][0].numel()))
        for first in range(0, steps, ahead):
            rows = torch.from_numpy(index[:, first : first + ahead]).flatten(1)
            inputs, targets = (
                _taken(kind, rows).view(len(sites), -1, most, *kind[0].shape[1:]).transpose(0, 1)
                for kind in zip(*data, strict=True)
            )
            for x, y in zip(inputs, targets, strict=True):
                yield x, y, weights

    def _draws(self, sites: Group, order: Order, random: SecureRandom) -> Iterator[Batch]:
        """Every step's secret draw: of all units of the group, each by itself, so that sites' draws are independent.

        In places that no drawn row takes stands the site's first row.
        """
        mechanism = self._mechanism
        if mechanism is None:
            raise ValueError("Expected mechanism M1.")
        inputs, targets = (torch.cat(kind) for kind in zip(*(site.examples(order) for site in sites), strict=True))
        counts = np.array([site.units.examples for site in sites])
        firsts = np.cumsum(counts) - counts
        units = UnitIndex.side_by_side([site.units for site in sites])
        for _ in range(self._block.local_steps):
            drawn = units.draw(mechanism.steps.sampling_probability, mechanism.windows, random).rows
            site = np.searchsorted(firsts, drawn, side="right") - 1
            taken = np.bincount(site, minlength=len(sites))
            place = np.arange(len(drawn)) - np.repeat(np.cumsum(taken) - taken, taken)
            rows = np.repeat(firsts[:, None], max(1, taken.max()), axis=1)
            there = np.zeros(rows.shape, np.bool_)
            rows[site, place], there[site, place] = drawn, True
            index = torch.from_numpy(rows)
            yield inputs[index], targets[index], torch.from_numpy(there)


def _taken(tensors: Sequence[Tensor], rows: Tensor) -> Tensor:
    """Of every tensor, (any, *shape), its rows, (tensors, rows): side by side, (tensors, rows, *shape)."""
    found = torch.empty((*rows.shape, *tensors[0].shape[1:]), dtype=tensors[0].dtype)
    for own, some, place in zip(tensors, rows, found, strict=True):
        torch.index_select(own, 0, some, out=place)
    return found
