"""Engine `flower`: the same sites behind a Flower ClientApp, asked through an in-process Grid.

Every order and reply takes the form it has on the wire, so that what a simulation learns is what the field would.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jangin.flower_link.in_process import InProcessGrid, client_app
from jangin.flower_link.wire import Wire, unpack
from jangin.plan.blocks import StrategyBlock
from jangin.plan.messages import Kind, Order, Reply, order_body, read_order, read_reply, reply_body
from jangin.simulation.sequential import answered
from jangin.strategies import Strategy
from jangin.training.site import Site

__all__ = ["FlowerExchange", "through_flower"]

_CAMPAIGN = "simulation"
_DEADLINE_S = 3600.0


def through_flower(answer: Callable[[int, Wire], Wire], partitions: int) -> Callable[[int, Wire], Wire]:
    """The way to so many sites, each behind a Flower ClientApp, in its messages."""
    grid = InProcessGrid(client_app(answer), partitions)
    nodes = list(grid.get_node_ids())

    def way(partition: int, asked: Wire) -> Wire:
        (message,) = grid.send_and_receive([grid.order(nodes[partition], asked)])
        return unpack(message.content)

    return way


class FlowerExchange:
    """An `Exchange` (server/rounds.py) over Flower messages; sites train when their reply is pulled."""

    def __init__(self, sites: Sequence[Site], block: StrategyBlock, strategy: Strategy[object]) -> None:
        """Take the sites in the order of their partitions."""
        self._sites, self._block, self._rule = list(sites), block, strategy.local
        self._grid = InProcessGrid(client_app(self._answer), len(self._sites))
        self._nodes = dict(zip(self.sites, self._grid.get_node_ids(), strict=True))
        self._pending: dict[str, str] = {}

    @property
    def sites(self) -> Sequence[str]:
        """All of them, in site order."""
        return tuple(site.name for site in self._sites)

    def push(self, order: Order, cohort: Sequence[str]) -> None:
        """Send the order to each site of the cohort as a message of its own."""
        vector = order.vector if len(order.vector) else None
        wire = Wire(order.kind.value, _CAMPAIGN, order.round, order_body(order, _DEADLINE_S), vector)
        ids = self._grid.push_messages([self._grid.order(self._nodes[site], wire) for site in cohort])
        self._pending = dict(zip(ids, cohort, strict=True))

    def pull(self) -> Iterator[Reply]:
        """The replies, each made as it is taken."""
        for site, message in zip(self._pending.values(), self._grid.pull_messages(self._pending), strict=True):
            wire = unpack(message.content)
            if not wire.body:
                yield Reply(site, None if wire.vector is None else wire.vector.astype(np.uint32, casting="safe"))
                continue
            vector = None if wire.vector is None else wire.vector.astype(np.float32)
            yield read_reply(Kind(wire.kind), site, wire.body, vector)
        self._pending = {}

    def _answer(self, partition: int, asked: Wire) -> Wire:
        vector = None if asked.vector is None else asked.vector.astype(np.float32)
        order, _ = read_order(asked.kind, asked.round, asked.body, vector)
        reply = answered(self._sites[partition], order, self._block, self._rule)
        if reply.vector is not None and reply.vector.dtype == np.uint32:  # as masked vectors are: beside no body
            return Wire(asked.kind, asked.campaign, asked.round, b"", reply.vector.astype(np.uint32, copy=False))
        return Wire(asked.kind, asked.campaign, asked.round, reply_body(reply), reply.update)
