"""The audit log, rehearsals, and a campaign's whole life: what was finished is a candidate."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the new tables, the log empty, and rename a state."""
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    head = op.create_table(
        "audit_head",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("one"),
    )
    op.bulk_insert(head, [{"one": 1, "entries": 0, "digest": "00" * 32}])
    op.create_table(
        "rehearsals",
        sa.Column("campaign", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("ready", sa.JSON(), nullable=False),
        sa.Column("unapproved", sa.JSON(), nullable=False),
        sa.Column("abstained", sa.JSON(), nullable=False),
        sa.Column("refused", sa.JSON(), nullable=False),
        sa.Column("missing", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["campaign"], ["campaigns.hash"]),
        sa.PrimaryKeyConstraint("campaign", "number"),
    )
    op.create_index(op.f("ix_rehearsals_done"), "rehearsals", ["done"], unique=False)
    op.execute("UPDATE campaigns SET state = 'candidate' WHERE state = 'finished'")
    op.drop_table("schema")
