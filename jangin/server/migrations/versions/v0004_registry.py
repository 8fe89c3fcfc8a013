"""The registry of models: their versions, aliases, and the factory figures measured after campaigns."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables, empty: what was a candidate before them has its files, and no version."""
    op.create_table(
        "models",
        sa.Column("campaign", sa.String(length=64), nullable=False),
        sa.Column("line", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("receipt", sa.LargeBinary(), nullable=False),
        sa.Column("release", sa.LargeBinary(), nullable=True),
        sa.Column("withdrawal", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["campaign"], ["campaigns.hash"]),
        sa.PrimaryKeyConstraint("campaign"),
        sa.UniqueConstraint("line", "version"),
    )
    op.create_table(
        "aliases",
        sa.Column("line", sa.String(length=63), nullable=False),
        sa.Column("alias", sa.String(length=16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("line", "alias"),
    )
    op.create_table(
        "measurements",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("campaign", sa.String(length=64), nullable=False),
        sa.Column("person", sa.String(length=63), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["campaign"], ["campaigns.hash"]),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index(op.f("ix_measurements_campaign"), "measurements", ["campaign"], unique=False)
