"""Signed plans, sites' approvals of them, and stop orders.

A plan's payload is its own canonical CBOR and its hash is `cbor.digest("plan", ...)`, the campaign's identity
everywhere. The law: nobody approves a plan of their own; a site approves one plan, by its hash; a stop needs one
operator and asks nothing else.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field

from jangin.codec import cbor
from jangin.errors import ServerError, SiteError
from jangin.trust.envelope import Hash, Kind, SignedDocument, open_envelope, parsed, peek_signed, read_document
from jangin.trust.roster import SITE_ID, Roster, Status
from jangin.trust.staff import Role, Staff, StaffKey

__all__ = [
    "Approval",
    "SignedPlan",
    "StopOrder",
    "peek_approval",
    "verify_approval",
    "verify_plan",
    "verify_proposal",
    "verify_stop",
]


@dataclass(frozen=True)
class SignedPlan:
    """A plan that may run.

    Attributes:
        payload: its canonical CBOR.
        hash: 64 hex digits.
        operator: who proposed it.
        approver: the other person, who approved it; None while it is a proposal.
    """

    payload: bytes
    hash: str
    operator: StaffKey
    approver: StaffKey | None


class Approval(SignedDocument):
    """One site's yes to one plan, signed by the site's identity.

    Attributes:
        site: its id on the roster.
        plan: the plan's hash.
        nonce: 32 bytes of the site's own randomness, as hex; with the others' it fixes what nobody may choose.
    """

    kind = Kind.APPROVAL

    site: Annotated[str, Field(pattern=SITE_ID)]
    plan: Hash
    nonce: Hash


class StopOrder(SignedDocument):
    """The end of a campaign.

    Attributes:
        plan: the plan's hash.
        reason: for people, at most 500 characters.
    """

    kind = Kind.STOP

    plan: Hash
    reason: Annotated[str, Field(min_length=1, max_length=500)]


def verify_proposal(data: bytes, staff: Staff, now: datetime) -> SignedPlan:
    """The plan, if an operator signed it; it still waits for an approver.

    Raises:
        SiteError: JG-site-110..114 and 116..118 as `Staff.open`, 115 for a payload that is not canonical CBOR.
    """
    payload, (operator,) = staff.open(data, Kind.PLAN, (Role.OPERATOR,), now)
    return SignedPlan(payload, _plan_hash(payload), operator, None)


def verify_plan(data: bytes, staff: Staff, now: datetime) -> SignedPlan:
    """The plan, if an operator signed it and another person approved it.

    Raises:
        SiteError: as `verify_proposal`.
    """
    payload, (operator, approver) = staff.open(data, Kind.PLAN, (Role.OPERATOR, Role.APPROVER), now)
    return SignedPlan(payload, _plan_hash(payload), operator, approver)


def verify_stop(data: bytes, staff: Staff, plan: str, now: datetime) -> StopOrder:
    """The stop order, if an operator signed it for the plan of this hash.

    Raises:
        SiteError: JG-site-110..114 and 116..117 as `Staff.open`, 115 and 119 as `read_document`, 126 for another plan.
    """
    payload, _ = staff.open(data, Kind.STOP, (Role.OPERATOR,), now)
    order = read_document(payload, StopOrder, now)
    if order.plan != plan:
        raise SiteError("JG-site-126", expected=plan, found=order.plan)
    return order


def peek_approval(data: bytes) -> Approval:
    """An approval whose signature nobody checks here: to look at its form, never to act on.

    Raises:
        SiteError: JG-site-110 or 111, no envelope of this kind; 115, no approval in it.
    """
    return parsed(peek_signed(data, Kind.APPROVAL), Approval)


def verify_approval(data: bytes, roster: Roster, site: str, plan: str, now: datetime) -> Approval:
    """The approval of the plan of this hash, if it is by `site` and the roster has that site as active.

    Raises:
        ServerError: JG-server-101 not an active site, 102 the envelope or its signature, 103 another site or plan.
    """
    entry = roster.sites.get(site)
    if entry is None or entry.status is not Status.ACTIVE:
        status = "absent" if entry is None else str(entry.status)
        raise ServerError("JG-server-101", where=site, status=status, version=roster.version)
    try:
        opened = open_envelope(data, Kind.APPROVAL, {entry.fingerprint: entry.public}, 1)
        approval = read_document(opened.payload, Approval, now)
    except SiteError as error:
        raise ServerError(
            "JG-server-102", where=site, key=entry.fingerprint, problem=str(error.coded).removesuffix(".")
        ) from None
    if (approval.site, approval.plan) != (site, plan):
        found = f"{approval.site}, {approval.plan}"
        raise ServerError("JG-server-103", where=site, expected=f"{site}, {plan}", found=found)
    return approval


def _plan_hash(payload: bytes) -> str:
    try:
        return cbor.digest("plan", cbor.decode(payload)).hex()
    except ValueError as error:
        raise SiteError("JG-site-115", where=Kind.PLAN.noun, problem=str(error)) from None
