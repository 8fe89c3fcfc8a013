"""A server in one file: made while it runs, and made into a server again, on whichever database.

    tables/<name>.jsonl  each row of a table as one line of JSON; bytes in base64
    folder/<path>        files of the state folder: settings, TLS, keys, models, statements, checkpoints
    manifest.json        SHA-256, size and mode of all of these, and when and by what they were made
    signature            Ed25519 by the audit key over SHA-256 of everything before it

POSIX tar. The law: the tables are those of one moment, and with them are the checkpoints from which every unfinished
campaign goes on at that moment; a file that is cut off or altered by one bit is refused before anything is made of it,
and what was restored has a log that verifies. The key that signs lies in the file as well, so that the signature
shows damage, not who made it: the fingerprint of the key is what a person compares. The file holds private keys, and
nobody but its owner may read it.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any, Final, Literal

import yaml
from alembic.util import CommandError
from cryptography.exceptions import InvalidSignature
from pydantic import Field
from sqlalchemy import JSON, Connection, Engine, LargeBinary, MetaData, Table, delete, func, insert, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from jangin.codec.document import Document, read
from jangin.errors import ServerError
from jangin.server import migrations, tables
from jangin.server.audit import Note, exported, verify
from jangin.server.campaigns import plan_of
from jangin.server.database import Database, engine, found, still
from jangin.server.life import LED, State
from jangin.server.selection import best_round
from jangin.server.settings import ServerSettings, StateFolder, given
from jangin.server.store import CampaignRow, EvaluationEntry, Outcome, Store
from jangin.trust.envelope import Hash, Moment
from jangin.trust.keys import Identity, fingerprint, identity_from_text
from jangin.version import __version__

__all__ = ["OWN_FILE", "Manifest", "Part", "backup", "restore"]

OWN_FILE: Final = "sqlite"
"""In the place of a database's URL: the folder's own file."""

_BLOCK: Final = 512
_TAIL: Final = 4 * _BLOCK  # the signature's header, the signature, and the end of a tar
_SIGNED: Final = b"jangin/backup\0"
_SIGNATURE_BYTES: Final = 64
_MANIFEST: Final = "manifest.json"
_LOOKS: Final = 20
_ROWS: Final = 500
_LEFT: Final = re.compile(r"(jangin\.sqlite.*|address|(.*\.)?lock|logs/.*)")
_CHECKPOINT: Final = re.compile(r"checkpoints/([0-9a-f]{64})/([0-9]+)\.safetensors")
_UNFINISHED: Final = LED | {State.PAUSED}


class Part(Document):
    """One file within.

    Attributes:
        size: bytes.
        sha256: of its content.
        mode: who may read it, as chmod has it.
    """

    size: Annotated[int, Field(ge=0)]
    sha256: Hash
    mode: Annotated[int, Field(ge=0, le=0o777)]


class Manifest(Document):
    """What a backup holds.

    Attributes:
        jangin, version: that it is one.
        holds: for whoever opens it.
        moment: when it was begun.
        made_by: the version of Jangin.
        tables: the version of the tables.
        key: the public half of the server's audit key.
        parts: by their names.
    """

    jangin: Literal["backup"] = "backup"
    version: Literal[1] = 1
    holds: Literal["private keys: keep it as you keep the server"] = "private keys: keep it as you keep the server"
    moment: Moment
    made_by: str
    tables: str
    key: str
    parts: dict[str, Part]

    @property
    def fingerprint(self) -> str:
        """Of the audit key, as people compare it."""
        return fingerprint(identity_from_text(self.key))


def backup(folder: Path, file: Path, now: datetime) -> Manifest:
    """Write a server into one file; it may run meanwhile.

    Args:
        folder: its state folder.
        file: is not there yet, and lies outside the folder.
        now: for the manifest.

    Raises:
        ServerError: JG-server-301, no server's folder; JG-server-303, a database that cannot be used;
            JG-server-460, the file cannot be written, or campaigns moved on at each look.
        SiteError: JG-site-101..103, no audit key. PlanError: JG-plan-001..006, a server.yaml that does not fit.
    """
    state = StateFolder(folder)
    url, key = state.database_url, state.audit_key
    if os.path.lexists(file):
        raise _unwritten(file, "something stands there already")
    if folder.resolve() in file.resolve().parents:
        raise _unwritten(file, "it lies in the folder that it is to save")
    try:
        with ExitStack() as stack:
            made = engine(url)
            stack.callback(made.dispose)
            version, connection, checkpoints = stack.enter_context(_moment(state, made, file))
            descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # mode 0600
            part = Path(name)
            stack.callback(part.unlink, missing_ok=True)
            os.close(descriptor)
            with part.open("r+b") as opened:
                archive = _Archive(opened)
                for table in _reflected(made).sorted_tables:
                    archive.rows(table, connection)
                for path, source in _files(folder, checkpoints):
                    archive.add(f"folder/{path}", source)
                manifest = Manifest(
                    moment=now.replace(microsecond=0),
                    made_by=__version__,
                    tables=version,
                    key=key.public_text,
                    parts=archive.parts,
                )
                archive.seal(manifest, key)
                opened.flush()
                os.fsync(opened.fileno())
            part.rename(file)
            _sync(file.parent)
    except OSError as error:
        raise _unwritten(file, error.strerror or type(error).__name__) from None
    except SQLAlchemyError as error:
        raise ServerError("JG-server-303", problem=type(error).__name__) from None
    return manifest


def restore(file: Path, folder: Path, now: datetime, database: str | None = None) -> Manifest:
    """Make a server of a backup, with the newest tables.

    Args:
        file: the backup.
        folder: is not there yet.
        now: for the audit log.
        database: another URL than the backup's settings name, or `OWN_FILE`.

    Raises:
        ServerError: JG-server-302, the folder is there; JG-server-303, a database that cannot be used; JG-server-350,
            a file that cannot be read; JG-server-351, a folder that cannot be made; JG-server-461, no backup, or an
            altered one; JG-server-462, the database is not empty; JG-server-463, its tables are newer than these;
            JG-server-430..436, its audit log does not hold.
        SiteError, PlanError: as `backup`.
    """
    if os.path.lexists(folder):
        raise ServerError("JG-server-302", where=str(folder))
    given(file, "FILE")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = StateFolder(Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")))
    except OSError as error:
        raise ServerError("JG-server-351", where=str(folder), problem=error.strerror or type(error).__name__) from None
    try:
        rows = made.path / ".tables"
        with file.open("rb") as opened:
            manifest = _unpack(file, opened, made.path, rows)
        _settle(made, database)
        _refill(made, manifest, rows, now)
        shutil.rmtree(rows)
        made.path.rename(folder)
        _sync(folder.parent)
    except SQLAlchemyError as error:
        raise ServerError("JG-server-303", problem=type(error).__name__) from None
    except OSError as error:
        raise ServerError("JG-server-351", where=str(folder), problem=error.strerror or type(error).__name__) from None
    finally:
        shutil.rmtree(made.path, ignore_errors=True)
    return manifest


class _Archive:
    """A tar that is written part by part, with the hashes of them and of the whole."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._whole, self.parts = file, hashlib.sha256(), dict[str, Part]()

    def add(self, name: str, source: IO[bytes]) -> None:
        """Add an open file's content, as long as it is now."""
        found = os.fstat(source.fileno())
        self._write(_header(name, found.st_size, found.st_mode & 0o777))
        content, left = hashlib.sha256(), found.st_size
        while left:
            piece = source.read(min(left, 2**20))
            if not piece:
                raise OSError(f"{name} became shorter")
            content.update(piece)
            self._write(piece)
            left -= len(piece)
        self._write(bytes(-found.st_size % _BLOCK))
        self.parts[name] = Part(size=found.st_size, sha256=content.hexdigest(), mode=found.st_mode & 0o777)

    def rows(self, table: Table, connection: Connection) -> None:
        """Add a table's rows."""
        query = select(table).order_by(*table.primary_key).execution_options(yield_per=_ROWS)
        with tempfile.TemporaryFile(dir=Path(self._file.name).parent) as lines:
            for row in connection.execute(query).mappings():
                lines.write(_line(table, row))
            lines.flush()
            lines.seek(0)
            self.add(f"tables/{table.name}.jsonl", lines)

    def seal(self, manifest: Manifest, key: Identity) -> None:
        """Add the manifest and the signature."""
        content = json.dumps(manifest.model_dump(mode="json"), indent=1).encode()
        self._write(_header(_MANIFEST, len(content), 0o600) + content + bytes(-len(content) % _BLOCK))
        self._file.write(_tail(key.sign(_SIGNED + self._whole.digest())))

    def _write(self, data: bytes) -> None:
        self._whole.update(data)
        self._file.write(data)


