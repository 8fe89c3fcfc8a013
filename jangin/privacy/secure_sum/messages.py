"""The forms of what is said in a sum: values, and their canonical CBOR.

The law: a form is read whole or refused; lengths are exact; what is in it is believed by nobody before its signature is
verified: a name has the form of a site's, so that whoever made it up writes nothing into logs with it. A masked vector
rides beside its message, as words of 32 bits.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from jangin.codec import cbor
from jangin.privacy.secure_sum.dealing import PARCEL_BYTES, SHARE_BYTES
from jangin.privacy.secure_sum.transcript import DIGEST_BYTES

__all__ = [
    "SIGNATURE_BYTES",
    "Advert",
    "Complaint",
    "Dealing",
    "Dealt",
    "Shown",
    "read_adverts",
    "read_certificates",
    "read_dealt",
    "read_survivors",
    "signature_of",
    "write_adverts",
    "write_certificates",
    "write_dealt",
    "write_survivors",
]

SIGNATURE_BYTES: Final = 64
_KEY: Final = 32
_MOST_SITES: Final = 65536
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")  # as a roster has it
_SHOWN_BYTES: Final = SHARE_BYTES + DIGEST_BYTES


@dataclass(frozen=True)
class Advert:
    """R1, from a site: two X25519 keys of its own for this sum, signed over ctx.

    Attributes:
        channel: c_u, for what is sealed.
        mask: s_u, for the masks of pairs.
        signature: Ed25519.
    """

    channel: bytes
    mask: bytes
    signature: bytes

    def encode(self) -> bytes:
        """128 bytes."""
        return self.channel + self.mask + self.signature

    @classmethod
    def decode(cls, data: object) -> "Advert":
        """The advert of 128 bytes.

        Raises:
            ValueError: another form.
        """
        taken = _exactly(data, 2 * _KEY + SIGNATURE_BYTES)
        return cls(taken[:_KEY], taken[_KEY : 2 * _KEY], taken[2 * _KEY :])


@dataclass(frozen=True)
class Dealing:
    """R2, from a dealer: a parcel for each of U1 in the order of places, itself among them.

    Attributes:
        parcels: so many times `PARCEL_BYTES`.
        seed_digest: H("seed", b_u).
        signature: over h1, the dealer, the root over the parcels and the seed's digest.
    """

    parcels: bytes = field(repr=False)
    seed_digest: bytes
    signature: bytes

    def encode(self) -> bytes:
        """Its canonical bytes."""
        return cbor.encode({"parcels": self.parcels, "seed_digest": self.seed_digest, "signature": self.signature})

    @classmethod
    def decode(cls, data: bytes, sites: int) -> "Dealing":
        """The dealing to so many sites.

        Raises:
            ValueError: another form.
        """
        value = _keys(data, {"parcels", "seed_digest", "signature"})
        return cls(
            _exactly(value["parcels"], sites * PARCEL_BYTES),
            _exactly(value["seed_digest"], DIGEST_BYTES),
            _exactly(value["signature"], SIGNATURE_BYTES),
        )


@dataclass(frozen=True)
class Dealt:
    """R3, to a holder: what one dealer signed, as far as it concerns this holder.

    Attributes:
        parcel: `PARCEL_BYTES`.
        path: from its leaf to the root.
        root: of the dealer's tree.
        seed_digest: as in its dealing.
        signature: as in its dealing.
    """

    parcel: bytes = field(repr=False)
    path: bytes
    root: bytes
    seed_digest: bytes
    signature: bytes

    def encode(self) -> bytes:
        """One string of bytes; the path is what is between the fixed parts."""
        return self.parcel + self.root + self.seed_digest + self.signature + self.path

    @classmethod
    def decode(cls, data: object) -> "Dealt":
        """What was dealt.

        Raises:
            ValueError: another form.
        """
        fixed = PARCEL_BYTES + 2 * DIGEST_BYTES + SIGNATURE_BYTES
        if type(data) is not bytes or len(data) < fixed or (len(data) - fixed) % DIGEST_BYTES:
            raise ValueError("Expected a parcel with its proof.")
        rest = data[PARCEL_BYTES:fixed]
        return cls(
            data[:PARCEL_BYTES],
            data[fixed:],
            rest[:DIGEST_BYTES],
            rest[DIGEST_BYTES : 2 * DIGEST_BYTES],
            rest[2 * DIGEST_BYTES :],
        )


@dataclass(frozen=True)
class Complaint:
    """R3, from a holder instead of a vector: a parcel that does not hold what its dealer signed.

    Attributes:
        dealer: whose.
        key: that opens it; it gives this one parcel away, which is spoilt.
        signature: of the holder, over h1, the dealer, the root over its parcels and the key.
    """

    dealer: str
    key: bytes = field(repr=False)
    signature: bytes

    def encode(self) -> bytes:
        """Its canonical bytes."""
        return cbor.encode({"dealer": self.dealer, "key": self.key, "signature": self.signature})

    @classmethod
    def decode(cls, data: bytes) -> "Complaint":
        """The complaint.

        Raises:
            ValueError: another form.
        """
        value = _keys(data, {"dealer", "key", "signature"})
        if type(value["dealer"]) is not str:
            raise ValueError("Expected the name of a dealer.")
        return cls(value["dealer"], _exactly(value["key"], 16), _exactly(value["signature"], SIGNATURE_BYTES))


@dataclass(frozen=True)
class Shown:
    """R5, from a holder: for each dealer of U2, in the order of places, one share and the other one's digest.

    Attributes:
        shares: so many times a share of 64 bytes and a digest of 32.
        signature: over h1, the holder, the roots of all dealers and the shares.
    """

    shares: bytes = field(repr=False)
    signature: bytes

    def encode(self) -> bytes:
        """Its canonical bytes."""
        return cbor.encode({"shares": self.shares, "signature": self.signature})

    @classmethod
    def decode(cls, data: bytes, dealers: int) -> "Shown":
        """The shares of so many dealers.

        Raises:
            ValueError: another form.
        """
        value = _keys(data, {"shares", "signature"})
        return cls(_exactly(value["shares"], dealers * _SHOWN_BYTES), _exactly(value["signature"], SIGNATURE_BYTES))

    def of(self, number: int) -> tuple[bytes, bytes]:
        """The share of one dealer, counted from 0, and the other share's digest."""
        one = self.shares[number * _SHOWN_BYTES : (number + 1) * _SHOWN_BYTES]
        return one[:SHARE_BYTES], one[SHARE_BYTES:]


