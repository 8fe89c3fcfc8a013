"""Values of tags over time, written as the tables of one episode.

The law: a value stands under its channel at its own time; two channels of a stream share a row where their times are
the same, and are blank in each other's rows where they are not.
"""

import csv
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jangin.errors import DataError
from jangin.records.intake.drop import IGNORED, TIME, of_streams, read_mapping

__all__ = ["History", "Imported", "extra", "flat"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Imported:
    """What an importer wrote.

    Attributes:
        folder: the episode's.
        files: its tables, by name.
        samples: how many values they hold.
        unread: tags that mean no channel, in alphabetical order.
    """

    folder: Path
    files: tuple[str, ...]
    samples: int
    unread: tuple[str, ...]


@dataclass
class History:
    """Gathers the values of tags.

    Attributes:
        drop: the drop folder whose mapping says what tags mean.
    """

    drop: Path
    _values: dict[str, dict[int, float]] = field(default_factory=dict)
    _unread: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Read what tags mean.

        Raises:
            DataError: JG-data-100 no drop folder; 001 no such process.
        """
        mapping, process = read_mapping(self.drop)
        self._streams = [stream for stream in process.streams if stream.media is None]
        self._known = of_streams(self._streams, mapping)
        channels = {f"{stream.name}.{channel.name}" for stream in self._streams for channel in stream.channels}
        self._own = {tag: target for tag, target in mapping.tags.items() if target in channels or target == IGNORED}

    @property
    def tags(self) -> Mapping[str, str]:
        """The plant's own tags with the channels that they mean."""
        return {tag: target for tag, target in self._own.items() if target != IGNORED}

    def add(self, tag: str, microseconds: int, value: object) -> None:
        """Take one value of a tag.

        Args:
            tag: as the history names it.
            microseconds: since 1970, UTC.
            value: a number, yes or no; anything else is no sample of a channel.
        """
        target = self._own.get(tag)
        if target is None:
            targets = self._known.look_up(tag).targets
            target = targets[0] if len(targets) == 1 else None
        if target is None or target == TIME or not isinstance(value, int | float):
            self._unread.add(tag)
        elif target != IGNORED:
            self._values.setdefault(target, {})[microseconds] = float(value)

    def write(self, episode: str, where: str) -> Imported:
        """Write the tables into the episode's folder.

        Args:
            episode: the folder's name.
            where: the history's, for messages.

        Raises:
            DataError: JG-data-128 no tag of the history means a channel; 002 the folder is there; 019 it cannot be
                written.
        """
        folder = self.drop / episode
        if folder.exists():
            raise DataError("JG-data-002", where=str(folder))
        if not self._values:
            known = ", ".join(sorted(self._unread)[:5]) or "-"
            raise DataError("JG-data-128", where=where, problem=f"no channel among the tags {known}")
        files = []
        try:
            partial = Path(tempfile.mkdtemp(prefix=".import-", dir=self.drop))
            try:
                for stream in self._streams:
                    names = [f"{stream.name}.{channel.name}" for channel in stream.channels]
                    names = [name for name in names if name in self._values]
                    if names:
                        files.append(f"{stream.name}.csv")
                        with (partial / files[-1]).open("w", encoding="utf-8", newline="") as file:
                            csv.writer(file).writerows([(TIME, *names), *self._rows(names)])
                partial.chmod(0o755)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        except OSError as error:
            raise DataError("JG-data-019", where=str(folder), problem=error.strerror) from None
        samples = sum(map(len, self._values.values()))
        return Imported(folder, tuple(files), samples, tuple(sorted(self._unread)))

    def _rows(self, names: list[str]) -> Iterator[tuple[str, ...]]:
        for at in sorted(set().union(*(self._values[name] for name in names))):
            values = (self._values[name].get(at) for name in names)
            moment = (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds")
            yield moment, *("" if value is None else repr(value) for value in values)


def flat(value: object, name: str) -> Iterable[tuple[str, object]]:
    """The single values within a message, named by their way to it: `arc.current`, `force.0`."""
    if hasattr(value, "__slots__"):
        value = {key: getattr(value, key) for key in value.__slots__}
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from flat(inner, f"{name}.{place}")
    else:
        yield name, value


@contextmanager
def extra(name: str, where: str) -> Iterator[None]:
    """Say which extra is wanting where a library cannot be imported.

    Raises:
        DataError: JG-data-129.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise DataError("JG-data-129", where=where, library=error.name, extra=name) from None
