"""Models that the ministry released, at a site: what is on offer, pulled, checked, and withdrawn since.

    models/<line>/<version>/    final.safetensors, scaling.json, statement.json, manifest.envelope, staff.envelope

The law: a manifest is believed by an approver's signature from the pinned root down, and never because the server said
it; a version has one manifest for ever, and the national one never goes back; a file stands under its final name only
after all of its bytes had the manifest's SHA-256; what was withdrawn stays withdrawn, whatever the server says later.
What a server can do is to be silent: it may hide a newer version, or a withdrawal.
"""

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from jangin.client.api import ModelOffer, SiteApi
from jangin.client.desk import Clock, now_utc, open_api
from jangin.client.state import Database, SiteFolder, read_given, write_whole
from jangin.errors import DataError, JanginError, SiteError
from jangin.records.manifest import file_digest
from jangin.telling.logs import Event, noting
from jangin.trust.chain import Trust
from jangin.trust.models import FILES, ModelFile, ModelVersion, peek_model, verify_release, verify_withdrawal
from jangin.trust.staff import Staff

__all__ = ["Offered", "Pulled", "Shelf", "Withdrawn", "any_pulled", "listed", "look", "pull", "verify", "withdrawn"]

_NATIONAL: Final = "national"

_MANIFEST, _STAFF = "manifest.envelope", "staff.envelope"
_NAME: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,62})(?:@([1-9][0-9]{0,8}|national|previous))?")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS models (
    line TEXT NOT NULL, version INTEGER NOT NULL, manifest TEXT NOT NULL, national INTEGER NOT NULL,
    withdrawn TEXT NOT NULL, PRIMARY KEY (line, version)
) STRICT;
"""

_log = logging.getLogger(__name__)

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Offered:
    """A version that was released to this site, its signatures verified.

    Attributes:
        manifest: what it is.
        approver: who released it.
        aliases: which the server says point at it.
        withdrawn: why it may not be used any more; else empty.
        pulled: whether it is here.
        envelope: the signed manifest.
        staff: the staff list by which it was judged, as its envelope.
    """

    manifest: ModelVersion
    approver: str
    aliases: tuple[str, ...]
    withdrawn: str
    pulled: bool
    envelope: bytes = field(repr=False)
    staff: bytes = field(repr=False)


@dataclass(frozen=True)
class Pulled:
    """A version that is here, whole and checked."""

    folder: Path
    manifest: ModelVersion
    approver: str


@dataclass(frozen=True)
class Withdrawn:
    """A version that is here and may not be used any more."""

    name: str
    reason: str


class Shelf(Database):
    """What this site has learnt of versions, in site.sqlite."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            SiteError: JG-site-305, it cannot be used.
        """
        super().__init__(path, _SCHEMA)

    def manifest(self, line: str, version: int) -> str | None:
        """The hash of a version's manifest; None where none came before."""
        rows = self._do("SELECT manifest FROM models WHERE line = ? AND version = ?", line, version)
        return rows[0][0] if rows else None

    def withdrawn(self, line: str, version: int) -> str:
        """Why a version may not be used any more; empty where it may."""
        rows = self._do("SELECT withdrawn FROM models WHERE line = ? AND version = ?", line, version)
        return rows[0][0] if rows else ""

    def national(self, line: str) -> int:
        """The newest version that ever was the national one of a line; 0 before the first."""
        rows = self._do("SELECT coalesce(max(version), 0) FROM models WHERE line = ? AND national = 1", line)
        return int(rows[0][0])

    def learn(self, manifest: ModelVersion, *, national: bool, withdrawn: str) -> None:
        """Remember a version; what was withdrawn or national once stays so."""
        self._do(
            "INSERT INTO models (line, version, manifest, national, withdrawn) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET national = max(national, excluded.national), "
            "withdrawn = CASE withdrawn WHEN '' THEN excluded.withdrawn ELSE withdrawn END",
            manifest.line,
            manifest.version,
            manifest.hash,
            int(national),
            withdrawn,
        )

    def all_withdrawn(self) -> list[tuple[str, int, str]]:
        """Line, version and reason of all that was withdrawn."""
        return self._do("SELECT line, version, withdrawn FROM models WHERE withdrawn != '' ORDER BY line, version")


