"""The manifest of a records folder: what was validated, file by file, and who was set aside.

The law: it is written whole and only after a passed validation; files that never leave the site (the hold-out
key, the plant's own tag names, which of its files were ingested) are not described in it.
"""

import hashlib
import json
import os
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jangin.codec.document import Document, parse, read_value
from jangin.errors import DataError
from jangin.records.card import Card
from jangin.records.split import KEY_BYTES, Split, SplitUnit

__all__ = [
    "CARD_FILE",
    "INGESTED_FILE",
    "KEY_FILE",
    "MANIFEST_FILE",
    "MAPPING_FILE",
    "Contents",
    "Manifest",
    "Validation",
    "check_files",
    "described_files",
    "file_digest",
    "open_validated",
    "read_key",
    "read_manifest",
    "write_key",
    "write_manifest",
    "write_whole",
]

CARD_FILE = "card.yaml"
MANIFEST_FILE = "manifest.json"
KEY_FILE = "holdout.key"
MAPPING_FILE = "mapping.local.yaml"
INGESTED_FILE = "ingested.local.json"
_NOT_DESCRIBED = frozenset({MANIFEST_FILE, KEY_FILE, MAPPING_FILE, INGESTED_FILE})


Contents = dict[str, dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]]
"""Of each unit the digests of its episodes' content, by episode id (records/contents.py)."""


class Validation(Document):
    """What the checks said.

    Attributes:
        level: the highest level that was run.
        findings: how many there were (of a passed validation: warnings).
        passed: whether none was an error.
    """

    level: int
    findings: int
    passed: bool


class Manifest(Document):
    """manifest.json.

    Attributes:
        schema_version: the version of master records.
        tool_version: the Jangin that validated.
        files: path inside the folder, with `/`, to SHA-256 in hex.
        validation: its result.
        unit: what the hold-out was split by.
        train: ids of the units to train on.
        holdout: ids of the units set aside, none of them in `train`.
        contents: what each unit of both sides holds.
        masters: of each episode by its id, the pseudonym of its master.
    """

    schema_version: Literal[1]
    tool_version: str
    files: dict[str, str]
    validation: Validation
    unit: SplitUnit
    train: tuple[str, ...]
    holdout: tuple[str, ...]
    contents: Contents = Field(default_factory=dict)
    masters: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        both = sorted(set(self.train) & set(self.holdout))
        if both:
            raise ValueError(f"{both[0]!r} is in train and in holdout")
        return self

    @property
    def split(self) -> Split:
        """Both sides."""
        return Split(self.train, self.holdout)

    def of(self, masters: Collection[str]) -> "Manifest":
        """The part of it that is these masters' alone; content that is also somebody else's is not in it."""
        ours = {episode for episode, master in self.masters.items() if master in masters}
        everything = [held for of_unit in self.contents.values() for held in of_unit.items()]
        others = {digest for episode, digest in everything if episode not in ours}
        contents = {
            unit: {episode: digest for episode, digest in held.items() if digest not in others}
            for unit, held in self.contents.items()
        }
        train, holdout = (tuple(unit for unit in side if contents.get(unit)) for side in (self.train, self.holdout))
        held = {unit: episodes for unit, episodes in contents.items() if episodes}
        return self.model_copy(update={"contents": held, "train": train, "holdout": holdout})

    def read(self, folder: Path, name: str) -> bytes:
        """The bytes of a described file, which are those that were validated.

        Raises:
            DataError: JG-data-005, naming the file and both hashes; JG-data-012 it cannot be read.
        """
        path = folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError("JG-data-012", where=str(path), problem=error.strerror) from None
        found = hashlib.sha256(content).hexdigest()
        if found != self.files[name]:
            raise DataError("JG-data-005", where=str(path), listed=self.files[name], found=found)
        return content


def described_files(folder: Path) -> list[str]:
    """Paths inside `folder`, with `/`, that a manifest lists; hidden files are nobody's records."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    visible = (name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))
    return sorted(name for name in visible if name not in _NOT_DESCRIBED)


def check_files(folder: Path, manifest: Manifest) -> None:
    """Read every described file.

    Raises:
        DataError: JG-data-005, one is not what was validated; JG-data-012 it cannot be read.
    """
    for name, listed in manifest.files.items():
        found = file_digest(folder / name)
        if found != listed:
            raise DataError("JG-data-005", where=str(folder / name), listed=listed, found=found)


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex, read piece by piece.

    Raises:
        DataError: JG-data-012 it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError("JG-data-012", where=str(path), problem=error.strerror) from None


def open_validated(folder: Path) -> tuple[Card, Manifest]:
    """The card and the manifest of a folder whose validation passed; no record is opened.

    Raises:
        DataError: JG-data-004 no passed validation; 005 the card has changed; 006 files came or went;
            007 the manifest cannot be read.
        PlanError: JG-plan-001..006 the card or the manifest has another form.
    """
    manifest = read_manifest(folder)
    if manifest is None or not manifest.validation.passed:
        raise DataError("JG-data-004", where=str(folder))
    changed = set(described_files(folder)) ^ manifest.files.keys()
    if changed:
        raise DataError("JG-data-006", where=str(folder), files=", ".join(sorted(changed)[:5]), number=len(changed))
    return _card(manifest.read(folder, CARD_FILE), str(folder / CARD_FILE)), manifest


@lru_cache(maxsize=8)
def _card(content: bytes, where: str) -> Card:
    """The card that these bytes are: it is asked for in every round, and YAML takes long to read."""
    return parse(read_value(content.decode(), where), Card, where)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, None where there is none.

    Raises:
        DataError: JG-data-007 it is not JSON.
        PlanError: JG-plan-001..003 it is JSON of another form.
    """
    path = folder / MANIFEST_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError("JG-data-007", where=str(path), problem=str(error)) from None
    return parse(content, Manifest, str(path))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json whole: UTF-8, keys in alphabetical order.

    Raises:
        DataError: JG-data-010 it cannot be written.
    """
    text = json.dumps(manifest.model_dump(mode="json"), ensure_ascii=False, indent=1, sort_keys=True)
    write_whole(folder / MANIFEST_FILE, f"{text}\n".encode(), mode=0o644)


def read_key(folder: Path) -> bytes | None:
    """The key of the hold-out rule, None where there is none.

    Raises:
        DataError: JG-data-009 it has another length; JG-data-012 it cannot be read.
    """
    path = folder / KEY_FILE
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError("JG-data-012", where=str(path), problem=error.strerror) from None
    if len(key) != KEY_BYTES:
        raise DataError("JG-data-009", where=str(path), length=len(key), expected=KEY_BYTES)
    return key


def write_key(folder: Path, key: bytes) -> None:
    """Write holdout.key, readable by its owner alone.

    Raises:
        DataError: JG-data-010 it cannot be written.
    """
    write_whole(folder / KEY_FILE, key, mode=0o600)


def write_whole(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all: a hidden sibling, flushed to disk, takes its place.

    Raises:
        DataError: JG-data-010 it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError("JG-data-010", where=str(path), problem=error.strerror) from None
