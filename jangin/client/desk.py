"""What a person at the site does: make the site, ask to join, look at campaigns, say yes to one, see how it stands.

The law: what is shown was verified from the pinned root first; a yes is to one hash, signed here, and kept here before
it is sent.
"""

import logging
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path

from jangin.client import renewal
from jangin.client.api import CampaignOffer, Offer, SiteApi
from jangin.client.consent import Coverage, coverage, use_of
from jangin.client.door import Door
from jangin.client.gate import plan_of, records_for
from jangin.client.settings import DataBlock, PrivacyLimits, ServerBlock, SiteBlock, SiteSettings, limits_for
from jangin.client.spending import Price, wish
from jangin.client.state import Departure, Journal, Move, SiteFolder, read_given, write_whole
from jangin.client.sums import SumJournal, SumStanding, check_fit
from jangin.codec import cbor
from jangin.codec.document import parse
from jangin.errors import CodedText, JanginError, PrivacyError, SiteError, SumError
from jangin.flower_link.line import certificates
from jangin.plan.terms import terms
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.accounts import Reservation
from jangin.privacy.chain import Head
from jangin.privacy.ledger import Ledger
from jangin.records.manifest import check_files, open_validated
from jangin.records.process import read_process
from jangin.telling.logs import Event, noting
from jangin.trust.approvals import Approval, SignedPlan
from jangin.trust.chain import Trust
from jangin.trust.commitments import Commitment, Total, verify_commitment
from jangin.trust.envelope import Kind, peek, seal
from jangin.trust.keys import Identity, NodeKey
from jangin.trust.roster import Roster

__all__ = [
    "Approved",
    "Campaign",
    "Enrolled",
    "Status",
    "approve",
    "campaigns",
    "commit",
    "consented",
    "decline",
    "doubts",
    "enroll",
    "init",
    "now_utc",
    "open_api",
    "over",
    "renew",
    "reserve",
    "status",
    "take",
]

_log = logging.getLogger(__name__)

Clock = Callable[[], datetime]

_OVER = {"finished", "aborted"}
_NOT_ON = "JG-server-319"  # a ledger that does not go on from the one that was told


@dataclass(frozen=True)
class Enrolled:
    """What came of asking to join.

    Attributes:
        confirmed: whether the site is on the roster.
        fingerprint: of the site's identity, to compare with the operator by telephone.
    """

    confirmed: bool
    fingerprint: str


@dataclass(frozen=True)
class Campaign:
    """A campaign that invites this site, its signatures verified.

    Attributes:
        hash: of its plan.
        plan: the plan.
        state: where the server says it stands.
        approved: whether a person here said yes.
        operator: who proposed it.
        approver: who approved it at the ministry.
        known: whether its plan had come to this site before.
        obstacle: why its secure sums can never be begun here, by the policy in site.yaml; None where they can.
        doubt: why they may often not be; else None.
    """

    hash: str
    plan: TrainingPlan
    state: str
    approved: bool
    operator: str
    approver: str
    known: bool
    obstacle: JanginError | None = None
    doubt: CodedText | None = None


@dataclass(frozen=True)
class Approved:
    """A campaign that was said yes to, what the ledger reserved for it, and whose consent covers it."""

    campaign: Campaign
    reservation: Reservation
    consents: Coverage


@dataclass(frozen=True)
class Status:
    """How a site stands, from its own folder alone.

    Attributes:
        site: its id.
        fingerprint: of its identity.
        server: `https://...`, or None before enrolment.
        roster: version of the roster held, or None.
        moves: the last lines of the journal of tasks.
        egress: the last lines of the egress log.
        more_moves: whether there are lines before those.
        more_egress: the same of the egress log.
        renewal: when the connection's key is to be renewed.
        renewing: whether a new one waits for a roster that lists it.
        sums: the secure sums that are not over, as far as this site's daemon has come with them.
    """

    site: str
    fingerprint: str
    server: str | None
    roster: int | None
    moves: tuple[Move, ...]
    egress: tuple[Departure, ...]
    more_moves: bool
    more_egress: bool
    renewal: datetime
    renewing: bool
    sums: tuple[SumStanding, ...] = ()


