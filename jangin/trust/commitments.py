"""A site's commitment to its privacy ledger: how many entries it has, and a digest of them all, signed by the site.

The law: it says nothing of what is in the ledger but the totals that the site chose to show; a site that shows an older
ledger than it committed to is noticed by whoever kept the commitment, itself among them; nobody else can make one.
"""

from typing import Annotated, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field, NonNegativeFloat, NonNegativeInt

from jangin.codec.document import Document
from jangin.errors import SiteError
from jangin.trust.envelope import Hash, Kind, SignedDocument, open_envelope, parsed, peek_signed
from jangin.trust.keys import fingerprint
from jangin.trust.roster import SITE_ID

__all__ = ["Commitment", "Total", "peek_commitment", "verify_commitment"]


class Total(Document):
    """The most that any one unit of a kind has spent and reserved at a site, over all campaigns.

    Attributes:
        unit: episode or master.
        reading: towards whom.
        campaigns: how many there were.
        epsilon: by the ledger's filter; None where records took part without differential privacy.
        delta: of the budget.
    """

    unit: Literal["episode", "master"]
    reading: Literal["secure_sum", "coalition"]
    campaigns: NonNegativeInt
    epsilon: NonNegativeFloat | None
    delta: Annotated[float, Field(gt=0, lt=1)]


class Commitment(SignedDocument):
    """What a site's ledger has come to.

    Attributes:
        site: its id on the roster.
        entries: how many the ledger has.
        head: commits to all of them.
        totals: what the site chose to show; nothing, unless it says so in its settings.
    """

    kind = Kind.COMMITMENT

    site: Annotated[str, Field(pattern=SITE_ID)]
    entries: NonNegativeInt
    head: Hash
    totals: Annotated[tuple[Total, ...], Field(max_length=4)] = ()


def peek_commitment(data: bytes) -> Commitment:
    """A commitment whose signature nobody checks here: to show, never to act on.

    Raises:
        SiteError: JG-site-110 or 111, no envelope of this kind; 115, no commitment in it.
    """
    return parsed(peek_signed(data, Kind.COMMITMENT), Commitment)


def verify_commitment(data: bytes, site: str, key: Ed25519PublicKey) -> Commitment:
    """The commitment, if it is this site's, by this key.

    Raises:
        SiteError: JG-site-110..114 the envelope or its signature, 115 no commitment of this site.
    """
    opened = open_envelope(data, Kind.COMMITMENT, {fingerprint(key): key}, 1)
    commitment = parsed(opened.payload, Commitment)
    if commitment.site != site:
        raise SiteError("JG-site-115", where=Kind.COMMITMENT.noun, problem=f"it is of {commitment.site}")
    return commitment
