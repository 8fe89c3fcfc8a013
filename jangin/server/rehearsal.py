"""A rehearsal of an approved campaign: its sites check all that a round checks and send an update of made-up rows.

Each site that approved and is there is asked once; those that are ready are asked once more, and the seconds of that,
in which nobody starts a worker or reads records, are what a round's training and one exchange take.

The law: nothing that comes back is used: it is looked at for its form and forgotten; nobody's ledger is charged, and no
round, model or checkpoint comes of it; every invited site is named with what became of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from jangin.plan.messages import Kind, Order, Reply
from jangin.plan.training_plan import TrainingPlan
from jangin.server.conductor import FieldExchange
from jangin.server.post import MOST_TOGETHER_BYTES
from jangin.server.store import RehearsalEntry, Store
from jangin.strategies import build
from jangin.training.recipe import Recipe

__all__ = ["Rehearsal"]

_COLD: Final = 0
_WARM: Final = 1

Assemble = Callable[[Sequence[str], int], FieldExchange]
"""What asks these sites once; the number of values in a reply's vector."""


class Rehearsal:
    """One rehearsal, from the request in the database to its end there."""

    def __init__(self, plan: TrainingPlan, number: int, store: Store, *, clock: Callable[[], float]) -> None:
        """Nobody is asked yet.

        Args:
            plan: of a campaign that the database has.
            number: of the request.
            store: takes what comes of it, site by site.
            clock: seconds that only grow.
        """
        self._plan, self._number, self._store, self._clock = plan, number, store, clock
        self._approved: Sequence[str] = ()
        self._ready: dict[str, None] = {}
        self._abstained: dict[str, str] = {}
        self._refused: dict[str, str] = {}

    def run(self, approved: Sequence[str], online: Sequence[str], assemble: Assemble) -> None:
        """Ask those who are there, and those who are ready once more.

        Args:
            approved: the sites whose approval holds.
            online: those of them that are there.
            assemble: makes what asks.

        Raises:
            LinkError: JG-server-204, the run has ended; the rehearsal is not over then. As `Recipe.of`.
        """
        self._approved = approved
        recipe, strategy = Recipe.of(self._plan), build(self._plan.strategy)
        model = recipe.initial()
        start = model.read()[model.layout.shared]
        order = Order(Kind.REHEARSE, _COLD, strategy.local.carried(start, strategy.init(start)))
        self._ask(order, online, start.size, assemble)
        began = self._clock()
        self._ask(replace(order, round=_WARM), tuple(self._ready), start.size, assemble)
        self._keep(done=True, seconds=self._clock() - began if self._ready else 0.0)

    def fail(self, reason: str) -> None:
        """End it for a reason that is no site's."""
        self._keep(done=True, reason=reason)

    def _ask(self, order: Order, cohort: Sequence[str], size: int, assemble: Assemble) -> None:
        """Ask a cohort, as many at a time as may send vectors at once."""
        abreast = max(MOST_TOGETHER_BYTES // (4 * size), 1)
        for some in (cohort[first : first + abreast] for first in range(0, len(cohort), abreast)):
            exchange, waiting = assemble(some, size), set(some)
            exchange.push(order, some)
            for reply in exchange.pull():
                if reply.site in waiting:
                    waiting.discard(reply.site)
                    self._take(reply)
            for site in waiting:  # who answered once and now does not is not ready
                self._ready.pop(site, None)
                if site in exchange.refused:
                    self._refused[site] = exchange.refused[site]

    def _take(self, reply: Reply) -> None:
        if reply.abstained is None:
            self._ready[reply.site] = None
        else:
            self._ready.pop(reply.site, None)
            self._abstained[reply.site] = reply.abstained
        self._keep()

    def _keep(self, *, done: bool = False, seconds: float = 0.0, reason: str = "") -> None:
        heard = {*self._ready, *self._abstained, *self._refused}
        entry = RehearsalEntry(
            number=self._number,
            done=done,
            ready=list(self._ready),
            unapproved=[site for site in self._plan.sites.invite if site not in self._approved],
            abstained=dict(self._abstained),
            refused=dict(self._refused),
            missing=[site for site in self._approved if site not in heard],
            seconds=seconds,
            reason=reason,
        )
        self._store.record_rehearsal(self._plan.hash, entry)
