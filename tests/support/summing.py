"""Sites of secure sums behind a run of messages: real machines, answers at set times by a clock that waiting moves."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from jangin.errors import LinkError, SumError
from jangin.flower_link.link import Answer
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Said, order_digest, read_order, read_step, said_body
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.secure_sum.journal import MemoryJournal
from jangin.privacy.secure_sum.messages import read_adverts, read_dealt
from jangin.privacy.secure_sum.policy import Policy, Terms, threshold
from jangin.privacy.secure_sum.site import SiteSum
from jangin.privacy.secure_sum.table import Step
from jangin.privacy.secure_sum.transcript import Manifest, cohort_digest

CAMPAIGN = "c" * 64
ROSTER = hashlib.sha256(b"a roster").digest()

BEGINNING = ("scale", "train", "evaluate")

Odd = Callable[[int, int, Step, str], Any]
"""Of round, attempt, step and site what it does there: None, "silent", a code to abstain with, seconds to be late, or
from its answer to another one."""


class SumSites:
    """Sites by name, each with an identity and a journal that outlives every sum, as a run of `flower_link` shows them.

    Attributes:
        now: the clock.
        pushed: site and kind of every letter, in order.
        refusals: what a machine refused, by site.
        most_vectors: most masked vectors that were on their way at once.
    """

    def __init__(
        self,
        names: Collection[str],
        vector: Callable[[str, int, int], NDArray[np.int32]],
        odd: Odd = lambda number, attempt, step, site: None,
        *,
        n_plan: int = 4,
        campaign: str = CAMPAIGN,
    ) -> None:
        self.names, self.vector, self.odd, self.campaign = tuple(names), vector, odd, campaign
        self.keys = {name: Ed25519PrivateKey.generate() for name in names}
        self.identities = {name: key.public_key() for name, key in self.keys.items()}
        self.terms = Terms(frozenset(names), n_plan, threshold(n_plan), 1, 3)
        self.policy = Policy(n_min=4, n_min_final=3, n_honest_min=1, c_max=1, demo=True)
        self.journals = {name: MemoryJournal() for name in names}
        self.now = 100.0
        self.pushed: list[tuple[str, str]] = []
        self.letters: list[Wire] = []
        self.refusals: dict[str, str] = {}
        self.most_vectors = 0
        self._sums: dict[str, SiteSum] = {}
        self._due: dict[str, tuple[float, str, Wire | LinkError]] = {}
        self._random = SecureRandom()

    def push(self, site: str, wire: Wire, *, ttl_seconds: float) -> str:
        self.pushed.append((site, wire.kind))
        self.letters.append(wire)
        message = f"{len(self.pushed)}"
        after, answer = self._answered(site, wire)
        if answer is not None:
            self._due[message] = self.now + after, site, answer
        vectors = [one for _, _, one in self._due.values() if isinstance(one, Wire) and one.vector is not None]
        self.most_vectors = max(self.most_vectors, len(vectors))
        return message

    def pull(self, messages: Collection[str]) -> list[Answer]:
        come = [message for message in messages if message in self._due and self._due[message][0] <= self.now]
        return [Answer(message, *self._due.pop(message)[1:]) for message in come]

    def forget(self, messages: Collection[str]) -> None:
        for message in messages:
            self._due.pop(message, None)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now

    @property
    def manifests(self) -> list[Manifest]:
        """Of the sums that were begun, in order."""
        bodies = dict.fromkeys((wire.kind, wire.round, wire.body) for wire in self.letters if wire.kind in BEGINNING)
        vector = np.zeros(1, np.float32)
        orders = (read_order(kind, number, body, None if kind == "scale" else vector) for kind, number, body in bodies)
        return [Manifest.decode(order.manifest or b"") for order, _ in orders]

    @property
    def h1(self) -> bytes:
        """Digest of the cohort of the last sum."""
        body = next(wire.body for wire in reversed(self.letters) if wire.kind == "share")
        keys = {name: (one.channel, one.mask) for name, one in read_adverts(read_step(body)[0]).items()}
        return cohort_digest(self.manifests[-1].digest, keys)

    def roots(self, site: str) -> list[bytes]:
        """Of what each dealer of the last sum dealt to a site."""
        letters = zip(reversed(self.pushed), reversed(self.letters), strict=True)
        body = next(wire.body for pushed, wire in letters if pushed == (site, "mask"))
        dealt = read_dealt(read_step(body)[0])
        return [dealt[name].root for name in sorted(dealt)]

    def total(self, names: Collection[str], number: int, attempt: int = 1) -> list[int]:
        """What the sum over these sites has to be."""
        size = self._sums[next(iter(names))].manifest.size
        whole = sum(self.vector(name, number, size).astype(np.int64) for name in names)
        return ((np.asarray(whole) + 2**31) % 2**32 - 2**31).tolist()

    def _answered(self, site: str, wire: Wire) -> tuple[float, Wire | LinkError | None]:
        step = Step.ADVERTISE if wire.kind in BEGINNING else Step(wire.kind)
        answer = self._said(site, step, wire)
        odd = self.odd(wire.round, self._sums[site].manifest.attempt, step, site)
        match odd:
            case None:
                return 0.5, answer
            case "silent":
                return 0.0, None
            case str():
                return 0.5, replace(answer, body=said_body(Said(site, None, None, odd)), vector=None)
            case float():
                return odd, answer
            case BaseException():
                raise odd
            case _:
                return 0.5, odd(answer)

    def _said(self, site: str, step: Step, wire: Wire) -> Wire:
        try:
            if step is Step.ADVERTISE:
                vector = None if wire.vector is None else wire.vector.astype(np.float32, copy=False)
                order, _ = read_order(wire.kind, wire.round, wire.body, vector)
                assert order.manifest is not None
                manifest = Manifest.decode(order.manifest)
                manifest.require(campaign=self.campaign, round=wire.round, model=order_digest(order), roster=ROSTER)
                one = SiteSum(
                    site,
                    manifest,
                    self.terms,
                    self.policy,
                    self.identities,
                    self.keys[site],
                    self.journals[site],
                    self._random,
                )
                self._sums[site] = one
                said = one.advertise(self.vector(site, wire.round, manifest.size).view(np.uint32))
            else:
                said = self._sums[site].answer(step, read_step(wire.body)[0])
        except SumError as error:
            self.refusals[site] = error.code
            return Wire(wire.kind, wire.campaign, wire.round, said_body(Said(site, None, None, error.code)))
        return Wire(wire.kind, wire.campaign, wire.round, said_body(Said(site, said.body)), said.vector)


def at(step: Step, sites: Collection[str], what: Any, attempts: Collection[int] = (1, 2, 3)) -> Odd:
    """These sites do so at one step of these attempts."""
    return lambda number, attempt, where, site: (
        what if (where is step and site in sites and attempt in attempts) else None
    )


def wide(name: str, number: int, size: int) -> NDArray[np.int32]:
    """A vector over the whole ring, another one for each site and round."""
    seed = int.from_bytes(hashlib.sha256(f"{name} {number}".encode()).digest()[:8])
    return np.random.default_rng(seed).integers(-(2**31), 2**31, size).astype(np.int32)


def steps_of(pushed: Collection[tuple[str, str]]) -> Mapping[str, list[str]]:
    """To whom letters of each kind went."""
    return {kind: sorted(site for site, its in pushed if its == kind) for kind in dict.fromkeys(k for _, k in pushed)}
