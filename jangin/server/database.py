"""The server's database, opened: what all rooms that keep something in it share.

The law: each write is one transaction that ends on the disk, and what it notes for the audit log is in the same one, so
that nothing is done that the log does not tell, and nothing told that was not done. Writers stand in line at the log's
head, so that its entries have one order whatever the processes; a reader never waits for a writer.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    event,
    func,
    insert,
    inspect,
    literal,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import NullPool

from jangin.errors import ServerError
from jangin.server import tables
from jangin.server.audit import FIRST_HEAD, Link, Note, link
from jangin.trust.keys import Identity

__all__ = ["AWAY", "Database", "Writing", "engine", "found", "refuse_password", "still"]

AWAY: Final = (OperationalError, InterfaceError, PoolTimeoutError)
"""What is raised while the database does not answer, or is locked; it may answer later."""

_BUSY_SECONDS: Final = 60.0
_CONNECT_SECONDS: Final = 5
_AGAIN_SECONDS: Final = 0.5
_ONE: Final = 1


class Writing:
    """One transaction that writes: statements, and notes for the audit log."""

    def __init__(self, connection: Connection, key: Identity, moment: datetime) -> None:
        """Take the transaction; `key` signs, `moment` is written."""
        self._connection, self._key, self._moment = connection, key, moment

    def execute(self, statement: Any, values: Any = None) -> Any:
        """Execute a statement; its result."""
        return self._connection.execute(statement, values)

    def note(self, note: Note) -> Link:
        """Append to the audit log; other writers wait until this transaction has ended."""
        heads = tables.audit_head.c
        held = update(tables.audit_head).values(entries=heads.entries + 1).returning(heads.entries, heads.digest)
        number, previous = self._connection.execute(held).one()
        made = link(note, number, previous, self._moment, self._key)
        self._connection.execute(insert(tables.audit).values(number=number, body=made.body, signature=made.signature))
        self._connection.execute(update(tables.audit_head).values(digest=made.entry.head))
        return made


class Database:
    """The database of a server; safe to use from several threads and processes."""

    def __init__(self, url: str, key: Identity, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Open it; the tables are made where there are none.

        Args:
            url: of SQLAlchemy; may hold a password.
            key: the server's audit key.
            clock: aware times, for the audit log.

        Raises:
            ServerError: JG-server-303, not reachable, or of another version.
        """
        self._key, self._clock = key, clock
        try:
            self._engine, self._apart = engine(url), engine(url, poolclass=NullPool)
            version = found(self._engine)
            if version is None:
                _make(self._engine)
                version = found(self._engine)
        except (SQLAlchemyError, ImportError) as error:  # the other: its driver is not installed
            raise ServerError("JG-server-303", problem=type(error).__name__) from None
        if version != tables.VERSION:
            self.close()
            raise ServerError("JG-server-303", problem=f"its schema is {version}, not {tables.VERSION}")

    def close(self) -> None:
        """Let go of its connections."""
        self._engine.dispose()
        self._apart.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads."""
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """A transaction that writes; it is on the disk when this ends, or not at all where it raises."""
        with self._engine.begin() as connection:
            yield Writing(connection, self._key, self._clock())

    @contextmanager
    def leading(self, campaign: str) -> Iterator[bool]:
        """Be the one server of this database that leads a campaign; whether it is, which on sqlite its folder says.

        PostgreSQL holds it for as long as a connection lasts, so that a server that was killed holds nothing.

        Args:
            campaign: its hash.
        """
        if self._engine.dialect.name == "sqlite":
            yield True
            return
        number = int(campaign[:16], 16) - 2**63
        with self._apart.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            ours = bool(connection.scalar(select(func.pg_try_advisory_lock(number))))
            try:
                yield ours
            finally:
                connection.invalidate()  # which ends what it held, also where the database is away

    def waited_for(self, stop: threading.Event) -> bool:
        """Wait until it answers; whether it does: False where `stop` came first."""
        while not stop.is_set():
            try:
                with self.reading() as connection:
                    connection.execute(select(literal(1)))
                return True
            except AWAY:
                stop.wait(_AGAIN_SECONDS)
        return False

    def audit(self, after: int = 0) -> list[Link]:
        """The entries of the audit log after number `after`, in order."""
        of = tables.audit.c
        with self.reading() as connection:
            rows = connection.execute(select(tables.audit).where(of.number > after).order_by(of.number)).all()
        return [Link.of(row.body, row.signature) for row in rows]

    def audit_head(self) -> tuple[int, str]:
        """How many entries the audit log has, and its head."""
        with self.reading() as connection:
            row = connection.execute(select(tables.audit_head)).one()
        return row.entries, row.digest


def engine(url: str, **more: Any) -> Engine:
    """SQLAlchemy's engine for a database: a lost connection is noticed before it is used, a locked file waited for.

    Args:
        url: of SQLAlchemy.
        more: for `create_engine`.

    Raises:
        SQLAlchemyError: no URL of a database that is installed.
    """
    lite = url.startswith("sqlite")
    waits = {"timeout": _BUSY_SECONDS} if lite else {"connect_timeout": _CONNECT_SECONDS}
    made = create_engine(url, connect_args=waits, hide_parameters=True, pool_pre_ping=not lite, **more)
    if lite:
        event.listen(made, "connect", _switch)
    return made


def refuse_password(url: str | None) -> None:
    """Refuse a URL that somebody typed with a password: whoever is on the machine sees what is typed.

    Raises:
        ServerError: JG-server-467; JG-server-303, no URL of a database.
    """
    try:
        typed = url is not None and "://" in url and make_url(url).password is not None
    except ArgumentError:
        raise ServerError("JG-server-303", problem="no URL of a database") from None
    if typed:
        raise ServerError("JG-server-467")


@contextmanager
def still(made: Engine) -> Iterator[Connection]:
    """A transaction that reads the database as it is at its first look, whatever others write meanwhile."""
    lite = made.dialect.name == "sqlite"
    with made.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT" if lite else "REPEATABLE READ")
        if lite:  # whose driver begins no transaction to read
            connection.exec_driver_sql("BEGIN")
        try:
            yield connection
        finally:
            if lite:
                connection.exec_driver_sql("ROLLBACK")


def found(made: Engine) -> str | None:
    """The version of the tables that are there; None where there are none."""
    with made.connect() as connection:
        names = set(inspect(connection).get_table_names())
        if "alembic_version" in names:
            version: str | None = connection.scalar(select(tables.revision.c.version_num))
            return version
        return "0001" if "schema" in names else None


def _make(made: Engine) -> None:
    """All tables as they are now, and that they are of this version; another process may do the same."""
    tables.METADATA.create_all(made)
    tables.REVISIONS.create_all(made)
    try:
        with made.begin() as connection:
            connection.execute(insert(tables.audit_head).values(one=_ONE, entries=0, digest=FIRST_HEAD))
            connection.execute(insert(tables.revision).values(version_num=tables.VERSION))
    except IntegrityError:
        pass


def _switch(connection: Any, _: object) -> None:
    """A reader never waits for a writer, and a commit is on disk."""
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
