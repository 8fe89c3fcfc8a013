"""Models and factory figures at a person's desk: looked at, and signed there.

The law: a manifest counts here by the signature of the one audit key that the desk knows; what a person signs is made
of that manifest, or of the plan that has the campaign's hash, and is judged here before it is sent.
"""

import hashlib
from datetime import datetime

from jangin.codec import cbor
from jangin.codec.document import parse
from jangin.errors import ServerError
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.statement import Statement, read_statement
from jangin.server.desk import Desk, staff
from jangin.server.life import State
from jangin.server.registry import Alias, Registered
from jangin.server.store import RehearsalEntry
from jangin.trust.envelope import Kind, peek, seal
from jangin.trust.keys import Identity, fingerprint, identity_from_text
from jangin.trust.measurements import Measurement, verify_measurement
from jangin.trust.models import ModelVersion, Withdrawal, verify_receipt, verify_release, verify_withdrawal

__all__ = ["planned", "rehearsal", "sign_measurement", "sign_release", "sign_withdrawal", "statement", "versions"]


def versions(desk: Desk) -> list[Registered]:
    """All versions, by line and version; each manifest is verified, state and aliases are the server's word.

    Raises:
        ServerError: JG-server-403, not allowed; 401, another audit key; 411, none. SiteError: JG-site-110..115, a
            receipt that the audit key did not sign.
    """
    found: dict[str, Registered] = {}  # one that is registered meanwhile moves the others on
    after: int | None = 0
    while after is not None:
        page = desk.ask("models", after=after)
        try:
            key = identity_from_text(page["key"])
        except ValueError:
            raise ServerError("JG-server-411", where="models", problem="no key in it") from None
        if fingerprint(key) != desk.fingerprint:
            raise ServerError("JG-server-401", where="models", found=fingerprint(key), expected=desk.fingerprint)
        for told in page["models"]:
            aliases = tuple(map(Alias, told["aliases"]))
            manifest = verify_receipt(told["receipt"], key)
            found[manifest.name] = Registered(
                manifest, State(told["state"]), aliases, told["receipt"], told["release"], told["withdrawal"]
            )
        after = page["next"]
    return list(found.values())


def statement(desk: Desk, manifest: ModelVersion) -> Statement | None:
    """A version's privacy statement, as its manifest has it; None where the server has lost it.

    Raises:
        ServerError: JG-server-447, other bytes. PrivacyError: JG-privacy-041, no statement of this version.
    """
    name = "statement.json"
    content = desk.ask("statement", campaign=manifest.campaign)["statement"]
    if content is None:
        return None
    if hashlib.sha256(content).hexdigest() != manifest.files[name].sha256:
        raise ServerError("JG-server-447", where=manifest.name, file=name, problem="other bytes than in the manifest")
    return read_statement(content, name)


def planned(desk: Desk, wanted: str) -> TrainingPlan:
    """The plan of the campaign that a hash, or the first of its digits, is for; whoever signed it.

    Raises:
        ServerError: JG-server-330 or 354, no such campaign; JG-server-405, another plan.
        SiteError: JG-site-110 or 111, no envelope of a plan.
    """
    campaign = desk.ask("named", campaign=wanted)["campaign"]
    plan = parse(cbor.decode(peek(desk.ask("plan", campaign=campaign)["envelope"], Kind.PLAN)), TrainingPlan, "plan")
    if not plan.hash.startswith(wanted):
        raise ServerError("JG-server-405", where=Kind.PLAN.noun, found=plan.hash, expected=wanted)
    return plan


def rehearsal(desk: Desk, campaign: str, number: int) -> RehearsalEntry:
    """Where a rehearsal that was asked for stands."""
    return RehearsalEntry(**desk.ask("rehearsals", campaign=campaign, after=number - 1)["rehearsals"][0])


def sign_release(desk: Desk, manifest: ModelVersion, key: Identity, now: datetime) -> bytes:
    """A manifest, signed by an approver.

    Raises:
        SiteError: JG-site-110..119, a key that may not release, above all that of whoever proposed the campaign.
    """
    envelope = seal(Kind.MODEL, manifest.payload, key)
    verify_release(envelope, staff(desk, now), now)
    return envelope


def sign_withdrawal(desk: Desk, manifest: ModelVersion, reason: str, key: Identity, now: datetime) -> bytes:
    """The withdrawal of a version, signed by an approver or an operator.

    Raises:
        PlanError: JG-plan-003, no reason, or one that is too long. SiteError: JG-site-110..119, a key that may not.
    """
    fields = {"issued": now.replace(microsecond=0), "line": manifest.line, "version": manifest.version}
    document = parse({**fields, "model": manifest.hash, "reason": reason}, Withdrawal, "--reason")
    envelope = seal(Kind.WITHDRAWAL, document.payload, key)
    verify_withdrawal(envelope, staff(desk, now), now)
    return envelope


def sign_measurement(desk: Desk, plan: TrainingPlan, value: float, note: str, key: Identity, now: datetime) -> bytes:
    """What the figure that a plan names came to, signed by an evaluator.

    Raises:
        PlanError: JG-plan-003, a value or a note of another form. SiteError: JG-site-110..119, a key that may not.
    """
    figure = plan.kpi.name if plan.kpi else "none"
    fields = {"issued": now.replace(microsecond=0), "campaign": plan.hash, "figure": figure}
    document = parse({**fields, "value": value, "note": note}, Measurement, "campaign measure")
    envelope = seal(Kind.MEASUREMENT, document.payload, key)
    verify_measurement(envelope, staff(desk, now), now)
    return envelope
