"""What a site has promised in sums before: the only thing of a sum that outlives its process.

The law: a sum is begun after every other of its campaign, by (round, attempt), and each step of it is noted with one
digest, durably, before its answer may leave; what was noted is never taken back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from jangin.errors import SumError
from jangin.privacy.secure_sum.table import Step
from jangin.privacy.secure_sum.transcript import Manifest

__all__ = ["Journal", "MemoryJournal", "Noted"]


class Journal(Protocol):
    """Where a site notes its promises."""

    def note(self, manifest: Manifest, step: Step, digest: bytes) -> None:
        """Write down, durably before it returns, that the site is about to answer ADVERTISE, MASK or CERTIFY.

        Raises:
            SumError: JG-sum-004 and -013, as `Noted.check`.
        """
        ...


@dataclass(frozen=True)
class Noted:
    """The last sum of a campaign that a site began.

    Attributes:
        round, attempt: which.
        steps: what was noted of it, with the digest.
    """

    round: int
    attempt: int
    steps: Mapping[Step, bytes] = field(repr=False)

    def check(self, manifest: Manifest, step: Step, digest: bytes) -> None:
        """Whether a step may be noted after this.

        Raises:
            SumError: JG-sum-004, a sum that is not after this one, or another than this one that goes on;
                JG-sum-013, the step was noted with another digest.
        """
        here, there = (self.round, self.attempt), (manifest.round, manifest.attempt)
        if there < here or (step is Step.ADVERTISE) != (there > here):
            raise SumError(
                "JG-sum-004",
                round=manifest.round,
                attempt=manifest.attempt,
                last_round=self.round,
                last_attempt=self.attempt,
            )
        if there == here and self.steps.get(step, digest) != digest:
            raise SumError("JG-sum-013", where=step.value, round=manifest.round, attempt=manifest.attempt)


class MemoryJournal:
    """A journal that ends with its process: for simulations."""

    def __init__(self) -> None:
        """Nothing is noted."""
        self._last: dict[str, Noted] = {}

    def note(self, manifest: Manifest, step: Step, digest: bytes) -> None:
        """Note a step."""
        last = self._last.get(manifest.campaign, Noted(-1, 0, {}))
        last.check(manifest, step, digest)
        steps = {} if step is Step.ADVERTISE else last.steps
        self._last[manifest.campaign] = Noted(manifest.round, manifest.attempt, {**steps, step: digest})
