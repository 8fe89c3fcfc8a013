"""Randomness for privacy: noise and sampling from a CSPRNG, never from a seed.

AES-128 in counter mode (NIST SP 800-38A) under a fresh key of the operating system gives the bits; Box and
Muller (1958, Ann. Math. Statist. 29:610) turns them into normal values: in float64 from 64 bits each (`gaussian`), or
in float32 from 32 (`fill_gaussian`), four times as fast, for what is float32 itself. The law: no seed of a plan, and no
torch or numpy generator, ever reaches this file. Not covered: float64 values end at 8.57 standard deviations (the
smallest uniform is 2**-53), float32 ones at 10.9; float noise is not exactly Gaussian (Mironov 2012, CCS;
docs/sharp-edges.md).
"""

import os
from collections.abc import Callable, Iterator
from math import log, log1p

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

__all__ = ["SecureRandom"]

_SPARE_BYTES = 15  # that the cipher asks for behind its output
_BLOCK = 16384  # values at a time: in the cache, and fewer than torch would give to several threads
_SINGLE_BLOCK = 65536  # the same in float32, by numpy alone
_NOTHING = memoryview(bytes(4 * _SINGLE_BLOCK))  # to be encrypted
_FEW = 64  # values wanted one by one
_EDGE = 2**16  # words of 32 bits so near to 0 or 2**32 are too coarse: they take 53 more bits


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
        return self._fill(bytearray(8 * count + _SPARE_BYTES), count)

    def uniform(self, count: int) -> NDArray[np.float64]:
        """Uniform values in [0, 1) on a grid of 2**-53, shape (count,)."""
        values = np.empty(count)
        _to_uniform(self.bits(count), values)
        return values

    def _uniforms(self) -> Iterator[float]:
        """Values of `uniform` without an end, some at a time."""
        while True:
            yield from self.uniform(_FEW).tolist()

    def gaussian(self, count: int) -> NDArray[np.float64]:
        """Standard normal values, shape (count,), float64."""
        values, drawn, room = np.empty(count), np.empty(_BLOCK), bytearray(8 * _BLOCK + _SPARE_BYTES)
        for block in (values[start : start + _BLOCK] for start in range(0, count, _BLOCK)):
            half = (len(block) + 1) // 2
            radius, angle = drawn[:half], drawn[half : 2 * half]
            _to_uniform(self._fill(room, 2 * half), drawn[: 2 * half])
            np.log1p(np.negative(radius, out=radius), out=radius)  # of 1 - u, which lies in (0, 1]
            np.sqrt(np.multiply(radius, -2.0, out=radius), out=radius)
            cosine, sine = _waves(np.multiply(angle, 2.0 * np.pi, out=angle))
            np.multiply(radius, cosine, out=block[:half])
            np.multiply(radius[: len(block) - half], sine[: len(block) - half], out=block[half:])
        return values

    def fill_gaussian(self, values: NDArray[np.float32], deviation: float) -> None:
        """Overwrite `values`, (count,), with normal values of this standard deviation, rounded up to float32.

        They stand on a grid of 24 bits: float32's rounding, a relative 2**-16 of the radius' probability in the tail,
        2**-9 of the smallest radii.

        Raises:
            ValueError: a deviation that is not in [2**-100, 2**100], or values that are no float32.
        """
        if not 2.0**-100 <= deviation <= 2.0**100 or values.dtype != np.float32:
            raise ValueError(f"Expected 2**-100 <= {deviation=} <= 2**100 and float32: {values.dtype}.")
        scale = np.nextafter(np.float32(deviation), np.float32(np.inf))
        most = min(len(values) + 1, _SINGLE_BLOCK)
        room, (radius, angle, wave) = bytearray(4 * most + _SPARE_BYTES), np.empty((3, most // 2), np.float32)
        finer = self._uniforms()
        for block in (values[start : start + _SINGLE_BLOCK] for start in range(0, len(values), _SINGLE_BLOCK)):
            half = (len(block) + 1) // 2
            words = self._fill(room, half).view(np.uint32)
            r, turned, waves = radius[:half], angle[:half], wave[:half]
            turned[:] = words[half:].view(np.int32)
            turned *= np.float32(np.pi / 2**31)
            _squared_radius(words[:half], r, finer)
            np.sqrt(r, out=r)
            r *= scale
            np.multiply(r, np.cos(turned, out=waves), out=block[:half])
            rest = len(block) - half
            np.multiply(r[:rest], np.sin(turned[:rest], out=waves[:rest]), out=block[half:])

    def rounded_gaussian(self, count: int, deviation: float) -> NDArray[np.int64]:
        """Normal values of this standard deviation rounded to integers, shape (count,): noise for integer sums.

        Raises:
            ValueError: a deviation that is not in (0, 2**48], beyond which float64 is no fine grid any more.
        """
        if not 0.0 < deviation <= 2.0**48:
            raise ValueError(f"Expected 0 < {deviation=} <= 2**48.")
        values = self.gaussian(count)
        values *= deviation
        return np.rint(values, out=values).astype(np.int64)

    def _fill(self, room: bytearray, count: int) -> NDArray[np.uint64]:
        """Overwrite `room` with `count` fresh words; what is returned is a view of it."""
        if self._process != os.getpid():
            self._key()
        self._stream.update_into(_NOTHING[: 8 * count] if 8 * count <= len(_NOTHING) else bytes(8 * count), room)
        return np.frombuffer(room, np.uint64, count)


def _squared_radius(words: NDArray[np.uint32], values: NDArray[np.float32], finer: Iterator[float]) -> None:
    """Minus two logarithms of each word as a number in (0, 1); words at the edges, one in 2**15, get more bits."""
    values[:] = words
    values *= np.float32(2.0**-32)
    edges: list[int] = []
    if words.min() < _EDGE or words.max() >= 2**32 - _EDGE:
        edges = np.flatnonzero(words + np.uint32(_EDGE) < 2 * _EDGE).tolist()
        values[edges] = 1.0  # in place of 0, which has no logarithm
    np.log(values, out=values)
    values *= np.float32(-2.0)
    for edge in edges:
        within = int(words[edge].view(np.int32))  # of the next 0, from -2**16 on
        exact = (within + next(finer) + 2.0**-54) * 2.0**-32  # the middle of 53 bits, so neither 0 nor 1
        values[edge] = -2.0 * (log(exact) if within >= 0 else log1p(exact))


def _to_uniform(words: NDArray[np.uint64], values: NDArray[np.float64]) -> None:
    """The upper 53 bits of each word as a number in [0, 1); `words` are used up."""
    words >>= np.uint64(11)
    np.multiply(words, 2.0**-53, out=values)


def _waves(angle: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosine and sine, by torch: numpy's are not vectorised in float64 and take twice as long as all the rest."""
    import torch

    turned = torch.from_numpy(angle)
    return turned.cos().numpy(), turned.sin().numpy()
