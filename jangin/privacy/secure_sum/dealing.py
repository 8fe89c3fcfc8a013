"""What a dealer seals for each holder: its shares of two secrets, with commitments that it signs.

    key_uv     = HKDF(X25519(c_u, c_v), salt h1, "fsa-m/1|enc" | u | v)         one message, then never again
    parcel_uv  = H("key", h1, u, v, key) | H("pair", seed digest, private digest) | AES-GCM(key_uv, both shares)
    share digest = H("dealt seed" or "dealt private", h1, u, v, share)
    signed by u: H("share", h1, u, root of the tree over H("parcel", parcel_uv) of all v, H("seed", b_u))

A share has 256 bits that nobody else knows, which is what hides it in its digest. The law: whoever opens a parcel
either finds what was signed, or can show to anybody that the dealer signed something else, by giving away that one key.
"""

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from jangin.privacy.secure_sum.keys import Secret
from jangin.privacy.secure_sum.shamir import share_from_bytes
from jangin.privacy.secure_sum.transcript import DIGEST_BYTES, tagged

__all__ = ["PARCEL_BYTES", "SHARE_BYTES", "MisdealtError", "Opened", "misdealt", "opened", "parcel", "share_fits"]

SHARE_BYTES: Final = 64
"""One share of one secret."""
PARCEL_BYTES: Final = 2 * DIGEST_BYTES + 2 * SHARE_BYTES + 16

_NONCE: Final = bytes(12)  # each key seals one message
_TAGS: Final = ("dealt seed", "dealt private")


@dataclass(frozen=True)
class Opened:
    """The two shares of one dealer, (seed, private), and their digests."""

    shares: tuple[Secret, Secret]
    digests: tuple[bytes, bytes]


class MisdealtError(Exception):
    """A parcel that does not hold what was signed; `key` proves it, where the dealer committed to it."""

    def __init__(self, key: bytes | None) -> None:
        """Keep the proof, if there is one."""
        super().__init__("A parcel does not hold what was signed.")
        self.key = key


def parcel(key: Secret, share: bytes, dealer: int, holder: int, h1: bytes) -> bytes:
    """Both shares for one holder, `PARCEL_BYTES`, sealed, behind the digests of the key and of the shares."""
    revealed = bytes(key.reveal())
    digests = _key_digest(revealed, dealer, holder, h1) + _pair_digest(_share_digests(share, dealer, holder, h1))
    return digests + AESGCM(revealed).encrypt(_NONCE, share, None)


def opened(parcel: bytes, key: Secret, dealer: int, holder: int, h1: bytes) -> Opened:
    """The shares of a parcel.

    Raises:
        MisdealtError: it does not open, or holds no shares, or others than its digest says.
    """
    revealed = bytes(key.reveal())
    proof = revealed if parcel[:DIGEST_BYTES] == _key_digest(revealed, dealer, holder, h1) else None
    found = _open(parcel, revealed, dealer, holder, h1) if proof else None
    if found is None:
        raise MisdealtError(proof)
    return found


def misdealt(parcel: bytes, key: bytes, dealer: int, holder: int, h1: bytes) -> bool:
    """Whether `key` proves that a dealer signed a parcel that does not hold what it says."""
    committed = parcel[:DIGEST_BYTES] == _key_digest(key, dealer, holder, h1)
    return committed and _open(parcel, key, dealer, holder, h1) is None


def share_fits(parcel: bytes, private: bool, share: bytes, other: bytes, dealer: int, holder: int, h1: bytes) -> bool:
    """Whether a share, of the private key or of the seed, is the one in a parcel, given the other share's digest."""
    digest = _share_digest(int(private), share, dealer, holder, h1)
    return _pair_digest((other, digest) if private else (digest, other)) == parcel[DIGEST_BYTES : 2 * DIGEST_BYTES]


def _open(parcel: bytes, key: bytes, dealer: int, holder: int, h1: bytes) -> Opened | None:
    try:
        share = AESGCM(key).decrypt(_NONCE, parcel[2 * DIGEST_BYTES :], None)
        share_from_bytes(share, 2)
    except (InvalidTag, ValueError):
        return None
    digests = _share_digests(share, dealer, holder, h1)
    if _pair_digest(digests) != parcel[DIGEST_BYTES : 2 * DIGEST_BYTES]:
        return None
    return Opened((Secret(share[:SHARE_BYTES]), Secret(share[SHARE_BYTES:])), digests)


def _share_digests(share: bytes, dealer: int, holder: int, h1: bytes) -> tuple[bytes, bytes]:
    halves = share[:SHARE_BYTES], share[SHARE_BYTES:]
    return _share_digest(0, halves[0], dealer, holder, h1), _share_digest(1, halves[1], dealer, holder, h1)


def _share_digest(which: int, share: bytes, dealer: int, holder: int, h1: bytes) -> bytes:
    return tagged(_TAGS[which], h1, _places(dealer, holder), share)


def _pair_digest(digests: tuple[bytes, bytes]) -> bytes:
    return tagged("pair", *digests)


def _key_digest(key: bytes, dealer: int, holder: int, h1: bytes) -> bytes:
    return tagged("key", h1, _places(dealer, holder), key)


def _places(dealer: int, holder: int) -> bytes:
    return dealer.to_bytes(4, "little") + holder.to_bytes(4, "little")
