"""A database that does not answer, as a log tells of it: once when it goes, once when it is back."""

import logging

from jangin.errors import ServerError
from jangin.telling.logs import Event, noting

__all__ = ["Outage"]


class Outage:
    """Of one loop that looks at the database; used by its thread."""

    def __init__(self, log: logging.Logger) -> None:
        """Take the log; the database answers until somebody says otherwise."""
        self._log, self._away = log, False

    def on(self, error: Exception) -> None:
        """It did not answer, by this error; its text may name the database, and is not told."""
        if not self._away:
            what = noting(Event.AWAY, ServerError("JG-server-464"))
            self._log.error("The database does not answer: %s", type(error).__name__, extra=what)
        self._away = True

    def over(self) -> None:
        """It answers."""
        if self._away:
            self._log.warning("The database answers again.", extra=noting(Event.BACK))
        self._away = False
