"""Randomness that a test can foretell, and the secrets of a small cohort."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

import numpy as np
import pytest
from numpy.typing import NDArray

from jangin.privacy.randomness import SecureRandom
from jangin.privacy.secure_sum.keys import Secret, private_key, public_bytes
from jangin.privacy.secure_sum.masks import Cohort, Words, masked


class Tape(SecureRandom):
    """Random words that are known beforehand."""

    def __init__(self, words: Iterable[int]) -> None:
        super().__init__()
        self._words = iter(words)

    def bits(self, count: int) -> NDArray[np.uint64]:
        return np.array([next(self._words) for _ in range(count)], np.uint64)


@dataclass(frozen=True)
class Sites:
    """The sites at 1 to n with all their secrets, which nobody else ever holds at once."""

    cohort: Cohort
    seeds: dict[int, Secret]
    privates: dict[int, Secret]

    def sends(self, place: int, steps: NDArray[np.int64]) -> Words:
        return masked(steps, self.cohort, place, self.seeds[place], self.privates[place])


@pytest.fixture(scope="session")
def tape() -> type[Tape]:
    return Tape


@pytest.fixture(scope="session")
def sites():
    """Makes a cohort of n, the same ones every time."""
    made: dict[int, Sites] = {}

    def make(n: int) -> Sites:
        if n not in made:
            numbers = count()
            random = SecureRandom(lambda size: (1000 * n + next(numbers)).to_bytes(size, "big"))
            seeds, privates = ({place: Secret.fresh(random) for place in range(1, n + 1)} for _ in range(2))
            publics = {place: public_bytes(private_key(private)) for place, private in privates.items()}
            made[n] = Sites(Cohort(bytes(range(32)), publics), seeds, privates)
        return made[n]

    return make