def now_utc() -> datetime:
    """The machine's time."""
    return datetime.now(UTC)


def init(path: Path, site: str, process: str, records: Path, privacy: PrivacyLimits | None = None) -> Enrolled:
    """Make a site: its folder, its keys, its ledger, its settings.

    Raises:
        SiteError: JG-site-303, a site stands here already; JG-site-342, the folder cannot be written.
        PlanError: JG-plan-003, no id of a site. DataError: JG-data-001, no such process.
    """
    known = read_process(process).process
    block = parse({"id": site}, SiteBlock, "site")
    data = (DataBlock(process=known, path=str(records.resolve())),)
    identity = Identity.generate()
    with _writing(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        limits = limits_for(shutil.disk_usage(path).free)
        settings = SiteSettings(site=block, data=data, limits=limits, privacy=privacy or PrivacyLimits())
        SiteFolder(path).make(settings, identity, NodeKey.generate())
    return Enrolled(False, identity.fingerprint)


def enroll(
    path: Path,
    url: str,
    token: str,
    root: Path,
    ca: Path,
    *,
    extra_ca: Path | None = None,
    clock: Clock = now_utc,
) -> Enrolled:
    """Ask to join a federation; asked again it tells whether the operator has confirmed.

    Args:
        path: the site's folder.
        url: `https://HOST:PORT` of the server.
        token: the one-time token that the operator gave.
        root: file of the federation root's public key, given by hand.
        ca: file of the certificates trusted for the server, PEM.
        extra_ca: file of the certificates of a proxy that inspects TLS, PEM; trusted as well.
        clock: the time.

    Raises:
        SiteError: JG-site-301 refused, 304 no site here, 315 another root than before; 110..125, a staff list or roster
            that cannot be believed; 341 a file that cannot be read or holds something else, 342 a folder that cannot
            be written.
        LinkError: JG-site-201, 202, 207 or 400. PlanError: JG-plan-003, the url.
    """
    folder = SiteFolder(path)
    settings = folder.settings()
    files = {"root": folder.root_file.name, "ca": folder.ca_file.name}
    if extra_ca is not None:
        files["extra_ca"] = folder.extra_ca_file.name
    server = parse({"url": url, **files}, ServerBlock, "server")
    trust = _given_root(root)
    kept = {folder.ca_file: _given_certificates(ca, "--ca")}
    if extra_ca is not None:
        kept[folder.extra_ca_file] = _given_certificates(extra_ca, "--extra-ca")
    if folder.root_file.exists() and folder.trust().root != trust.root:
        raise SiteError("JG-site-315", where=str(path))
    settings = settings.model_copy(update={"server": server})
    with folder.journal() as journal, _api(folder, server, b"\n".join(kept.values()), journal, clock) as api:
        answer = api.enroll(token, folder.node_key().public_text)
    with _writing(path):
        write_whole(folder.root_file, f"{trust.root}\n".encode())
        for file, certificates in kept.items():
            write_whole(file, certificates)
        folder.write_settings(settings)
        if answer.staff is not None and answer.roster is not None:
            folder.keep_trust(_believe(folder.trust(), answer.staff, answer.roster, clock(), ""))
    return Enrolled(answer.status == "confirmed", folder.identity().fingerprint)


def _given_root(path: Path) -> Trust:
    """The trust that begins with the root's key in a file; JG-site-341 where none is in it."""
    try:
        return Trust(read_given(path, "--root").decode("utf-8", "replace").strip())
    except SiteError as error:
        if error.code != "JG-site-103":
            raise
        problem = "the root's public key, one line 'ssh-ed25519 ...', is not what it holds"
        raise SiteError("JG-site-341", where=f"--root {path}", problem=problem) from None


def _given_certificates(path: Path, name: str) -> bytes:
    """The content of a PEM file of certificates; JG-site-341 where none is in it."""
    content = read_given(path, name)
    try:
        certificates(content)
        content.decode("ascii")
    except ValueError:
        raise SiteError("JG-site-341", where=f"{name} {path}", problem="it holds no certificate in PEM") from None
    return content


def campaigns(path: Path, *, clock: Clock = now_utc) -> list[Campaign]:
    """The campaigns that invite this site, as the server lists them now.

    Raises:
        SiteError: JG-site-301 refused, 302 not enrolled, 304 no site here, 110..125 staff or roster that cannot be
            believed. LinkError: JG-site-201, 202 or 207.
    """
    folder = SiteFolder(path)
    with folder.journal() as journal, folder.ledger() as ledger, open_api(folder, journal, clock) as api:
        return take(api.campaigns(), folder, journal, ledger, clock())


def approve(path: Path, hash_: str, price: Price, *, clock: Clock = now_utc) -> Approved | None:
    """Say yes to the plan of this hash, here and at the server; or to a roster that waits for a person's yes.

    What the whole campaign may cost is reserved in the ledger first.

    Args:
        path: the site's folder.
        hash_: 64 hex digits; of a plan that was shown here before, the first 8 or more.
        price: what a plan asks of every unit.
        clock: the time.

    Returns:
        The campaign and what was reserved for it; None for a roster.

    Raises:
        SiteError: JG-site-316, neither a plan nor a roster on offer has this hash; JG-site-343, a short hash that does
            not name one plan that was shown here; 320, no validated records; 350..356, no master's consent covers it;
            and as `campaigns`.
        PrivacyError: JG-privacy-020..024 and 031, the ledger does not grant it; 025..028, the ledger itself.
        SumError: JG-sum-006, -012 or -015, its secure sums could never be begun here; nothing is reserved then.
        LinkError: JG-site-201, 202 or 207; the yes is kept and sent by approving again.
    """
    folder = SiteFolder(path)
    with folder.journal() as journal, folder.ledger() as ledger, open_api(folder, journal, clock) as api:
        offer = api.campaigns()
        agreed = hash_ == Roster.parse(peek(offer.roster, Kind.ROSTER)).hash
        known = take(offer, folder, journal, ledger, clock(), agreed=hash_)
        if agreed:
            return None
        campaign = _named(hash_, known)
        if campaign.obstacle is not None:
            raise campaign.obstacle
        consents = consented(path, campaign.plan, clock=clock)
        reservation = reserve(campaign.plan, price, folder, ledger, clock())
        approval = journal.approval(campaign.hash) or _sign(folder, campaign.hash, clock())
        journal.approve(campaign.hash, approval, clock())
        commit(api, folder, ledger, clock)
        api.approve(approval)
    return Approved(campaign, reservation, consents)


def consented(path: Path, plan: TrainingPlan, *, clock: Clock = now_utc) -> Coverage:
    """Which masters of the plan's records allow what it asks.

    Raises:
        SiteError: JG-site-304 no site here, 305 the index of consents, 320 no validated records; 101..103 its key.
        DataError: JG-data-062..065 and 071, a model line that is not installed, or does not fit.
    """
    folder = SiteFolder(path)
    settings = folder.settings()
    masters = set(records_for(plan, settings, path)[1].masters.values())
    return coverage(path, settings, folder.identity().public_text, use_of(plan), masters, clock())


def decline(path: Path, hash_: str, *, clock: Clock = now_utc) -> str:
    """Take back a yes for good: no more rounds of this campaign here, and what it never spent is free again.

    Nobody is asked. What was sent cannot be called back, and stays spent.

    Args:
        path: the site's folder.
        hash_: of the plan; the first 8 digits or more.
        clock: the time.

    Returns:
        The whole hash.

    Raises:
        SiteError: JG-site-316, no campaign that was approved here begins so; 343, several do; 304 no site here.
        PrivacyError: JG-privacy-025..027, the ledger.
    """
    folder = SiteFolder(path)
    folder.settings()
    with folder.journal() as journal, folder.ledger() as ledger:
        found = [campaign for campaign in ledger.accounts if campaign.startswith(hash_)]
        if not found or not re.fullmatch(r"[0-9a-f]{8,64}", hash_):
            raise SiteError("JG-site-316", hash=hash_)
        if len(found) > 1:
            raise SiteError("JG-site-343", hash=hash_, problem=f"{len(found)} plans begin so")
        journal.withdraw(found[0])
        _close(found[0], folder, journal, ledger, clock())
    return found[0]


def commit(api: SiteApi, folder: SiteFolder, ledger: Ledger, clock: Clock) -> Head:
    """Tell the server what the ledger has come to, and give what was told.

    The daemon and a person's command may do so at once: who comes later with less is refused, and tells all of it.

    Raises:
        LinkError: JG-site-201, 202, 207 or 400. SiteError: JG-site-301 refused.
    """
    while True:
        ledger.refresh()
        head = ledger.head
        try:
            api.commit(_commitment(folder, ledger, clock()))
            return head
        except SiteError as refusal:
            ledger.refresh()
            if refusal.coded.values.get("answer") != _NOT_ON or ledger.head == head:
                raise


def _commitment(folder: SiteFolder, ledger: Ledger, now: datetime) -> bytes:
    """This site's signed word of what its ledger has come to."""
    head, settings = ledger.head, folder.settings()
    document = Commitment(
        issued=now.replace(microsecond=0),
        site=settings.site.id,
        entries=head.entries,
        head=head.digest.hex(),
        totals=_totals(ledger) if settings.privacy.show_totals else (),
    )
    return seal(Kind.COMMITMENT, document.payload, folder.identity())


def _totals(ledger: Ledger) -> tuple[Total, ...]:
    """What may be shown of a ledger."""
    shown = []
    for unit, budget in ledger.budgets.items():
        campaigns = sum(unit in account.members for account in ledger.accounts.values())
        for reading in budget.caps:
            spent = ledger.spent(unit, reading)
            epsilon = spent if isfinite(spent) else None
            shown.append(
                Total.model_validate(
                    {
                        "unit": unit,
                        "reading": reading,
                        "campaigns": campaigns,
                        "epsilon": epsilon,
                        "delta": budget.delta,
                    }
                )
            )
    return tuple(shown)


def doubts(path: Path, campaign: Campaign | None = None) -> CodedText | None:
    """Why the records would not be trained on as they are: for this campaign, or for any; None where all is well.

    With a campaign every file is read and compared with the manifest.
    """
    folder = SiteFolder(path)
    settings = folder.settings()
    try:
        if campaign is not None:
            _unchanged(records_for(campaign.plan, settings, folder.path)[0])
            return None
        for block in settings.data:
            process = block.process
            open_validated(folder.path / block.path)
    except SiteError as error:
        return error.coded
    except JanginError as error:
        process = campaign.plan.process if campaign else process
        return CodedText("JG-site-320", process=process, problem=str(error.coded).removesuffix("."))
    return None


def status(path: Path, *, lines: int = 10, clock: Clock = now_utc) -> Status:
    """How a site stands, with the last so many lines of its two logs; nobody is asked.

    Raises:
        SiteError: JG-site-304 no site here, 305 its database; 101..103 its keys.
    """
    folder = SiteFolder(path)
    settings = folder.settings()
    with folder.journal() as journal, SumJournal(folder.database_file) as noted:
        moves, egress, sums = journal.moves(lines + 1), journal.egress(lines + 1), noted.standing()
    try:
        roster = folder.trust().roster(clock()).version
    except SiteError:
        roster = None
    server = settings.server.url if settings.server else None
    return Status(
        settings.site.id,
        folder.identity().fingerprint,
        server,
        roster,
        tuple(moves[-lines:]),
        tuple(egress[-lines:]),
        len(moves) > lines,
        len(egress) > lines,
        renewal.due(folder),
        renewal.waiting(folder) is not None,
        tuple(sums),
    )


def renew(path: Path, *, clock: Clock = now_utc) -> datetime:
    """Hand in a new key for the connection now; it serves once a roster lists it. Asked again, it hands in the same.

    Returns:
        When it would have been due.

    Raises:
        SiteError: JG-site-301 refused, 302 not enrolled, 304 no site here, 101..103 its keys, 342 the folder cannot be
            written. LinkError: JG-site-201, 202, 207 or 400.
    """
    folder = SiteFolder(path)
    with folder.journal() as journal, open_api(folder, journal, clock) as api:
        with _writing(path):
            fresh = renewal.make(folder)
        api.renew(fresh.public_text)
    return renewal.due(folder)


def open_api(folder: SiteFolder, journal: Journal, clock: Clock) -> SiteApi:
    """The site API of an enrolled site.

    Raises:
        SiteError: JG-site-302 not enrolled, 304 no site here, 101..103 its key, 341 its file of certificates.
        LinkError: JG-site-202, no certificate.
    """
    server = folder.settings().server
    if server is None:
        raise SiteError("JG-site-302", where=str(folder.path))
    return _api(folder, server, folder.roots(server), journal, clock)


def take(
    offer: Offer, folder: SiteFolder, journal: Journal, ledger: Ledger, now: datetime, agreed: str = ""
) -> list[Campaign]:
    """Believe what can be believed of an offer, remember it, and give the campaigns whose plans hold.

    A plan that does not hold is left aside with a line in the log; the others are none the worse for it. A campaign
    that is over gives back what it never spent, and its last update is removed.

    Args:
        offer: from the server.
        folder: takes staff and roster.
        journal: takes the plans.
        ledger: ends what is over, and is what this site once committed to.
        now: the time.
        agreed: hash of a roster that a person here said yes to.

    Raises:
        SiteError: JG-site-110..125, a staff list or roster that cannot be believed; nothing is remembered then.
        PrivacyError: JG-privacy-026, the ledger is not, or not any more, the one that this site committed to.
    """
    trust = _believe(folder.trust(), offer.staff, offer.roster, now, agreed)
    folder.keep_trust(trust)
    if offer.commitment is not None:
        _check_ledger(offer.commitment, folder, ledger)
    for campaign_over in over(offer):  # its rounds are free again
        if campaign_over in ledger.accounts:
            _close(campaign_over, folder, journal, ledger, now)
    known = []
    for given in offer.campaigns:
        try:
            signed = trust.plan(given.plan, now)
            campaign = _campaign(signed, plan_of(signed), given, journal)
            if campaign.plan.privacy.sums_only:
                campaign = _with_fit(campaign, folder.settings(), trust.roster(now))
        except JanginError as error:
            _log.warning("A plan on offer does not hold: %s", error, extra=noting(Event.REFUSED_PLAN, error))
            continue
        if journal.plan(signed.hash) is None:
            journal.keep_plan(signed.hash, given.plan)
        known.append(campaign)
    return known


def over(offer: Offer) -> list[str]:
    """The hashes of the campaigns that are over, also where who signed a plan may not sign any more."""
    return [hash_ for given in offer.campaigns if given.state in _OVER and (hash_ := _hash(given))]


def _hash(given: CampaignOffer) -> str:
    """The hash of a plan as it was given; empty where it is none."""
    try:
        return cbor.digest("plan", cbor.decode(peek(given.plan, Kind.PLAN))).hex()
    except (SiteError, ValueError):
        return ""


def _close(campaign: str, folder: SiteFolder, journal: Journal, ledger: Ledger, now: datetime) -> None:
    """No more of a campaign: the ledger releases what it never spent, and its last update is removed."""
    account = ledger.accounts[campaign]
    if not account.ended:
        ledger.end(campaign, now)
        journal.lose_held(campaign, account.reservation.rounds + 1, now)
        folder.drop_reply(campaign)


def _check_ledger(envelope: bytes, folder: SiteFolder, ledger: Ledger) -> None:
    """Whether the ledger has come on from where it was when this site said so."""
    identity = folder.identity()
    given = verify_commitment(envelope, folder.settings().site.id, identity.public)
    ledger.refresh()
    if not ledger.holds(Head(given.entries, bytes.fromhex(given.head))):
        raise PrivacyError("JG-privacy-026", where="ledger.sqlite", found=ledger.head.entries, known=given.entries)


def reserve(plan: TrainingPlan, price: Price, folder: SiteFolder, ledger: Ledger, now: datetime) -> Reservation:
    """Reserve the whole of a campaign for this site's records, by the budgets of site.yaml.

    Nobody pays for what he did not allow: whose consent does not cover the plan now has no part in it.

    Raises:
        PrivacyError: JG-privacy-020..024, 028 and 031, the ledger does not grant it. SiteError: JG-site-320, no
            validated records; 350..356, no master's consent covers it.
    """
    settings = folder.settings()
    records, manifest = records_for(plan, settings, folder.path)
    consents = consented(folder.path, plan, clock=lambda: now)
    consents.require()
    manifest = manifest.of(consents.covered)
    limits = settings.privacy
    ledger.grant([block.budget for block in limits.budgets], now)
    asked = wish(plan, price(plan), manifest, records, limits)
    return ledger.reserve(asked, now, exposed=limits.allow_no_differential_privacy)


def _named(text: str, known: Sequence[Campaign]) -> Campaign:
    """The campaign of a whole hash, or of the first digits of one whose plan came before.

    Raises:
        SiteError: JG-site-316, none has this hash; JG-site-343, a short one that does not name one plan known before.
    """
    found = [campaign for campaign in known if campaign.hash.startswith(text)]
    if not found or not re.fullmatch(r"[0-9a-f]{8,64}", text):
        raise SiteError("JG-site-316", hash=text)
    if len(found) > 1:
        raise SiteError("JG-site-343", hash=text, problem=f"{len(found)} plans begin so")
    if found[0].hash != text and not found[0].known:
        raise SiteError("JG-site-343", hash=text, problem="it came with this very request")
    return found[0]


def _unchanged(records: Path) -> None:
    """Read every file of a validated folder.

    Raises:
        DataError: JG-data-004..007 and 012, it is not as it was validated.
    """
    check_files(records, open_validated(records)[1])


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Where something is written into a site's folder.

    Raises:
        SiteError: JG-site-342, it cannot be.
    """
    try:
        yield
    except OSError as error:
        raise SiteError("JG-site-342", where=str(path), problem=error.strerror or type(error).__name__) from None


def _believe(trust: Trust, staff: bytes, roster: bytes, now: datetime, agreed: str) -> Trust:
    trust = trust.with_staff(staff, now)
    return trust.with_roster(roster, now, agreed)[0]


def _campaign(signed: SignedPlan, plan: TrainingPlan, given: CampaignOffer, journal: Journal) -> Campaign:
    approver = signed.approver.person if signed.approver else ""
    approved, known = journal.approval(signed.hash) is not None, journal.plan(signed.hash) is not None
    return Campaign(signed.hash, plan, given.state, approved, signed.operator.person, approver, known)


def _with_fit(campaign: Campaign, settings: SiteSettings, roster: Roster) -> Campaign:
    """A campaign of secure sums, with what the site's policy says of them."""
    try:
        asked = terms(campaign.plan, settings.site.id)
        invited = {name: key for name, key in roster.identities.items() if name in asked.invited}
        return replace(campaign, doubt=check_fit(asked, settings.secure_sum.policy(invited)))
    except SumError as error:
        return replace(campaign, obstacle=error)


def _sign(folder: SiteFolder, plan: str, now: datetime) -> bytes:
    """This site's yes to one plan, with randomness of its own."""
    site = folder.settings().site.id
    approval = Approval(issued=now.replace(microsecond=0), site=site, plan=plan, nonce=secrets.token_hex(32))
    return seal(Kind.APPROVAL, approval.payload, folder.identity())


def _api(folder: SiteFolder, server: ServerBlock, roots: bytes, journal: Journal, clock: Clock) -> SiteApi:
    return SiteApi(
        server.address,
        folder.settings().site.id,
        folder.identity(),
        roots,
        Door(journal, clock),
        clock=clock,
        nonce=lambda: secrets.token_hex(16),
    )
