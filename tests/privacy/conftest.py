"""Randomness that a test can repeat: the stream is the real one, its key is not fresh."""

import hashlib
from collections.abc import Callable

import pytest

from jangin.privacy.randomness import SecureRandom


@pytest.fixture
def tape() -> Callable[[object], SecureRandom]:
    """From a name to a stream keyed by it: the same name gives the same values."""

    def keyed(name: object) -> SecureRandom:
        return SecureRandom(lambda count: hashlib.sha256(str(name).encode()).digest()[:count])

    return keyed
