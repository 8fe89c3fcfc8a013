"""What people do with campaigns: propose, approve, start; where one may go is server/life.py.

The law: what cannot run is never proposed; each signature is verified when it is made; nobody approves a plan of
their own; a site that has not approved by its own signature is never asked.
"""

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from jangin.codec import cbor
from jangin.errors import ServerError, SiteError
from jangin.plan.training_plan import TrainingPlan
from jangin.records.process import process_names, read_process
from jangin.server.audit import SERVER
from jangin.server.life import Act, State
from jangin.server.members import Members
from jangin.server.proposal import least_sites, refusals
from jangin.server.selection import best_round, stopped
from jangin.server.store import CampaignRow, EvaluationEntry, Outcome, RoundEntry, Store
from jangin.trust.approvals import verify_approval, verify_plan, verify_proposal
from jangin.trust.envelope import Kind, countersign, peek, seal
from jangin.trust.keys import Identity
from jangin.trust.roster import Roster
from jangin.trust.staff import Role

__all__ = [
    "CampaignStatus",
    "approve",
    "approved_sites",
    "consult",
    "least_sites",
    "led_by",
    "named",
    "plan_of",
    "propose",
    "start",
    "status",
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


def propose(store: Store, members: Members, plan: TrainingPlan, key: Identity, now: datetime) -> str:
    """Sign a plan as an operator; the campaign's hash.

    Raises:
        PlanError, DataError, PrivacyError, ServerError: the first of `proposal.refusals`, a plan that cannot run.
        SiteError: JG-site-110..118, a key that may not propose. ServerError: JG-server-331, it is there already.
    """
    for error in refusals(plan, members.active()):
        raise error
    envelope = seal(Kind.PLAN, cbor.encode(plan.model_dump(mode="json")), key)
    signed = verify_proposal(envelope, members.staff(now), now)
    who = signed.operator.person
    store.draft(CampaignRow(signed.hash, plan.campaign, envelope, State.DRAFT), plan.sites.invite, who)
    store.move(signed.hash, Act.PROPOSE, actor=who)
    _log.info("Campaign %s is proposed by %s: %s", plan.campaign, signed.operator.person, signed.hash)
    return signed.hash


def approve(store: Store, members: Members, campaign: str, key: Identity, now: datetime) -> None:
    """Sign a proposed plan as another person, the approver.

    Raises:
        SiteError: JG-site-110..118, a key that may not approve, above all the proposer's own.
        ServerError: JG-server-330, no such campaign; JG-server-332, it is not proposed.
    """
    row, staff = store.campaign(campaign), members.staff(now)
    if row.state is State.PROPOSED:
        operator = verify_proposal(row.envelope, staff, now).operator
        if operator.key == key.public_text:
            roles = f"{Role.OPERATOR}, {Role.APPROVER}"
            raise SiteError("JG-site-118", where=Kind.PLAN.noun, person=operator.person, roles=roles)
    envelope = countersign(row.envelope, Kind.PLAN, key)
    signed = verify_plan(envelope, staff, now)
    who = signed.approver.person if signed.approver else SERVER
    store.move(campaign, Act.APPROVE, actor=who, envelope=envelope)


def consult(store: Store, row: CampaignRow) -> None:
    """Ask the invited sites of an approved campaign; what the server does by itself."""
    with suppress(ServerError):  # somebody else did, or ended it
        store.move(row.hash, Act.CONSULT)


def start(store: Store, members: Members, campaign: str, now: datetime) -> None:
    """Let an approved campaign run; the server begins within a moment.

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
    store.move(campaign, Act.START)


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


def plan_of(row: CampaignRow) -> TrainingPlan:
    """The plan of a campaign; its signatures were verified when they were made."""
    return TrainingPlan.model_validate(cbor.decode(peek(row.envelope, Kind.PLAN)))


def led_by(shard: str | None) -> Callable[[CampaignRow], bool]:
    """Which campaigns a server leads, and tells its sites of: those of an industry's processes; None: all.

    Raises:
        ServerError: JG-server-465, no process has this industry.
    """
    if shard is None:
        return lambda row: True
    industries = {name: read_process(name).industry for name in process_names()}
    if shard not in industries.values():
        raise ServerError("JG-server-465", where=shard, known=", ".join(sorted(set(industries.values()))))
    return lambda row: industries.get(plan_of(row).process) == shard


def approved_sites(store: Store, plan: TrainingPlan, roster: Roster, now: datetime) -> tuple[str, ...]:
    """The sites whose approval holds under this roster, in the plan's order."""
    approvals = store.approvals(plan.hash)
    return tuple(
        site for site in plan.sites.invite if site in approvals and _holds(approvals[site], roster, site, plan, now)
    )


def _holds(approval: bytes, roster: Roster, site: str, plan: TrainingPlan, now: datetime) -> bool:
    try:
        verify_approval(approval, roster, site, plan.hash, now)
    except ServerError as error:
        _log.debug("An approval does not count: %s", error)
        return False
    return True