def write_adverts(adverts: Mapping[str, Advert]) -> bytes:
    """R2, to each site: U1 with its adverts."""
    return cbor.encode({name: advert.encode() for name, advert in adverts.items()})


def read_adverts(data: bytes) -> dict[str, Advert]:
    """U1 with its adverts.

    Raises:
        ValueError: another form.
    """
    return {name: Advert.decode(advert) for name, advert in _by_site(data).items()}


def write_dealt(dealt: Mapping[str, Dealt]) -> bytes:
    """R3, to a holder: what each of U2 dealt to it."""
    return cbor.encode({name: one.encode() for name, one in dealt.items()})


def read_dealt(data: bytes) -> dict[str, Dealt]:
    """What each of U2 dealt to a holder.

    Raises:
        ValueError: another form.
    """
    return {name: Dealt.decode(one) for name, one in _by_site(data).items()}


def write_survivors(survivors: frozenset[str]) -> bytes:
    """R4, to each survivor: U3."""
    return cbor.encode(sorted(survivors))


def read_survivors(data: bytes) -> frozenset[str]:
    """U3.

    Raises:
        ValueError: another form, an order of its own, or a name twice.
    """
    names = cbor.decode(data)
    if not isinstance(names, list) or not _are_names(names) or names != sorted(set(names)):
        raise ValueError("Expected names of sites, sorted.")
    return frozenset(names)


def signature_of(data: bytes) -> bytes:
    """R4, from a survivor: its signature over U2 and U3.

    Raises:
        ValueError: another form.
    """
    return _exactly(data, SIGNATURE_BYTES)


def write_certificates(signatures: Mapping[str, bytes]) -> bytes:
    """R5, to each signer: the signatures over U2 and U3."""
    return cbor.encode(dict(signatures))


def read_certificates(data: bytes) -> dict[str, bytes]:
    """The signatures over U2 and U3 by site.

    Raises:
        ValueError: another form.
    """
    return {name: _exactly(signature, SIGNATURE_BYTES) for name, signature in _by_site(data).items()}


def _by_site(data: bytes) -> dict[str, Any]:
    value = cbor.decode(data)
    if not isinstance(value, dict) or not _are_names(value):
        raise ValueError("Expected a map by site.")
    return value


def _are_names(given: Collection[object]) -> bool:
    return len(given) <= _MOST_SITES and all(type(name) is str and _NAME.fullmatch(name) for name in given)


def _keys(data: bytes, keys: set[str]) -> dict[str, Any]:
    value = cbor.decode(data)
    if not isinstance(value, dict) or set(value) != keys:
        raise ValueError(f"Expected the keys {', '.join(sorted(keys))}.")
    return value


def _exactly(data: object, length: int) -> bytes:
    if type(data) is not bytes or len(data) != length:
        raise ValueError(f"Expected {length} bytes.")
    return data
