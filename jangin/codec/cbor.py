"""Canonical CBOR: one value, one string of bytes, so that a hash names a value.

The form is RFC 8949 section 4.2.1 (core deterministic encoding) over a small data model: None, bool, int of
64 bits and a sign, finite float, bytes, str, list, and dict with str keys, at most 64 lists and dicts deep. The
decoder accepts canonical bytes only.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import cbor2

__all__ = ["decode", "digest", "encode"]

_MOST_DEPTH = 64


def encode(value: object) -> bytes:
    """The canonical bytes of `value`; tuples are written as lists.

    >>> encode({"rounds": 3, "lr": 0.5}).hex()
    'a2626c72f9380066726f756e647303'

    Raises:
        ValueError: a type outside the data model, a NaN or infinity, an integer over 64 bits, a lone surrogate in a
            text, more than 64 levels.
    """
    return cbor2.dumps(_plain(value, 0), canonical=True)


def decode(data: bytes) -> Any:
    """The value of canonical bytes; `encode` gives the same bytes back.

    Raises:
        ValueError: not CBOR, trailing bytes, or not the canonical form of its value.
    """
    try:
        value = cbor2.loads(data, allow_indefinite=False, allow_duplicate_keys=False, max_depth=_MOST_DEPTH)
    except (cbor2.CBORError, UnicodeDecodeError, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError(f"Expected CBOR: {type(error).__name__}.") from None
    if encode(value) != data:
        raise ValueError("Expected canonical CBOR: these bytes are not the canonical form of their value.")
    return value


def digest(domain: str, value: object) -> bytes:
    """SHA-256 over a domain tag and the canonical bytes of `value`, 32 bytes.

    The tag keeps a plan from ever having the hash of a message: `sha256("jangin/" domain 0x00 bytes)`.

    Raises:
        ValueError: as `encode`.
    """
    return hashlib.sha256(b"jangin/" + domain.encode() + b"\0" + encode(value)).digest()


def _plain(value: object, depth: int) -> object:
    """`value` in the types and the key order that are written; `depth` lists and dicts are around it."""
    if depth > _MOST_DEPTH:
        raise ValueError(f"Expected at most {_MOST_DEPTH} levels of lists and dicts.")
    match value:
        case None | bool() | str() | bytes():
            return value
        case int():
            if not -(2**64) <= value < 2**64:
                raise ValueError(f"Expected an integer of at most 64 bits: {value}.")
            return value
        case float():
            if not math.isfinite(value):
                raise ValueError(f"Expected a finite number: {value}.")
            return value
        case list() | tuple():
            return [_plain(item, depth + 1) for item in value]
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise ValueError("Expected text keys.")
            # RFC 8949 orders keys by their encoded bytes, which start with the length.
            keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return {key: _plain(value[key], depth + 1) for key in keys}
        case _:
            raise ValueError(f"Expected None, bool, int, float, str, bytes, list or dict: {type(value).__name__}.")
