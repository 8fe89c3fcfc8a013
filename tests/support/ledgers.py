"""A ledger's surroundings for tests: a key, an anchor in memory, wishes."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jangin.privacy.accounts import Budget, Wish
from jangin.privacy.releases import Charge, Cost, GaussianRelease, Reading, Unit

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
EPISODES = Budget(Unit.EPISODE, 1e-5, {Reading.SECURE_SUM: 8.0, Reading.COALITION: 50.0})
MASTERS = Budget(Unit.MASTER, 1e-5, {Reading.SECURE_SUM: 8.0, Reading.COALITION: 50.0})


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@dataclass
class Key:
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def sign(self, message: bytes) -> bytes:
        return self.private.sign(message)

    def verify(self, signature: bytes, message: bytes) -> bool:
        try:
            self.private.public_key().verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass
class Memory:
    """An anchor that outlives the ledger's file."""

    content: bytes | None = None

    def read(self) -> bytes | None:
        return self.content

    def write(self, content: bytes) -> None:
        self.content = content


def keys(names: Iterable[object]) -> list[bytes]:
    return [hashlib.sha256(str(name).encode()).digest() for name in names]


def cost(
    noise: float = 4.0, q: float = 1.0, steps: int = 1, rounds: int = 10, unit: Unit = Unit.EPISODE, opening: float = 0
) -> Cost:
    first = (GaussianRelease(opening, 1.0, 1),) if opening else ()
    return dict.fromkeys(Reading, Charge(unit, rounds, first, (GaussianRelease(noise, q, steps),)))


def wish(campaign: str = "a" * 64, episodes: Iterable[object] = range(3), **asked: object) -> Wish:
    asks = cost(**asked)  # type: ignore[arg-type]
    charge = asks[Reading.SECURE_SUM]
    return Wish(campaign, "a-line", "records", charge.unit, charge.rounds, asks, {one: [one] for one in keys(episodes)})
