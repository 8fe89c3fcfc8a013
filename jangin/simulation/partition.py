"""Which site a row of a research set is at: as the set says, or dealt by one of the rules that studies compare under.

The law: a privacy unit is dealt whole, with its rows on both sides of the hold-out; every row is at one site; every
site has rows to train and to test, or the partition is refused; the seed decides it, and the order of rows does not.

A rule looks at the label of a unit: its most frequent class, or for a regression which tenth of the units its mean (of
the first target) is in. Units that have only training rows, only hold-out rows, or both are dealt one group after
another by the same rule, so that a site's hold-out is like what it trains on.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt

from jangin.codec.document import Document
from jangin.errors import DataError

__all__ = [
    "DirichletPartition",
    "IidPartition",
    "Partition",
    "PathologicalPartition",
    "QuantityPartition",
    "SiloPartition",
    "UnitPartition",
    "partitioned",
]

_BINS = 10
_TRAIN, _TEST, _BOTH = 1, 2, 3

Numbers = NDArray[np.int64]
Deal = Callable[[Numbers], Numbers]
"""From the labels of some units, (units,), to their sites, (units,)."""


class SiloPartition(Document):
    """Sites as the set itself says."""

    by: Literal["silo"] = "silo"


class IidPartition(Document):
    """Units at random, as many at every site."""

    by: Literal["iid"]
    sites: PositiveInt


class DirichletPartition(Document):
    """As many units at every site, and label shares that differ (Hsu et al. 2019, arXiv 1909.06335).

    Attributes:
        sites: their number.
        alpha: the paper's letter: shares of a site ~ Dir(alpha p), p those of the whole set. Much is like iid, little
            is one label a site. A site whose labels have run out takes of those that are left.
    """

    by: Literal["dirichlet"]
    sites: PositiveInt
    alpha: Annotated[float, Field(ge=1e-3)]


class PathologicalPartition(Document):
    """A few classes at every site (McMahan et al. 2017, arXiv 1602.05629: shards of the data sorted by class).

    No shard has two classes and no site has two shards of one class, so that a site has `classes` of them (`#C = k` in
    Li et al. 2022, arXiv 2102.02079), and fewer only where a class has not a unit for each of its shards.

    Attributes:
        sites: their number.
        classes: of a site; of a regression tenths.
    """

    by: Literal["pathological"]
    sites: PositiveInt
    classes: PositiveInt


class QuantityPartition(Document):
    """Units at random, and sizes by a power law (as of the devices in Li et al. 2020, arXiv 1812.06127).

    Attributes:
        sites: their number; site 0 is the largest.
        skew: the size of site i beyond one unit is as (i + 1) ** -skew; 0 is iid.
    """

    by: Literal["quantity"]
    sites: PositiveInt
    skew: NonNegativeFloat


class UnitPartition(Document):
    """Each unit is a site; a unit that has rows on one side of the hold-out only joins one of the others."""

    by: Literal["unit"]


Partition = Annotated[
    SiloPartition | IidPartition | DirichletPartition | PathologicalPartition | QuantityPartition | UnitPartition,
    Field(discriminator="by"),
]


def partitioned(
    partition: Partition, silo: Numbers, unit: Numbers, split: NDArray[np.int8], targets: NDArray[np.generic], seed: int
) -> Numbers:
    """The site of every row, (rows,), numbered from 0 (`silo`: as the set does).

    Args:
        partition: the rule.
        silo: of the set, (rows,).
        unit: what the privacy unit groups by, (rows,).
        split: 0 train, 1 hold-out, (rows,).
        targets: class numbers (rows,), or the targets of a regression (rows, targets).
        seed: of the simulation.

    Raises:
        DataError: JG-data-085, a site would have no rows to train or to test; JG-data-086, labels that the
            rule cannot deal: a single one, fewer than a site's, or more than all sites'.
    """
    if isinstance(partition, SiloPartition):
        return silo
    units, row = np.unique(unit, return_inverse=True)
    sides = np.zeros(len(units), np.int64)
    np.bitwise_or.at(sides, row, np.where(split == 0, _TRAIN, _TEST))
    labels = _labels(row, targets)
    stream = np.random.default_rng(seed)
    site = np.empty(len(units), np.int64)
    if isinstance(partition, UnitPartition):
        whole = sides == _BOTH
        sites = int(whole.sum())
        site[whole] = np.arange(sites)
        site[~whole] = np.arange(len(units) - sites) % max(sites, 1)
    else:
        sites = partition.sites
        deal = _dealer(partition, labels, stream)
        for side in (_BOTH, _TRAIN, _TEST):
            here = np.flatnonzero(sides == side)
            site[here] = deal(labels[here])
    for side, name in ((_TRAIN, "training"), (_TEST, "hold-out")):
        there = np.flatnonzero(sides & side)
        without = np.setdiff1d(np.arange(max(sites, 1)), site[there] if sites else [])
        if len(without):
            raise DataError(
                "JG-data-085",
                where="partition",
                by=partition.by,
                site=f"site-{without[0]}",
                side=name,
                units=len(there),
                sites=sites,
            )
    return site[row]


def _labels(row: Numbers, targets: NDArray[np.generic]) -> Numbers:
    """The label of every unit, (units,), numbered from 0 without gaps."""
    values = targets.reshape(len(targets), -1)[:, 0]
    order = np.lexsort((values, row))  # sums of sorted values do not depend on the order of rows
    starts = np.flatnonzero(np.diff(row[order], prepend=-1))
    if np.issubdtype(targets.dtype, np.floating):
        sizes = np.diff(starts, append=len(row))
        means = np.add.reduceat(values[order].astype(np.float64), starts) / sizes
        bounds = np.quantile(means, np.linspace(0, 1, _BINS + 1)[1:-1])
        labels = np.searchsorted(bounds, means, side="right")
    else:
        (owner, value), number = np.unique(np.stack([row, values.astype(np.int64)]), axis=1, return_counts=True)
        ranked = np.lexsort((value, -number, owner))  # the first of a unit is its most frequent class
        labels = value[ranked][np.flatnonzero(np.diff(owner[ranked], prepend=-1))]
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _dealer(
    partition: IidPartition | DirichletPartition | PathologicalPartition | QuantityPartition,
    labels: Numbers,
    stream: np.random.Generator,
) -> Deal:
    match partition:
        case IidPartition():
            return lambda some: stream.permutation(len(some)) % partition.sites
        case QuantityPartition():
            weights = np.arange(1.0, partition.sites + 1) ** -partition.skew
            return lambda some: stream.permutation(np.repeat(np.arange(len(weights)), _sizes(len(some), weights)))
        case DirichletPartition():
            return _by_shares(partition, labels, stream)
        case PathologicalPartition():
            return _by_shards(partition, labels, stream)
        case _:
            raise TypeError(f"Expected a partition: {partition!r}.")


def _sizes(units: int, weights: NDArray[np.float64]) -> Numbers:
    """One unit for every site while there are enough, and the rest in these proportions by largest remainders."""
    least = min(1, units // len(weights))
    exact = (units - least * len(weights)) * weights / weights.sum()
    sizes: Numbers = np.floor(exact).astype(np.int64) + least
    last = np.argsort(sizes - exact, kind="stable")[: units - int(sizes.sum())]
    sizes[last] += 1
    return sizes


def _by_shares(partition: DirichletPartition, labels: Numbers, stream: np.random.Generator) -> Deal:
    """Sites take a unit each in turn, of a label that is drawn by their shares among the labels that are left.

    Raises:
        DataError: JG-data-086, all units have one label.
    """
    prior = np.bincount(labels) / len(labels)
    if len(prior) < 2:
        raise DataError("JG-data-086", where="partition", by=partition.by, sites=partition.sites, found=1)
    shares = stream.dirichlet(partition.alpha * prior, size=partition.sites)

    def deal(some: Numbers) -> Numbers:
        pools = [stream.permutation(np.flatnonzero(some == label)) for label in range(len(prior))]
        left = np.bincount(some, minlength=len(prior))
        site = np.empty(len(some), np.int64)
        for turn, draw in enumerate(stream.random(len(some))):
            weights = shares[turn % partition.sites] * (left > 0)
            bounds = np.cumsum(weights if weights.any() else left)
            label = int(np.searchsorted(bounds / bounds[-1], draw, side="right"))
            left[label] -= 1
            site[pools[label][left[label]]] = turn % partition.sites
        return site

    return deal


def _by_shards(partition: PathologicalPartition, labels: Numbers, stream: np.random.Generator) -> Deal:
    """The units of a label in equal parts over the sites that hold it; who has least of all comes first.

    Raises:
        DataError: JG-data-086, more classes a site than there are, or too few for each to be somewhere.
    """
    sites, each, counts = partition.sites, partition.classes, np.bincount(labels)
    if not each <= len(counts) <= sites * each:
        raise DataError("JG-data-086", where="partition", by=partition.by, sites=sites, found=len(counts))
    shards = np.ones(len(counts), np.int64)
    for _ in range(sites * each - len(counts)):  # the next shard comes from the label whose shards are largest
        shards[np.argmax(np.where(shards < sites, counts / shards, -1))] += 1
    free = np.full(sites, each)
    holders = {}
    for label in stream.permutation(len(counts)):  # who has most places left comes first, so that they fit
        holders[label] = np.lexsort((stream.random(sites), -free))[: shards[label]]
        free[holders[label]] -= 1

    def deal(some: Numbers) -> Numbers:
        site, dealt = np.empty(len(some), np.int64), np.zeros(sites, np.int64)
        here = np.bincount(some, minlength=len(counts))
        for label in np.argsort(-here / shards, kind="stable"):
            ordered = holders[label][np.argsort(dealt[holders[label]], kind="stable")]
            units = stream.permutation(np.flatnonzero(some == label))
            site[units] = ordered[np.arange(len(units)) % len(ordered)]
            dealt += np.bincount(site[units], minlength=sites)
        return site

    return deal
