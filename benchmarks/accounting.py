"""How fast noise is calibrated, beside dp-accounting's own search, and how fast a ledger admits the next campaign.

Admission: the ledger's file is opened, read through and verified, and one more campaign is reserved for 2,000 episodes,
after campaigns of 41 rounds that differ in noise, sampling and in two of three cases in episodes. Beside it stands
dp-accounting, which composes the same campaigns' events for one episode into one privacy loss distribution.

Usage: python benchmarks/accounting.py [--json] [--quick]
"""

import argparse
import hashlib
import json
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import dp_accounting
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dp_accounting.pld import PLDAccountant

from jangin.privacy.accounting import calibrate, epsilon_pld
from jangin.privacy.accounts import Budget, Wish
from jangin.privacy.ledger import Ledger
from jangin.privacy.releases import Charge, GaussianRelease, Reading, Unit

DELTA, PROBABILITY, ROUNDS = 1e-5, 128 / 10_000, 40


def ours(epsilon: float, steps: int) -> float:
    return calibrate(epsilon, DELTA, PROBABILITY, steps).noise_multiplier


def theirs(interval: float, epsilon: float, steps: int) -> float:
    return dp_accounting.calibrate_dp_mechanism(
        partial(PLDAccountant, value_discretization_interval=interval),
        lambda noise: dp_accounting.SelfComposedDpEvent(
            dp_accounting.PoissonSampledDpEvent(PROBABILITY, dp_accounting.GaussianDpEvent(noise)), steps
        ),
        epsilon,
        DELTA,
        bracket_interval=dp_accounting.LowerEndpointAndGuess(0.3, 1.0),
        tol=1e-3,
    )


@dataclass(frozen=True)
class Key:
    """A ledger's key."""

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
class Anchor:
    """A second place for the head, in memory."""

    content: bytes | None = None

    def read(self) -> bytes | None:
        return self.content

    def write(self, content: bytes) -> None:
        self.content = content


def wish(number: int, chance: random.Random, episodes: list[bytes]) -> Wish:
    """One of many campaigns that differ."""
    opening = (GaussianRelease(chance.uniform(60, 90), 1.0, 1),)
    each = (GaussianRelease(chance.uniform(60, 100), chance.choice([1.0, 0.1, 0.02]), 5),)
    cost = dict.fromkeys(Reading, Charge(Unit.EPISODE, ROUNDS, opening, each))
    those = episodes if number % 3 == 0 else chance.sample(episodes, 3 * len(episodes) // 4)
    units = {episode: [episode] for episode in those}
    return Wish(f"{number:064x}", "a-line", "records", Unit.EPISODE, ROUNDS, cost, units)


def admission(runs: int, count: int) -> dict[str, object]:
    """Wall seconds to open a ledger after so many campaigns and to reserve the next one."""
    chance, now = random.Random(runs), datetime.now(UTC)
    episodes = [hashlib.sha256(str(number).encode()).digest() for number in range(count)]
    budget = Budget(Unit.EPISODE, DELTA, dict.fromkeys(Reading, 100.0))
    key, anchor = Key(), Anchor()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.sqlite"
        with Ledger(file, "site-0", key, anchor) as ledger:
            ledger.grant([budget], now)
            for number in range(runs):
                one = wish(number, chance, episodes)
                ledger.reserve(one, now)
                for place in range(ROUNDS + 1):
                    ledger.spend(one.campaign, place, now)
                ledger.end(one.campaign, now)
        start = time.perf_counter()
        with Ledger(file, "site-0", key, anchor) as ledger:
            ledger.reserve(wish(runs, chance, episodes), now)
            seconds = time.perf_counter() - start
            accounts = list(ledger.accounts.values())
    events = [one for account in accounts for one in account.releases(Unit.EPISODE, Reading.SECURE_SUM) or ()]
    start = time.perf_counter()
    epsilon_pld(events, DELTA, 1e-3)
    beside = time.perf_counter() - start
    goal = 0.5 if runs <= 60 else 1.0
    return {
        "name": f"ledger: open and admit after {runs} campaigns, {count} episodes, seconds",
        "figure": round(seconds, 3),
        "beside": {"dp-accounting, PLD of one episode": round(beside, 3)},
        "ratio": round(seconds / beside, 3),
        "goal": f"<= {goal:g} s",
        "holds": seconds <= goal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only JSON lines (they are the only form)")
    parser.add_argument("--quick", action="store_true", help="few steps, a coarse grid: keeps this script alive")
    arguments = parser.parse_args()
    steps, grid = (20, 1e-2) if arguments.quick else (781, 1e-4)
    for epsilon in (1.0, 8.0):
        seconds, noise = {}, {}
        for name, search in {"ours": ours, "dp-accounting": partial(theirs, grid)}.items():
            start = time.process_time()
            noise[name] = search(epsilon, steps)
            seconds[name] = time.process_time() - start
        other = seconds["dp-accounting"]
        row = {
            "name": f"calibrate to epsilon {epsilon:g}, {steps} steps, CPU seconds",
            "figure": round(seconds["ours"], 3),
            "beside": {"dp-accounting": round(other, 3)},
            "ratio": round(seconds["ours"] / other, 3),
            "goal": "< 2 s, <= 1 % excess noise",
            "holds": seconds["ours"] < 2 and noise["ours"] <= 1.01 * noise["dp-accounting"],
        }
        print(json.dumps(row))
    for runs in (2,) if arguments.quick else (60, 600):
        print(json.dumps(admission(runs, 20 if arguments.quick else 2000)))


if __name__ == "__main__":
    main()
