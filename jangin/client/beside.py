"""Who answers beside the daemon's loop: the monitor, where site.yaml names a port, and the local API.

The law: they see the loop's `Pulse` and the folder alone; one that cannot be had is said in one line, and no round is
lost for it.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from jangin.client.local import LocalApi
from jangin.client.monitor import Monitor
from jangin.client.pulse import Lookout, Pulse
from jangin.client.settings import MonitorBlock
from jangin.errors import SiteError
from jangin.telling.logs import Event, noting

__all__ = ["attended"]

_log = logging.getLogger(__name__)


@contextmanager
def attended(
    folder: Path, monitor: MonitorBlock | None, pulse: Pulse, again: Callable[[], None], clock: Callable[[], datetime]
) -> Iterator[None]:
    """Answer for as long as the loop runs.

    Args:
        folder: the state folder, whose lock the caller holds.
        monitor: its port, or None.
        pulse: what the loop says of itself.
        again: has the loop ask the server at once.
        clock: the time, aware.
    """
    health = Lookout(folder, pulse, clock)
    with ExitStack() as stack:
        try:
            if monitor is not None:
                stack.enter_context(Monitor(monitor.port, health))
        except SiteError as error:
            _log.warning("%s", error, extra=noting(Event.UNWATCHED, error))
        try:
            stack.enter_context(LocalApi(folder, health, again, clock))
        except SiteError as error:
            _log.warning("%s", error, extra=noting(Event.UNWATCHED, error))
        yield
