"""The staff list: whose signatures count, for what and until when. The offline root signs it.

The law: a key belongs to one person; a document that needs two roles needs two people; an expired key signs nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from itertools import product
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field, field_validator

from jangin.codec.document import Document
from jangin.errors import SiteError
from jangin.trust.envelope import IdentityText, Kind, Moment, Versioned, open_envelope, read_document
from jangin.trust.keys import fingerprint, identity_from_text

__all__ = ["Role", "Staff", "StaffKey", "verify_staff"]


class Role(StrEnum):
    """What a person's signature is for."""

    OPERATOR = "operator"
    APPROVER = "approver"
    EVALUATOR = "evaluator"
    AUDITOR = "auditor"
    LABOUR_OBSERVER = "labour_observer"
    INDEPENDENT_BODY = "independent_body"


class StaffKey(Document):
    """One person's key.

    Attributes:
        person: a plain id, so that nobody is two people by spelling.
        key: the Ed25519 key as an OpenSSH line.
        roles: what it may sign, each once.
        expires: from then on it signs nothing.
    """

    person: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
    key: IdentityText
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    expires: Moment

    @field_validator("roles")
    @classmethod
    def _each_once(cls, roles: tuple[Role, ...]) -> tuple[Role, ...]:
        if len(set(roles)) != len(roles):
            raise ValueError("a role is given twice")
        return roles

    @property
    def public(self) -> Ed25519PublicKey:
        """The key itself."""
        return identity_from_text(self.key)

    @property
    def fingerprint(self) -> str:
        """Of the key."""
        return fingerprint(self.public)


class Staff(Versioned):
    """Everybody whose signature counts.

    Attributes:
        keys: a person may have several.
    """

    kind = Kind.STAFF

    keys: Annotated[tuple[StaffKey, ...], Field(min_length=1, max_length=1000)]

    @field_validator("keys")
    @classmethod
    def _one_person_a_key(cls, keys: tuple[StaffKey, ...]) -> tuple[StaffKey, ...]:
        if len({key.fingerprint for key in keys}) != len(keys):
            raise ValueError("a key is listed twice")
        return keys

    def open(self, data: bytes, kind: Kind, roles: Sequence[Role], now: datetime) -> tuple[bytes, tuple[StaffKey, ...]]:
        """The payload of an envelope signed by as many people as `roles`, and who filled each role.

        Raises:
            SiteError: JG-site-110..114 as `open_envelope`, 116 an expired key, 117 a role that nobody among the
                signers has, 118 the same person twice.
        """
        payload, signers = self._signers(data, kind, len(roles), now)
        return payload, _fill(roles, signers, kind)

    def signers(self, data: bytes, kind: Kind, now: datetime) -> tuple[bytes, tuple[StaffKey, ...]]:
        """The payload of an envelope, and whose keys signed it, whatever their roles: by one at least.

        Raises:
            SiteError: JG-site-110..114 as `open_envelope`, 116 an expired key.
        """
        return self._signers(data, kind, 1, now)

    def roles(self, person: str, now: datetime) -> frozenset[Role]:
        """What a person may sign by any key in force; nothing where the list has no such person."""
        return frozenset(role for key in self.keys if key.person == person and now < key.expires for role in key.roles)

    def _signers(self, data: bytes, kind: Kind, least: int, now: datetime) -> tuple[bytes, tuple[StaffKey, ...]]:
        known = {key.fingerprint: key for key in self.keys}
        opened = open_envelope(data, kind, {print_: key.public for print_, key in known.items()}, least)
        signers = tuple(known[signer] for signer in opened.signers)
        for key in signers:
            if now >= key.expires:
                raise SiteError(
                    "JG-site-116", where=kind.noun, key=key.fingerprint, person=key.person, expires=key.expires
                )
        return opened.payload, signers


def verify_staff(data: bytes, root: Ed25519PublicKey, now: datetime) -> Staff:
    """The staff list, if the pinned root signed it.

    Raises:
        SiteError: JG-site-110..114 as `open_envelope`, 115 and 119 as `read_document`.
    """
    opened = open_envelope(data, Kind.STAFF, {fingerprint(root): root}, 1)
    return read_document(opened.payload, Staff, now)


def _fill(roles: Sequence[Role], signers: Sequence[StaffKey], kind: Kind) -> tuple[StaffKey, ...]:
    """One signer for each role, all different people."""
    candidates = [[key for key in signers if role in key.roles] for role in roles]
    for role, able in zip(roles, candidates, strict=True):
        if not able:
            people = ", ".join(f"{key.person} ({key.fingerprint})" for key in signers)
            raise SiteError("JG-site-117", where=kind.noun, role=str(role), signers=people)
    for chosen in product(*candidates):
        if len({key.person for key in chosen}) == len(chosen):
            return chosen
    twice = ", ".join(sorted({key.person for able in candidates for key in able}))
    raise SiteError("JG-site-118", where=kind.noun, person=twice, roles=", ".join(roles))
