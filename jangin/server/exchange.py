"""One order to a cohort over the SuperLink, and the replies to it.

The law: waiting ends when all have answered or the deadline has passed; a reply counts once, in time, and only if it
is exactly what was asked for; what is left aside is named with its code and never read further. Updates that would be
large together wait at their sites and are collected in waves, so that replies never pile up here.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from jangin.errors import LinkError, ServerError
from jangin.flower_link.link import Answer
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Content, Kind, Order, Reply, order_body, read_reply

__all__ = ["MOST_TOGETHER_BYTES", "WAVE", "LinkExchange", "Messages"]

MOST_TOGETHER_BYTES: Final = 256 * 2**20
"""What a cohort's updates may weigh together to come with the replies."""
WAVE: Final = 4
"""How many updates are collected at a time."""

_GRACE_SECONDS = 60.0
_LOOK_SECONDS = 0.02
_LOOKS_A_SECOND = 2500  # at messages, all of an exchange together
_TRAINING_SHARE = 0.7  # of the deadline, where updates are collected afterwards
_WAVE_SHARE = 0.1  # of the deadline: a collection that takes longer makes room for the next
_NOTHING: Final[NDArray[np.float32]] = np.empty(0, np.float32)

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


@dataclass(frozen=True)
class _Asked:
    """One message to one site."""

    site: str
    order: Order
    since: float


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
        most_together_bytes: int = MOST_TOGETHER_BYTES,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """Nothing is sent yet.

        Args:
            messages: the campaign's run.
            cohort: the sites to ask.
            deadline_s: seconds that they have.
            size: values in the vector of a reply.
            most_together_bytes: updates that weigh more are collected in waves.
            clock: seconds that only grow.
            wait: lets so many of them pass.
        """
        self.refused: dict[str, str] = {}
        self._messages, self._cohort = messages, tuple(cohort)
        self._deadline_s, self._size, self._clock, self._wait = deadline_s, size, clock, wait
        self._most_together_bytes = most_together_bytes
        self._waiting: dict[str, _Asked] = {}
        self._held: deque[_Asked] = deque()
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
        self._until = self._clock() + self._deadline_s
        together = order.vector.nbytes * len(cohort)
        hold = order.kind is Kind.TRAIN and together > self._most_together_bytes
        self._send(replace(order, hold=hold), cohort)

    def pull(self) -> Iterator[Reply]:
        """The replies as they come; ends when all are in or the deadline has passed.

        Raises:
            LinkError: JG-server-204, the run has ended.
        """
        try:
            while self._waiting or self._held:
                late = self._clock() >= self._until
                answers = self._messages.pull(list(self._waiting))
                for answer in answers:
                    asked = self._waiting.pop(answer.message, None)
                    reply = None if asked is None else self._read(asked, answer.content)
                    if asked is None or reply is None:
                        continue
                    if reply.content is Content.HELD:
                        self._held.append(asked)
                    else:
                        yield reply
                if late:
                    break
                self._collect()
                if not answers:
                    self._wait(max(_LOOK_SECONDS, len(self._waiting) / _LOOKS_A_SECOND))
        finally:
            self._messages.forget(list(self._waiting))
            self._waiting.clear()
            self._held.clear()

    def _send(self, order: Order, cohort: Sequence[str]) -> None:
        """Leave one message for each site that has connected since the start."""
        since = self._clock()
        left_s = self._until - since
        vector = order.vector if order.vector.size else None
        body = order_body(order, _TRAINING_SHARE * left_s if order.hold else left_s)
        wire = Wire(order.kind.value, self._messages.campaign, order.round, body, vector)
        for site in cohort:
            try:
                message = self._messages.push(site, wire, ttl_seconds=left_s + _GRACE_SECONDS)
                self._waiting[message] = _Asked(site, order, since)
            except LinkError as error:
                if error.code != "JG-server-203":
                    raise

    def _collect(self) -> None:
        """Ask for updates that wait at their sites, as many as a wave has room for."""
        now = self._clock()
        if now >= self._until:
            return
        recent = now - _WAVE_SHARE * self._deadline_s
        collecting = (asked for asked in self._waiting.values() if asked.order.kind is Kind.COLLECT)
        room = WAVE - sum(asked.since > recent for asked in collecting)
        for _ in range(min(room, len(self._held))):
            held = self._held.popleft()
            self._send(Order(Kind.COLLECT, held.order.round, _NOTHING), [held.site])

    def _read(self, asked: _Asked, content: Wire | LinkError) -> Reply | None:
        """A reply to the order; None where it is none, and then the site is named."""
        try:
            if isinstance(content, LinkError):
                raise ServerError("JG-server-340", where=asked.site, problem=content.code)
            return self._checked(asked.site, asked.order, content)
        except ServerError as error:
            self.refused[asked.site] = error.code
            _log.warning("%s", error)
            return None

    def _checked(self, site: str, order: Order, wire: Wire) -> Reply:
        if (wire.kind, wire.campaign, wire.round) != (order.kind.value, self._messages.campaign, order.round):
            raise ServerError("JG-server-340", where=site, problem="it answers another order")
        try:
            reply = read_reply(order.kind, site, wire.body, _float32(site, wire.vector))
        except ValueError as error:
            raise ServerError("JG-server-340", where=site, problem=str(error).removesuffix(".")) from None
        if reply.vector is not None and reply.vector.shape != (self._size,):
            problem = f"expected {self._size} values: {len(reply.vector)}"
            raise ServerError("JG-server-340", where=site, problem=problem)
        if reply.content in (Content.HELD, Content.UPDATE) and (reply.content is Content.HELD) != order.hold:
            problem = "it was asked to hold its update" if order.hold else "nobody asked it to hold its update"
            raise ServerError("JG-server-340", where=site, problem=problem)
        return reply


def _float32(site: str, vector: NDArray[np.float32] | NDArray[np.uint32] | None) -> NDArray[np.float32] | None:
    """A vector that is not masked."""
    if vector is None or vector.dtype == np.float32:
        return cast("NDArray[np.float32] | None", vector)
    raise ServerError("JG-server-340", where=site, problem=f"its vector is {vector.dtype}")
