"""What the sites of a sum sign, each over what it has seen itself, and the digests that name it.

    ctx = H("manifest", manifest)                          what the sum is of
    h1  = H("cohort", ctx, (u, c_u, s_u) of each of U1)    who began it, by which keys; salt of every derived key
    certified = H("certify", h1, U2, U3)                   who was left, signed once by each

H is SHA-256 behind the tag `fsa-m/1|<step>`, each part behind its length. The law: nothing is signed but such a digest
behind its tag, so that a signature means one step of one round and nothing else.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jangin.codec import cbor
from jangin.errors import SumError
from jangin.privacy.secure_sum.table import Step

__all__ = [
    "DIGEST_BYTES",
    "SUITE",
    "Manifest",
    "Tree",
    "advert_statement",
    "certificate_statement",
    "certified",
    "cohort_digest",
    "complaint_statement",
    "dealing_statement",
    "in_tree",
    "shown_statement",
    "statement",
    "tagged",
    "verify",
]

SUITE: Final = 1
"""X25519, Ed25519, HKDF-SHA256, AES-128, 32-bit words."""
DIGEST_BYTES: Final = 32

_TAG: Final = "fsa-m/1|"
_LENGTH_BYTES: Final = 8
_STEPS: Final = 5
_MOST: Final = 2**31


def tagged(tag: str, *parts: bytes | bytearray) -> bytes:
    """The digest of parts under a tag, 32 bytes; no two lists of parts run into one."""
    whole: list[bytes | bytearray] = [f"{_TAG}{tag}".encode()]
    for part in parts:
        whole += len(part).to_bytes(_LENGTH_BYTES, "little"), part
    return hashlib.sha256(b"".join(whole)).digest()


def statement(tag: str, *parts: bytes) -> bytes:
    """What is signed: the tag, readable, and the digest."""
    return f"{_TAG}{tag}|".encode() + tagged(tag, *parts)


@dataclass(frozen=True)
class Manifest:
    """What a sum is of; every site signs it with its keys.

    Never a number of Flower's run: it changes when the server starts anew.

    Attributes:
        campaign: the plan's hash, 64 hex digits.
        round: of the campaign; 0 is the scaling.
        attempt: from 1; each is a sum of its own.
        model: digest of what the server sent to train from, 32 bytes.
        roster: digest of the roster by which sites verify each other, 32 bytes.
        size: number of values in the vector, >= 1.
        seconds: longest wait for each of the five steps.
        previous: what the last finished sum of the campaign certified, 32 bytes; empty before the first.

    Raises:
        ValueError: a value outside these bounds.
    """

    campaign: str
    round: int
    attempt: int
    model: bytes
    roster: bytes
    size: int
    seconds: tuple[float, ...]
    previous: bytes = b""

    def __post_init__(self) -> None:
        whole = (self.round, self.attempt, self.size)
        if not all(type(number) is int for number in whole) or not all(0 <= number < _MOST for number in whole):
            raise ValueError("Expected whole numbers for round, attempt and size.")
        if self.attempt < 1 or self.size < 1:
            raise ValueError("Expected an attempt and a size from 1.")
        if type(self.campaign) is not str or len(self.campaign) != 2 * DIGEST_BYTES:
            raise ValueError("Expected the hash of a plan.")
        digests = (self.model, self.roster, *([self.previous] if self.previous != b"" else []))
        if not all(type(digest) is bytes and len(digest) == DIGEST_BYTES for digest in digests):
            raise ValueError("Expected digests of 32 bytes.")
        if len(self.seconds) != _STEPS or not all(type(one) is float and one > 0 for one in self.seconds):
            raise ValueError("Expected five waits in seconds.")

    def require(self, **held: object) -> None:
        """Compare it with what somebody holds itself, by the names of attributes.

        Raises:
            SumError: JG-sum-003, it names something else.
        """
        for name, value in held.items():
            if getattr(self, name) != value:
                raise SumError("JG-sum-003", where=name)

    def encode(self) -> bytes:
        """Its canonical bytes."""
        return cbor.encode({"suite": SUITE, **{name: getattr(self, name) for name in self.__dataclass_fields__}})

    @classmethod
    def decode(cls, data: bytes) -> "Manifest":
        """The manifest of canonical bytes.

        Raises:
            ValueError: another form or suite.
        """
        value: Any = cbor.decode(data)
        if not isinstance(value, dict) or value.pop("suite", None) != SUITE:
            raise ValueError(f"Expected suite {SUITE}.")
        if value.keys() != cls.__dataclass_fields__.keys() or not isinstance(value["seconds"], list):
            raise ValueError(f"Expected the keys {', '.join(cls.__dataclass_fields__)}.")
        found = cls(**{**value, "seconds": tuple(value["seconds"])})
        if found.encode() != data:
            raise ValueError("Expected its own bytes.")
        return found

    @cached_property
    def digest(self) -> bytes:
        """ctx, 32 bytes."""
        return tagged("manifest", self.encode())


def cohort_digest(context: bytes, keys: Mapping[str, tuple[bytes, bytes]]) -> bytes:
    """h1: the sites of U1 in the order of their names, each with its channel key and its mask key."""
    parts = (part for name in sorted(keys) for part in (name.encode(), *keys[name]))
    return tagged("cohort", context, *parts)


def certified(h1: bytes, dealers: Iterable[str], survivors: Iterable[str]) -> bytes:
    """The digest of U2 and U3 of a cohort, which each survivor signs once."""
    lists = (cbor.encode(sorted(names)) for names in (dealers, survivors))
    return tagged("certify", h1, *lists)


def advert_statement(context: bytes, site: str, channel: bytes, mask: bytes) -> bytes:
    """What a site signs with its keys."""
    return statement("advertise", context, site.encode(), channel, mask)


def dealing_statement(h1: bytes, dealer: str, root: bytes, seed_digest: bytes) -> bytes:
    """What a dealer signs."""
    return statement("share", h1, dealer.encode(), root, seed_digest)


def complaint_statement(h1: bytes, holder: str, dealer: str, root: bytes, key: bytes) -> bytes:
    """What a holder signs with the key of a parcel that holds something else, under the root that it was shown."""
    return statement("complaint", h1, holder.encode(), dealer.encode(), root, key)


def certificate_statement(digest: bytes) -> bytes:
    """What a survivor signs, once: `certified`."""
    return statement("certified", digest)


def shown_statement(h1: bytes, holder: str, roots: Sequence[bytes], shares: bytes) -> bytes:
    """What a holder signs with the shares that it shows, and under which dealers' roots they came to it.

    Without the roots a dealer could sign another tree later, and an honest holder's shares would not fit that one.
    """
    return statement("unmask", h1, holder.encode(), b"".join(roots), shares)


def verify(identity: Ed25519PublicKey, signature: bytes, said: bytes, site: str, step: Step) -> None:
    """Whether a site signed a statement.

    Raises:
        SumError: JG-sum-008, it did not: it saw something else, or somebody speaks for it.
    """
    try:
        identity.verify(signature, said)
    except InvalidSignature:
        raise SumError("JG-sum-008", where=step.value, site=site) from None


class Tree:
    """A Merkle tree over digests: one signature of its root covers each leaf (RFC 6962, section 2.1, without its tags).

    A node without a sibling moves up as it is. Leaves are tagged digests of another tag than the inner nodes'.
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        """Build it; at least one leaf of 32 bytes."""
        level = list(leaves)
        self._levels = [b"".join(level)]
        while len(level) > 1:
            odd = level[-1:] if len(level) % 2 else []
            level = [tagged("node", left, right) for left, right in list(pairwise(level))[::2]] + odd
            self._levels.append(b"".join(level))

    @property
    def root(self) -> bytes:
        """What is signed."""
        return self._levels[-1]

    def path(self, index: int) -> bytes:
        """The siblings from a leaf, counted from 0, to the root, one after another."""
        found = []
        for level in self._levels[:-1]:
            start = (index ^ 1) * DIGEST_BYTES
            found.append(level[start : start + DIGEST_BYTES])
            index //= 2
        return b"".join(found)


def in_tree(leaf: bytes, index: int, count: int, path: bytes, root: bytes) -> bool:
    """Whether a leaf stands at `index` of the `count` leaves under a root."""
    digest, used = leaf, 0
    while count > 1:
        if index ^ 1 < count:
            sibling = path[used : used + DIGEST_BYTES]
            used += DIGEST_BYTES
            pair = (sibling, digest) if index % 2 else (digest, sibling)
            digest = tagged("node", *pair)
        index, count = index // 2, (count + 1) // 2
    return used == len(path) and digest == root
