"""The tables of the server's database, and which version of them this is.

The law: sites, people's roles and documents have a place here, workers have none; a table changes by a migration
(server/migrations), and what the migrations make is what stands here.
"""

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Integer, LargeBinary, MetaData, String, Table, Text

__all__ = ["METADATA", "REVISIONS", "VERSION"]

VERSION: Final = "0002"
"""The newest migration; a database at another is not opened."""

METADATA = MetaData()

REVISIONS = MetaData()
"""Alembic's own table, apart, since it is not one of those that it compares."""

revision = Table("alembic_version", REVISIONS, Column("version_num", String(32), primary_key=True))
staff = Table(
    "staff",
    METADATA,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("envelope", LargeBinary, nullable=False),
)
rosters = Table(
    "rosters",
    METADATA,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("envelope", LargeBinary, nullable=False),
)
invitations = Table(
    "invitations",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("site", String(63), nullable=False, index=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("expires", Integer, nullable=False),
    Column("identity", Text),
    Column("node_key", Text),
)
campaigns = Table(
    "campaigns",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("name", String(63), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("reason", Text, nullable=False, default=""),
)
invited = Table(
    "invited",
    METADATA,
    Column("campaign", ForeignKey("campaigns.hash"), primary_key=True),
    Column("site", String(63), primary_key=True, index=True),
    Column("approval", LargeBinary),
)
ledgers = Table(
    "ledgers",
    METADATA,
    Column("site", String(63), primary_key=True),
    Column("entries", Integer, nullable=False),
    Column("head", String(64), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)


def _who_answered() -> Iterator[Column[Any]]:
    """What every asking of a cohort leaves, anew for each table."""
    for name in ("reported", "abstained", "refused", "missing"):
        yield Column(name, JSON, nullable=False)
    yield Column("seconds", Float, nullable=False)
    yield Column("reason", Text, nullable=False)


rounds = Table(
    "rounds",
    METADATA,
    Column("campaign", ForeignKey("campaigns.hash"), primary_key=True),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("outcome", String(16), nullable=False),
    *_who_answered(),
    Column("released", Boolean, nullable=False),
    Column("blamed", JSON, nullable=False),
)
certificates = Table(
    "certificates",
    METADATA,
    Column("campaign", ForeignKey("campaigns.hash"), primary_key=True),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("h1", String(64), nullable=False),
    Column("began", JSON, nullable=False),
    Column("dealers", JSON, nullable=False),
    Column("survivors", JSON, nullable=False),
    Column("signatures", JSON, nullable=False),
)

evaluations = Table(
    "evaluations",
    METADATA,
    Column("campaign", ForeignKey("campaigns.hash"), primary_key=True),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("figures", JSON, nullable=False),
    *_who_answered(),
)

rehearsals = Table(
    "rehearsals",
    METADATA,
    Column("campaign", ForeignKey("campaigns.hash"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("done", Boolean, nullable=False, index=True),
    Column("ready", JSON, nullable=False),
    Column("unapproved", JSON, nullable=False),
    *(column for column in _who_answered() if column.name != "reported"),
)

audit = Table(
    "audit",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)
audit_head = Table(
    "audit_head",
    METADATA,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("entries", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
)
