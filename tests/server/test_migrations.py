"""Laws of the migrations: they make what tables.py says, from nothing and from an older server's database."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from jangin.server import migrations, tables
from jangin.server.database import Database, engine
from jangin.server.store import Store
from jangin.trust.keys import Identity

KEY = Identity.generate()


def difference(url: str) -> list[Any]:
    """Between a database and the tables."""
    made = engine(url)
    with made.connect() as connection:
        found: list[Any] = compare_metadata(
            MigrationContext.configure(connection, opts={"compare_type": True}), tables.METADATA
        )
    made.dispose()
    return found


def migrated(url: str) -> None:
    made = engine(url)
    migrations.upgrade(made)
    made.dispose()


def test_migrations_make_the_tables_that_are_written_down(database_url: str) -> None:
    migrated(database_url)
    assert difference(database_url) == []
    migrated(database_url)
    Database(database_url, KEY).close()


def test_tables_made_at_once_are_those_of_the_migrations(database_url: str) -> None:
    Database(database_url, KEY).close()
    assert difference(database_url) == []
    migrated(database_url)


def test_an_older_database_comes_along_with_what_it_holds(database_url: str) -> None:
    made = engine(database_url)
    migrations.upgrade(made, "0001")
    with made.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))  # as before there were migrations
        connection.execute(text("INSERT INTO schema (version) VALUES (2)"))
        connection.execute(
            text(
                "INSERT INTO campaigns (number, hash, name, envelope, state, reason) "
                "VALUES (1, 'ab', 'steel', :envelope, 'finished', '')"
            ),
            {"envelope": b"signed"},
        )
    made.dispose()
    migrated(database_url)
    assert difference(database_url) == []
    store = Store(Database(database_url, KEY))
    assert [(row.name, row.state) for row in store.campaigns()] == [("steel", "candidate")]
    store.close()
