"""What people do with campaigns: draft, propose, approve, start; where one may go is server/life.py.

The law: what cannot run is never proposed; each signature is verified when it is made; nobody approves a plan of
their own; a site that has not approved by its own signature is never asked.
"""

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from jangin.codec import cbor
from jangin.codec.document import parse
from jangin.errors import ServerError, SiteError
from jangin.plan.training_plan import TrainingPlan
from jangin.server.audit import SERVER
from jangin.server.life import Act, State
from jangin.server.members import Members
from jangin.server.proposal import least_sites, refusals
from jangin.server.selection import best_round, stopped
from jangin.server.store import CampaignRow, EvaluationEntry, Outcome, RoundEntry, Store, plan_of
from jangin.trust.approvals import verify_approval, verify_plan, verify_proposal
from jangin.trust.envelope import Kind, countersign, seal
from jangin.trust.keys import Identity
from jangin.trust.roster import Roster
from jangin.trust.staff import Role, Staff

__all__ = [
    "CampaignStatus",
    "accept",
    "approve",
    "approved_sites",
    "consult",
    "draft",
    "least_sites",
    "named",
    "propose",
    "proposers",
    "refuse",
    "refuse_own",
    "start",
    "status",
    "submit",
]


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CampaignStatus:
    """One campaign as an operator sees it.

    Attributes:
        hash, name, state, reason: as in `CampaignRow`.
        round: rounds finished.
        rounds: rounds of the whole campaign.
        invited: the plan's sites.
        approved: those of them that have said yes.
        attempts: every attempt at a round, in order.
        evaluations: every evaluation, by round.
        chosen: the round whose model is the final one, or would be if it ended now; 0 before the first.
        stopped: why it ended before its last round; else empty.
    """

    hash: str
    name: str
    state: State
    reason: str
    round: int
    rounds: int
    invited: Sequence[str]
    approved: Sequence[str]
    attempts: Sequence[RoundEntry]
    evaluations: Sequence[EvaluationEntry]
    chosen: int
    stopped: str


def draft(store: Store, plan: TrainingPlan, actor: str, document: bytes = b"") -> str:
    """Write a plan down that nobody has signed yet; the campaign's hash.

    Raises:
        ServerError: JG-server-331, it is there already.
    """
    envelope = seal(Kind.PLAN, _payload(plan))
    store.draft(CampaignRow(plan.hash, plan.campaign, envelope, State.DRAFT), plan.sites.invite, actor, document)
    return plan.hash


def propose(store: Store, members: Members, plan: TrainingPlan, key: Identity, now: datetime) -> str:
    """Sign a plan as an operator; the campaign's hash.

    Raises:
        PlanError, DataError, PrivacyError: as `refuse`.
        SiteError, ServerError: as `submit`.
    """
    refuse(plan)
    return submit(store, members, seal(Kind.PLAN, _payload(plan), key), now)


def refuse(plan: TrainingPlan) -> None:
    """Refuse a plan that cannot run, as far as the plan itself tells. It loads torch.

    Raises:
        PlanError, DataError, PrivacyError, ServerError: the first of `proposal.refusals`.
    """
    for error in refusals(plan, None):
        raise error


