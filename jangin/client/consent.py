"""Consents at a site: recorded, taken back, and asked for before any record is opened.

    consent/HASH.grant      a grant in its envelope (trust/consents.py)
    consent/HASH.revoked    the signed word that took it back; once it is there, it counts whatever it holds
    consent.sqlite          the index: a row a grant, made anew from these files by every command here

The law: who has not said yes has no part in a training. The gate looks a master's grants up in the index alone, and
believes no row: each is a hint to a file, whose signatures are verified and whose words decide. A row that somebody
wrote grants nothing, a row that lacks takes a grant away. Pseudonyms leave this folder neither in a message to the
server nor in a log or an error.

Not covered: whoever may write the state folder has the site's key beside it, and can record a grant that nobody gave,
or bring back one from before its revocation. The labour side's key, kept elsewhere, is against the first of these.
"""

import os
import secrets
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from jangin.client.settings import SiteSettings
from jangin.client.state import SiteFolder, write_whole
from jangin.codec.document import nearest, parse
from jangin.errors import JanginError, PlanError, SiteError
from jangin.models.lines import columns_read, read_line
from jangin.plan.training_plan import TrainingPlan
from jangin.records.manifest import read_manifest
from jangin.records.process import Process, read_process
from jangin.records.purposes import Purpose
from jangin.trust.consents import EVERYTHING, Grant, Revocation, open_grant, peek_grant
from jangin.trust.envelope import MAX_AHEAD, Kind, countersign, seal
from jangin.trust.keys import Identity, fingerprint, identity_from_text

__all__ = [
    "Coverage",
    "Entry",
    "Recorded",
    "ToSign",
    "Use",
    "Verdict",
    "accept",
    "coverage",
    "grant",
    "listed",
    "looked_at",
    "masters_of",
    "revoke",
    "sign_for_labour",
    "to_countersign",
    "use_of",
]

Clock = Callable[[], datetime]

_SCHEMA = "CREATE TABLE grants (hash TEXT PRIMARY KEY, master TEXT, process TEXT, issued TEXT, until TEXT, revoked INT)"
_COUNTERSIGNATURE: Final = "JG-site-114"
_GRANT_BYTES: Final = 2**18


class Verdict(IntEnum):
    """What a master's consent comes to for one use; of several grants, and of several masters, the highest is told."""

    NONE = 0
    ALTERED = 1
    REVOKED = 2
    EXPIRED = 3
    NOT_COUNTERSIGNED = 4
    OTHER_PURPOSES = 5
    OTHER_CHANNELS = 6
    COVERED = 7


@dataclass(frozen=True)
class Use:
    """What is asked of a master.

    Attributes:
        process: what is shown in the records.
        purposes: what they are to be used for.
        columns: what is read of them.
    """

    process: str
    purposes: frozenset[Purpose]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Coverage:
    """Of each master whether a grant covers one use."""

    use: Use
    verdicts: Mapping[str, Verdict] = field(repr=False)

    @property
    def covered(self) -> frozenset[str]:
        """Who is."""
        return frozenset(master for master, verdict in self.verdicts.items() if verdict is Verdict.COVERED)

    @property
    def refusal(self) -> SiteError:
        """Why nobody takes part, by the one who came nearest to a yes; no pseudonym is in it."""
        verdicts = [verdict for verdict in self.verdicts.values() if verdict is not Verdict.COVERED]
        reasons = Counter(self._error(verdict, {}).code for verdict in verdicts)
        return self._error(max(verdicts, default=Verdict.NONE), dict(sorted(reasons.items())))

    def require(self) -> None:
        """Refuse where nobody is covered.

        Raises:
            SiteError: JG-site-350..356.
        """
        if not self.covered:
            raise self.refusal

    def _error(self, verdict: Verdict, reasons: Mapping[str, int]) -> SiteError:
        return SiteError(
            {
                Verdict.REVOKED: "JG-site-351",
                Verdict.EXPIRED: "JG-site-352",
                Verdict.OTHER_PURPOSES: "JG-site-353",
                Verdict.OTHER_CHANNELS: "JG-site-354",
                Verdict.NOT_COUNTERSIGNED: "JG-site-355",
                Verdict.ALTERED: "JG-site-356",
            }.get(verdict, "JG-site-350"),
            process=self.use.process,
            masters=len(self.verdicts),
            reasons=reasons,
        )


@dataclass(frozen=True)
class Recorded:
    """A grant as it was recorded.

    Attributes:
        hash: of the grant, 64 hex digits.
        file: where it is.
        waits: whether it counts only once the labour side has signed it.
    """

    hash: str
    file: Path
    waits: bool


@dataclass(frozen=True)
class ToSign:
    """A grant that waits for the labour side.

    Attributes:
        grant: what it says.
        key: fingerprint of the site's key, whose signature holds.
        envelope: the very bytes that were verified.
    """

    grant: Grant
    key: str
    envelope: bytes = field(repr=False)


