"""The round engine: orders out, replies in, a strategy's step. It knows sites only through an `Exchange`, or a sum.

The law: replies are summed as they arrive (memory does not grow with the cohort), every site that did not report
is named, and no reply is weighted by what its site says of itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jangin.errors import ServerError
from jangin.plan.messages import Kind, Order, Reply
from jangin.strategies import Strategy
from jangin.strategies.base import Gathered, Vector
from jangin.training.summing import Encoding

__all__ = ["Ask", "Exchange", "Learnt", "Progress", "RoundRecord", "gather", "rounds"]

Learnt = tuple[NDArray[np.float64], NDArray[np.float64]]


class Exchange(Protocol):
    """How orders reach sites and replies come back; its waiting is bounded."""

    @property
    def sites(self) -> Sequence[str]:
        """Names of the sites that can be asked now."""
        ...

    def push(self, order: Order, cohort: Sequence[str]) -> None:
        """Send one order to each site of the cohort."""
        ...

    def pull(self) -> Iterator[Reply]:
        """The replies as they arrive; ends when all are in or the deadline has passed."""
        ...


@dataclass(frozen=True)
class RoundRecord:
    """Who took part in a round.

    Attributes:
        round: from 1; 0 for the scaling that comes before.
        reported: sites whose vector was used.
        abstained: sites that refused politely, with their codes.
        missing: sites that did not answer, or whose cell's sum failed.
    """

    round: int
    reported: tuple[str, ...]
    abstained: dict[str, str]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """Where a campaign stands after a round; what a checkpoint has to hold.

    Attributes:
        round: rounds finished.
        parameters: the shared parameters, shape (d,), float32.
        state: the strategy's own.
    """

    round: int
    parameters: Vector
    state: Any

    @classmethod
    def start(cls, strategy: Strategy[Any], parameters: Vector) -> "Progress":
        """Before the first round."""
        return cls(0, parameters, strategy.init(parameters))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a file holds of it: `parameters`, and the strategy's `state`, or `state.<field>` of each field."""
        if is_dataclass(self.state):
            state = {f"state.{part.name}": getattr(self.state, part.name) for part in fields(self.state)}
        else:
            state = {"state": self.state}
        return {"parameters": self.parameters, **state}

    def moved(self, number: int, arrays: Mapping[str, NDArray[Any]]) -> "Progress":
        """The same campaign after round `number`, from what `arrays` gave there.

        Raises:
            KeyError: an array is missing. ValueError: one has another shape or type.
        """
        for name, like in self.arrays().items():
            if (arrays[name].shape, arrays[name].dtype) != (like.shape, like.dtype):
                raise ValueError(f"{name} has another shape")
        state = self.state
        if is_dataclass(state) and not isinstance(state, type):
            state = type(state)(**{part.name: arrays[f"state.{part.name}"] for part in fields(state)})
        else:
            state = arrays["state"]
        return Progress(number, arrays["parameters"], state)


Ask = Callable[[Order], tuple[RoundRecord, Gathered]]
"""How one order is answered: `gather` over an exchange, or a secure sum. Who took part, and what they gave."""


def rounds(
    strategy: Strategy[Any], ask: Ask, progress: Progress, count: int, *, scaling: Learnt | None = None
) -> Iterator[tuple[RoundRecord, Progress]]:
    """Run the rounds up to number `count`; yields each one's record and where the campaign stands after it.

    Args:
        strategy: how updates become a model.
        ask: how each round's order is answered: by a sum, or one row a site or cell, as the strategy consumes it.
        progress: where to go on from.
        count: rounds of the whole campaign.
        scaling: means and deviations, each (columns,), that every site is to use.

    Raises:
        ServerError: what `ask` raises, e.g. JG-server-001, a round in which too few sites reported.
    """
    while progress.round < count:
        vector = strategy.local.carried(progress.parameters, progress.state)
        order = Order(Kind.TRAIN, progress.round + 1, vector, scaling)
        record, gathered = ask(order)
        parameters, state = strategy.update(progress.state, gathered, len(record.reported))
        progress = Progress(order.round, parameters, state)
        yield record, progress


def gather(
    exchange: Exchange, order: Order, *, quorum: int = 1, single: bool = False, encoding: Encoding | None = None
) -> tuple[RoundRecord, Gathered]:
    """Ask every site and add up what they send, in float64; with `single`, one row a site instead.

    With an `encoding` they send whole steps, uint32, which are added modulo 2**32 and read as signed.

    A site counts once: a second reply, or one that nobody asked for, is left aside.

    Args:
        exchange: the sites.
        order: what they are asked.
        quorum: fewest sites that have to report, >= 1.
        single: whether every vector is kept.
        encoding: of what is sent; None where it is sent as it is.

    Returns:
        Who took part, and the sum of their vectors (d,) or the vectors (reported sites, d) in the order of arrival.

    Raises:
        ServerError: JG-server-001, fewer sites reported; it names those that did not.
    """
    cohort = tuple(exchange.sites)
    exchange.push(order, cohort)
    reported: list[str] = []
    abstained: dict[str, str] = {}
    rows: list[NDArray[Any]] = []
    waiting = dict.fromkeys(cohort)
    for reply in exchange.pull():
        if reply.site not in waiting:
            continue
        del waiting[reply.site]
        if reply.vector is None:
            abstained[reply.site] = reply.abstained or ""
        elif single or not rows:
            rows.append(reply.vector.astype(np.float64 if encoding is None else np.uint32, casting="safe"))
            reported.append(reply.site)
        else:
            rows[0] += reply.vector
            reported.append(reply.site)
        del reply  # its vector, before the next is read
    missing = tuple(waiting)
    if len(reported) < max(quorum, 1):
        raise ServerError(
            "JG-server-001",
            where=f"round {order.round}",
            reported=len(reported),
            quorum=max(quorum, 1),
            abstained=abstained,
            missing=missing,
        )
    gathered = np.stack(rows) if single else rows[0] if encoding is None else encoding.total(rows[0].view(np.int32))
    return RoundRecord(order.round, tuple(reported), abstained, missing), gathered
