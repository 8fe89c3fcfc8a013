"""The roster: which sites belong, by which keys. An operator and an independent body sign it.

The law: a roster holds for at most 30 days, so that nobody can hide a revocation for longer; its version only grows;
a lying server cannot fill it with sites of its own, because more than a tenth of newcomers waits for a person's yes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field, PositiveInt, model_validator

from jangin.codec.document import Document
from jangin.errors import SiteError
from jangin.trust.envelope import IdentityText, Kind, Moment, NodeKeyText, Versioned, read_document
from jangin.trust.keys import fingerprint, identity_from_text, node_key_from_text
from jangin.trust.staff import Role, Staff

__all__ = ["MAX_LIFE", "SITE_ID", "Roster", "RosterChange", "RosterSite", "Status", "compare", "verify_roster"]

MAX_LIFE = timedelta(days=30)

SITE_ID = r"^[a-z0-9][a-z0-9-]{0,62}$"

_ROLES = (Role.OPERATOR, Role.INDEPENDENT_BODY)


class Status(StrEnum):
    """Whether a site may take part: now, not now, never again by this key."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


class RosterSite(Document):
    """One site.

    Attributes:
        identity: its Ed25519 key as an OpenSSH line.
        node_key: the P-384 key of its Flower node as an OpenSSH line.
        status: whether it may take part.
    """

    identity: IdentityText
    node_key: NodeKeyText
    status: Status = Status.ACTIVE

    @property
    def public(self) -> Ed25519PublicKey:
        """The identity itself."""
        return identity_from_text(self.identity)

    @property
    def node(self) -> EllipticCurvePublicKey:
        """The node key itself."""
        return node_key_from_text(self.node_key)

    @property
    def fingerprint(self) -> str:
        """Of the identity: what the operator and the site compared by telephone."""
        return fingerprint(self.public)


class Roster(Versioned):
    """Every site that ever was admitted and is still named.

    Attributes:
        staff: the version of the staff list it was signed under: a server cannot keep a newer list from the sites
            for longer than a roster lives.
        valid_until: from then on it counts for nothing; at most `MAX_LIFE` after `issued`.
        sites: by id.
    """

    kind = Kind.ROSTER

    staff: PositiveInt
    valid_until: Moment
    sites: Mapping[Annotated[str, Field(pattern=SITE_ID)], RosterSite]

    @model_validator(mode="after")
    def _one_site_a_key(self) -> "Roster":
        if not self.issued < self.valid_until <= self.issued + MAX_LIFE:
            raise ValueError(f"valid_until must be after issued, by at most {MAX_LIFE.days} days")
        for keys in ({site.identity for site in self.sites.values()}, {site.node_key for site in self.sites.values()}):
            if len(keys) != len(self.sites):
                raise ValueError("two sites have one key")
        return self

    @property
    def active(self) -> dict[str, RosterSite]:
        """The sites that may take part now, by id."""
        return {name: site for name, site in self.sites.items() if site.status is Status.ACTIVE}

    @property
    def identities(self) -> dict[str, Ed25519PublicKey]:
        """The Ed25519 keys of the active sites, by id."""
        return {name: site.public for name, site in self.active.items()}


@dataclass(frozen=True)
class RosterChange:
    """What a newer roster changes, by ids of sites, sorted.

    Attributes:
        newcomers: active now, by an identity that the older roster had not, or had revoked: a site that changed its
            identity is one.
        gone: active before, and not now.
        rekeyed: on both with another identity or node key. Ask such a site why.
        before: sites on the older roster, revoked ones aside.
    """

    newcomers: tuple[str, ...]
    gone: tuple[str, ...]
    rekeyed: tuple[str, ...]
    before: int

    @property
    def needs_consent(self) -> bool:
        """Whether a person has to say yes: the newcomers are more than a tenth of the sites before."""
        return 10 * len(self.newcomers) > self.before


def verify_roster(data: bytes, staff: Staff, now: datetime) -> Roster:
    """The roster, if an operator and another person of an independent body signed it and it is in force.

    Raises:
        SiteError: JG-site-110..114 and 116..118 as `Staff.open`, 115 and 119 as `read_document`, 120 expired,
            123 signed under a staff list newer than `staff`.
    """
    payload, _ = staff.open(data, Kind.ROSTER, _ROLES, now)
    roster = read_document(payload, Roster, now)
    if now >= roster.valid_until:
        raise SiteError("JG-site-120", version=roster.version, valid_until=roster.valid_until, now=now)
    if roster.staff > staff.version:
        raise SiteError("JG-site-123", version=roster.version, expected=roster.staff, held=staff.version)
    return roster


def compare(held: Roster, given: Roster) -> RosterChange:
    """What changes from `held` to `given`.

    Raises:
        SiteError: JG-site-121 an older roster, JG-site-122 another roster of the same version.
    """
    given.check_follows(held)
    standing = {site.identity for site in held.sites.values() if site.status is not Status.REVOKED}
    return RosterChange(
        newcomers=tuple(sorted(name for name, site in given.active.items() if site.identity not in standing)),
        gone=tuple(sorted(held.active.keys() - given.active.keys())),
        rekeyed=tuple(name for name in sorted(given.sites.keys() & held.sites.keys()) if _rekeyed(name, held, given)),
        before=len(standing),
    )


def _rekeyed(name: str, held: Roster, given: Roster) -> bool:
    before, after = held.sites[name], given.sites[name]
    return (before.identity, before.node_key) != (after.identity, after.node_key)
