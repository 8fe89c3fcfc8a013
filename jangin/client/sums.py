"""The secure sums of a site: what is noted of them on the disk, and those that are open in this process.

The law: a campaign has one open sum, and its secrets and its vector are in memory only; whatever ends it wipes them,
and so does a server that lets the next step wait for too long.
Of a sum that was begun the disk knows the steps that may have left and the ledger's charge. A charge is given back as
soon as its sum is over, unless the masked vector may have left: that was noted before it could. What a site keeps for
itself of a training goes with the charge: later vectors carry its steps, so those of a free training are forgotten.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jangin.client.state import Database
from jangin.errors import CodedText, PrivacyError, SiteError, SumError
from jangin.privacy.accounts import rounds_of
from jangin.privacy.ledger import Ledger
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.secure_sum.journal import Noted
from jangin.privacy.secure_sum.masks import Words
from jangin.privacy.secure_sum.policy import Policy, Terms
from jangin.privacy.secure_sum.site import Answer, Signer, SiteSum
from jangin.privacy.secure_sum.table import State, Step
from jangin.privacy.secure_sum.transcript import Manifest

__all__ = ["NOTHING_NOTED", "Joining", "SumJournal", "SumStanding", "Sums", "check_fit"]

NOTHING_NOTED: Final = Noted(-1, 0, {})
"""Of a campaign without any sum."""

_OVER: Final = (State.UNMASKED.value, State.ABORTED.value)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sums (
    campaign TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL, charge INTEGER,
    advertise BLOB NOT NULL, mask BLOB, certify BLOB,
    PRIMARY KEY (campaign, round, attempt)
) STRICT;
"""
_LAST = "FROM sums AS one WHERE (round, attempt) = (SELECT round, attempt FROM sums WHERE campaign = one.campaign\
 ORDER BY round DESC, attempt DESC LIMIT 1)"


@dataclass(frozen=True)
class Joining:
    """What a site needs to begin a sum, once the gate has let its order pass.

    Attributes:
        manifest: of the sum.
        terms: of the plan.
        policy: of the site.
        identities: of the active sites of the roster, by name.
        patience: longest wait for the next step.
        evaluates: whether it is charged with the opening, for good; else by a number of its own.
    """

    manifest: Manifest
    terms: Terms
    policy: Policy = field(repr=False)
    identities: Mapping[str, Ed25519PublicKey] = field(repr=False)
    patience: timedelta
    evaluates: bool = False


@dataclass(frozen=True)
class SumStanding:
    """Where a sum stands that is not over, for people."""

    campaign: str
    round: int
    attempt: int
    state: State


def check_fit(terms: Terms, policy: Policy) -> CodedText | None:
    """Whether sums of a plan can ever be begun and opened here: with all that it invites.

    Returns:
        JG-sum-024, a warning, where the plan begins with fewer sites than this one wants; JG-sum-025, where it opens
            with fewer.

    Raises:
        SumError: JG-sum-006, -012 or -015: never.
    """
    policy.accept(terms, 1)
    invited = dict.fromkeys(terms.invited, b"") | {name: policy.known.get(name, b"") for name in terms.invited}
    policy.accept_cohort(terms, invited)
    policy.accept_survivors(terms, len(invited), invited)
    if terms.least < policy.n_min:
        return CodedText("JG-sum-024", n_plan=terms.least, least=policy.n_min)
    final, wanted = terms.least_final(terms.least), policy.least_final(terms, terms.least)
    if final < wanted:
        return CodedText("JG-sum-025", final=final, began=terms.least, least=wanted)
    return None


