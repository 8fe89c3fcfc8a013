"""Sets of units in a chain's file: each unit gets a number once, each set stands under the digest of its keys.

The law: an entry of the chain names a set by its digest, so that whoever changes a unit or a set that was ever charged
is noticed when the entry is read.
"""

import hashlib
from collections.abc import Collection, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from jangin.errors import PrivacyError
from jangin.privacy.chain import Chain

__all__ = ["UNKNOWN", "Numbers", "UnitSets"]

Numbers = NDArray[np.int64]

UNKNOWN: Final = -1
"""The number of a unit that was never charged."""

_KEY_BYTES: Final = 32
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS units (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE) STRICT",
    "CREATE TABLE IF NOT EXISTS sets (digest BLOB PRIMARY KEY, members BLOB NOT NULL) STRICT",
)


class UnitSets:
    """The units that a ledger ever charged; its length is how many."""

    def __init__(self, chain: Chain) -> None:
        """Make the tables where they are not there yet.

        Raises:
            PrivacyError: JG-privacy-027, the file cannot be used.
        """
        self._chain = chain
        self._numbers: dict[bytes, int] = {}
        self._keys = np.empty((0, _KEY_BYTES), np.uint8)
        self._read: dict[bytes, Numbers] = {}
        for statement in _SCHEMA:
            chain.do(statement)

    def __len__(self) -> int:
        return len(self._keys)

    def number(self, key: bytes) -> int:
        """The number of a unit, or `UNKNOWN`."""
        return self._numbers.get(key, UNKNOWN)

    def keys(self, numbers: Numbers) -> Iterator[bytes]:
        """The keys of some units, 32 bytes each."""
        return (self._keys[number].tobytes() for number in numbers)

    def keep(self, sets: Collection[Collection[bytes]]) -> list[bytes]:
        """Write sets, within one transaction of the chain, and number what is new in them; their digests, 32 bytes.

        Raises:
            ValueError: a key of another length: nobody could read the file again.
        """
        new = [key for key in dict.fromkeys(key for keys in sets for key in keys) if key not in self._numbers]
        if any(len(key) != _KEY_BYTES for key in new):
            raise ValueError(f"Expected keys of {_KEY_BYTES} bytes.")
        numbers = self._numbers | dict(zip(new, range(len(self), len(self) + len(new)), strict=True))
        for key in new:
            self._chain.do("INSERT INTO units VALUES (?, ?)", numbers[key], key)
        digests = []
        for keys in sets:
            by_number = sorted((numbers[key], key) for key in keys)
            digest = hashlib.sha256(b"".join(key for _, key in by_number)).digest()
            members = np.array([number for number, _ in by_number], "<i8").tobytes()
            self._chain.do("INSERT INTO sets VALUES (?, ?) ON CONFLICT DO NOTHING", digest, members)
            digests.append(digest)
        return digests

    def members(self, digest: bytes) -> Numbers:
        """The numbers of a set, shape (units,), ascending.

        Raises:
            PrivacyError: JG-privacy-025, it is not there, or its units are not those it was made of.
        """
        if digest not in self._read:
            rows = self._chain.do("SELECT members FROM sets WHERE digest = ?", digest)
            raw = rows[0][0] if rows else b""
            members = np.frombuffer(raw[: len(raw) // 8 * 8], "<i8").astype(np.int64)
            if members.max(initial=UNKNOWN) >= len(self):
                self._read_units()
            known = members.min(initial=0) >= 0 and members.max(initial=UNKNOWN) < len(self)
            if not known or hashlib.sha256(self._keys[members].tobytes()).digest() != digest:
                raise PrivacyError("JG-privacy-025", where="sets", entry=digest.hex()[:12])
            self._read[digest] = members
        return self._read[digest]

    def _read_units(self) -> None:
        """Take the units that were numbered since the last look."""
        first = len(self)
        rows = self._chain.do("SELECT number, key FROM units WHERE number >= ? ORDER BY number", first)
        for place, (number, key) in enumerate(rows, first):
            if number != place or len(key) != _KEY_BYTES:
                raise PrivacyError("JG-privacy-025", where="units", entry=place)
        self._numbers |= {key: number for number, key in rows}
        new = np.frombuffer(b"".join(key for _, key in rows), np.uint8).reshape(-1, _KEY_BYTES)
        self._keys = np.concatenate([self._keys, new])