def submit(
    store: Store, members: Members, envelope: bytes, now: datetime, *, actor: str = "", document: bytes = b""
) -> str:
    """Take a plan that an operator signed and that can run; the campaign's hash.

    Args:
        store: the server's.
        members: the server's.
        envelope: the plan, signed by its operator.
        now: aware.
        actor: who brings it, where that is known: it has to be the one who signed it.
        document: the command by which it came, for the audit log.

    Raises:
        PlanError: JG-plan-001..003, no plan.
        SiteError: JG-site-110..118, a key that may not propose. ServerError: JG-server-331, it was proposed already;
            JG-server-352, it invites sites that are not on the roster; JG-server-405, brought by another person.
    """
    signed = verify_proposal(envelope, members.staff(now), now)
    plan, who = parse(cbor.decode(signed.payload), TrainingPlan, Kind.PLAN.noun), signed.operator.person
    if _payload(plan) != signed.payload:
        raise SiteError("JG-site-115", where=Kind.PLAN.noun, problem="not the canonical form of this document")
    if actor not in ("", who):
        raise ServerError("JG-server-405", where=Kind.PLAN.noun, found=who, expected=actor)
    strangers = [site for site in plan.sites.invite if site not in members.active()]
    if strangers:
        raise ServerError("JG-server-352", where=plan.campaign, sites=strangers)
    try:
        drafted = store.campaign(plan.hash).state is State.DRAFT
    except ServerError:
        drafted = False
    if not drafted:
        store.draft(CampaignRow(plan.hash, plan.campaign, envelope, State.DRAFT), plan.sites.invite, who, document)
    store.move(plan.hash, Act.PROPOSE, actor=who, envelope=envelope, proposer=who, document=document)
    _log.info("Campaign %s is proposed by %s: %s", plan.campaign, who, plan.hash)
    return plan.hash


def approve(store: Store, members: Members, campaign: str, key: Identity, now: datetime) -> None:
    """Sign a proposed plan as another person, the approver.

    Raises:
        SiteError: JG-site-110..118, a key that may not approve, above all the proposer's own.
        ServerError: JG-server-330, no such campaign; JG-server-332, it is not proposed.
    """
    row, staff = store.campaign(campaign), members.staff(now)
    if row.state is State.PROPOSED:
        refuse_own(row.envelope, staff, key, now)
    accept(store, members, campaign, countersign(row.envelope, Kind.PLAN, key), now)


def refuse_own(proposal: bytes, staff: Staff, key: Identity, now: datetime) -> None:
    """Refuse to approve a plan by the key that proposed it, before anything is signed.

    Raises:
        SiteError: JG-site-118, the same key; JG-site-110..117, no proposal that counts.
    """
    operator = verify_proposal(proposal, staff, now).operator
    if operator.key == key.public_text:
        roles = f"{Role.OPERATOR}, {Role.APPROVER}"
        raise SiteError("JG-site-118", where=Kind.PLAN.noun, person=operator.person, roles=roles)


def accept(
    store: Store,
    members: Members,
    campaign: str,
    envelope: bytes,
    now: datetime,
    *,
    actor: str = "",
    document: bytes = b"",
) -> None:
    """Take another person's signature under a proposed plan.

    Args:
        store: the server's.
        members: the server's.
        campaign: its hash.
        envelope: the plan as it was proposed, with that signature.
        now: aware.
        actor: who brings it, where that is known: it has to be the one who signed it.
        document: the command by which it came, for the audit log.

    Raises:
        SiteError: JG-site-110..118, it may not approve.
        ServerError: JG-server-330, no such campaign; JG-server-332, it is not proposed; JG-server-405, another plan,
            or one whose proposal was signed by somebody else.
    """
    row, staff = store.campaign(campaign), members.staff(now)
    signed = verify_plan(envelope, staff, now)
    if signed.hash != campaign:
        raise ServerError("JG-server-405", where=Kind.PLAN.noun, found=signed.hash, expected=campaign)
    people = {key.person: key.roles for key in staff.signers(envelope, Kind.PLAN, now)[1]}
    if row.proposer and row.proposer not in people:
        raise ServerError("JG-server-405", where=Kind.PLAN.noun, found=sorted(people), expected=row.proposer)
    able = sorted(who for who, roles in people.items() if who != row.proposer and Role.APPROVER in roles)
    if actor and actor not in able:
        raise ServerError("JG-server-405", where=Kind.PLAN.noun, found=able, expected=actor)
    store.move(campaign, Act.APPROVE, actor=actor or able[0], envelope=envelope, document=document)


def proposers(row: CampaignRow, staff: Staff, now: datetime) -> frozenset[str]:
    """Who counts as the one who proposed a campaign: of one that is older than the record of it, all who signed."""
    if row.proposer or row.state is State.DRAFT:
        return frozenset({row.proposer} - {""})
    return frozenset(key.person for key in staff.signers(row.envelope, Kind.PLAN, now)[1])


