"""Randomness for privacy: noise and sampling from a CSPRNG, never from a seed.

AES-128 in counter mode (NIST SP 800-38A) under a fresh key of the operating system gives the bits; Box and
Muller (1958, Ann. Math. Statist. 29:610) turns them into normal values in float64. The law: no seed of a plan,
and no torch or numpy generator, ever reaches this file. Not covered: the values end at 8.57 standard deviations
(the smallest uniform is 2**-53), and float noise is not exactly Gaussian (Mironov 2012, CCS; docs/sharp-edges.md).
"""

import os
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

__all__ = ["SecureRandom"]


class SecureRandom:
    """A stream of secret random values; two of them never share bits."""

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom) -> None:
        """Key the stream with 16 bytes of `entropy`, which tests may replace."""
        self._entropy = entropy
        self._key()

    def _key(self) -> None:
        self._process = os.getpid()
        self._stream = Cipher(algorithms.AES128(self._entropy(16)), modes.CTR(bytes(16))).encryptor()

    def __getstate__(self) -> None:
        raise TypeError("A secure stream cannot be copied: two of them would share their bits.")

    def __repr__(self) -> str:
        return "SecureRandom(<secret>)"

    def bits(self, count: int) -> NDArray[np.uint64]:
        """`count` words of 64 random bits, shape (count,); a forked process gets a key of its own."""
        if self._process != os.getpid():
            self._key()
        return np.frombuffer(self._stream.update(bytes(8 * count)), np.uint64)

    def uniform(self, count: int) -> NDArray[np.float64]:
        """Uniform values in [0, 1) on a grid of 2**-53, shape (count,)."""
        return (self.bits(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def gaussian(self, count: int) -> NDArray[np.float64]:
        """Standard normal values, shape (count,), float64."""
        half = (count + 1) // 2
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(half)))  # 1 - u lies in (0, 1]
        angle = self.uniform(half) * (2.0 * np.pi)
        values = np.empty(2 * half)
        np.multiply(radius, np.cos(angle), out=values[:half])
        np.multiply(radius, np.sin(angle), out=values[half:])
        return values[:count]
