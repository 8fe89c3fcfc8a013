"""Secrets of a round and what is derived from them: X25519 (RFC 7748), then HKDF-SHA256 (RFC 5869).

    pair key = HKDF(X25519(s_u, s_v), salt h1, "fsa-m/1|mask" | min(u, v) | max(u, v))   masks one vector of u, one of v
    self key = HKDF(b_u,              salt h1, "fsa-m/1|self" | u)                       masks one vector of u
    channel key = HKDF(X25519(c_u, c_v), salt h1, "fsa-m/1|enc" | u | v)                 seals one message of u to v

h1 is the digest of what the round fixed, its keys among them; a site is its place in the sorted cohort, from 1, in
four bytes, little-endian. The law: a key has one use in one round, and no secret is in a repr, a pickle or an error.
Not covered: Python, numpy and OpenSSL keep copies a while, which `wipe` misses; X25519 is not post-quantum.
"""

from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from jangin.privacy.randomness import SecureRandom

__all__ = ["SECRET_BYTES", "Secret", "channel_keys", "is_usable", "pair_key", "private_key", "public_bytes", "self_key"]

SECRET_BYTES = 32
_KEY_BYTES = 16  # AES-128
_PLACE_BYTES = 4
_ANYBODY = X25519PrivateKey.from_private_bytes(bytes(32))  # the clamped scalar 2**254: a private key like any other


class Secret:
    """Bytes that show themselves only to who asks, until they are wiped."""

    __slots__ = ("_bytes",)

    def __init__(self, value: bytes) -> None:
        """Copy the bytes."""
        self._bytes = bytearray(value)

    @classmethod
    def fresh(cls, random: SecureRandom) -> "Secret":
        """32 random bytes: a seed, or a private key of X25519."""
        return cls(random.bits(SECRET_BYTES // 8).tobytes())

    def reveal(self) -> bytearray:
        """The bytes themselves, not a copy.

        Raises:
            ValueError: they are wiped; zeros would be a key that anybody knows.
        """
        if not self._bytes:
            raise ValueError("The secret is wiped.")
        return self._bytes

    def wipe(self) -> None:
        """Overwrite the bytes with zeros; they are not given out again."""
        self._bytes[:] = bytes(len(self._bytes))
        self._bytes = bytearray()

    def __len__(self) -> int:
        return len(self._bytes)

    def __repr__(self) -> str:
        return "Secret(<secret>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A secret is neither pickled nor copied.")


def private_key(secret: Secret) -> X25519PrivateKey:
    """The private key of X25519 that these 32 bytes are."""
    return X25519PrivateKey.from_private_bytes(secret.reveal())


def public_bytes(private: X25519PrivateKey) -> bytes:
    """The 32 bytes that others need of it."""
    return private.public_key().public_bytes_raw()


def is_usable(public: bytes) -> bool:
    """Whether 32 bytes are a public key of X25519 and not one of low order, with which every secret is known."""
    try:
        _ANYBODY.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return False
    return True


def pair_key(private: X25519PrivateKey, place: int, other_public: bytes, other: int, salt: bytes) -> Secret:
    """What the site at `place` and the one at `other` mask with, 16 bytes: both find the same.

    Raises:
        ValueError: a public key of another length or of low order, which would make a key that anybody knows.
    """
    agreed = private.exchange(X25519PublicKey.from_public_bytes(other_public))
    return _derived(agreed, salt, "mask", min(place, other), max(place, other))


def channel_keys(
    private: X25519PrivateKey, place: int, other_public: bytes, other: int, salt: bytes
) -> tuple[Secret, Secret]:
    """What seals the one message from the site at `place` to the one at `other`, and the one back; 16 bytes each.

    Raises:
        ValueError: as `pair_key`.
    """
    agreed = private.exchange(X25519PublicKey.from_public_bytes(other_public))
    return _derived(agreed, salt, "enc", place, other), _derived(agreed, salt, "enc", other, place)


def self_key(seed: Secret, place: int, salt: bytes) -> Secret:
    """What the site at `place` masks with alone, 16 bytes, from its seed."""
    return _derived(seed.reveal(), salt, "self", place)


def _derived(material: bytes | bytearray, salt: bytes, step: str, *places: int) -> Secret:
    info = f"fsa-m/1|{step}".encode() + b"".join(place.to_bytes(_PLACE_BYTES, "little") for place in places)
    return Secret(HKDF(SHA256(), _KEY_BYTES, salt, info).derive(bytes(material)))