@contextmanager
def _moment(state: StateFolder, made: Engine, file: Path) -> Iterator[tuple[str, Connection, Mapping[Path, IO[bytes]]]]:
    """The database at one moment, its version, and the checkpoints that it needs, open: a later round removes them."""
    version = found(made)
    if version is None:
        raise ServerError("JG-server-303", problem="it has no tables")
    for _ in range(_LOOKS):
        with ExitStack() as stack:
            connection = stack.enter_context(still(made))
            needed = [
                state.checkpoints(campaign) / f"{number}.safetensors" for campaign, number in _needed(made, connection)
            ]
            try:
                opened = {path: stack.enter_context(path.open("rb")) for path in needed}
            except FileNotFoundError:  # a round was finished in between
                continue
            yield version, connection, opened
            return
    raise _unwritten(file, f"rounds were finished at each of {_LOOKS} looks")


def _needed(made: Engine, connection: Connection) -> Iterator[tuple[str, int]]:
    """Of each unfinished campaign the rounds whose checkpoints it goes on from: the last, and the best."""
    of = _reflected(made).tables
    campaigns, rounds, evaluations = of["campaigns"], of["rounds"], of["evaluations"]
    for row in connection.execute(select(campaigns).where(campaigns.c.state.in_(_UNFINISHED))).all():
        finished = (rounds.c.campaign == row.hash) & (rounds.c.outcome == Outcome.FINISHED)
        last = connection.scalar(select(rounds.c.round).where(finished).order_by(rounds.c.round.desc()).limit(1))
        query = select(evaluations).where(evaluations.c.campaign == row.hash).order_by(evaluations.c.round)
        shown = [
            EvaluationEntry(**{name: value for name, value in one.items() if name != "campaign"})
            for one in connection.execute(query).mappings()
        ]
        plan = plan_of(CampaignRow(row.hash, row.name, row.envelope, State(row.state)))
        yield from ((row.hash, number) for number in {last, best_round(plan, shown)} if number is not None)


