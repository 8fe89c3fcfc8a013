"""Engine `sequential`: sites are data in one process and answer one after another, in site order."""

from collections.abc import Iterator, Sequence

from jangin.plan.blocks import StrategyBlock
from jangin.plan.messages import Order, Reply
from jangin.strategies import LocalRule, Strategy
from jangin.training.site import Site

__all__ = ["SequentialExchange", "answered"]


def answered(site: Site, order: Order, block: StrategyBlock, rule: LocalRule) -> Reply:
    """A site's answer; where vectors are added up in the ring, what it gives to the sum, which nobody masks."""
    return Reply(site.name, site.contribution(order, block, rule)) if site.sums else site.answer(order, block, rule)


class SequentialExchange:
    """An `Exchange` (server/rounds.py) whose sites train when their reply is pulled."""

    def __init__(self, sites: Sequence[Site], block: StrategyBlock, strategy: Strategy[object]) -> None:
        """Take the sites in the order in which they will answer."""
        self._sites = {site.name: site for site in sites}
        self._block, self._rule = block, strategy.local
        self._pending: list[tuple[Site, Order]] = []

    @property
    def sites(self) -> Sequence[str]:
        """All of them, in site order."""
        return tuple(self._sites)

    def push(self, order: Order, cohort: Sequence[str]) -> None:
        """Note the order for each site of the cohort."""
        self._pending = [(self._sites[name], order) for name in cohort]

    def pull(self) -> Iterator[Reply]:
        """Train and answer, site by site."""
        for site, order in self._pending:
            yield answered(site, order, self._block, self._rule)
        self._pending = []
