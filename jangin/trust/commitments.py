"""A site's commitment to its privacy ledger: how many entries it has, and a digest of them all, signed by the site.

The law: it says nothing of what is in the ledger; a site that shows an older ledger than it committed to is noticed by
whoever kept the commitment, itself among them; nobody but the site can make one.
"""

from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field, NonNegativeInt

from jangin.errors import SiteError
from jangin.trust.envelope import Hash, Kind, SignedDocument, open_envelope
from jangin.trust.keys import fingerprint
from jangin.trust.roster import SITE_ID

__all__ = ["Commitment", "verify_commitment"]


class Commitment(SignedDocument):
    """What a site's ledger has come to.

    Attributes:
        site: its id on the roster.
        entries: how many the ledger has.
        head: commits to all of them.
    """

    kind = Kind.COMMITMENT

    site: Annotated[str, Field(pattern=SITE_ID)]
    entries: NonNegativeInt
    head: Hash


def verify_commitment(data: bytes, site: str, key: Ed25519PublicKey) -> Commitment:
    """The commitment, if it is this site's, by this key.

    Raises:
        SiteError: JG-site-110..114 the envelope or its signature, 115 no commitment of this site.
    """
    opened = open_envelope(data, Kind.COMMITMENT, {fingerprint(key): key}, 1)
    try:
        commitment = Commitment.parse(opened.payload)
        if commitment.site != site:
            raise ValueError(f"it is of {commitment.site}")
    except ValueError as error:
        raise SiteError("JG-site-115", where=Kind.COMMITMENT.noun, problem=str(error)) from None
    return commitment
