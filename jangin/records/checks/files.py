"""Level 0, files: there, readable, not empty, UTF-8, none twice."""

from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jangin.errors import DataError, one_line
from jangin.records.card import Card
from jangin.records.checks.findings import Finding
from jangin.records.dataset import CARD_FILE, EPISODES_FILE, stream_parts

__all__ = ["check_files", "check_streams", "read_table"]

_TEXT = frozenset({".yaml", ".yml", ".csv", ".json", ".md", ".txt"})


def check_files(folder: Path, digests: Mapping[str, str], known: Collection[str] = ()) -> Iterator[Finding]:
    """What is said about the files themselves.

    Args:
        folder: the records folder.
        digests: its files with their SHA-256.
        known: files that passed before; they are not opened.
    """
    for name in (CARD_FILE, EPISODES_FILE):
        if name not in digests:
            yield Finding("error", "JG-data-011", where=str(folder / name))
    first: dict[str, str] = {}
    for name, digest in digests.items():
        if name not in known:
            yield from _check_file(folder / name)
        if first.setdefault(digest, name) != name and (folder / name).stat().st_size:
            yield Finding("error", "JG-data-015", where=str(folder / name), other=first[digest])


def check_streams(folder: Path, card: Card, digests: Mapping[str, str]) -> Iterator[Finding]:
    """Streams of the card that have no part files, or no media where they are media, or two files for an episode."""
    for stream in card.streams:
        media = [name for name in digests if stream.media and name.startswith(f"media/{stream.name}/")]
        if not (stream.optional or media or stream_parts(digests, stream.name)):
            yield Finding("error", "JG-data-016", where=str(folder), stream=stream.name)
        for one, other in pairwise(sorted(media, key=lambda name: (Path(name).stem, name))):
            if Path(one).stem == Path(other).stem:
                yield Finding("error", "JG-data-161", where=str(folder / one), other=other)


def read_table(path: Path) -> pa.Table:
    """A Parquet file, its episode ids as a dictionary.

    Raises:
        DataError: JG-data-012, it cannot be read.
    """
    try:
        about = pq.read_metadata(path)
        ids = [name for name in about.schema.names if name == "episode_id"]
        with pq.ParquetFile(path, metadata=about, read_dictionary=ids) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        raise DataError("JG-data-012", where=str(path), problem=one_line(error)) from None


def _check_file(path: Path) -> Iterator[Finding]:
    """Empty, not UTF-8 where text is expected, or not Parquet where Parquet is."""
    if path.stat().st_size == 0:
        yield Finding("error", "JG-data-013", where=str(path))
    elif path.suffix in _TEXT:
        content = path.read_bytes()
        if not _decodes(content, "utf-8"):
            encoding = "cp949" if _decodes(content, "cp949") else "unknown"
            yield Finding("error", "JG-data-014", where=str(path), encoding=encoding)
    elif path.suffix == ".parquet":
        try:
            rows = pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError) as error:
            yield Finding("error", "JG-data-012", where=str(path), problem=one_line(error))
        else:
            if rows == 0:
                yield Finding("error", "JG-data-013", where=str(path))


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