def consult(store: Store, row: CampaignRow) -> None:
    """Ask the invited sites of an approved campaign; what the server does by itself."""
    with suppress(ServerError):  # somebody else did, or ended it
        store.move(row.hash, Act.CONSULT)


def start(
    store: Store, members: Members, campaign: str, now: datetime, *, actor: str = SERVER, document: bytes = b""
) -> None:
    """Let an approved campaign run; the server begins within a moment. `actor`, `document`: for the audit log.

    Raises:
        SiteError: JG-site-110..125, signatures or a roster that are not in force (any more).
        ServerError: JG-server-330, no such campaign; JG-server-332, it is not approved; JG-server-333, too few sites
            have approved it.
    """
    row = store.campaign(campaign)
    if row.state in (State.APPROVED, State.CONSULTING):
        verify_plan(row.envelope, members.staff(now), now)
        plan = plan_of(row)
        approved = approved_sites(store, plan, members.roster(now), now)
        if len(approved) < (least := least_sites(plan)):
            raise ServerError("JG-server-333", where=row.name, approved=list(approved), least=least)
    if row.state is State.APPROVED:
        consult(store, row)
    store.move(campaign, Act.START, actor=actor, document=document)


def rehearse(store: Store, campaign: str, *, actor: str = SERVER, document: bytes = b"") -> int:
    """Have a running server rehearse an approved campaign; the rehearsal's number. Else as `start`.

    Raises:
        ServerError: JG-server-330, no such campaign; JG-server-470, it is not one to rehearse; JG-server-471, no site
            has approved it.
    """
    row = store.campaign(campaign)
    if row.state not in (State.APPROVED, State.CONSULTING):
        raise ServerError("JG-server-470", where=row.name, found=str(row.state))
    if not store.approvals(row.hash):
        raise ServerError("JG-server-471", where=row.name)
    return store.ask_rehearsal(row.hash, actor, document)


def named(store: Store, text: str) -> str:
    """The hash of the campaign that a whole hash names, or the first 8 or more of its digits.

    Raises:
        ServerError: JG-server-330, none has such a hash; JG-server-354, several begin so.
    """
    if not re.fullmatch(r"[0-9a-f]{8,64}", text):
        raise ServerError("JG-server-330", where=text)
    found = [row.hash for row in store.campaigns() if row.hash.startswith(text)]
    if len(found) > 1:
        raise ServerError("JG-server-354", where=text, number=len(found))
    if not found:
        raise ServerError("JG-server-330", where=text)
    return found[0]


def status(store: Store, campaign: str) -> CampaignStatus:
    """Where a campaign stands.

    Raises:
        ServerError: JG-server-330, no such campaign.
    """
    row = store.campaign(campaign)
    plan, attempts, evaluations = plan_of(row), store.rounds(campaign), store.evaluations(campaign)
    last = max((entry.round for entry in attempts if entry.outcome is Outcome.FINISHED), default=0)
    return CampaignStatus(
        hash=row.hash,
        name=row.name,
        state=row.state,
        reason=row.reason,
        round=last,
        rounds=plan.strategy.rounds,
        invited=plan.sites.invite,
        approved=list(store.approvals(campaign)),
        attempts=attempts,
        evaluations=evaluations,
        chosen=best_round(plan, evaluations) or last,
        stopped=stopped(plan, evaluations),
    )


def approved_sites(store: Store, plan: TrainingPlan, roster: Roster, now: datetime) -> tuple[str, ...]:
    """The sites whose approval holds under this roster, in the plan's order."""
    approvals = store.approvals(plan.hash)
    return tuple(
        site for site in plan.sites.invite if site in approvals and _holds(approvals[site], roster, site, plan, now)
    )


def _payload(plan: TrainingPlan) -> bytes:
    """What is signed of a plan."""
    return cbor.encode(plan.model_dump(mode="json"))


def _holds(approval: bytes, roster: Roster, site: str, plan: TrainingPlan, now: datetime) -> bool:
    try:
        verify_approval(approval, roster, site, plan.hash, now)
    except ServerError as error:
        _log.debug("An approval does not count: %s", error)
        return False
    return True