@dataclass(frozen=True)
class Entry:
    """One line of the list of consents.

    Attributes:
        master: the pseudonym; empty where the file cannot be read.
        process: of the records.
        grant: the grant; None for a master without any, or where the file cannot be read.
        hash: of the grant; empty where there is none.
        verdict: whether it holds today, whatever it is for.
    """

    master: str
    process: str
    grant: Grant | None
    hash: str
    verdict: Verdict


def use_of(plan: TrainingPlan) -> Use:
    """What a plan asks: its purposes, and all that its model line reads.

    Raises:
        DataError: JG-data-062, -001 no such line or process; 063..065 and 071 they do not fit.
    """
    line = read_line(plan.model_line)
    columns = columns_read(line, read_process(line.process))
    return Use(plan.process, frozenset(plan.governance.purposes), columns)


def coverage(
    path: Path, settings: SiteSettings, identity: str, use: Use, masters: Collection[str], now: datetime
) -> Coverage:
    """Which masters a use is covered for. It reads the index and the files of those grants it names.

    Args:
        path: the site's state folder.
        settings: site.yaml.
        identity: the site's own key as an OpenSSH line.
        use: what is asked.
        masters: pseudonyms.
        now: the time.

    Raises:
        SiteError: JG-site-305, the index cannot be used.
    """
    folder = SiteFolder(path)
    known: dict[str, list[Verdict]] = {}
    for row in _rows(folder, use.process):
        if row.master in masters:
            known.setdefault(row.master, []).append(_judged(folder, settings, identity, row, use, now))
    return Coverage(use, {master: max(known.get(master, [Verdict.NONE])) for master in sorted(masters)})


def grant(
    path: Path,
    masters: Sequence[str],
    purposes: Sequence[str],
    channels: Sequence[str],
    until: date,
    process: str | None = None,
    *,
    clock: Clock,
) -> list[Recorded]:
    """Record the same yes of each of these masters.

    Args:
        path: the site's state folder.
        masters: pseudonyms, as the validated records have them.
        purposes: words of `Purpose`.
        channels: what of the records; `all`, or as `trust.consents.Grant` has them.
        until: the last day, in UTC.
        process: what is shown; None where the site has one process only.
        clock: the time.

    Raises:
        SiteError: JG-site-358, no validated record here is of such a master; 359, the process has no such channels;
            342, the folder cannot be written; 304 no site here, 101..103 its key.
        PlanError: JG-plan-003, a purpose, a day or a process that cannot stand. DataError: JG-data-007, the manifest.
    """
    folder, now = SiteFolder(path), clock()
    settings = folder.settings()
    shown = read_process(_process(settings, process))
    there = masters_of(path, shown.process)
    for master in masters:
        if master not in there:
            raise SiteError("JG-site-358", process=shown.process, masters=len(there))
    _check_channels(channels, shown)
    if until < now.astimezone(UTC).date():
        raise PlanError("JG-plan-003", where="--until", value=until.isoformat(), problem="it is over")
    content = {
        "issued": now.replace(microsecond=0).isoformat(),
        "site": settings.site.id,
        "nonce": secrets.token_hex(16),
        "process": shown.process,
        "purposes": list(purposes),
        "channels": list(channels),
        "until": until.isoformat(),
    }
    documents = [parse(content | {"master": master}, Grant, "consent") for master in dict.fromkeys(masters)]
    key = folder.identity()
    made = []
    for document in documents:
        file = _grant_file(folder, document.hash)
        with _writing(folder):
            write_whole(file, seal(Kind.CONSENT, document.payload, key))
        made.append(Recorded(document.hash, file, settings.site.labour_council_key is not None))
    _index(folder)
    return made


def accept(path: Path, file: Path) -> Recorded:
    """Take a grant that came back with the labour side's signature.

    Raises:
        SiteError: JG-site-360, it does not count here, for the reason it names; 341, the file cannot be read; 342, the
            folder cannot be written.
    """
    folder = SiteFolder(path)
    settings, data = folder.settings(), _read(file)
    try:
        _, held = _opened(data, settings.site.id, folder.identity().public_text, settings.site.labour_council_key)
    except SiteError as error:
        raise SiteError("JG-site-360", where=file.name, problem=str(error.coded).removesuffix(".")) from None
    kept = _grant_file(folder, held)
    with _writing(folder):
        write_whole(kept, data)
    _index(folder)
    return Recorded(held, kept, False)


