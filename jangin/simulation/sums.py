"""Secure sums in one process: the same two machines as in the field, with keys, journals and policies made on the spot.

Sites are asked one after another and their masked vectors are added as they come, so that hundreds of them fit. It
measures and tests; nobody is protected by a sum whose sites are one process.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jangin.flower_link.wire import Wire
from jangin.plan.blocks import PrivacyBlock
from jangin.plan.cells import split
from jangin.plan.messages import Kind, Order, Said, order_digest, read_order, read_step, said_body
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.secure_sum.journal import MemoryJournal
from jangin.privacy.secure_sum.policy import Policy, Terms, threshold
from jangin.privacy.secure_sum.site import Answer, SiteSum
from jangin.privacy.secure_sum.table import Step
from jangin.privacy.secure_sum.transcript import Manifest
from jangin.server.cells import together
from jangin.server.post import Letter, Looks
from jangin.server.rounds import RoundRecord
from jangin.server.sums import SecureSum, waits
from jangin.strategies import Strategy
from jangin.strategies.base import Gathered
from jangin.training.recipe import Recipe
from jangin.training.site import Site
from jangin.training.summing import Encoding

__all__ = ["SummingSites", "Way"]

Way = Callable[[int, Wire], Wire]
"""From a site's place, counted from 0, and what it is asked to what it answers."""

_ROUND_SECONDS = 3600.0  # what sites are told; nobody is late here
_LEAST = 3  # of a policy


class SummingSites:
    """The sites of one run, and their sums; an `Asking` of the server's `SecureSum`."""

    def __init__(
        self,
        recipe: Recipe,
        sites: Sequence[Site],
        strategy: Strategy[object],
        privacy: PrivacyBlock,
        campaign: str,
        through: Callable[[Way, int], Way],
    ) -> None:
        """Give every site an identity, a journal, and a policy of the plan's own terms.

        Args:
            recipe: of the campaign.
            sites: in the order in which they answer.
            strategy: whose local rule they follow.
            privacy: the plan's block; all sites begin a sum where it names no n_plan, or as many as the
                smallest cell has.
            campaign: its hash, 64 hex digits.
            through: lays the engine's way around the sites' own answers, of so many sites.
        """
        self.campaign = campaign
        self._recipe, self._sites, self._rule = recipe, list(sites), strategy.local
        n_plan = privacy.n_plan or privacy.smallest_cell(len(sites))
        n_min_final = privacy.n_min_final or threshold(n_plan)
        self._cells = [
            Terms(cell, n_plan, n_min_final, privacy.c_max, attempts=1)
            for cell in split(campaign, [site.name for site in sites], privacy.cells)
        ]
        self._terms = {name: cell for cell in self._cells for name in cell.invited}
        terms, self._means = self._cells[0], strategy.consumes == "updates"
        self._keys = {site.name: Ed25519PrivateKey.generate() for site in sites}
        self._identities = {name: key.public_key() for name, key in self._keys.items()}
        self._roster = hashlib.sha256(b"".join(key.public_bytes_raw() for key in self._identities.values())).digest()
        self._policy = Policy(
            n_min=max(terms.least, _LEAST),
            n_min_final=max(terms.n_min_final, _LEAST),
            n_honest_min=max(terms.least_final(terms.least) - terms.c_max, 1),
            c_max=terms.c_max,
            attempts=terms.attempts,
            demo=True,
        )
        self._journals = {site.name: MemoryJournal() for site in sites}
        self._random = SecureRandom()
        self._places = {site.name: place for place, site in enumerate(sites)}
        self._open: dict[str, SiteSum] = {}
        self._way = through(self._answered, len(sites))
        self._previous = b""

    def gather(self, order: Order) -> tuple[RoundRecord, Gathered]:
        """One order as one secure sum of each cell; an `Ask` of the round engine.

        Raises:
            ServerError: as `together`. SumError: what a site refuses. PrivacyError: as `Site.contribution`.
            ValueError: a recipe whose vectors are not added up in the ring.
        """
        parameters, _ = self._rule.parts(order.vector)
        size = len(parameters) or 1 + 2 * len(self._recipe.public_scaling().center)
        encoding = self._recipe.encoding(order.kind, size)
        if encoding is None:
            raise ValueError("Expected a campaign that adds up in the ring.")
        cells = [(tuple(cell.invited), partial(self._summed, cell, order, size, encoding)) for cell in self._cells]
        return together(order.round, cells, single=self._means and order.kind is Kind.TRAIN)

    def _summed(self, cell: Terms, order: Order, size: int, encoding: Encoding) -> tuple[RoundRecord, Gathered]:
        """One order as the secure sum of one cell."""
        manifest = Manifest(
            campaign=self.campaign,
            round=order.round,
            attempt=1,
            model=order_digest(order),
            roster=self._roster,
            size=size,
            seconds=waits(_ROUND_SECONDS),
            previous=self._previous,
        )
        identities = {name: key for name, key in self._identities.items() if name in cell.invited}
        asked = SecureSum(self, cell, identities, self._roster)
        record, steps, certificate = asked.answer(order, manifest, quorum=1)
        self._previous = certificate.digest
        return record, encoding.total(steps)

    def ask(self, letters: Iterator[tuple[str, Wire]], seconds: float, abreast: int) -> Looks:
        """Have each site answer its letter; nobody is late, and one is asked at a time."""
        for site, wire in letters:
            letter = Letter(site, wire, time.monotonic())
            yield [(letter, self._way(self._places[site], wire))]

    def _answered(self, place: int, asked: Wire) -> Wire:
        """What a site says to a message of a sum."""
        site = self._sites[place]
        if asked.kind in (Kind.SCALE, Kind.TRAIN):
            answer = self._begun(site, asked)
        else:
            message, _ = read_step(asked.body)
            answer = self._open[site.name].answer(Step(asked.kind), message)
        return Wire(asked.kind, asked.campaign, asked.round, said_body(Said(site.name, answer.body)), answer.vector)

    def _begun(self, site: Site, asked: Wire) -> Answer:
        """Begin a sum by its order: look, train, offer keys."""
        vector = None if asked.vector is None else asked.vector.astype(np.float32, copy=False)
        order, _ = read_order(asked.kind, asked.round, asked.body, vector)
        manifest = Manifest.decode(order.manifest or b"")
        manifest.require(campaign=self.campaign, round=order.round, model=order_digest(order), roster=self._roster)
        name = site.name
        one = self._open[name] = SiteSum(
            name,
            manifest,
            self._terms[name],
            self._policy,
            self._identities,
            self._keys[name],
            self._journals[name],
            self._random,
        )
        return one.advertise(site.contribution(order, self._recipe.strategy, self._rule))
