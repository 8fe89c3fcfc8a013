"""One order of a campaign of sums, put to a cohort as a secure sum: five steps over letters.

The law: each step is bounded; after the first only those are asked who answered the one before; who leaves is named
with a code, and what a site sends is believed by the machine of `privacy/secure_sum` alone. Vectors are added as they
come: memory is that of the sum, of one wave of vectors, and of what the sites deal each other.

A step is closed when all have answered or its seconds are over. One after the first is closed early where enough have
answered, all were asked, and nothing has come for four times as long as the slowest answer to it took, at least 3 s.
That harms nobody: the thresholds hold for those who are left as they would at the deadline, a site that lives answers
these steps at its next poll as the others did, and who is cut off joins the next round. The first step is training,
where the slow would be cut off in every round: it is never closed early.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Final, NoReturn, Protocol, cast

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from jangin.errors import LinkError, ServerError, SumError
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, Said, order_body, read_said, step_body
from jangin.privacy.secure_sum.policy import Terms
from jangin.privacy.secure_sum.server import Certificate, ServerSum
from jangin.privacy.secure_sum.table import Step
from jangin.privacy.secure_sum.transcript import Manifest
from jangin.server.post import MOST_TOGETHER_BYTES, Letter, Looks, answer_to
from jangin.server.rounds import RoundRecord

__all__ = ["Asking", "SecureSum", "waits"]

_SHARES: Final[Mapping[Step, float]] = {
    Step.ADVERTISE: 0.6,
    Step.SHARE: 0.08,
    Step.MASK: 0.16,
    Step.CERTIFY: 0.08,
    Step.UNMASK: 0.08,
}
_PATIENCE: Final = 4.0
_LEAST_PATIENCE_SECONDS: Final = 3.0
_LETTERS_BYTES: Final = 2**24  # what the letters of a wave weigh together that are different for each site

_log = logging.getLogger(__name__)


class Asking(Protocol):
    """How letters reach sites: a `Post`, or the sites of a simulation."""

    @property
    def campaign(self) -> str:
        """Whose letters they are."""
        ...

    def ask(self, letters: Iterator[tuple[str, Wire]], seconds: float, abreast: int) -> Looks:
        """As `Post.ask`."""
        ...


def waits(deadline_s: float) -> tuple[float, ...]:
    """The longest wait for each step, in seconds, of a round that has so many: training first, and what is left."""
    return tuple(_SHARES[step] * deadline_s for step in Step)


class SecureSum:
    """One secure sum of one cohort, made anew for each order.

    Attributes:
        sites: the cohort.
        refused: sites that sent what is none of the protocol's, with the code.
        blamed: sites that are proven to have lied, with the code; a person decides what comes of it.
        released: whether masked vectors were asked for: from then on the attempt is charged.
        roster: digest of the roster by which the cohort is known, 32 bytes.
    """

    def __init__(
        self,
        asking: Asking,
        terms: Terms,
        identities: Mapping[str, Ed25519PublicKey],
        roster: bytes,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is asked yet.

        Args:
            asking: takes letters to sites.
            terms: of the plan.
            identities: of the cohort, by the roster in force.
            roster: digest of that roster, 32 bytes.
            clock: seconds that only grow.
        """
        self.sites: Sequence[str] = tuple(identities)
        self.refused: dict[str, str] = {}
        self.blamed: dict[str, str] = {}
        self.released = False
        self.roster = roster
        self._asking, self._terms, self._identities, self._clock = asking, terms, identities, clock
        self._abstained: dict[str, str] = {}
        self._here = frozenset(identities)

    def answer(
        self, order: Order, manifest: Manifest, *, quorum: int, releasing: Callable[[], None] = lambda: None
    ) -> tuple[RoundRecord, NDArray[np.int32], Certificate]:
        """Put an order to the cohort, and open the sum of what it gives.

        Args:
            order: what they are asked.
            manifest: what the sum is of.
            quorum: fewest sites that begin it, beside the plan's terms.
            releasing: called before masked vectors are asked for.

        Returns:
            Who is in the sum, the sum in steps, (manifest.size,), and what the sites signed of it.

        Raises:
            ServerError: JG-server-001, fewer began it than the quorum; JG-server-344, too few answered a step;
                JG-server-345, what a dealer signed does not open. Each with the names of those who are missing.
            LinkError: JG-server-204, the run has ended.
        """
        machine = ServerSum(manifest, self._terms, self._identities)
        try:
            for step, seconds in zip(Step, manifest.seconds, strict=True):
                if step is Step.MASK:
                    self.released = True
                    releasing()
                self._here = machine.asked
                self._take(machine, step, seconds, order)
                machine.close()
                if step is Step.ADVERTISE:
                    self._require(machine, order, quorum)
            total = machine.total()
        except SumError as error:
            self._end(order, error)
        finally:
            self.blamed = dict(machine.blamed)
        certificate = machine.certificate
        for site in certificate.survivors:  # one may have left when its vector was in
            self._abstained.pop(site, None)
            self.refused.pop(site, None)
        missing = self._missing(frozenset(certificate.survivors))
        return RoundRecord(order.round, certificate.survivors, dict(self._abstained), missing), total, certificate

    def _take(self, machine: ServerSum, step: Step, seconds: float, order: Order) -> None:
        """Ask one step of everybody that it is asked of, and take the answers."""
        began = heard = self._clock()
        slowest, asked = 0.0, False

        def letters() -> Iterator[tuple[str, Wire]]:
            nonlocal asked
            wire = None
            for site in sorted(machine.asked):
                if wire is None or step is Step.MASK:  # what everybody gets alike is one wire
                    left_s = max(seconds - (self._clock() - began), _LEAST_PATIENCE_SECONDS)
                    wire = self._wire(machine, step, site, left_s, order)
                yield site, wire
            asked = True

        with closing(self._asking.ask(letters(), seconds, _abreast(machine, step))) as looks:
            for returned in looks:
                for letter, content in returned:
                    heard = self._clock()
                    slowest = max(slowest, heard - letter.since)
                    self._receive(machine, letter, content)
                patience = max(_PATIENCE * slowest, _LEAST_PATIENCE_SECONDS)
                late = asked and machine.enough and self._clock() - heard > patience
                if late and step is not Step.ADVERTISE:
                    _log.info("Step %s is closed without %s.", step.value, ", ".join(sorted(machine.waiting)))
                    break

    def _wire(self, machine: ServerSum, step: Step, site: str, seconds: float, order: Order) -> Wire:
        message, campaign = machine.request(site), self._asking.campaign
        if step is not Step.ADVERTISE:
            return Wire(step.value, campaign, order.round, step_body(message, seconds))
        vector = order.vector if order.vector.size else None
        body = order_body(replace(order, manifest=message), seconds)
        return Wire(order.kind.value, campaign, order.round, body, vector)

    def _receive(self, machine: ServerSum, letter: Letter, content: Wire | LinkError) -> None:
        """Take one answer; whose is none is out of this sum, and named."""
        site = letter.site
        try:
            said = _said(letter, answer_to(letter, content))
        except ServerError as error:
            _log.warning("%s", error)
            machine.leave(site, error.code)
        else:
            if said.abstained is not None:
                self._abstained[site] = said.abstained
                machine.leave(site, said.abstained)
            else:
                machine.receive(site, said.message or b"", said.vector)
        if site in machine.left and site not in self._abstained:
            self.refused[site] = machine.left[site]
            _log.warning("%s is out of this sum: %s", site, machine.left[site])

    def _require(self, machine: ServerSum, order: Order, quorum: int) -> None:
        """Whether those who began are as many as the plan asks of a round."""
        if len(machine.asked) < quorum:
            raise ServerError(
                "JG-server-001",
                where=f"round {order.round}",
                reported=len(machine.asked),
                quorum=quorum,
                abstained=dict(self._abstained),
                missing=self._missing(machine.asked),
            )

    def _end(self, order: Order, error: SumError) -> NoReturn:
        """Raise the error of a sum that ended early, with everybody who is missing."""
        where, abstained, values = f"round {order.round}", dict(self._abstained), error.coded.values
        if error.code == "JG-sum-018":
            dealer, missing = values["dealer"], self._missing(self._here)
            raise ServerError(
                "JG-server-345", where=where, dealer=dealer, abstained=abstained, missing=missing
            ) from None
        raise ServerError(
            "JG-server-344",
            where=where,
            step=error.coded.where,
            found=values["found"],
            least=values["least"],
            abstained=abstained,
            missing=self._missing(self._here.difference(cast("Sequence[str]", values["missing"]))),
        ) from None

    def _missing(self, answered: frozenset[str]) -> tuple[str, ...]:
        return tuple(site for site in self.sites if site not in {*answered, *self._abstained, *self.refused})


def _said(letter: Letter, wire: Wire) -> Said:
    """A site's answer to a step.

    Raises:
        ServerError: JG-server-340, it is none.
    """
    try:
        vector = None if wire.vector is None else wire.vector.astype(np.uint32, casting="safe", copy=False)
        return read_said(Kind(letter.wire.kind), letter.site, wire.body, vector)
    except (ValueError, TypeError) as error:
        raise ServerError("JG-server-340", where=letter.site, problem=str(error).removesuffix(".")) from None


def _abreast(machine: ServerSum, step: Step) -> int:
    """How many letters of a step are on their way at once: what they bring, or are, weighs no more than a wave may."""
    if step is not Step.MASK:
        return max(len(machine.asked), 1)
    letter = len(machine.request(min(machine.asked)))
    return max(min(MOST_TOGETHER_BYTES // (4 * machine.manifest.size), _LETTERS_BYTES // letter), 1)