def to_countersign(file: Path, site_key: Path) -> ToSign:
    """A grant as a site signed it, for the labour side to read before it signs.

    Args:
        file: the grant.
        site_key: the site's public key, one OpenSSH line, given by hand.

    Raises:
        SiteError: JG-site-440, that site did not sign it, or somebody else did, too; 110, 111 or 115, no grant; 341, a
            file that cannot be read.
        PlanError: JG-plan-003, no public key of a site.
    """
    data = _read(file)
    try:
        line = " ".join(_read(site_key).decode("ascii", "replace").split()[:2])  # ssh-keygen may add a comment
        key = identity_from_text(line)
    except ValueError as error:
        raise PlanError("JG-plan-003", where="--site-key", value=str(site_key), problem=str(error)) from None
    held = peek_grant(data)
    try:
        return ToSign(open_grant(data, held.site, key, None), fingerprint(key), data)
    except SiteError as error:
        problem = str(error.coded).removesuffix(".")
        raise SiteError("JG-site-440", where=file.name, key=fingerprint(key), problem=problem) from None


def sign_for_labour(shown: ToSign, key: Path, out: Path) -> None:
    """The labour side's signature beside the site's, over what was shown, into another file.

    Raises:
        SiteError: JG-site-101..103, the key; 342, a file that cannot be written.
    """
    signed = countersign(shown.envelope, Kind.CONSENT, Identity.load(key))
    try:
        write_whole(out, signed)
    except OSError as error:
        raise SiteError("JG-site-342", where=str(out), problem=error.strerror or type(error).__name__) from None


def revoke(path: Path, master: str, process: str | None = None, *, clock: Clock) -> list[str]:
    """Take back every grant of a master, or those for one process: before the next load of records.

    Returns:
        The hashes of the grants that were taken back.

    Raises:
        SiteError: JG-site-361, there is none to take back; 342, the folder cannot be written; 304 no site here,
            101..103 its key.
    """
    folder = SiteFolder(path)
    site, key = folder.settings().site.id, folder.identity()
    meant = [
        name
        for name, document in _documents(folder)
        if document is not None
        and document.master == master
        and process in (None, document.process)
        and not _revoked_file(folder, name).exists()
    ]
    if not meant:
        raise SiteError("JG-site-361")
    for name in meant:
        word = Revocation(issued=clock().replace(microsecond=0), site=site, grant=name)
        with _writing(folder):
            write_whole(_revoked_file(folder, name), seal(Kind.REVOCATION, word.payload, key))
    _index(folder)
    return meant


def listed(path: Path, *, clock: Clock) -> list[Entry]:
    """As `looked_at`; the index is made anew on the way.

    Raises:
        SiteError: JG-site-304 no site here, 101..103 its key, 342 the folder cannot be written.
    """
    _index(SiteFolder(path))
    return looked_at(path, clock=clock)


def looked_at(path: Path, *, clock: Clock) -> list[Entry]:
    """Every grant, and every master of the records who has none; nothing is written.

    Raises:
        SiteError: JG-site-304 no site here, 101..103 its key.
    """
    folder, now = SiteFolder(path), clock()
    settings, identity = folder.settings(), folder.identity().public_text
    entries = []
    for name, document in _documents(folder):
        if document is None:
            entries.append(Entry("", "", None, name, Verdict.ALTERED))
            continue
        anything = Use(document.process, frozenset(), ())
        row = _Row(name, document.master, document.process, document.until.isoformat(), False)
        verdict = _judged(folder, settings, identity, row, anything, now)
        entries.append(Entry(document.master, document.process, document, name, verdict))
    having = {(entry.master, entry.process) for entry in entries}
    for block in settings.data:
        entries += [
            Entry(master, block.process, None, "", Verdict.NONE)
            for master in masters_of(path, block.process)
            if (master, block.process) not in having
        ]
    return sorted(
        entries, key=lambda entry: (entry.process, entry.master, entry.grant.issued.isoformat() if entry.grant else "")
    )


def masters_of(path: Path, process: str) -> list[str]:
    """The pseudonyms of a process' validated records, sorted; none where there are no such records.

    Raises:
        SiteError: JG-site-304, no site here.
    """
    folder = SiteFolder(path)
    for block in folder.settings().data:
        if block.process == process:
            try:
                manifest = read_manifest(folder.path / block.path)
            except JanginError:
                return []
            return sorted(set(manifest.masters.values())) if manifest else []
    return []


@dataclass(frozen=True)
class _Row:
    """A hint of the index."""

    hash: str
    master: str
    process: str
    until: str
    revoked: bool


