"""Processes: the streams, context and actions that every site of one kind of work can supply.

The law: a process is data (configs/processes/*.yaml), public ranges with their sources; a card is checked
against it.
"""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from jangin.codec.document import Document, nearest
from jangin.errors import DataError
from jangin.records.card import Described
from jangin.records.catalogue import catalogue_names, read_entry

__all__ = ["INDUSTRIES", "Process", "Score", "Title", "by_priority", "process_names", "read_process"]

Score = Annotated[int, Field(ge=1, le=5)]


class Title(Document):
    """A title in both languages."""

    en: str
    ko: str


INDUSTRIES: Final[Mapping[str, Title]] = {
    "autos": Title(en="Autos", ko="자동차"),
    "shipbuilding": Title(en="Shipbuilding", ko="조선"),
    "steel": Title(en="Steel", ko="철강"),
    "machinery": Title(en="Machinery", ko="기계"),
    "electronics": Title(en="Electronics", ko="전기·전자"),
    "bio-chemicals": Title(en="Bio-chemicals", ko="바이오·화학"),
    "defence": Title(en="Defence", ko="방위 산업"),
    "foundry": Title(en="Foundry trades", ko="뿌리 산업"),
    "textiles": Title(en="Textiles", ko="섬유"),
}
"""The nine industries of the programme. A process that somebody adds may name another."""


class Process(Described):
    """One kind of work.

    Attributes:
        process: its name, also its file's.
        industry: the branch, e.g. `steel`.
        title: what people call it.
        episode: what one episode of its records is: the unit that privacy counts by.
        safety_risk: 1 (as in an office) to 5 (a slip can kill); None where nobody has judged.
        labour_shortage: 1 (many learn it) to 5 (hardly anybody follows); None where nobody has judged.
        why: one line for both scores.
        streams: the streams it needs; one whose channels are all optional may be lacking.
        context: the fields that are given before an episode.
        actions: what the master decides.
        judgements: what masters may say about it; none is demanded.
        outcomes: what may come of it; none is demanded.
        sources: papers and standards behind names and ranges.
    """

    title: Title
    episode: Title | None = None
    safety_risk: Score | None = None
    labour_shortage: Score | None = None
    why: Title | None = None
    sources: tuple[str, ...] = ()

    @property
    def priority(self) -> int | None:
        """10 * max(safety_risk, labour_shortage) + min(safety_risk, labour_shortage), 11 to 55.

        High risk or acute shortage comes first, as the programme says; of equals the one that has more of the other.
        None where a score lacks.
        """
        if self.safety_risk is None or self.labour_shortage is None:
            return None
        less, more = sorted((self.safety_risk, self.labour_shortage))
        return 10 * more + less


def by_priority(process: Process) -> tuple[int, str]:
    """A key that sorts processes by priority, the highest first, then by name; what nobody has judged comes last."""
    return -(process.priority or 0), process.process


def process_names() -> list[str]:
    """The processes of the catalogue, in alphabetical order.

    Raises:
        DataError: JG-data-200 and 201, a folder of one's own that does not fit.
    """
    return catalogue_names("processes")


def read_process(name: str) -> Process:
    """The process of that name.

    Raises:
        DataError: JG-data-001, naming the nearest known process; 200..202 a folder of one's own that does not fit.
    """
    names = process_names()
    if name not in names:
        raise DataError("JG-data-001", where=name, nearest=nearest(name, names) or "-")
    return read_entry("processes", name, Process)
