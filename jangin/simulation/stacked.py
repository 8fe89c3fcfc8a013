"""Engine `stacked`: sites are data in one process, and several of them train in one batched step.

The law: batches are those of training/draws.py for each site, seed and round, and what groups give is put together in
site order: the result is that of the engine `sequential` up to rounding, and without a mechanism the same to the bit
for one seed and number of processes. Under mechanism M1 draws and noise are secret and fresh, as everywhere, and each
site has its own.

A group is as many sites as keep their parameters, and what a batch adds to them, within `_VALUES_IN_CACHE` float32
values, so that a step finds in the cache what the step before left there; with more sites it reads memory, with
fewer each product pays for its call. Where sites see few rows of wide maps their parameters are not written down at
all (training/paths.py). Groups share no state: they are dealt out in turn to this process and the children it forks
(simulation/forks.py) at the first order to train. A site stays with its process; what it keeps lies in memory that
they share.

What is not trained in a stack is answered site by site: moments, vectors of a sum in the ring, mechanisms M2 and M3,
and M1 where the model is not affine maps with ReLU between or a unit may give several rows to a draw.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

from jangin.memory import keep
from jangin.models.layout import Vector
from jangin.plan.blocks import StrategyBlock
from jangin.plan.messages import Kind, Order, Reply
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import LocalDpSgd
from jangin.privacy.sampling import UnitIndex
from jangin.server.rounds import RoundRecord
from jangin.simulation.forks import Child, Forks, shared_zeros
from jangin.simulation.sequential import SequentialExchange, answered
from jangin.strategies import Strategy
from jangin.strategies.base import Gathered
from jangin.training.paths import Paths, held_by_paths, paths
from jangin.training.site import Site
from jangin.training.stack import Moved, parts_of, private_stacked_step, stacked_step
from jangin.training.threads import one_thread

__all__ = ["StackedExchange"]

_VALUES_IN_CACHE = 2**20
_VALUES_OF_PATHS = 3 * 2**19  # a step writes few of them
_MOST_SITES = 64
_VALUES_AT_ONCE = 2**20  # of inputs, that are laid out ahead of the steps that read them

Group = Sequence[Site]
Batch = tuple[Tensor, Tensor, Tensor]
"""Inputs (sites, rows, ...), targets, and of each row, (sites, rows), its weight or whether it is there."""


class StackedExchange(SequentialExchange):
    """The sequential one, but for training: sites train a group at a time, together where they can be stacked."""

    def __init__(
        self, sites: Sequence[Site], block: StrategyBlock, strategy: Strategy[object], forks: Forks | None = None
    ) -> None:
        """Take the sites, all of one learner, in the order in which they will answer; and whose children help."""
        super().__init__(sites, block, strategy)
        keep()
        learner = sites[0].learner
        self._forks = forks or Forks(1)
        self._groups: Sequence[Group] = ()
        self._children: Sequence[Child] = ()
        self._away: dict[str, Vector] = {}  # where that lies which others will have trained
        self._learner, self._layout = learner, learner.model.layout
        self._room = torch.empty(0)
        self._products = ThreadpoolController().select(user_api="blas")
        self._mechanism: LocalDpSgd | None = None
        self._stacks = not any(site.sums for site in sites)
        self._held: int | None = None  # values of one site, where gradients alone move it and paths are cheap
        if not (learner.mechanism or self._rule.penalty_gradient or self._rule.remembers(self._layout)):
            self._held = held_by_paths(learner.model.module, block.local_steps * block.batch, block.batch)
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
        order = self._pending[0][1] if self._pending else None
        together = self._stacks or self._forks.processes > 1
        if order is None or order.kind is not Kind.TRAIN or not together:
            yield from super().pull()
            return
        cohort, self._pending = frozenset(site.name for site, _ in self._pending), []
        children = self._begun(order)
        for child in children:
            child.ask(order, cohort)
        with self._calm():
            own = self._vectors(0, order, cohort)
            for number, group in enumerate(self._groups):
                names = [site.name for site in group if site.name in cohort]
                if names:
                    vectors = next((own, *children)[number % self._forks.processes])
                    self._taken_up(names)
                    yield from map(Reply, names, vectors)

    def stacks(self, order: Order) -> bool:
        """Whether sites carry out an order together."""
        return self._stacks and order.kind is Kind.TRAIN

    def total(self, order: Order) -> tuple[RoundRecord, Gathered]:
        """What `gather` (server/rounds.py) makes of all replies, without making them: the sum of updates, (d,).

        Within a group updates are added up in float32, in site order, groups and processes in float64.
        """
        children = self._begun(order)
        for child in children:
            child.ask(order, None)
        with self._calm():
            total = self._summed(0, order)
        for child in children:
            total += next(child)
        self._taken_up(self._sites)
        return RoundRecord(order.round, tuple(self._sites), {}, ()), total

    def _begun(self, order: Order) -> Sequence[Child]:
        """The children; at the first order groups are dealt out, and they begin with all data as it is laid out."""
        if self._groups:
            return self._children
        # All are scaled before the first group trains: what stays beside what goes would leave the heap full of holes.
        sites, processes, size = list(self._sites.values()), self._forks.processes, self._layout.size
        features = max(site.examples(order)[0][0].numel() for site in sites)
        most = (
            _VALUES_OF_PATHS // self._held if self._held else _VALUES_IN_CACHE // (size + self._block.batch * features)
        )
        fitting = min(_MOST_SITES, max(1, most))
        count = min(len(sites), processes * -(-len(sites) // (processes * fitting)))
        ends = [len(sites) * number // count for number in range(count + 1)]
        self._groups = [sites[first:end] for first, end in pairwise(ends)]
        others = [self._groups[number::processes] for number in range(1, min(processes, count))]
        if others and self._rule.remembers(self._layout):
            wide = size + (len(self._layout.shared) if self._rule.control else 0)
            places = dict(zip(self._sites, shared_zeros((len(sites), wide), np.float32), strict=True))
            for site in sites:
                site.keep_at(places[site.name])
            self._away = {site.name: places[site.name] for groups in others for group in groups for site in group}
        values = max(2, -(-len(sites) // count)) * len(self._layout.shared)
        self._children = [
            self._forks.fork(partial(self._serve, number), values, [site.name for group in groups for site in group])
            for number, groups in enumerate(others, 1)
        ]
        return self._children

    def _serve(self, number: int, order: Order, cohort: frozenset[str] | None) -> Iterator[NDArray[Any]]:
        """What child `number` answers: the sum of all its updates, or the vectors of the cohort's sites."""
        with self._calm():
            yield from [self._summed(number, order)] if cohort is None else self._vectors(number, order, cohort)

    def _taken_up(self, names: Iterable[str]) -> None:
        """What sites keep that others trained is known here from their first training on."""
        for name in self._away.keys() & names:
            self._sites[name].keep(self._away.pop(name))

    @contextmanager
    def _calm(self) -> Iterator[None]:
        """One thread for everything: products are small."""
        with one_thread(), warnings.catch_warnings(), self._products.limit(limits=1):
            # torch warns where it goes site by site: slower, and as right.
            warnings.simplefilter("ignore", UserWarning)
            yield

    def _summed(self, number: int, order: Order) -> Gathered:
        """The sum of the updates of all sites of process `number`, (d,)."""
        total = torch.zeros(len(self._layout.shared), dtype=torch.float64)
        sizes = [entry.size for entry in self._layout.entries if entry.shared]
        for group in self._groups[number :: self._forks.processes]:
            for part, place in zip(self._moved(group, order).total(), torch.split(total, sizes), strict=True):
                place.view(part.shape).add_(part)
        return total.numpy()

    def _vectors(self, number: int, order: Order, cohort: frozenset[str]) -> Iterator[NDArray[Any]]:
        """The vectors of the cohort's sites of process `number`, (sites, d), group by group."""
        for everybody in self._groups[number :: self._forks.processes]:
            group = [site for site in everybody if site.name in cohort]
            if self._stacks and group:
                yield torch.cat([part.flatten(1) for part in self._moved(group, order).each()], dim=1).numpy()
            elif group:
                yield np.stack([self._vector(site, order) for site in group])

    def _vector(self, site: Site, order: Order) -> NDArray[Any]:
        vector = answered(site, order, self._block, self._rule).vector
        if vector is None:
            raise ValueError(f"Expected a vector of {site.name}.")
        return vector

    def _moved(self, sites: Group, order: Order) -> Moved | Paths:
        """Where the steps of one group lead."""
        return self._walk(sites, order) if self._held else self._train(sites, order)

    def _walk(self, sites: Group, order: Order) -> Paths:
        """Where they lead without parameters of the sites' own."""
        placed = zip(self._split(order.vector), self._layout.entries, strict=True)
        starts = [values.view(entry.shape) for values, entry in placed]
        inputs, targets, weights = next(self._laid_out(sites, order, self._block.local_steps))
        return paths(self._learner.task, starts, inputs, targets, weights, self._block.lr)

    def _train(self, sites: Group, order: Order) -> Moved:
        """Where they lead, in a room that the next group overwrites."""
        if len(self._room) < len(sites) * self._layout.size:
            self._room = torch.empty(max(map(len, self._groups)) * self._layout.size)
        parts = parts_of(self._layout, self._room, len(sites))
        start, control = self._rule.parts(order.vector)
        penalty, lr = self._rule.penalty_gradient, self._block.lr
        shared = [part for part, entry in zip(parts, self._layout.entries, strict=True) if entry.shared]
        anchors = [one.view(part.shape[1:]) for one, part in zip(self._split(start), shared, strict=True)]

        # 1. Where they begin: at the order, and at what is their own.
        own = self._rule.remembers(self._layout)
        common: Sequence[Tensor] | None = None
        if self._rule.keeps or len(shared) < len(parts):
            begun = np.stack([site.begin(start, self._rule) for site in sites])
            sizes = [entry.size for entry in self._layout.entries]
            for part, values in zip(parts, torch.split(torch.from_numpy(begun), sizes, dim=1), strict=True):
                part.copy_(values.view(part.shape))
        else:
            common = anchors
            for part, anchor in zip(shared, anchors, strict=True):
                part.copy_(anchor)
        leads: list[Tensor] = []
        if control is not None:
            ahead = self._split(np.stack([site.lead(control) for site in sites]))
            leads = [one.view(part.shape) for one, part in zip(ahead, shared, strict=True)]

        # 2. Their steps, each from one point: the pull is that of the parameters before it.
        random = SecureRandom() if self._mechanism else None
        for inputs, targets, weights in self._draws(sites, order, random) if random else self._batches(sites, order):
            pulls = [penalty(part, anchor) for part, anchor in zip(shared, anchors, strict=True)] if penalty else leads
            if random and self._private_step:
                self._private_step(parts, inputs, targets, weights, lr, random, common)
                common = None
            else:
                self._step(parts, inputs, targets, weights, lr)
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
        return Moved(shared, anchors)

    def _split(self, values: NDArray[np.float32]) -> Sequence[Tensor]:
        """Values of the shared parameters, (..., d), by part, (..., size) each; views, to be read."""
        sizes = [entry.size for entry in self._layout.entries if entry.shared]
        return torch.split(torch.from_numpy(values), sizes, dim=-1)

    def _batches(self, sites: Group, order: Order) -> Iterator[Batch]:
        """Every step's batch."""
        for inputs, targets, weights in self._laid_out(sites, order):
            for x, y in zip(inputs.transpose(0, 1), targets.transpose(0, 1), strict=True):
                yield x, y, weights

    def _laid_out(self, sites: Group, order: Order, ahead: int | None = None) -> Iterator[Batch]:
        """The batches of some steps, (sites, steps, rows, ...), and again until all are done.

        A site with fewer rows than others repeats one of its own, which weighs 0.
        """
        data = [site.examples(order) for site in sites]
        drawn = [site.batches(order, self._block) for site in sites]
        steps, most = self._block.local_steps, max(one.shape[1] for one in drawn)
        index = np.zeros((len(sites), steps, most), np.intp)
        shares = np.zeros((len(sites), most), np.float32)
        for number, one in enumerate(drawn):
            index[number, :, : one.shape[1]] = one
            shares[number, : one.shape[1]] = 1 / one.shape[1]
        weights = torch.from_numpy(shares)
        ahead = ahead or max(1, _VALUES_AT_ONCE // (weights.numel() * data[0][0][0].numel()))
        for first in range(0, steps, ahead):
            rows = torch.from_numpy(index[:, first : first + ahead]).flatten(1)
            inputs, targets = (
                _taken(kind, rows).view(len(sites), -1, most, *kind[0].shape[1:]) for kind in zip(*data, strict=True)
            )
            yield inputs, targets, weights

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
