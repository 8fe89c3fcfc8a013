"""Processes: the streams, context and actions that every site of one kind of work can supply.

The law: a process is data (configs/processes/*.yaml), public ranges with their sources; a card is checked
against it.
"""

from functools import cache
from importlib.resources import as_file, files

from jangin.codec.document import Document, nearest, read
from jangin.errors import DataError
from jangin.records.card import Described

__all__ = ["Process", "Title", "process_names", "read_process"]


class Title(Document):
    """A title in both languages."""

    en: str
    ko: str


class Process(Described):
    """One kind of work.

    Attributes:
        process: its name, also its file's.
        industry: the branch, e.g. `steel`.
        title: what people call it.
        streams: the streams it needs; one whose channels are all optional may be lacking.
        context: the fields that are given before an episode.
        actions: what the master decides.
        judgements: what masters may say about it; none is demanded.
        outcomes: what may come of it; none is demanded.
        sources: papers and standards behind names and ranges.
    """

    title: Title
    sources: tuple[str, ...] = ()


def process_names() -> list[str]:
    """The installed processes, in alphabetical order."""
    folder = files("jangin.configs").joinpath("processes")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


@cache
def read_process(name: str) -> Process:
    """The installed process of that name, read once: the package does not change under a process.

    Raises:
        DataError: JG-data-001, naming the nearest known process.
    """
    names = process_names()
    if name not in names:
        raise DataError("JG-data-001", where=name, nearest=nearest(name, names) or "-")
    with as_file(files("jangin.configs").joinpath("processes", f"{name}.yaml")) as path:
        return read(path, Process)
