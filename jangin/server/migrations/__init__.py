"""How the tables of an older server become those of this one, by alembic.

The law: a database is changed in one transaction where it can be, and only when somebody asks for it.
"""

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, inspect

from jangin.server import tables

__all__ = ["upgrade"]


def upgrade(engine: Engine, version: str = tables.VERSION) -> None:
    """Bring a database to the newest tables, or those of a version; one that is there already stays as it is.

    Raises:
        SQLAlchemyError: the database.
    """
    config = Config()
    config.set_main_option("script_location", "jangin:server/migrations")
    config.attributes["engine"] = engine
    names = set(inspect(engine).get_table_names())
    if "alembic_version" not in names and "schema" in names:  # from before migrations
        command.stamp(config, "0001")
    command.upgrade(config, version)