def _files(folder: Path, checkpoints: Mapping[Path, IO[bytes]]) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of a state folder that are worth keeping, open, by their paths in it.

    Left out: its sqlite file, which is in the tables; what only a running server has; files that are being written;
    the checkpoints from which no campaign goes on.
    """
    for path, opened in checkpoints.items():
        yield path.relative_to(folder).as_posix(), opened
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or _LEFT.fullmatch(name) or _CHECKPOINT.fullmatch(name) or not path.is_file():
            continue
        with suppress(FileNotFoundError), path.open("rb") as source:
            yield name, source


def _unpack(file: Path, opened: IO[bytes], folder: Path, rows: Path) -> Manifest:
    """Look at all of a backup, then write its files into `folder` and its tables into `rows`.

    Raises:
        ServerError: JG-server-461.
    """
    size = os.fstat(opened.fileno()).st_size - _TAIL
    whole, left = hashlib.sha256(), size
    while left > 0 and (piece := opened.read(min(left, 2**20))):
        whole.update(piece)
        left -= len(piece)
    tail = opened.read()
    signature = tail[_BLOCK : _BLOCK + _SIGNATURE_BYTES]
    if size < 0 or tail != _tail(signature):
        raise _altered(file, "its end is missing, or it is no backup")
    opened.seek(0)
    try:
        with tarfile.open(fileobj=opened, mode="r:") as archive:
            (*members, last, _) = archive.getmembers()
            manifest = Manifest.model_validate_json(_content(archive, last))
            identity_from_text(manifest.key).verify(signature, _SIGNED + whole.digest())
            if [member.name for member in members] != list(manifest.parts) or last.name != _MANIFEST:
                raise _altered(file, "its parts are not those of its manifest")
            for member in members:
                path, part = _place(member.name, folder, rows), manifest.parts[member.name]
                if path is None or not member.isreg():
                    raise _altered(file, f"{member.name!r} is no name of a part")
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                source, content = archive.extractfile(member), hashlib.sha256()
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as target:
                    while source is not None and (piece := source.read(2**20)):
                        content.update(piece)
                        target.write(piece)
                    os.fchmod(descriptor, part.mode)
                    os.fsync(descriptor)
                if content.hexdigest() != part.sha256:
                    raise _altered(file, f"{member.name} is not what the manifest says")
    except InvalidSignature:
        raise _altered(file, "its signature does not hold") from None
    except (tarfile.TarError, ValueError) as error:
        raise _altered(file, type(error).__name__) from None
    return manifest


def _place(name: str, folder: Path, rows: Path) -> Path | None:
    """Where a part goes; None where its name leads out of the folder."""
    first, _, rest = name.partition("/")
    parts = PurePosixPath(rest).parts
    if first not in ("folder", "tables") or not parts or any(part in ("..", "/") or part[0] == "." for part in parts):
        return None
    return (folder if first == "folder" else rows).joinpath(*parts)


def _settle(made: StateFolder, database: str | None) -> None:
    """Have the settings name the wanted database."""
    if database is None:
        return
    file = made.path / "server.yaml"
    settings = read(file, ServerSettings).model_copy(update={"database": None if database == OWN_FILE else database})
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def _refill(made: StateFolder, manifest: Manifest, rows: Path, now: datetime) -> None:
    """Fill an empty database from the lines of a backup, and look whether its log holds; else leave it empty."""
    target = engine(made.database_url)
    try:
        if inspect(target).get_table_names():
            raise ServerError("JG-server-462")
        try:
            migrations.upgrade(target, manifest.tables)
            _insert(target, rows)
            migrations.upgrade(target)
            store = made.store()
            try:
                store.adopt()
                _noted(store, manifest, made.audit_key, now)
            finally:
                store.close()
        except BaseException as error:
            held = MetaData()
            held.reflect(target)
            held.drop_all(target)
            if isinstance(error, CommandError):
                raise ServerError("JG-server-463", found=manifest.tables, known=tables.VERSION) from None
            raise
    finally:
        target.dispose()


def _noted(store: Store, manifest: Manifest, key: Identity, now: datetime) -> None:
    database: Database = store.database
    entries, head = database.audit_head()
    detail: dict[str, str | int] = {"moment": manifest.moment.isoformat(), "entries": entries, "head": head}
    with database.writing() as writing:
        writing.note(Note("server", manifest.fingerprint, "restore", detail=detail))
    verify(exported(database.audit(), *database.audit_head(), now, key), key.public)


def _insert(target: Engine, rows: Path) -> None:
    """Put the lines of all tables into a database that has them, in one transaction."""
    held = _reflected(target)
    with target.begin() as connection:
        for table in reversed(held.sorted_tables):
            connection.execute(delete(table))
        for table in held.sorted_tables:
            file = rows / f"{table.name}.jsonl"
            if not file.exists():
                continue
            with file.open("rb") as lines:
                while part := [_values(table, line) for line in islice(lines, _ROWS)]:
                    connection.execute(insert(table), part)
            if target.dialect.name == "postgresql":
                _count_on(connection, table)


def _count_on(connection: Connection, table: Table) -> None:
    """Have PostgreSQL's own numbers of a table go on after those that are there."""
    for column in table.primary_key:
        if (column.server_default is not None) and connection.scalar(select(column).limit(1)) is not None:
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            connection.execute(select(func.setval(sequence, select(func.max(column)).scalar_subquery())))


