"""Operators: which commands were taken, and who proposed a campaign."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table of commands, empty; of older campaigns nobody is named as the proposer."""
    op.create_table(
        "commands",
        sa.Column("nonce", sa.String(length=32), nullable=False),
        sa.Column("person", sa.String(length=63), nullable=False),
        sa.Column("act", sa.String(length=31), nullable=False),
        sa.Column("expires", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("nonce"),
    )
    op.create_index("ix_commands_expires", "commands", ["expires"])
    op.add_column("campaigns", sa.Column("proposer", sa.String(length=63), server_default="", nullable=False))