def _judged(folder: SiteFolder, settings: SiteSettings, identity: str, row: _Row, use: Use, now: datetime) -> Verdict:
    """What one grant comes to: by its file, and by the index where that is the stricter."""
    try:
        data = _grant_file(folder, row.hash).read_bytes()
        document, held = _opened(data, settings.site.id, identity, settings.site.labour_council_key)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return Verdict.ALTERED
    except SiteError as error:
        return Verdict.NOT_COUNTERSIGNED if error.code == _COUNTERSIGNATURE else Verdict.ALTERED
    if (held, document.master, document.process) != (row.hash, row.master, row.process):
        return Verdict.ALTERED
    if document.process != use.process or document.issued > now + MAX_AHEAD:
        return Verdict.ALTERED
    today = now.astimezone(UTC).date()
    if row.revoked or _revoked_file(folder, row.hash).exists():
        return Verdict.REVOKED
    if today > document.until or today.isoformat() > row.until:
        return Verdict.EXPIRED
    if not use.purposes <= set(document.purposes):
        return Verdict.OTHER_PURPOSES
    if not all(document.releases(column) for column in use.columns):
        return Verdict.OTHER_CHANNELS
    return Verdict.COVERED


@lru_cache(maxsize=4096)
def _opened(data: bytes, site: str, identity: str, labour: str | None) -> tuple[Grant, str]:
    """`open_grant` of keys as text, with the grant's hash; the same bytes are verified once in a process."""
    keys = identity_from_text(identity), None if labour is None else identity_from_text(labour)
    opened = open_grant(data, site, *keys)
    return opened, opened.hash


def _rows(folder: SiteFolder, process: str) -> list[_Row]:
    """What the index says of a process; nothing where there is no index."""
    if not folder.consent_index.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{folder.consent_index.resolve().as_uri()}?mode=ro", uri=True)) as index:
            rows: list[tuple[Any, ...]] = index.execute(
                "SELECT hash, master, process, until, revoked FROM grants WHERE process = ?", (process,)
            ).fetchall()
    except sqlite3.Error as error:
        raise SiteError("JG-site-305", where=folder.consent_index.name, problem=str(error)) from None
    return [
        _Row(str(hash_), str(master), str(of), str(until), bool(revoked)) for hash_, master, of, until, revoked in rows
    ]


def _index(folder: SiteFolder) -> None:
    """Make the index anew, whole, from the files; one that cannot be read has no row."""
    rows = [
        (
            name,
            one.master,
            one.process,
            one.issued.isoformat(),
            one.until.isoformat(),
            _revoked_file(folder, name).exists(),
        )
        for name, one in _documents(folder)
        if one is not None
    ]
    with _writing(folder):
        descriptor, name = tempfile.mkstemp(dir=folder.path, prefix=f".{folder.consent_index.name}.")  # mode 0600
        os.close(descriptor)
        try:
            with closing(sqlite3.connect(name)) as index, index:
                index.execute(_SCHEMA)
                index.executemany("INSERT INTO grants VALUES (?, ?, ?, ?, ?, ?)", rows)
            Path(name).replace(folder.consent_index)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _documents(folder: SiteFolder) -> Iterator[tuple[str, Grant | None]]:
    """Every grant's hash with what its file says, whoever signed it; None where it is no grant, or another one."""
    for file in sorted(folder.consent_folder.glob("*.grant")):
        try:
            document = peek_grant(_read(file))
        except SiteError:
            document = None
        yield file.stem, document if document is not None and document.hash == file.stem else None


def _process(settings: SiteSettings, process: str | None) -> str:
    """The process that is meant."""
    known = [block.process for block in settings.data]
    if process is None and len(known) > 1:
        problem = f"this site has {', '.join(known)}: name one"
        raise PlanError("JG-plan-003", where="--process", value=None, problem=problem)
    return known[0] if process is None else process


def _check_channels(channels: Sequence[str], process: Process) -> None:
    """Whether the process has what is named; the form is the grant's to check."""
    streams = {stream.name: [channel.name for channel in stream.channels] for stream in process.streams}
    columns = {f"{name}.{channel}" for name, held in streams.items() for channel in held} | process.columns().keys()
    known = {EVERYTHING} | columns | {f"{column.partition('.')[0]}.*" for column in columns}
    for name in channels:
        if name not in known:
            raise SiteError("JG-site-359", channel=name, process=process.process, nearest=nearest(name, known))


def _grant_file(folder: SiteFolder, name: str) -> Path:
    return folder.consent_folder / f"{Path(name).name}.grant"


def _revoked_file(folder: SiteFolder, name: str) -> Path:
    return folder.consent_folder / f"{Path(name).name}.revoked"


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_GRANT_BYTES)
    except OSError as error:
        raise SiteError("JG-site-341", where=str(file), problem=error.strerror or type(error).__name__) from None


@contextmanager
def _writing(folder: SiteFolder) -> Iterator[None]:
    """Where something of the consents is written; the folder is made on the way."""
    try:
        folder.consent_folder.mkdir(mode=0o700, exist_ok=True)
        yield
    except (OSError, sqlite3.Error) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise SiteError("JG-site-342", where=str(folder.path), problem=problem) from None
