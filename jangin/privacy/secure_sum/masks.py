"""Masks that cancel in the sum (Bonawitz et al. 2017, CCS, section 4): what a site sends, and what the server undoes.

    y_u = X_u + PRG(self key of u) + sum over v > u of PRG(pair key of u, v) - sum over v < u of it,   modulo 2**32

for u and v of U2, who have dealt their shares. The server adds what the survivors U3 sent, in any order, and takes
away their self masks and the pair masks between them and U2 without U3. The law: `unmasked` is the sum of the
survivors' vectors, exact modulo 2**32, for every U2 and U3, and a vector that lacks one of its keys looks uniform.

PRG is AES-128 in counter mode from zero (NIST SP 800-38A), four bytes to a word, little-endian: sound because a key
masks once. `Grid` makes vectors of whole steps and reads their sum; one site's vector may wrap, the sum does not.
Not covered: which lists the server names - it must not get both secrets of a site -, a server that lies about the sum,
and what the sum itself tells.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from jangin.privacy.secure_sum.keys import Secret, pair_key, private_key, public_bytes, self_key
from jangin.privacy.secure_sum.shamir import MOST_HOLDERS

__all__ = ["Cohort", "Words", "masked", "unmasked"]

Words = NDArray[np.uint32]
"""A vector modulo 2**32, (size,)."""

_Mask = tuple[np.ufunc, Secret]  # addition or subtraction, and the key of the stream; uses the key up

_WORD = np.dtype("<u4")
_CHUNK = 16_384  # words: with its zeros and its stream it stays in a cache of 256 KiB
_ZEROS = memoryview(bytes(_CHUNK * _WORD.itemsize))
_SPARE_BYTES = 15  # that the cipher asks for behind its output
_TOGETHER = 64  # streams on one passage through the vector: bounds how many ciphers exist at a time


@dataclass(frozen=True)
class Cohort:
    """U2, as all its sites know it before they mask.

    Attributes:
        salt: h1, the 32 bytes to which every key of the round is bound.
        publics: the advertised X25519 key of each site by its place.

    Raises:
        ValueError: a salt of another length, a place that is none, or two sites with one key.
    """

    salt: bytes
    publics: Mapping[int, bytes]

    def __post_init__(self) -> None:
        if len(self.salt) != 32:
            raise ValueError(f"Expected a salt of 32 bytes, got {len(self.salt)}.")
        if wrong := sorted(place for place in self.publics if not 1 <= place <= MOST_HOLDERS):
            raise ValueError(f"Expected places from 1 to {MOST_HOLDERS}, got {wrong}.")
        if len(set(self.publics.values())) != len(self.publics):
            raise ValueError("Expected keys that differ from site to site.")


def masked(steps: NDArray[np.integer[Any]], cohort: Cohort, place: int, seed: Secret, private: Secret) -> Words:
    """What the site at `place` sends for its vector, (size,), with its seed b_u and its private key s_u.

    Guarantee: without the seed, or without a pair key, what is sent looks uniform and independent of the vector, as far
    as AES-128 and X25519 hold. A second call with the same secrets breaks it: the two differ as their vectors do.

    Raises:
        ValueError: the cohort has another key at this place, or one of low order.
    """
    _check_advertised(cohort, {place: private})
    total = steps.astype(np.uint32)
    _accumulate(total, _own_masks(cohort, place, seed, private))
    return total


def unmasked(
    total: Words, cohort: Cohort, seeds: Mapping[int, Secret], privates: Mapping[int, Secret]
) -> NDArray[np.int32]:
    """The sum of the survivors' vectors, (size,), in two's complement, from the sum of what they sent.

    A site that dropped out is masked against each survivor as it would have masked itself, which is what is missing.

    Args:
        total: what the survivors sent, added modulo 2**32.
        cohort: all that masked against one another, U2.
        seeds: b_v of each survivor, U3, by place.
        privates: s_v of each site that dropped out, U2 without U3, by place.

    Raises:
        ValueError: a site with both secrets or with neither, a stranger, or a private key that was not advertised.
    """
    if both := sorted(seeds.keys() & privates.keys()):
        raise ValueError(f"Expected one secret of each site, got both of {both}.")
    if other := sorted((seeds.keys() | privates.keys()) ^ cohort.publics.keys()):
        raise ValueError(f"Expected one secret of each site of the cohort and of nobody else: {other}.")
    _check_advertised(cohort, privates)
    found = total.copy()
    _accumulate(found, _masks_left(cohort, seeds, privates))
    return found.view(np.int32)


def _check_advertised(cohort: Cohort, privates: Mapping[int, Secret]) -> None:
    for place, private in privates.items():
        if public_bytes(private_key(private)) != cohort.publics.get(place):
            raise ValueError(f"The private key of site {place} is not the one that it advertised.")


def _own_masks(cohort: Cohort, place: int, seed: Secret, private: Secret) -> Iterator[_Mask]:
    yield np.add, self_key(seed, place, cohort.salt)
    yield from _pair_masks(cohort, place, private, cohort.publics.keys() - {place})


def _masks_left(cohort: Cohort, seeds: Mapping[int, Secret], privates: Mapping[int, Secret]) -> Iterator[_Mask]:
    for place, seed in seeds.items():
        yield np.subtract, self_key(seed, place, cohort.salt)
    for place, private in privates.items():
        yield from _pair_masks(cohort, place, private, seeds)


def _pair_masks(cohort: Cohort, place: int, private: Secret, others: Iterable[int]) -> Iterator[_Mask]:
    """What the site at `place` adds or takes away for each of the others."""
    own = private_key(private)
    for other in others:
        operation = np.add if place < other else np.subtract
        yield operation, pair_key(own, place, cohort.publics[other], other, cohort.salt)


def _accumulate(total: Words, masks: Iterator[_Mask]) -> None:
    """Apply each mask to `total`, chunk by chunk and in it stream by stream, so that the chunk stays in the cache."""
    room = bytearray(len(_ZEROS) + _SPARE_BYTES)
    words = np.frombuffer(room, _WORD, _CHUNK)
    while streams := [(operation, _stream(key)) for operation, key in islice(masks, _TOGETHER)]:
        for start in range(0, len(total), _CHUNK):
            chunk = total[start : start + _CHUNK]
            zeros, mask = _ZEROS[: chunk.nbytes], words[: len(chunk)]
            for operation, stream in streams:
                stream.update_into(zeros, room)
                operation(chunk, mask, out=chunk)
    words[:] = 0


def _stream(key: Secret) -> CipherContext:
    """The stream of a key, which is wiped."""
    stream = Cipher(algorithms.AES128(bytes(key.reveal())), modes.CTR(bytes(16))).encryptor()
    key.wipe()
    return stream
