"""Alembic's entry: it runs the migrations on the engine that it is handed."""

from alembic import context

from jangin.server import tables

if hasattr(context, "config"):  # alembic has asked, and nobody who only looks through the package
    with context.config.attributes["engine"].begin() as connection:
        context.configure(connection=connection, target_metadata=tables.METADATA, render_as_batch=True)
        with context.begin_transaction():
            context.run_migrations()
