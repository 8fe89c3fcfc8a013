"""What earlier checks passed, file by file, so that only what is new is looked at again.

    .checked.json    of each file of rows or media: its SHA-256, the level it passed, the warnings it got, and of each
                     episode in it the digest of its content and the time that it covers

The law: it saves work and decides nothing. A file counts as known only by its SHA-256, under the same tool, card and
process; a folder without this file, or with one that cannot be read, is checked whole. Like every hidden file it is
nobody's records, and it stays where it is.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from jangin.codec.document import Document
from jangin.records.checks.findings import Finding, Level
from jangin.records.checks.signal import Span
from jangin.records.manifest import write_whole

__all__ = ["Held", "Known", "read_known", "told", "write_known"]

KNOWN_FILE: Final = ".checked.json"


class Told(Document):
    """A warning that a file got."""

    code: str
    where: str
    values: dict[str, int | float | str]
    level: int

    def finding(self, folder: Path) -> Finding:
        """The warning as it was said, of the folder where it is today."""
        where = str(folder / self.where) if "/" in self.where else self.where
        return Finding("warning", self.code, where=where, **self.values)


class Held(Document):
    """What a check found in one file.

    Attributes:
        sha256: of the file, in hex.
        level: the highest level that it passed.
        digests: by episode id, of what the process demands (records/contents.py); empty where there is no value.
        spans: by episode id, from when to when it is covered, in s.
        warnings: what was said about it.
    """

    sha256: str
    level: int
    digests: dict[str, str] = Field(default_factory=dict)
    spans: dict[str, Span] = Field(default_factory=dict)
    warnings: tuple[Told, ...] = ()

    def findings(self, folder: Path, level: Level) -> list[Finding]:
        """What is said about it up to a level."""
        return [told.finding(folder) for told in self.warnings if told.level <= level]


class Known(Document):
    """`.checked.json`.

    Attributes:
        tool_version: the Jangin that checked.
        card: SHA-256 of the card.
        process: SHA-256 of the process.
        files: what was held, by name in the folder.
    """

    tool_version: str
    card: str
    process: str
    files: dict[str, Held] = Field(default_factory=dict)

    def unchanged(self, digests: Mapping[str, str]) -> frozenset[str]:
        """Those of a folder's files that are what they were, and so can be read."""
        return frozenset(name for name, held in self.files.items() if digests.get(name) == held.sha256)

    def still(self, digests: Mapping[str, str], earlier: "Known | None", level: Level) -> dict[str, Held]:
        """Those files of an earlier check that need no look: unchanged, and passed at this level of files."""
        if earlier is None or earlier.model_copy(update={"files": {}}) != self.model_copy(update={"files": {}}):
            return {}
        return {
            name: held
            for name, held in earlier.files.items()
            if digests.get(name) == held.sha256 and held.level >= min(level, 2)
        }


def told(folder: Path, level: int, findings: Iterable[Finding]) -> tuple[Told, ...]:
    """The warnings of a level in the form in which they are kept: places within the folder."""
    return tuple(
        Told.model_validate(
            {
                "code": one.code,
                "where": one.where.removeprefix(f"{folder}/"),
                "values": {
                    name: value if isinstance(value, int | float) else str(value) for name, value in one.values.items()
                },
                "level": level,
            }
        )
        for one in findings
        if one.severity == "warning"
    )


def read_known(folder: Path) -> Known | None:
    """What earlier checks left; None where that cannot be read."""
    try:
        return Known.model_validate_json((folder / KNOWN_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def write_known(folder: Path, known: Known) -> None:
    """Write `.checked.json` whole.

    Raises:
        DataError: JG-data-010, it cannot be written.
    """
    write_whole(folder / KNOWN_FILE, known.model_dump_json().encode(), mode=0o600)
