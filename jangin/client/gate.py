"""The gate: what must hold before any record is opened.

It reads signatures, settings, card.yaml, manifest.json, and the consents of those whose records these are.

`clear` judges an order, `admit` a later step of a secure sum, for which the plan has to hold as it did for its order.
A rehearsal has to clear all that a round has, but for what was answered and spent: it charges nothing (decision 41).

| JG-site- | refused because | the server is told |
|---|---|---|
| 306 | the order, or the step of a sum, is not of the agreed form | the code |
| 307 | its plan was never given to this site | the code |
| 110..127 | a signature, the staff list or the roster | the code |
| 308 | this site is not on the roster by its own keys | the code |
| JG-plan-... | the plan cannot hold together | the code |
| 309 | the plan is not written out in full | the code |
| 310 | the plan does not invite this site | the code |
| 311 | nobody here approved it | the code |
| 312 | its model line is not installed, or is another process' | the code |
| 313 | the round is none of the plan's | the code |
| JG-sum-021 | it asks in clear, and the plan says in secret | the code |
| JG-sum-022 | it asks in secret, and the plan says in clear | the code |
| JG-sum-003 | its manifest is of something else than came | the code |
| JG-sum-004 | its manifest is not after the last one here | the code |
| JG-sum-006, -015 | sums of all whom the plan invites would still be below what this site demands | the code |
| JG-sum-012 | too few of the sites that are known here may take part | `local` |
| JG-sum-023 | a step of a sum that is not open here | the code |
| 314 | the round was answered already, or is behind one that was | `local` |
| 328 | it evaluates a round that was evaluated already, or while the campaign's last order is in the worker | `local` |
| 317 | it collects an update that is not kept here | `local` |
| 320 | there are no validated records of its process here | `local` |
| 350..356 | nobody of those who worked there allows this use (`consent.Verdict`) | `local` |
| 318 | the ledger has nothing reserved for it, or its campaign is over | `local` |
| 319 | its round is spent, and no answer was kept | `local` |
| 323 | more rounds were begun, or rehearsals answered, today than this site allows | `local` |
| 381, 382, 386 | no window is open; the site is paused; its disk is below the floor (`client.limits`) | `local` |
| 383..385 | the busy hook, asked by the daemon when all else clears: busy, not to be trusted, silent | `local` |

The law: each refusal has a code; what is private about a reason stays here (`door.outward`); an order that clears is
either new, or to be answered with what was kept: word for word the last one answered, or its collection, or the one
that began the sum that is open.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from jangin.client.consent import coverage, use_of
from jangin.client.limits import Conditions
from jangin.client.limits import check as check_limits
from jangin.client.settings import SiteSettings
from jangin.client.spending import allowed
from jangin.client.sums import Joining, check_fit
from jangin.codec import cbor
from jangin.codec.document import parse
from jangin.errors import DataError, JanginError, SiteError, SumError
from jangin.flower_link.wire import Wire
from jangin.models.lines import read_line
from jangin.plan.messages import Kind, Order, order_digest, read_order, read_step
from jangin.plan.terms import terms
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.accounts import Account, State
from jangin.privacy.releases import Cost, Unit
from jangin.privacy.secure_sum.journal import Noted
from jangin.privacy.secure_sum.table import Step
from jangin.privacy.secure_sum.transcript import Manifest as SumManifest
from jangin.records.manifest import Manifest, open_validated
from jangin.records.process import read_process
from jangin.strategies import build
from jangin.strategies.check import check
from jangin.trust.approvals import SignedPlan
from jangin.trust.chain import Trust
from jangin.trust.roster import Roster, Status

__all__ = ["STEPS", "Cleared", "Standing", "admit", "clear", "is_of_a_sum", "plan_of", "records_for"]

STEPS: Final[Mapping[str, Step]] = {step.value: step for step in Step if step is not Step.ADVERTISE}
"""The kinds of messages that go on with a secure sum."""

_LINE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ABSENT = "absent"
_PATIENCE: Final = 2.0  # rounds: a server may wait for others as long as one, and an answer has to come to it


@dataclass(frozen=True)
class Standing:
    """What a site knows when an order comes.

    Attributes:
        folder: its state folder, from which settings' relative paths start.
        settings: site.yaml.
        trust: staff and roster as held.
        identity: its own Ed25519 key as an OpenSSH line.
        node_key: its own P-384 key as an OpenSSH line.
        envelope: the signed plan that the order names, or None.
        approved: whether a person here said yes to it.
        answered: round and digest of the last order of this campaign that was answered with an update or moments.
        evaluated: the same of its last evaluation that was answered, or, in a sum, begun.
        training: digest of the order of this round that is being trained, or None; for an evaluation, of any order of
            its campaign.
        account: of this campaign in the ledger, or None.
        units: keys of the units of the campaign that the ledger charged.
        episodes: keys of the episodes that the ledger lets take part.
        noted: the last secure sum of this campaign that was begun here.
        open: the manifest of the campaign's secure sum that is open in this process, or None.
        begun: how many trainings of all campaigns were begun within the last day.
        conditions: how things stand for an order that is still to be begun.
        took: pseudonyms of those whose recordings this round of the campaign was given here.
        rehearsed: how many rehearsals of all campaigns were answered within the last day.
    """

    folder: Path
    settings: SiteSettings
    trust: Trust = field(repr=False)
    identity: str
    node_key: str
    envelope: bytes | None = field(repr=False)
    approved: bool
    answered: tuple[int, str] | None
    evaluated: tuple[int, str] | None
    training: str | None
    account: Account | None = field(repr=False)
    units: frozenset[bytes] = field(repr=False)
    episodes: frozenset[bytes] = field(repr=False)
    noted: Noted
    open: SumManifest | None
    begun: int
    conditions: Conditions
    took: frozenset[str]
    rehearsed: int = 0


@dataclass(frozen=True)
class Cleared:
    """An order that may be carried out.

    Attributes:
        plan: of its campaign.
        payload: the plan's canonical CBOR.
        digest: of the order, 64 hex digits.
        deadline_s: seconds the site has, from receipt: no more than the plan gives a round.
        hold: whether the update is to wait here.
        records: the folder to train on.
        episodes: those that may take part, by their ids, each with the digest of its content; those of the hold-out for
            an evaluation, and of the training side for anything else.
        masters: whose these are, by their pseudonyms, each with how many; each of them allows this use.
        cost: what was reserved for the campaign; None: NO DIFFERENTIAL PRIVACY.
        again: whether it is to be answered with what was kept.
        joining: the secure sum that it begins, or, where it comes again, that is open; None: the answer is in clear.
    """

    plan: TrainingPlan
    payload: bytes = field(repr=False)
    digest: str
    deadline_s: float
    hold: bool
    records: Path
    episodes: Mapping[str, str] = field(repr=False)
    masters: Mapping[str, int] = field(repr=False)
    cost: Cost | None
    again: bool
    joining: Joining | None


def clear(wire: Wire, standing: Standing, now: datetime) -> Cleared:
    """Judge one order.

    Raises:
        SiteError, SumError: as in the table above. PlanError: JG-plan-001..003 and 020..035, a plan that cannot hold
            together.
    """
    order, deadline_s = _order(wire)
    signed, plan, roster = _agreed(wire, standing, now)
    _check_line(plan)
    _check_round(order, plan)
    digest = order_digest(order).hex()
    evaluates, rehearses, training = order.kind is Kind.EVALUATE, order.kind is Kind.REHEARSE, standing.training
    joining = _joining(order, plan, roster, standing)
    if joining is not None:
        again = joining.manifest == standing.open
        if not again:
            check_fit(joining.terms, joining.policy)  # as at the approval, by site.yaml as it is now
            standing.noted.check(joining.manifest, Step.ADVERTISE, joining.manifest.digest)
            if evaluates and _evaluated_again(order, digest, standing.evaluated, plan):
                raise SiteError("JG-site-328", campaign=plan.campaign, round=order.round, problem="it was begun before")
    elif evaluates:
        again = _evaluated_again(order, digest, standing.evaluated, plan)
        if training not in (None, digest):  # it may still give back what both are charged by
            raise SiteError(
                "JG-site-328", campaign=plan.campaign, round=order.round, problem="another order is in work"
            )
    elif rehearses:
        again = False
    else:
        again = _asked_again(order, digest, standing.answered, plan)
        if training not in (None, digest):
            raise SiteError("JG-site-314", campaign=plan.campaign, round=order.round, answered=order.round)
    known = again or (joining is None and training is not None)
    if not known:
        check_limits(standing.settings.limits, standing.conditions, now)
    records, manifest = records_for(plan, standing.settings, standing.folder)
    consents = coverage(
        standing.folder, standing.settings, standing.identity, use_of(plan), set(manifest.masters.values()), now
    )
    consents.require()
    if again and joining is None and not standing.took <= consents.covered:  # what was kept is of their recordings too
        raise consents.refusal
    account = _reserved(standing.account, plan)
    # An evaluation is charged with the opening, a sum by its own number, a rehearsal not at all.
    charged = joining is not None or known or evaluates or rehearses
    if not charged and account.state(order.round) is not State.RESERVED:
        raise SiteError("JG-site-319", campaign=plan.campaign, round=order.round)
    unit, charged_units, charged_episodes = plan.privacy.unit, standing.units, standing.episodes
    ours = manifest.of(consents.covered)
    episodes = allowed(unit, ours, charged_units, charged_episodes, held_out=evaluates)
    if not episodes and not evaluates:  # an empty hold-out gives an empty sum, and nobody learns of it
        if allowed(unit, manifest, charged_units, charged_episodes):
            raise consents.refusal
        raise SiteError("JG-site-320", process=plan.process, problem="none of them were there at the approval")
    most = standing.settings.limits.rounds_a_day
    begun = max(standing.begun, standing.rehearsed) if rehearses else standing.begun
    if not known and begun >= most:
        raise SiteError("JG-site-323", count=begun, most=most)
    cost = account.reservation.cost
    deadline_s = min(deadline_s, plan.sites.deadline_s)
    masters = Counter(manifest.masters[episode] for episode in episodes)
    return Cleared(
        plan, signed.payload, digest, deadline_s, order.hold, records, episodes, masters, cost, again, joining
    )


def admit(wire: Wire, standing: Standing, now: datetime) -> tuple[Step, bytes]:
    """Judge a later step of a secure sum: which it is, and its message, which the sum judges itself.

    Raises:
        SiteError, SumError: as in the table above. PlanError: as `clear`.
    """
    try:
        message, _ = read_step(wire.body)
        if wire.vector is not None:
            raise ValueError("Expected no vector.")
    except ValueError as error:
        raise SiteError("JG-site-306", problem=str(error).removesuffix(".")) from None
    step, plan = STEPS[wire.kind], _agreed(wire, standing, now)[1]
    _reserved(standing.account, plan)
    if standing.open is None or standing.open.round != wire.round:
        raise SumError("JG-sum-023", where=step.value, round=wire.round)
    return step, message


def is_of_a_sum(wire: Wire) -> bool:
    """Whether a message is one of a secure sum, whose answers have a form of their own."""
    if wire.kind in STEPS:
        return True
    try:
        return _order(wire)[0].manifest is not None
    except SiteError:
        return False


def plan_of(signed: SignedPlan) -> TrainingPlan:
    """The plan of a payload whose signatures hold.

    Raises:
        PlanError: JG-plan-001..003 and 020..035, it cannot hold together.
        SiteError: JG-site-309, it is not written out in full: a default that somebody else's version fills in is no
            promise.
    """
    plan = parse(cbor.decode(signed.payload), TrainingPlan, "plan")
    if plan.hash != signed.hash:
        raise SiteError("JG-site-309", campaign=plan.campaign, expected=plan.hash, found=signed.hash)
    check(plan.strategy, plan.privacy)
    return plan


def records_for(plan: TrainingPlan, settings: SiteSettings, folder: Path) -> tuple[Path, Manifest]:
    """The validated records of the plan's process, and their manifest; only it and the card are read.

    Raises:
        SiteError: JG-site-320, there are none, or they are not as they were validated.
    """
    block = next((block for block in settings.data if block.process == plan.process), None)
    if block is None:
        raise SiteError("JG-site-320", process=plan.process, problem="site.yaml names none")
    records = folder / block.path
    try:
        return records, _checked(records, plan)
    except JanginError as error:
        raise SiteError("JG-site-320", process=plan.process, problem=error.code) from None


def _order(wire: Wire) -> tuple[Order, float]:
    """The order of a message."""
    try:
        if wire.vector is not None and wire.vector.dtype != np.float32:
            raise ValueError("Expected parameters of float32.")
        order, deadline_s = read_order(wire.kind, wire.round, wire.body, wire.vector)  # type: ignore[arg-type]
    except ValueError as error:
        raise SiteError("JG-site-306", problem=str(error).removesuffix(".")) from None
    return order, deadline_s


def _agreed(wire: Wire, standing: Standing, now: datetime) -> tuple[SignedPlan, TrainingPlan, Roster]:
    """The plan of a message, signed, for this site, which is a member, and approved here; with the roster in force."""
    if standing.envelope is None:
        raise SiteError("JG-site-307", campaign=wire.campaign)
    signed = standing.trust.plan(standing.envelope, now)
    if signed.hash != wire.campaign:
        raise SiteError("JG-site-307", campaign=wire.campaign)
    roster = _check_membership(standing, now)
    plan = plan_of(signed)
    site = standing.settings.site.id
    if site not in plan.sites.invite:
        raise SiteError("JG-site-310", where=site, campaign=plan.campaign)
    if not standing.approved:
        raise SiteError("JG-site-311", campaign=plan.campaign, hash=signed.hash)
    return signed, plan, roster


def _joining(order: Order, plan: TrainingPlan, roster: Roster, standing: Standing) -> Joining | None:
    """The sum that an order begins, where its plan adds up in secret: then, and only then, it has to begin one.

    What a scaling's vector has to be long is told by the worker.
    """
    if not plan.privacy.sums_only:
        if order.manifest is not None:
            raise SumError("JG-sum-022", round=order.round)
        return None
    asked = terms(plan, standing.settings.site.id)
    invited = {name: key for name, key in roster.identities.items() if name in asked.invited}
    policy = standing.settings.secure_sum.policy(invited)
    if order.kind is Kind.REHEARSE:  # what it gives is made up: it goes into no sum, but such sums have to be possible
        check_fit(asked, policy)
        return None
    if order.manifest is None:
        raise SumError("JG-sum-021", round=order.round)
    try:
        manifest = SumManifest.decode(order.manifest)
    except ValueError as error:
        raise SiteError("JG-site-306", problem=str(error).removesuffix(".")) from None
    manifest.require(campaign=plan.hash, round=order.round, model=order_digest(order))
    if order.kind is Kind.TRAIN:
        parameters, _ = build(plan.strategy).local.parts(order.vector)
        manifest.require(size=len(parameters))
    if plan.evaluate is not None and order.kind is Kind.EVALUATE:
        manifest.require(size=1 + len(plan.evaluate.metrics))
    manifest.require(roster=hashlib.sha256(roster.payload).digest())
    patience = timedelta(seconds=_PATIENCE * plan.sites.deadline_s)
    evaluates = order.kind is Kind.EVALUATE
    return Joining(manifest, asked, policy, roster.identities, patience, evaluates)


def _check_membership(standing: Standing, now: datetime) -> Roster:
    """The roster, if it has this site as active, by the keys that it has."""
    roster, site = standing.trust.roster(now), standing.settings.site.id
    entry = roster.sites.get(site)
    own = entry is not None and (entry.identity, entry.node_key) == (standing.identity, standing.node_key)
    if entry is None or not own or entry.status is not Status.ACTIVE:
        status = _ABSENT if entry is None else entry.status.value if own else "another key"
        raise SiteError("JG-site-308", where=site, status=status, version=roster.version)
    return roster


def _check_line(plan: TrainingPlan) -> None:
    """Whether the model line is installed. It is never a file: no plan may point into this machine."""
    problem = "is no name of a line"
    if _LINE.fullmatch(plan.model_line):
        try:
            line = read_line(plan.model_line)
            if line.process == read_process(line.process).process == plan.process:
                return
            problem = f"reads {line.process}"
        except JanginError:
            problem = "is not installed"
    raise SiteError("JG-site-312", line=plan.model_line, process=plan.process, problem=problem)


def _check_round(order: Order, plan: TrainingPlan) -> None:
    """Whether the plan has such a round: each one spends privacy."""
    rounds: Collection[int] = range(1, plan.strategy.rounds + 1)
    if order.kind is Kind.SCALE:
        rounds = range(1)
    if order.kind is Kind.EVALUATE:
        rounds = plan.evaluated_rounds
    if order.kind is Kind.REHEARSE:
        rounds = range(2)
    if order.round not in rounds:
        raise SiteError("JG-site-313", kind=order.kind.value, round=order.round, rounds=plan.strategy.rounds)


def _asked_again(order: Order, digest: str, answered: tuple[int, str] | None, plan: TrainingPlan) -> bool:
    """Whether an order is to be answered with what was kept; no round is answered in two ways."""
    last, kept = answered or (-1, "")
    if order.kind is Kind.COLLECT:
        if not kept or order.round != last:
            raise SiteError("JG-site-317", campaign=plan.campaign, round=order.round)
        return True
    again = (order.round, digest) == answered
    if order.round <= last and not again:
        raise SiteError("JG-site-314", campaign=plan.campaign, round=order.round, answered=last)
    return again


def _evaluated_again(order: Order, digest: str, evaluated: tuple[int, str] | None, plan: TrainingPlan) -> bool:
    """Whether an evaluation is to be answered with what was kept; no round is evaluated twice, nor one before it."""
    last = evaluated or (0, "")
    again = (order.round, digest) == last
    if order.round <= last[0] and not again:
        raise SiteError(
            "JG-site-328", campaign=plan.campaign, round=order.round, problem=f"round {last[0]} was already"
        )
    return again


def _reserved(account: Account | None, plan: TrainingPlan) -> Account:
    """The campaign's account, as long as it goes on."""
    if account is None or account.ended:
        raise SiteError("JG-site-318", campaign=plan.campaign, state="over" if account else "not reserved")
    return account


def _checked(folder: Path, plan: TrainingPlan) -> Manifest:
    """The manifest of a folder as it was validated, for this process, with a hold-out that fits the unit."""
    card, manifest = open_validated(folder)
    if card.process != plan.process:
        raise DataError("JG-data-071", where=str(folder), wanted=plan.process, found=card.process)
    if plan.privacy.unit is Unit.MASTER and manifest.unit != "master":
        raise DataError("JG-data-083", where=str(folder))
    if not manifest.masters:
        raise DataError("JG-data-004", where=str(folder))
    return manifest
