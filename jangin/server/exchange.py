"""One order to a cohort over the SuperLink, and the replies to it.

The law: waiting ends when all have answered or the deadline has passed; a reply counts once, in time, and only if it
is exactly what was asked for; what is left aside is named with its code and never read further. Updates that would be
large together wait at their sites and are collected in waves, so that replies never pile up here.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from jangin.errors import LinkError, ServerError
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Content, Kind, Order, Reply, order_body, read_reply
from jangin.server.post import MOST_TOGETHER_BYTES, WAVE_SHARE, Letter, Messages, Post, Returned, answer_to

__all__ = ["LinkExchange"]

_FEWEST_ABREAST: Final = 2  # one comes while another is added
_TRAINING_SHARE = 0.7  # of the deadline, where updates are collected afterwards
_NOTHING: Final[NDArray[np.float32]] = np.empty(0, np.float32)

_log = logging.getLogger(__name__)


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
            most_together_bytes: updates that weigh more are collected in waves, each of at most half as much.
            clock: seconds that only grow.
            wait: lets so many of them pass.
        """
        self.refused: dict[str, str] = {}
        self._post, self._cohort = Post(messages, clock=clock, wait=wait), tuple(cohort)
        self._deadline_s, self._size, self._most_together_bytes = deadline_s, size, most_together_bytes
        self._abreast = max(_FEWEST_ABREAST, most_together_bytes // 2 // (4 * max(1, size)))
        self._round, self._hold = 0, False
        self._held: deque[str] = deque()

    @property
    def sites(self) -> Sequence[str]:
        """The cohort."""
        return self._cohort

    def push(self, order: Order, cohort: Sequence[str]) -> None:
        """Send one order to each site of the cohort; one that has never connected stays missing.

        Raises:
            LinkError: JG-server-204, the run has ended.
        """
        self._post.begin(self._deadline_s)
        together = 4 * self._size * len(cohort)
        self._round = order.round
        self._hold = order.kind is Kind.TRAIN and together > self._most_together_bytes
        self._send(replace(order, hold=self._hold), cohort)

    def pull(self) -> Iterator[Reply]:
        """The replies as they come; ends when all are in or the deadline has passed.

        Raises:
            LinkError: JG-server-204, the run has ended.
        """
        with closing(self._post.looks()) as looks:
            for returned in looks:
                yield from self._replies(returned)
                self._collect()

    def _replies(self, returned: list[Returned]) -> Iterator[Reply]:
        """What came back at one look, each let go of before the next look finds more."""
        while returned:
            letter, content = returned.pop(0)
            reply = self._read(letter, content)
            if reply is not None and reply.content is Content.HELD:
                self._held.append(letter.site)
            elif reply is not None:
                yield reply

    def _send(self, order: Order, cohort: Sequence[str]) -> None:
        """Leave one message for each site that has connected since the start."""
        left_s = self._post.left_s
        vector = order.vector if order.vector.size else None
        body = order_body(order, _TRAINING_SHARE * left_s if order.hold else left_s)
        wire = Wire(order.kind.value, self._post.campaign, order.round, body, vector)
        for site in cohort:
            self._post.send(site, wire)

    def _collect(self) -> None:
        """Ask for updates that wait at their sites, as many as a wave has room for."""
        if self._post.left_s <= 0:
            return
        room = self._abreast - self._post.recent(WAVE_SHARE * self._deadline_s, Kind.COLLECT.value)
        for _ in range(min(room, len(self._held))):
            self._send(Order(Kind.COLLECT, self._round, _NOTHING), [self._held.popleft()])

    def _read(self, letter: Letter, content: Wire | LinkError) -> Reply | None:
        """A reply to the order; None where it is none, and then the site is named."""
        try:
            return self._checked(letter, answer_to(letter, content))
        except ServerError as error:
            self.refused[letter.site] = error.code
            _log.warning("%s", error)
            return None

    def _checked(self, letter: Letter, wire: Wire) -> Reply:
        site, kind = letter.site, Kind(letter.wire.kind)
        try:
            reply = read_reply(kind, site, wire.body, _float32(site, wire.vector))
        except ValueError as error:
            raise ServerError("JG-server-340", where=site, problem=str(error).removesuffix(".")) from None
        if reply.vector is not None and reply.vector.shape != (self._size,):
            problem = f"expected {self._size} values: {len(reply.vector)}"
            raise ServerError("JG-server-340", where=site, problem=problem)
        hold = kind is Kind.TRAIN and self._hold
        if reply.content in (Content.HELD, Content.UPDATE) and (reply.content is Content.HELD) != hold:
            problem = "it was asked to hold its update" if hold else "nobody asked it to hold its update"
            raise ServerError("JG-server-340", where=site, problem=problem)
        return reply


def _float32(site: str, vector: NDArray[np.float32] | NDArray[np.uint32] | None) -> NDArray[np.float32] | None:
    """A vector that is not masked."""
    if vector is None or vector.dtype == np.float32:
        return cast("NDArray[np.float32] | None", vector)
    raise ServerError("JG-server-340", where=site, problem=f"its vector is {vector.dtype}")
