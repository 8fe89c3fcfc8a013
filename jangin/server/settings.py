"""The server's state folder and its `server.yaml`.

    server.yaml  tls/ca.crt  tls/server.crt  tls/server.key  root.pub  audit.key  audit.pub
    jangin.sqlite  checkpoints/<hash>/  logs/  address  lock

The law: everything the server keeps lies in one folder that is made whole or not at all, and one server runs on it;
unknown keys are errors.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import yaml
from filelock import FileLock, Timeout
from pydantic import Field, PositiveFloat
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError

from jangin.codec.document import Document, read
from jangin.errors import ServerError
from jangin.server.database import Database, engine
from jangin.server.store import Store
from jangin.telling.logs import LogsBlock
from jangin.trust.certificates import issue, make_authority
from jangin.trust.envelope import MAX_AHEAD
from jangin.trust.keys import Identity, identity_from_text, write_private
from jangin.trust.staff import verify_staff

__all__ = ["MonitorBlock", "ServerSettings", "StateFolder", "given", "write_whole"]

_CERTIFICATE_LIFE = timedelta(days=730)


class MonitorBlock(Document):
    """Where a monitor of the ministry's asks how the server is.

    Attributes:
        host: an address of this machine; whoever reaches it may read the figures.
        port: for `GET /health` and `GET /metrics`; 0 for any that is free.
    """

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)]


class ServerSettings(Document):
    """What an operator may set.

    Attributes:
        host: the address to listen on.
        port: 0 for any that is free.
        idle_poll_s: seconds between two polls of a site that has nothing to do, at least.
        database: URL of another database than the folder's own sqlite file.
        monitor: where /health and /metrics are; None: nowhere.
        logs: for how long the log is kept.
    """

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8443
    idle_poll_s: PositiveFloat = 5.0
    database: Annotated[str | None, Field(repr=False)] = None  # may hold a password
    monitor: MonitorBlock | None = None
    logs: LogsBlock = LogsBlock()


@dataclass(frozen=True)
class StateFolder:
    """Where a server keeps what it keeps."""

    path: Path

    @property
    def certificate(self) -> Path:
        """The server's certificate, PEM."""
        return self.path / "tls" / "server.crt"

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.path / "tls" / "server.key"

    @property
    def authority(self) -> Path:
        """The certificate that sites pin."""
        return self.path / "tls" / "ca.crt"

    @property
    def address(self) -> Path:
        """`host:port` while the server listens."""
        return self.path / "address"

    @property
    def root(self) -> str:
        """The offline root's public key, one OpenSSH line.

        Raises:
            ServerError: JG-server-350, its file cannot be read.
        """
        return given(self.path / "root.pub", "root.pub").decode("ascii", "replace").strip()

    def checkpoints(self, campaign: str) -> Path:
        """The folder of one campaign's checkpoints."""
        return self.path / "checkpoints" / campaign

    def settings(self) -> ServerSettings:
        """What server.yaml says.

        Raises:
            ServerError: JG-server-301, no server's folder. PlanError: JG-plan-001..006, a file that does not fit.
        """
        file = self.path / "server.yaml"
        if not file.is_file():
            raise ServerError("JG-server-301", where=str(self.path))
        return read(file, ServerSettings)

    @property
    def database_url(self) -> str:
        """Of the database, which may hold a password.

        Raises:
            ServerError, PlanError: as `settings`.
        """
        return self.settings().database or f"sqlite:///{self.path / 'jangin.sqlite'}"

    @property
    def audit_key(self) -> Identity:
        """The key that signs the audit log.

        Raises:
            SiteError: JG-site-101..103, its file cannot be used.
        """
        return Identity.load(self.path / "audit.key")

    def store(self) -> Store:
        """The database, opened.

        Raises:
            ServerError: JG-server-301 as `settings`; JG-server-303, a database that cannot be used.
            SiteError: JG-site-101..103 as `audit_key`.
        """
        url = self.database_url
        if not (self.path / "audit.key").exists():
            raise ServerError("JG-server-303", problem="the folder has no audit.key")
        return Store(Database(url, self.audit_key))

    def audited(self) -> None:
        """Make the key of the audit log."""
        key = Identity.generate()
        key.save(self.path / "audit.key")
        (self.path / "audit.pub").write_text(f"{key.public_text}\n", encoding="ascii")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the one server that runs on this folder; when the process is gone, so is its hold, whatever ended it.

        Raises:
            ServerError: JG-server-306, another one runs here.
        """
        lock = FileLock(self.path / "lock", blocking=False, fallback_to_soft=False)
        try:
            lock.acquire()
        except Timeout:
            raise ServerError("JG-server-306", where=str(self.path)) from None
        try:
            yield
        finally:
            lock.release()

    @classmethod
    def make(
        cls,
        path: Path,
        settings: ServerSettings,
        root: str,
        staff: bytes,
        names: Sequence[str],
        now: datetime,
        beside: "StateFolder | None" = None,
    ) -> "StateFolder":
        """Make a folder with its own TLS authority, whose key is thrown away when the certificate is signed.

        Args:
            path: a folder that is not there yet.
            settings: what server.yaml is to say.
            root: the offline root's public key, one OpenSSH line.
            staff: the signed staff list.
            names: hosts and addresses by which sites reach the server.
            now: the start of the certificate's two years.
            beside: another server of the same database, which has this staff list.

        Raises:
            ServerError: JG-server-302, something stands there already; JG-server-304, a root that is no key;
                JG-server-303, a database that cannot be used; JG-server-351, a folder that cannot be made;
                JG-server-462, a database that is not empty.
            SiteError: JG-site-110..119, a staff list that the root did not sign.
        """
        if os.path.lexists(path):
            raise ServerError("JG-server-302", where=str(path))
        try:
            public = identity_from_text(root)
        except ValueError as error:
            raise ServerError("JG-server-304", where="root", problem=str(error)) from None
        listed = verify_staff(staff, public, now)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            made = cls(Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.")))
        except OSError as error:
            raise _cannot(path, error) from None
        try:
            (made.path / "tls").mkdir()
            start = now.replace(microsecond=0) - MAX_AHEAD  # a site's clock may be behind
            authority = make_authority("jangin", start, start + _CERTIFICATE_LIFE)
            certificate = issue(authority, names, start, start + _CERTIFICATE_LIFE)
            write_private(made.key, certificate.key)
            made.certificate.write_bytes(certificate.chain)
            made.authority.write_bytes(authority.chain)
            (made.path / "root.pub").write_text(root + "\n", encoding="ascii")
            document = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
            (made.path / "server.yaml").write_text(document, encoding="utf-8")
            if beside is None:
                _refuse_filled(made.database_url)
                made.audited()
            else:
                beside.audit_key.save(made.path / "audit.key")
                shutil.copyfile(beside.path / "audit.pub", made.path / "audit.pub")
            store = made.store()
            if beside is None:
                store.add_staff(listed.version, staff)
            store.close()
            made.path.rename(path)
        except BaseException as error:
            shutil.rmtree(made.path, ignore_errors=True)
            if isinstance(error, OSError):
                raise _cannot(path, error) from None
            raise
        return cls(path)

    @classmethod
    def make_beside(
        cls, path: Path, other: "StateFolder", host: str, port: int, names: Sequence[str], now: datetime
    ) -> "StateFolder":
        """Make a folder for another server of one database, with its own TLS authority.

        Args:
            path: a folder that is not there yet.
            other: the server that shares database, staff, root and audit key.
            host: the address to listen on.
            port: 0 for any that is free.
            names: hosts and addresses by which sites reach it.
            now: the start of the certificate's two years.

        Raises:
            ServerError: JG-server-466, the database is a file of the other's folder; else as `make` and `store`.
            SiteError, PlanError: as `make` and `settings`.
        """
        settings = other.settings()
        if settings.database is None:
            raise ServerError("JG-server-466", where=str(other.path))
        store = other.store()
        staff = store.staff()
        store.close()
        own = ServerSettings(host=host, port=port, idle_poll_s=settings.idle_poll_s, database=settings.database)
        return cls.make(path, own, other.root, staff, names, now, beside=other)


def given(path: Path, name: str) -> bytes:
    """The content of a file that somebody named; `name` says by which option.

    Raises:
        ServerError: JG-server-350, it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        problem = error.strerror or type(error).__name__
        raise ServerError("JG-server-350", where=f"{name} {path}", problem=problem) from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that after a crash it holds all of `data`, or what it held before."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _refuse_filled(url: str) -> None:
    """Refuse a database that has tables.

    Raises:
        ServerError: JG-server-462; JG-server-303, it cannot be used.
    """
    try:
        made = engine(url)
        try:
            filled = bool(inspect(made).get_table_names())
        finally:
            made.dispose()
    except (SQLAlchemyError, ImportError) as error:
        raise ServerError("JG-server-303", problem=type(error).__name__) from None
    if filled:
        raise ServerError("JG-server-462")


def _cannot(path: Path, error: OSError) -> ServerError:
    return ServerError("JG-server-351", where=str(path), problem=error.strerror or type(error).__name__)
