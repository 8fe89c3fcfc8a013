"""Shares of secrets (Shamir 1979, Commun. ACM 22:612): any `threshold` holders know all of it, fewer know nothing.

A secret is 16 limbs of 16 bits, each the value at zero of a polynomial of its own with uniform coefficients; holder x
gets the values at x, and holders are the places 1 to n. A share is 16 words of 32 bits: its values go up to 65536,
which takes 17 bits. The law: fewer than `threshold` shares are uniform and independent of the secret, exactly.
Not covered: whether a dealer's or a holder's share is what it should be. That takes commitments.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from jangin.privacy.randomness import SecureRandom
from jangin.privacy.secure_sum.field import ORDER, Elements, powers, product, uniform, weights_at_zero
from jangin.privacy.secure_sum.keys import SECRET_BYTES, Secret

__all__ = ["MOST_HOLDERS", "Shares", "combine", "share_from_bytes", "share_to_bytes", "split"]

MOST_HOLDERS = ORDER - 1
"""As many places as there are points but zero."""

Shares = NDArray[np.uint32]
"""Values of shares, (..., 16), each at most 65536."""

_LIMB = np.dtype("<u2")
_WORD = np.dtype("<u4")
_LIMBS = SECRET_BYTES // _LIMB.itemsize


def split(secrets: Sequence[Secret], holders: int, threshold: int, random: SecureRandom) -> Shares:
    """Shares of secrets of 32 bytes, (holders, secrets, 16): row i is for the holder at place i + 1.

    Raises:
        ValueError: not 1 <= threshold <= holders <= 65536, or a secret of another length.
    """
    if not 1 <= threshold <= holders <= MOST_HOLDERS:
        raise ValueError(f"Expected 1 <= {threshold=} <= {holders=} <= {MOST_HOLDERS}.")
    if any(len(secret) != SECRET_BYTES for secret in secrets):
        raise ValueError(f"Expected secrets of {SECRET_BYTES} bytes.")
    values = len(secrets) * _LIMBS
    coefficients = np.empty((threshold, values), np.int64)
    for row, secret in zip(coefficients[0].reshape(-1, _LIMBS), secrets, strict=True):
        row[:] = np.frombuffer(secret.reveal(), _LIMB)
    coefficients[1:] = uniform((threshold - 1) * values, random).reshape(-1, values)
    shares = product(_powers_of_places(holders, threshold), coefficients)
    coefficients[:] = 0
    return shares.astype(np.uint32).reshape(holders, len(secrets), _LIMBS)


def combine(shares: Shares, holders: Sequence[int], threshold: int) -> list[Secret]:
    """The secrets of which these are shares, (holders, secrets, 16), row by row of the holders at these places.

    One set of weights serves all the secrets; shares beyond the first `threshold` are not looked at.

    Raises:
        ValueError: fewer holders than `threshold`, one named twice or at no place, a value above 65536, or shares that
            belong to no secret: some value at zero has 17 bits.
    """
    places = np.asarray(holders, np.int64)
    if not 1 <= threshold <= len(places):
        raise ValueError(f"Expected 1 <= {threshold=} <= {len(places)} holders.")
    if places.min() < 1 or places.max() > MOST_HOLDERS or len(np.unique(places)) != len(places):
        raise ValueError(f"Expected distinct holders from 1 to {MOST_HOLDERS}, got {list(holders)}.")
    if shares.ndim != 3 or shares.shape[::2] != (len(places), _LIMBS):
        raise ValueError(f"Expected shares ({len(places)}, secrets, {_LIMBS}), got {shares.shape}.")
    _check(shares)
    values = shares[:threshold].reshape(threshold, -1).astype(np.int64)
    limbs = product(weights_at_zero(places[:threshold])[None, :], values).reshape(-1, _LIMBS)
    wrong = np.flatnonzero((limbs > np.iinfo(_LIMB).max).any(axis=1))
    if len(wrong):
        raise ValueError(f"The shares of secrets {wrong.tolist()} belong to no secret.")
    return [Secret(row.tobytes()) for row in limbs.astype(_LIMB)]


def share_to_bytes(share: Shares) -> bytes:
    """One holder's share, (secrets, 16), as words of 32 bits, little-endian."""
    return share.astype(_WORD).tobytes()


def share_from_bytes(data: bytes, secrets: int) -> Shares:
    """One holder's share of so many secrets, (secrets, 16), from its bytes.

    Raises:
        ValueError: another length, or a value above 65536.
    """
    if len(data) != (expected := secrets * _LIMBS * _WORD.itemsize):
        raise ValueError(f"Expected {expected} bytes, got {len(data)}.")
    share = np.frombuffer(data, _WORD).astype(np.uint32).reshape(secrets, _LIMBS)
    _check(share)
    return share


def _check(shares: Shares) -> None:
    if shares.dtype != np.uint32 or (shares >= ORDER).any():
        raise ValueError(f"Expected words of 32 bits below {ORDER}.")


@lru_cache(maxsize=2)
def _powers_of_places(holders: int, threshold: int) -> Elements:
    """Those of 1 to holders, (holders, threshold): the same for every secret of a round."""
    return powers(np.arange(1, holders + 1), threshold)
