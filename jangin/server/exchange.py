"""One order to a cohort over the SuperLink, and the replies to it.

The law: waiting ends when all have answered or the deadline has passed; a reply counts once, in time, and only if it
is exactly what was asked for; what is left aside is named with its code and never read further.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from jangin.errors import LinkError, ServerError
from jangin.flower_link.link import Answer
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, Reply, order_body, read_reply

__all__ = ["LinkExchange", "Messages"]

_GRACE_SECONDS = 60.0
_LOOK_SECONDS = 0.02
_LOOKS_A_SECOND = 2500  # at messages, all of an exchange together

_log = logging.getLogger(__name__)


class Messages(Protocol):
    """What an exchange needs of a `flower_link.Run`."""

    @property
    def campaign(self) -> str:
        """Whose messages they are."""
        ...

    def push(self, site: str, wire: Wire, *, ttl_seconds: float) -> str:
        """Leave a message for a site; its id."""
        ...

    def pull(self, messages: Collection[str]) -> list[Answer]:
        """What has come for these ids; never waits."""
        ...

    def forget(self, messages: Collection[str]) -> None:
        """Take no reply to these any more."""
        ...


class LinkExchange:
    """One wait for one cohort; an `Exchange` of the round engine, made anew for each order.

    Attributes:
        refused: sites whose reply was left aside, with the code.
    """

    def __init__(
        self,
        messages: Messages,
        cohort: Sequence[str],
        deadline_s: float,
        size: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """Nothing is sent yet.

        Args:
            messages: the campaign's run.
            cohort: the sites to ask.
            deadline_s: seconds that they have.
            size: values in the vector of a reply.
            clock: seconds that only grow.
            wait: lets so many of them pass.
        """
        self.refused: dict[str, str] = {}
        self._messages, self._cohort = messages, tuple(cohort)
        self._deadline_s, self._size, self._clock, self._wait = deadline_s, size, clock, wait
        self._order: Order | None = None
        self._waiting: dict[str, str] = {}
        self._until = 0.0

    @property
    def sites(self) -> Sequence[str]:
        """The cohort."""
        return self._cohort

    def push(self, order: Order, cohort: Sequence[str]) -> None:
        """Send one order to each site of the cohort; one that has never connected stays missing.

        Raises:
            LinkError: JG-server-204, the run has ended.
        """
        self._order, self._until = order, self._clock() + self._deadline_s
        vector = order.vector if order.vector.size else None
        body = order_body(order, self._deadline_s)
        wire = Wire(order.kind.value, self._messages.campaign, order.round, body, vector)
        for site in cohort:
            try:
                self._waiting[self._messages.push(site, wire, ttl_seconds=self._deadline_s + _GRACE_SECONDS)] = site
            except LinkError as error:
                if error.code != "JG-server-203":
                    raise

    def pull(self) -> Iterator[Reply]:
        """The replies as they come; ends when all are in or the deadline has passed.

        Raises:
            LinkError: JG-server-204, the run has ended.
        """
        try:
            while self._waiting:
                late = self._clock() >= self._until
                answers = self._messages.pull(list(self._waiting))
                for answer in answers:
                    site = self._waiting.pop(answer.message, None)
                    if site is not None and (reply := self._read(site, answer.content)) is not None:
                        yield reply
                if late:
                    break
                if not answers:
                    self._wait(max(_LOOK_SECONDS, len(self._waiting) / _LOOKS_A_SECOND))
        finally:
            self._messages.forget(list(self._waiting))
            self._waiting.clear()

    def _read(self, site: str, content: Wire | LinkError) -> Reply | None:
        """A reply to the order; None where it is none, and then the site is named."""
        try:
            if isinstance(content, LinkError):
                raise ServerError("JG-server-340", where=site, problem=content.code)
            return self._checked(site, content)
        except ServerError as error:
            self.refused[site] = error.code
            _log.warning("%s", error)
            return None

    def _checked(self, site: str, wire: Wire) -> Reply:
        order = self._order
        if order is None:
            raise RuntimeError("Expected an order before its replies.")
        if (wire.kind, wire.campaign, wire.round) != (order.kind.value, self._messages.campaign, order.round):
            raise ServerError("JG-server-340", where=site, problem="it answers another order")
        try:
            reply = read_reply(site, wire.body, _float32(site, wire.vector))
        except ValueError as error:
            raise ServerError("JG-server-340", where=site, problem=str(error).removesuffix(".")) from None
        kind = np.float32 if order.kind is Kind.TRAIN else np.float64
        if reply.vector is not None and (reply.vector.dtype != kind or reply.vector.shape != (self._size,)):
            found = f"{reply.vector.dtype} {reply.vector.shape}"
            raise ServerError("JG-server-340", where=site, problem=f"expected {self._size} of {kind.__name__}: {found}")
        return reply


def _float32(site: str, vector: NDArray[np.float32] | NDArray[np.uint32] | None) -> NDArray[np.float32] | None:
    """A vector that is not masked."""
    if vector is None or vector.dtype == np.float32:
        return cast("NDArray[np.float32] | None", vector)
    raise ServerError("JG-server-340", where=site, problem=f"its vector is {vector.dtype}")
