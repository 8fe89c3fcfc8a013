"""Consents: what a master let a site use of what was recorded of him, and the word that takes it back.

A grant names a pseudonym, never a person. The site's identity signs it, as who recorded it; where the labour side has a
key at the site, its signature stands beside, over the same bytes. The law: without both a grant counts for nothing; a
grant is one document by its hash, whoever has signed it so far.
"""

from datetime import date
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AfterValidator, Field

from jangin.errors import SiteError
from jangin.records.purposes import Purpose
from jangin.trust.envelope import Hash, Kind, SignedDocument, open_envelope, parsed, peek
from jangin.trust.keys import fingerprint
from jangin.trust.roster import SITE_ID

__all__ = ["EVERYTHING", "Channels", "Grant", "Pseudonym", "Revocation", "open_grant", "peek_grant"]

EVERYTHING = "all"
"""In the place of channels: all that was recorded."""


def _each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise ValueError("something is named twice")
    return values


Pseudonym = Annotated[str, Field(min_length=1, max_length=100, repr=False)]
Channels = Annotated[str, Field(pattern=r"^(all|[A-Za-z][A-Za-z0-9_]*\.(\*|[A-Za-z][A-Za-z0-9_]*))$")]


class Grant(SignedDocument):
    """One master's yes, as a site recorded it.

    Attributes:
        site: whose records.
        master: the pseudonym by which they know him.
        process: what is shown in them.
        purposes: what they may be used for.
        channels: what of them: `all`, `flame.*`, `flame.height`, `context.humidity`, `action.oxygen_volume`.
        until: the last day on which it holds, in UTC.
        nonce: 16 bytes of the site's randomness, as hex: a yes that is said anew is another grant, and nobody finds a
            pseudonym by trying hashes.
    """

    kind = Kind.CONSENT

    site: Annotated[str, Field(pattern=SITE_ID)]
    master: Pseudonym
    process: Annotated[str, Field(min_length=1, max_length=100)]
    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1), AfterValidator(_each_once)]
    channels: Annotated[tuple[Channels, ...], Field(min_length=1, max_length=1000), AfterValidator(_each_once)]
    until: date
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]

    def releases(self, column: str) -> bool:
        """Whether a column, `stream.channel` or `<group>.<field>`, is among the channels."""
        return any(name in (EVERYTHING, column, f"{column.partition('.')[0]}.*") for name in self.channels)


class Revocation(SignedDocument):
    """The end of a grant.

    Attributes:
        site: whose.
        grant: hash of the grant.
    """

    kind = Kind.REVOCATION

    site: Annotated[str, Field(pattern=SITE_ID)]
    grant: Hash


def open_grant(data: bytes, site: str, key: Ed25519PublicKey, labour: Ed25519PublicKey | None) -> Grant:
    """The grant, if this site recorded it and, where there is a labour side, that signed it, too.

    Args:
        data: the envelope.
        site: this site's id.
        key: its identity.
        labour: the labour side's key, or None.

    Raises:
        SiteError: JG-site-110..113 the envelope, an unknown key or a signature; 114, one is missing; 115, no grant of
            this site.
    """
    keys = {fingerprint(one): one for one in (key, labour) if one is not None}
    opened = open_envelope(data, Kind.CONSENT, keys, 1 + (labour is not None))  # one key for both is one signature
    grant = parsed(opened.payload, Grant)
    if grant.site != site:
        raise SiteError("JG-site-115", where=Kind.CONSENT.noun, problem=f"it is of {grant.site}")
    return grant


def peek_grant(data: bytes) -> Grant:
    """A grant whose signatures nobody checks here: to show, never to act on.

    Raises:
        SiteError: JG-site-110 or 111, no envelope of this kind; 115, no grant in it.
    """
    return parsed(peek(data, Kind.CONSENT), Grant)
