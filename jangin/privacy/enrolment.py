"""Enrolment: who takes part, by dates alone.

The law: a master takes part in every run from the day he enrols until he leaves, with or without records. Who has
episodes today decides nothing: else one episode would decide whether a master is charged, and a charge could be read
for whether he worked.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

__all__ = ["Enrolment", "enrolled"]


@dataclass(frozen=True)
class Enrolment:
    """One master's time in the programme.

    Attributes:
        master: pseudonym.
        since: the first day.
        until: the first day after it; None while it lasts.

    Raises:
        ValueError: an end that is not after the beginning.
    """

    master: str
    since: date
    until: date | None = None

    def __post_init__(self) -> None:
        if self.until is not None and self.until <= self.since:
            raise ValueError(f"Expected {self.until=} after {self.since=}.")

    def covers(self, day: date) -> bool:
        """Whether the day is within it."""
        return self.since <= day and (self.until is None or day < self.until)


def enrolled(enrolments: Iterable[Enrolment], day: date) -> tuple[str, ...]:
    """Who is enrolled on a day, each once, in alphabetical order: who gives a vector and is charged that day."""
    return tuple(sorted({one.master for one in enrolments if one.covers(day)}))