class SumJournal(Database):
    """What was promised in sums, in site.sqlite; a sum is a line, and the last of a campaign is the one that counts."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            SiteError: JG-site-305, it cannot be used.
        """
        super().__init__(path, _SCHEMA)

    def note(self, manifest: Manifest, step: Step, digest: bytes) -> None:
        """Write down a step before its answer may leave.

        Raises:
            SumError: JG-sum-004 and -013, as `Noted.check`. SiteError: JG-site-305, it cannot be written.
        """
        self._do("BEGIN IMMEDIATE")
        try:
            self.last(manifest.campaign).check(manifest, step, digest)
            if step is Step.ADVERTISE:
                line = (*_key(manifest), State.BEGUN.value, digest)
                self._do("INSERT INTO sums (campaign, round, attempt, state, advertise) VALUES (?, ?, ?, ?, ?)", *line)
            else:
                self._set(manifest, step.value, digest)
            self._do("COMMIT")
        except BaseException:
            with suppress(SiteError):  # where COMMIT failed there may be nothing to take back
                self._do("ROLLBACK")
            raise

    def last(self, campaign: str) -> Noted:
        """The last sum of a campaign that was begun here; `NOTHING_NOTED` before the first."""
        rows = self._do(f"SELECT round, attempt, advertise, mask, certify {_LAST} AND campaign = ?", campaign)
        if not rows:
            return NOTHING_NOTED
        number, attempt, *digests = rows[0]
        steps = (Step.ADVERTISE, Step.MASK, Step.CERTIFY)
        noted = {step: digest for step, digest in zip(steps, digests, strict=True) if digest is not None}
        return Noted(number, attempt, noted)

    def charge(self, manifest: Manifest, number: int) -> None:
        """Remember which charge of the ledger a sum is about to use."""
        self._set(manifest, "charge", number)

    def reach(self, manifest: Manifest, state: State) -> None:
        """Remember where a sum stands, for people."""
        self._set(manifest, "state", state.value)

    def standing(self) -> list[SumStanding]:
        """The sums that are not over."""
        rows = self._do(f"SELECT campaign, round, attempt, state {_LAST} AND state NOT IN (?, ?)", *_OVER)
        return [SumStanding(campaign, number, attempt, State(state)) for campaign, number, attempt, state in rows]

    def left_open(self) -> list[tuple[str, int]]:
        """(campaign, charge) of each last sum whose masked vector cannot have left; every sum is over from now on.

        For the beginning of a process, when none of them has its keys any more.
        """
        self._do("UPDATE sums SET state = ? WHERE state NOT IN (?, ?)", State.ABORTED.value, *_OVER)
        return self._do(f"SELECT campaign, charge {_LAST} AND mask IS NULL AND charge IS NOT NULL")

    def _set(self, manifest: Manifest, column: str, value: bytes | str | int) -> None:
        where = "campaign = ? AND round = ? AND attempt = ?"
        self._do(f"UPDATE sums SET {column} = ? WHERE {where}", value, *_key(manifest))  # noqa: S608 - no input


@dataclass
class _Open:
    """A sum in memory, with its charge, its first answer, and what is to be kept here once its vector may leave.

    Nothing asks for it after `until`.
    """

    sum: SiteSum = field(repr=False)
    patience: timedelta
    until: datetime
    charge: int | None = None
    advert: Answer | None = field(default=None, repr=False)
    own: bytes | None = field(default=None, repr=False)