def listed(path: Path, *, clock: Clock = now_utc) -> list[Offered]:
    """What was released to this site; what cannot be believed is left out with a line in the log.

    Raises:
        SiteError: JG-site-301 refused, 302 not enrolled, 304 no site here, 110..125 a staff list that cannot be
            believed. LinkError: JG-site-201, 202 or 207.
    """
    folder = SiteFolder(path)
    with folder.journal() as journal, open_api(folder, journal, clock) as api:
        return look(folder, api, clock())


def look(folder: SiteFolder, api: SiteApi, now: datetime, wanted: str = "") -> list[Offered]:
    """Ask for what is released, and remember what can be believed of it.

    Args:
        folder: the site's.
        api: to the server.
        now: the time.
        wanted: `LINE` or `LINE@...`: what cannot be believed of this is an error, and not only a line in the log.

    Raises:
        SiteError: as `listed`; JG-site-110..119, 451, 452 and 455, of what is wanted. LinkError: as `listed`.
    """
    offers = api.models()
    staff = folder.trust().with_staff(offers.staff, now).staff(now)  # the newest: it follows the one that is held
    judge = _Judge(folder.path, folder.settings().site.id, offers.staff, staff, now)
    found = []
    with Shelf(folder.database_file) as shelf:
        for one in offers.models:
            try:
                found.append(judge.believed(one, shelf))
            except SiteError as error:
                if _may_be(one, wanted):
                    raise
                _log.warning("A model on offer does not hold: %s", error, extra=noting(Event.REFUSED_MODEL, error))
    return found


def pull(
    path: Path, wanted: str, *, clock: Clock = now_utc, advance: Advance = lambda what, done, total: None
) -> Pulled:
    """Fetch a released version; broken off, it goes on from there the next time.

    Args:
        path: the site's folder.
        wanted: `LINE@VERSION`, `LINE@national`, `LINE@previous`; a line alone is the national one.
        clock: the time.
        advance: told `pull`, how many bytes have come, and how many there are.

    Raises:
        SiteError: JG-site-450, nothing of this name is for this site; 454, it was withdrawn; 451, 452, 455 and
            110..119, what the server says of it cannot be believed; 453, its bytes are not those of its manifest; 342,
            the folder cannot be written; 301, 302, 304 as `listed`. LinkError: JG-site-201, 202 or 207.
    """
    folder = SiteFolder(path)
    with folder.journal() as journal, open_api(folder, journal, clock) as api:
        offers = look(folder, api, clock(), wanted)
        one = _chosen(offers, wanted)
        manifest = one.manifest
        if one.withdrawn:
            raise SiteError("JG-site-454", where=manifest.name, reason=one.withdrawn.removesuffix("."))
        place = _place(path, manifest)
        with suppress(JanginError):
            if place.is_dir():
                _check_files(place, manifest)
                return Pulled(place, manifest, one.approver)
        part = place.with_name(f".{manifest.version}-{manifest.hash[:16]}.part")
        with _writing(path):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
            _fetch(part, manifest, api, advance)
            write_whole(part / _MANIFEST, one.envelope)
            write_whole(part / _STAFF, one.staff)
            verify(part, folder.trust().root, clock())
            shutil.rmtree(place, ignore_errors=True)  # one whose files do not hold
            _sync(part)
            part.rename(place)
            _sync(place.parent)
    return Pulled(place, manifest, one.approver)


def verify(folder: Path, root: str, now: datetime) -> tuple[ModelVersion, str]:
    """Look whether a pulled folder is what an approver released, by the root's key alone; what it is, and who did.

    Args:
        folder: with the model's files, its manifest and the staff list.
        root: the root's public key, one OpenSSH line.
        now: the time.

    Raises:
        SiteError: JG-site-456, no such folder; 110..119, a signature; 453, a file that is not as its manifest says.
    """
    for name in (_MANIFEST, _STAFF):
        if not (folder / name).is_file():
            raise SiteError("JG-site-456", where=str(folder), problem=f"there is no {name}")
    staff = Trust(root, read_given(folder / _STAFF, _STAFF)).staff(now)
    manifest, approver = verify_release(read_given(folder / _MANIFEST, _MANIFEST), staff, now)
    _check_files(folder, manifest)
    return manifest, approver


def withdrawn(path: Path) -> list[Withdrawn]:
    """The versions that are here and may not be used any more, as far as this site was told.

    Raises:
        SiteError: JG-site-305, the database cannot be used.
    """
    with Shelf(SiteFolder(path).database_file) as shelf:
        return [
            Withdrawn(f"{line}@{version}", reason)
            for line, version, reason in shelf.all_withdrawn()
            if (path / "models" / line / str(version)).is_dir()
        ]


