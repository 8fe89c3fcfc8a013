"""A daemon in the test's own process whose rests a test can see: time passes by them alone."""

import queue
import random
from collections.abc import Callable
from datetime import datetime

from jangin.client.daemon import Daemon
from jangin.client.desk import now_utc
from jangin.client.state import SiteFolder

__all__ = ["Rests", "a_daemon"]


class Rests:
    """Stands where the daemon waits: keeps every length of a rest, and ends the daemon after the last."""

    def __init__(self, daemon: Daemon, count: int, then: Callable[[int], object] = lambda number: None) -> None:
        self.daemon, self.count, self.then = daemon, count, then
        self.seconds: list[float] = []
        daemon._bell = self  # type: ignore[assignment]

    def put(self, _: None) -> None:
        """Somebody rings: nobody sleeps here."""

    def get(self, timeout: float) -> None:
        self.seconds.append(timeout)
        self.then(len(self.seconds))
        if len(self.seconds) == self.count:
            self.daemon.stop()
        raise queue.Empty


def a_daemon(folder: SiteFolder, clock: Callable[[], datetime] = now_utc) -> Daemon:
    return Daemon(folder, clock=clock, jitter=random.Random(7))