class Sums:
    """The open sums of a site, one a campaign at most; used by the thread that owns journal and ledger."""

    def __init__(
        self,
        site: str,
        signer: Signer,
        journal: SumJournal,
        ledger: Ledger,
        keep: Callable[[str, bytes], None],
        clock: Callable[[], datetime],
    ) -> None:
        """Give back what a process that died had charged for sums of which nothing left.

        Args:
            site: this one's name.
            signer: its identity.
            journal: where sums are noted.
            ledger: where they are charged.
            keep: takes a campaign and the parameters that stay here.
            clock: the time.
        """
        self._site, self._signer, self._journal = site, signer, journal
        self._ledger, self._keep, self._clock = ledger, keep, clock
        self._random = SecureRandom()
        self._open: dict[str, _Open] = {}
        for campaign, charge in journal.left_open():
            self._give_back(campaign, charge)

    def manifest(self, campaign: str) -> Manifest | None:
        """Of the open sum of a campaign, or None."""
        held = self._open.get(campaign)
        return None if held is None else held.sum.manifest

    @property
    def campaigns(self) -> list[str]:
        """Those that have an open sum."""
        return list(self._open)

    def begin(self, joining: Joining) -> None:
        """End the campaign's sum before this one; begin this one, and charge it.

        Raises:
            SumError: JG-sum-004, -005 or -015, as `SiteSum`. SiteError: JG-site-321, no charge is left; 305.
            PrivacyError: JG-privacy-025..028, the ledger.
        """
        manifest = joining.manifest
        self.end(manifest.campaign)
        made = SiteSum(
            self._site,
            manifest,
            joining.terms,
            joining.policy,
            joining.identities,
            self._signer,
            self._journal,
            self._random,
        )
        held = self._open[manifest.campaign] = _Open(made, joining.patience, self._clock() + joining.patience)
        try:
            if joining.evaluates:
                if not self._ledger.accounts[manifest.campaign].opened:
                    self._ledger.spend(manifest.campaign, 0, self._clock())
                return
            charge = self._free_charge(manifest)
            self._journal.charge(manifest, charge)
            self._ledger.spend(manifest.campaign, charge, self._clock())
        except BaseException:
            self.end(manifest.campaign)
            raise
        held.charge = charge

    def advertise(self, campaign: str, steps: Words, own: bytes | None = None) -> Answer:
        """Take the vector of the campaign's open sum, (size,), and what stays here of its training; answer R1.

        Raises:
            SumError: JG-sum-003, the manifest has another size.
        """
        held = self._open[campaign]
        held.sum.manifest.require(size=len(steps))
        held.advert, held.own = held.sum.advertise(steps), own
        held.until = self._clock() + held.patience
        self._journal.reach(held.sum.manifest, held.sum.state)
        return held.advert

    def advert(self, manifest: Manifest) -> Answer:
        """The answer to R1 again, while nothing came after it.

        Raises:
            SumError: JG-sum-002, something did.
        """
        held = self._open[manifest.campaign]
        if held.advert is None or held.sum.state is not State.ADVERTISED:
            raise SumError("JG-sum-002", where=Step.ADVERTISE.value, state=held.sum.state.value)
        return held.advert

    def answer(self, campaign: str, step: Step, message: bytes) -> Answer:
        """Answer R2 to R5 of the campaign's open sum.

        Raises:
            SumError: as `SiteSum.answer`; the sum is over then. SiteError: JG-site-342, what stays here cannot be
                written.
        """
        held = self._open[campaign]
        before = held.sum.state
        answer = held.sum.answer(step, message)
        if held.sum.state is not before:
            held.until = self._clock() + held.patience
        self._journal.reach(held.sum.manifest, held.sum.state)
        if answer.vector is not None and held.own is not None:
            self._keep(campaign, held.own)
            held.own = None
        return answer

    def end(self, campaign: str) -> None:
        """End the campaign's open sum, if there is one: its secrets are gone, and so is its charge if nothing left."""
        held = self._open.pop(campaign, None)
        if held is None:
            return
        finished = held.sum.state is State.UNMASKED
        held.sum.abort()
        if held.charge is not None and not held.sum.released:
            self._give_back(campaign, held.charge)
        if not finished:
            self._journal.reach(held.sum.manifest, State.ABORTED)

    def overdue(self) -> list[str]:
        """The campaigns whose open sum has waited for too long: what it holds may not lie about until somebody asks."""
        return [campaign for campaign, held in self._open.items() if self._clock() > held.until]

    def is_aborted(self, campaign: str) -> bool:
        """Whether the campaign's sum came to an end by what it found."""
        held = self._open.get(campaign)
        return held is not None and held.sum.state is State.ABORTED

    def _free_charge(self, manifest: Manifest) -> int:
        """The ledger's number for a sum: 0 for the scaling, else the lowest from 1 that is not spent."""
        account = self._ledger.accounts[manifest.campaign]
        rounds = rounds_of(account.reservation)
        may = [0] if manifest.round == 0 else [number for number in rounds if number > 0]
        for number in may:
            if number in rounds and number not in account.spent:
                return number
        raise SiteError("JG-site-321", campaign=manifest.campaign, round=manifest.round, rounds=len(rounds))

    def _give_back(self, campaign: str, charge: int) -> None:
        """Free a charge; one that was never spent, or whose campaign is over, stays as it is."""
        with suppress(PrivacyError):
            self._ledger.give_back(campaign, charge, self._clock())


def _key(manifest: Manifest) -> tuple[str, int, int]:
    return manifest.campaign, manifest.round, manifest.attempt