def any_pulled(path: Path) -> bool:
    """Whether any version is here."""
    return next((path / "models").glob("*/[0-9]*/"), None) is not None


@dataclass(frozen=True)
class _Judge:
    """By what an offer is judged."""

    path: Path
    site: str
    envelope: bytes
    staff: Staff
    now: datetime

    def believed(self, one: ModelOffer, shelf: Shelf) -> Offered:
        """An offer whose signatures hold and which does not contradict what came before; remembered from now on."""
        manifest, approver = verify_release(one.manifest, self.staff, self.now)
        name, known = manifest.name, shelf.manifest(manifest.line, manifest.version)
        if known is not None and known != manifest.hash:
            raise SiteError("JG-site-455", where=name, known=known, given=manifest.hash)
        if not manifest.may_have(self.site):
            raise SiteError("JG-site-451", where=name, problem="it is for its contributors, and this site is none")
        reason = ""
        if one.withdrawal is not None:
            withdrawal, _ = verify_withdrawal(one.withdrawal, self.staff, self.now)
            if withdrawal.model != manifest.hash:
                raise SiteError("JG-site-451", where=name, problem="the withdrawal is of another manifest")
            reason = withdrawal.reason
        national, newest = _NATIONAL in one.aliases, shelf.national(manifest.line)
        if national and manifest.version < newest:
            raise SiteError("JG-site-452", where=manifest.line, version=manifest.version, newest=newest)
        shelf.learn(manifest, national=national, withdrawn=reason)
        held, pulled = shelf.withdrawn(manifest.line, manifest.version), _place(self.path, manifest).is_dir()
        return Offered(manifest, approver, tuple(one.aliases), held, pulled, one.manifest, self.envelope)


def _may_be(one: ModelOffer, wanted: str) -> bool:
    """Whether an offer that does not hold calls itself what is wanted."""
    try:
        manifest = peek_model(one.manifest)
    except SiteError:
        return bool(wanted)
    line, _, which = wanted.partition("@")
    return line == manifest.line and (which or _NATIONAL) in (str(manifest.version), *one.aliases)


def _chosen(offers: list[Offered], wanted: str) -> Offered:
    parts = _NAME.fullmatch(wanted)
    if parts is not None:
        which = parts[2] or _NATIONAL
        for one in reversed(offers):
            if one.manifest.line == parts[1] and which in (str(one.manifest.version), *one.aliases):
                return one
    raise SiteError("JG-site-450", where=wanted)


def _place(path: Path, manifest: ModelVersion) -> Path:
    return path / "models" / manifest.line / str(manifest.version)


def _fetch(part: Path, manifest: ModelVersion, api: SiteApi, advance: Advance) -> None:
    """All files of a version, each from where it was broken off; one with other bytes is thrown away."""
    done, total = 0, sum(listed.size for listed in manifest.files.values())
    for name in FILES:
        listed, file = manifest.files[name], part / name
        with file.open("ab") as kept:
            if kept.tell() > listed.size:
                kept.truncate(0)
            while (held := kept.seek(0, os.SEEK_END)) < listed.size:
                advance("pull", done + held, total)
                kept.write(api.model(manifest.line, manifest.version, name, held)[: listed.size - held])
            kept.flush()
            os.fsync(kept.fileno())
        try:
            _check_file(file, manifest.name, listed)
        except SiteError:
            file.unlink()
            raise
        done += listed.size
        advance("pull", done, total)


def _check_files(folder: Path, manifest: ModelVersion) -> None:
    for name, listed in manifest.files.items():
        _check_file(folder / name, manifest.name, listed)


def _check_file(file: Path, model: str, listed: ModelFile) -> None:
    try:
        found = file_digest(file)
    except DataError as error:
        problem = str(error.coded.values["problem"])
        raise SiteError("JG-site-453", where=model, file=file.name, problem=problem) from None
    if found != listed.sha256:
        problem = f"its SHA-256 is {found}, in the manifest {listed.sha256}"
        raise SiteError("JG-site-453", where=model, file=file.name, problem=problem)


def _sync(folder: Path) -> None:
    """Have the disk know which names a folder holds."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say by its code that the folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise SiteError("JG-site-342", where=str(path), problem=error.strerror or type(error).__name__) from None
