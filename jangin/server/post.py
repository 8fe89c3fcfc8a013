"""Letters to the sites of one campaign, and what comes back for them, within a set time.

The law: waiting ends when all that is out has come back or the time is over; a letter is answered once, and what is
still out then is forgotten, so that nothing is read later; a site that has never connected is not waited for.
"""

import time
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final, Protocol

from jangin.errors import LinkError, ServerError
from jangin.flower_link.wire import Answer, Wire

__all__ = ["MOST_TOGETHER_BYTES", "WAVE_SHARE", "Letter", "Looks", "Messages", "Post", "Returned", "answer_to"]

MOST_TOGETHER_BYTES: Final = 256 * 2**20
"""What vectors may weigh together that are on their way at once."""
WAVE_SHARE: Final = 0.1
"""Of the whole time: a letter of a wave that is out for longer makes room for the next."""

_GRACE_SECONDS = 60.0
_LOOK_SECONDS = 0.02
_LOOKS_A_SECOND = 2500  # at messages, all that are out together


class Messages(Protocol):
    """What the post needs of a `flower_link.Run`."""

    @property
    def campaign(self) -> str:
        """Whose messages they are."""
        ...

    def push(self, site: str, wire: Wire, *, ttl_seconds: float) -> str:
        """Leave a message for a site; its id."""
        ...

    def pull(self, messages: Collection[str]) -> list[Answer]:
        """What has come for these ids, or some of it and at the next call more; never waits."""
        ...

    def forget(self, messages: Collection[str]) -> None:
        """Take no reply to these any more."""
        ...


@dataclass(frozen=True)
class Letter:
    """One message to one site.

    Attributes:
        site: to whom.
        wire: what.
        since: when it was sent, by the post's clock.
    """

    site: str
    wire: Wire = field(repr=False)
    since: float


Returned = tuple[Letter, Wire | LinkError]
"""What came back for a letter: an answer, or why none can come."""

Looks = Generator[list[Returned], None, None]
"""What has come back since the last look, look for look; to be closed by whoever stops looking."""


def answer_to(letter: Letter, content: Wire | LinkError) -> Wire:
    """What came back, where it is an answer to this very letter.

    Raises:
        ServerError: JG-server-340, it is none.
    """
    if isinstance(content, LinkError):
        raise ServerError("JG-server-340", where=letter.site, problem=content.code)
    asked = letter.wire
    if (content.kind, content.campaign, content.round) != (asked.kind, asked.campaign, asked.round):
        raise ServerError("JG-server-340", where=letter.site, problem="it answers another order")
    return content


class Post:
    """One campaign's letters; used by one thread."""

    def __init__(
        self,
        messages: Messages,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """Nothing is sent yet.

        Args:
            messages: the campaign's run.
            clock: seconds that only grow.
            wait: lets so many of them pass.
        """
        self._messages, self._clock, self._wait = messages, clock, wait
        self._out: dict[str, Letter] = {}
        self._until = clock()

    @property
    def campaign(self) -> str:
        """Whose post it is."""
        return self._messages.campaign

    @property
    def left_s(self) -> float:
        """Seconds that are left; not above 0 once the time is over."""
        return self._until - self._clock()

    def begin(self, seconds: float) -> None:
        """Give what is sent from now on so many seconds."""
        self._until = self._clock() + seconds

    def send(self, site: str, wire: Wire) -> None:
        """Leave a letter for a site; none for one that has never connected. One wire for many is stored once.

        Raises:
            LinkError: JG-server-204, the run has ended.
        """
        try:
            message = self._messages.push(site, wire, ttl_seconds=self.left_s + _GRACE_SECONDS)
        except LinkError as error:
            if error.code != "JG-server-203":
                raise
        else:
            self._out[message] = Letter(site, wire, self._clock())

    def ask(self, letters: Iterator[tuple[str, Wire]], seconds: float, abreast: int) -> Looks:
        """Send letters of one kind in waves, and look.

        Args:
            letters: to whom which; each is taken when there is room for it.
            seconds: that all of them together have.
            abreast: most that are on their way at once, >= 1; one that is out for long makes room for the next.

        Yields:
            What has come back, look for look, as `looks`.

        Raises:
            LinkError: JG-server-204, the run has ended.
        """

        def send() -> None:
            while self.left_s > 0 and self.recent(WAVE_SHARE * seconds) < abreast and (letter := next(letters, None)):
                self.send(*letter)

        self.begin(seconds)
        send()
        with closing(self.looks()) as looks:
            for returned in looks:
                yield returned
                send()

    def recent(self, seconds: float, kind: str = "") -> int:
        """How many letters, of one kind or of any, are out that were sent within the last so many seconds."""
        since = self._clock() - seconds
        return sum(kind in ("", letter.wire.kind) and letter.since > since for letter in self._out.values())

    def looks(self) -> Looks:
        """What has come back since the last look, look for look, an empty list where nothing has.

        Whoever empties a list is the only one to hold what was in it. More may be sent between two looks. Whoever stops
        looking closes it, and what is out is forgotten.

        Raises:
            LinkError: JG-server-204, the run has ended.
        """
        try:
            while self._out:
                late = self.left_s <= 0
                returned = self._returned()
                nothing = not returned
                yield returned
                if late and nothing:  # large answers come one at a look: those that are there count
                    break
                if nothing:
                    self._wait(max(_LOOK_SECONDS, len(self._out) / _LOOKS_A_SECOND))
        finally:
            self._messages.forget(list(self._out))
            self._out.clear()

    def _returned(self) -> list[Returned]:
        """What has come back now."""
        answers = self._messages.pull(list(self._out))
        letters = [(self._out.pop(answer.message, None), answer.content) for answer in answers]
        return [(letter, content) for letter, content in letters if letter is not None]
