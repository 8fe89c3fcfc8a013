"""Alembic's entry: it runs the migrations on the engine that it is handed."""

from alembic import context

from jangin.server import tables

with context.config.attributes["engine"].begin() as connection:
    context.configure(connection=connection, target_metadata=tables.METADATA, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
