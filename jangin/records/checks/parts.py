"""One file of rows or of media looked at: read once, for its schema, its signal and the content of its episodes."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from jangin.errors import JanginError
from jangin.records.card import Stream
from jangin.records.checks.files import read_table
from jangin.records.checks.findings import Finding, Level, Report
from jangin.records.checks.known import Held, told
from jangin.records.checks.schema import check_part
from jangin.records.checks.signal import Rows, check_media, check_signal
from jangin.records.contents import media_digest, row_digests
from jangin.records.dataset import stream_schema
from jangin.records.media import read_media

__all__ = ["Look", "Piece", "look"]


@dataclass(frozen=True)
class Piece:
    """A file of a stream.

    Attributes:
        name: inside the folder.
        sha256: its digest, in hex.
        stream: what the card says of it.
        demanded: channels that the process demands of it.
    """

    name: str
    sha256: str
    stream: Stream
    demanded: Collection[str]

    @property
    def media(self) -> bool:
        """Whether it holds one episode's sound or pictures."""
        return self.name.startswith("media/")


@dataclass(frozen=True)
class Look:
    """What was seen in a file.

    Attributes:
        held: what is kept of it; None where its schema did not pass.
        schema: findings of level 1.
        signal: findings of level 2.
    """

    held: Held | None
    schema: list[Finding]
    signal: list[Finding]


def look(folder: Path, piece: Piece, level: Level) -> Look:
    """Look at one file; on level 1 at its schema, from level 2 at its signal, too."""
    try:
        return (_media if piece.media else _rows)(folder, piece, level)
    except JanginError as error:
        return Look(None, [Finding.of(error)], [])


def _rows(folder: Path, piece: Piece, level: Level) -> Look:
    path, stream = folder / piece.name, piece.stream
    table = read_table(path)
    schema = list(check_part(table, stream, str(path)))
    if not Report(tuple(schema)).passed:
        return Look(None, schema, [])
    rows = Rows.of(table.select([name for name in stream_schema(stream).names if name in table.column_names]))
    signal = list(check_signal(rows, stream, piece.name)) if level > 1 else []
    digests = dict.fromkeys(rows.ids, "") | row_digests(rows.in_order(), piece.demanded)
    return _look(folder, piece, level, schema, signal, digests, rows.spans(stream.rate_hz))


def _media(folder: Path, piece: Piece, level: Level) -> Look:
    path, stream = folder / piece.name, piece.stream
    values = read_media(path.read_bytes(), stream, path)
    episode = path.stem
    signal = list(check_media(values, stream, episode, piece.name)) if level > 1 else []
    spans = {episode: (0.0, values.shape[1] / stream.rate_hz)}
    return _look(folder, piece, level, [], signal, {episode: media_digest(values)}, spans)


def _look(
    folder: Path,
    piece: Piece,
    level: Level,
    schema: list[Finding],
    signal: list[Finding],
    digests: dict[str, str],
    spans: dict[str, tuple[float, float]],
) -> Look:
    held = Held(
        sha256=piece.sha256,
        level=min(level, 2),
        digests=digests,
        spans=spans,
        warnings=(*told(folder, 1, schema), *told(folder, 2, signal)),
    )
    return Look(held, schema, signal)
