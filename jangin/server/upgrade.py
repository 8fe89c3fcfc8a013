"""An older server's folder and database, brought to this version of Jangin.

The law: what was there is in a backup first; no server runs on the folder meanwhile; what was interrupted is done
again, and what is done is not done twice.
"""

from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from jangin.errors import ServerError
from jangin.server import migrations, tables
from jangin.server.audit import Note
from jangin.server.backup import backup
from jangin.server.database import engine, found
from jangin.server.settings import StateFolder

__all__ = ["upgrade"]


def upgrade(folder: Path, now: datetime) -> Path | None:
    """Bring a server to the newest tables, with an audit log that begins with the campaigns that are there.

    Args:
        folder: its state folder.
        now: for the backup and its name.

    Returns:
        The backup, beside the folder; None where the tables were the newest already.

    Raises:
        ServerError: JG-server-301, no server's folder; JG-server-303, a database that cannot be used, or of a newer
            version; JG-server-306, the server runs; JG-server-460, the backup cannot be written.
        SiteError: JG-site-101..103, an audit key that cannot be used. PlanError: JG-plan-001..006, a server.yaml that
            does not fit.
    """
    state = StateFolder(folder)
    url, kept = state.database_url, None
    with state.alone():
        try:
            made = engine(url)
            try:
                version = found(made)
                if version is not None and version > tables.VERSION:
                    raise ServerError("JG-server-303", problem=f"its schema is {version}, not {tables.VERSION}")
                if not (folder / "audit.key").exists() and _unlogged(made):
                    state.audited()
                if version is not None and version < tables.VERSION:
                    kept = folder.parent / f"{folder.name}.{version}.{now:%Y%m%dT%H%M%SZ}.backup"
                    backup(folder, kept, now)
                    migrations.upgrade(made)
            finally:
                made.dispose()
        except (SQLAlchemyError, ImportError) as error:
            raise ServerError("JG-server-303", problem=type(error).__name__) from None
        store = state.store()
        try:
            store.adopt()
            if kept is not None:
                detail = {"before": str(version), "after": tables.VERSION}
                with store.database.writing() as database:
                    database.note(Note("server", "tables", "upgrade", detail=detail))
        finally:
            store.close()
    return kept


def _unlogged(made: Engine) -> bool:
    """Whether no audit log was begun; the key of one that was is not made again."""
    if tables.audit.name not in inspect(made).get_table_names():
        return True
    with made.connect() as connection:
        return connection.scalar(select(tables.audit.c.number).limit(1)) is None