def _reflected(made: Engine) -> MetaData:
    """The tables as they are, whatever their version; alembic's own is not one of them."""
    held = MetaData()
    held.reflect(made, only=lambda name, _: name != "alembic_version")
    for table in held.tables.values():
        for column in table.columns:
            if isinstance(column.type, JSON):
                column.type = JSON(none_as_null=True)
    return held


def _line(table: Table, row: Any) -> bytes:
    values = {
        column.name: base64.b64encode(row[column]).decode() if _binary(column, row[column]) else row[column]
        for column in table.columns
    }
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _values(table: Table, line: bytes) -> dict[str, Any]:
    values = json.loads(line)
    return {
        column.name: base64.b64decode(values[column.name])
        if _binary(column, values[column.name])
        else values[column.name]
        for column in table.columns
    }


def _binary(column: Any, value: object) -> bool:
    return value is not None and isinstance(column.type, LargeBinary)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source = archive.extractfile(member)
    return b"" if source is None else source.read()


def _header(name: str, size: int, mode: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, mode
    return info.tobuf(tarfile.PAX_FORMAT)


def _tail(signature: bytes) -> bytes:
    """The signature as the last member of a tar, and the tar's end."""
    return _header("signature", _SIGNATURE_BYTES, 0o600) + signature.ljust(_BLOCK, b"\0") + bytes(2 * _BLOCK)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritten(file: Path, problem: str) -> ServerError:
    return ServerError("JG-server-460", where=str(file), problem=problem)


def _altered(file: Path, problem: str) -> ServerError:
    return ServerError("JG-server-461", where=str(file), problem=problem)
