"""What a ledger says, for people: budgets, campaigns, one unit; and what a plan would leave, tried on a copy.

The law: every signature is verified before a figure is shown; nothing here writes; the shares are those by which the
ledger admits and refuses. What is reserved counts as spent. The figure of privacy loss distributions beside the
filter's is tighter and binds nobody; who computes it is handed in, as this part loads nothing heavy.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from math import isinf
from typing import Final

from jangin.client.desk import consented, reserve
from jangin.client.gate import records_for
from jangin.client.spending import Price, allowed
from jangin.client.state import SiteFolder
from jangin.codec.document import Document
from jangin.errors import JanginError, PrivacyError, SiteError
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.accounts import Account, Budget, unit_key
from jangin.privacy.ledger import Ledger
from jangin.privacy.releases import GaussianRelease, Reading, Unit
from jangin.privacy.renyi import epsilon_at, filter_budget
from jangin.records.manifest import read_manifest

__all__ = [
    "Balance",
    "Book",
    "BudgetView",
    "CampaignCost",
    "CampaignView",
    "Foreseen",
    "Foresight",
    "Names",
    "Stage",
    "Tight",
    "UnitBalance",
    "UnitView",
    "book",
    "foresee",
    "names",
    "one_unit",
    "units",
]

Tight = Callable[[Sequence[GaussianRelease], float], float]
"""Epsilon of releases at a delta, by an accountant that is tighter than the filter."""

Names = Mapping[str, frozenset[tuple[Unit, bytes]]]
"""The units that a name stands for, as (kind, key)."""

_NEARLY: Final = 0.9
"""A unit of which a larger share is spent has little left."""


class Stage(StrEnum):
    """How far a campaign has come in the ledger."""

    RESERVED = "reserved"
    """No round has been spent."""
    RUNNING = "running"
    ENDED = "ended"
    """What was never spent is free again."""


class Balance(Document):
    """What a unit, or the one that paid most, has spent of its budget in one reading, reserved rounds with it.

    Attributes:
        reading: towards whom.
        cap: the budget's epsilon.
        order: of the filter.
        epsilon: spent, as the filter counts it; None where nothing bounds it (NO DIFFERENTIAL PRIVACY).
        share: of the budget, in Renyi divergence at the order, in which campaigns add up; None where nothing fits any
            more at all.
        left: the rest of it, >= 0.
    """

    reading: Reading
    cap: float
    order: int
    epsilon: float | None
    share: float | None
    left: float


class BudgetView(Document):
    """One kind of unit's budget.

    Attributes:
        unit: of which kind.
        delta: of the promise.
        balances: of the unit that paid most, in each reading.
        charged: how many units were ever charged.
        nearly_spent: how many of them have less than 10 % left in some reading.
    """

    unit: Unit
    delta: float
    balances: tuple[Balance, ...]
    charged: int
    nearly_spent: int


class CampaignCost(Document):
    """What a campaign may still cost one unit that takes part, and has cost it; once ended: what it cost.

    Attributes:
        unit: of which kind.
        reading: towards whom.
        delta: of the unit's budget, at which both epsilons are.
        epsilon: of this campaign alone, as the filter counts it; None: NO DIFFERENTIAL PRIVACY.
        share: of the budget; None: all of it.
        tight_epsilon: the same by privacy loss distributions; binds nobody.
    """

    unit: Unit
    reading: Reading
    delta: float
    epsilon: float | None
    share: float | None
    tight_epsilon: float | None


class CampaignView(Document):
    """One campaign.

    Attributes:
        hash: of its plan.
        line: its model line.
        data_set: the records' folder.
        unit: whose presence it hides.
        reserved_at: when.
        stage: how far it has come.
        rounds: of its plan, without what comes before the first.
        spent: those that were charged.
        reserved: those that may still be.
        opened: whether something was charged before the first.
        differential_privacy: False: NO DIFFERENTIAL PRIVACY.
        episodes: how many take part.
        masters: how many are charged; None where its unit is the episode.
        left_out: episodes without enough budget for it.
        known: episodes that were in a campaign before.
        costs: in each reading, for its unit and for episodes.
    """

    hash: str
    line: str
    data_set: str
    unit: Unit
    reserved_at: datetime
    stage: Stage
    rounds: int
    spent: int
    reserved: int
    opened: bool
    differential_privacy: bool
    episodes: int
    masters: int | None
    left_out: int
    known: int
    costs: tuple[CampaignCost, ...]


class Book(Document):
    """A whole ledger.

    Attributes:
        entries: how many there are.
        head: the digest of them all, 64 hex digits.
        enrolled: how many masters are.
        budgets: what was granted, and what became of it.
        campaigns: in the order of their reservations.
    """

    entries: int
    head: str
    enrolled: int
    budgets: tuple[BudgetView, ...]
    campaigns: tuple[CampaignView, ...]


class UnitBalance(Document):
    """One unit.

    Attributes:
        unit: its kind.
        name: by which the site's records know it, else "".
        key: by which the ledger does, 64 hex digits: an episode's is the digest of its content.
        balances: in each reading.
    """

    unit: Unit
    name: str
    key: str
    balances: tuple[Balance, ...]


class UnitView(Document):
    """One unit, and the campaigns that charged it, in the order of their reservations."""

    balance: UnitBalance
    campaigns: tuple[CampaignView, ...]


class Foresight(Document):
    """What a plan leaves in one reading to the unit that has least left of those that would take part.

    Attributes:
        unit: of which kind.
        before: without the plan.
        after: with it.
    """

    unit: Unit
    before: Balance
    after: Balance


class Foreseen(Document):
    """What a yes to a plan would do at a site.

    Attributes:
        hash: of the plan.
        reserved_before: whether it stands in the ledger already: then nothing more is charged.
        episodes: how many would take part.
        known: how many of them were in a campaign before.
        left_out: ids of episodes that have too little budget for it.
        doubles: ids of episodes that stay out because another one has the same content.
        unconsented: ids of episodes whose masters do not allow it.
        foresights: of each kind of unit in each reading.
    """

    hash: str
    reserved_before: bool
    episodes: int
    known: int
    left_out: tuple[str, ...]
    doubles: tuple[str, ...]
    unconsented: tuple[str, ...]
    foresights: tuple[Foresight, ...]


def book(ledger: Ledger, tight: Tight) -> Book:
    """The whole of a ledger.

    Raises:
        PrivacyError: JG-privacy-025, a signature does not hold.
    """
    ledger.check()
    return Book(
        entries=ledger.head.entries,
        head=ledger.head.digest.hex(),
        enrolled=len(ledger.enrolled()),
        budgets=tuple(_budget(ledger, budget) for budget in ledger.budgets.values()),
        campaigns=_campaigns(ledger, ledger.accounts.values(), tight),
    )


def names(folder: SiteFolder) -> Names:
    """The names that a site's validated records give to units, hold-outs with them; unreadable records give none.

    Raises:
        SiteError: JG-site-304, no site here. PlanError: JG-plan-001..006, site.yaml.
    """
    found: defaultdict[str, set[tuple[Unit, bytes]]] = defaultdict(set)
    for block in folder.settings().data:
        try:
            manifest = read_manifest(folder.path / block.path)
        except JanginError:
            continue
        for name, episodes in manifest.contents.items() if manifest else ():
            for episode, digest in episodes.items():
                found[episode].add((Unit.EPISODE, bytes.fromhex(digest)))
            if manifest and manifest.unit == Unit.MASTER.value:
                found[name].add((Unit.MASTER, unit_key(Unit.MASTER, name)))
    return {name: frozenset(keys) for name, keys in found.items()}


def units(ledger: Ledger, unit: Unit, known: Names) -> list[UnitBalance]:
    """Every unit of a kind that was ever charged, the one that has least left first.

    Raises:
        PrivacyError: JG-privacy-022, no budget for this kind; 025, a signature does not hold.
    """
    ledger.check()
    called = {key: name for name, keys in sorted(known.items(), reverse=True) for kind, key in keys if kind is unit}
    totals = {reading: ledger.totals(unit, reading) for reading in _readings(_granted(ledger, unit))}
    found = [
        _unit(ledger, unit, key, called.get(key, ""), {reading: total[key] for reading, total in totals.items()})
        for key in next(iter(totals.values()))
    ]
    return sorted(found, key=lambda one: (min(balance.left for balance in one.balances), one.name, one.key))


def one_unit(ledger: Ledger, name: str, known: Names, tight: Tight) -> UnitView:
    """The unit of this name: an episode's id, a master's pseudonym, or 64 hex digits of an episode's content.

    Raises:
        SiteError: JG-site-344, none has this name; 345, more than one has.
        PrivacyError: JG-privacy-022, no budget for its kind; 025, a signature does not hold.
    """
    ledger.check()
    unit, key = _named(ledger, name, known)
    totals = {reading: ledger.totals(unit, reading).get(key, 0.0) for reading in _readings(_granted(ledger, unit))}
    return UnitView(
        balance=_unit(ledger, unit, key, "" if name == key.hex() else name, totals),
        campaigns=_campaigns(ledger, ledger.campaigns_of(unit, key), tight),
    )


def foresee(folder: SiteFolder, plan: TrainingPlan, price: Price, now: datetime) -> Foreseen:
    """What a yes to this plan would leave: it is said to a copy of the ledger, and nothing is written.

    Raises:
        PrivacyError: JG-privacy-020..024, 028 and 031, it would not be granted; 025..027, the ledger itself.
        SiteError: JG-site-304 no site here, 320 no validated records, 350..356 no consent; 101..103 its key.
    """
    settings = folder.settings()
    _, manifest = records_for(plan, settings, folder.path)
    with folder.ledger_copy() as ledger:
        ledger.check()
        there = plan.hash in ledger.accounts
        ledger.grant([block.budget for block in settings.privacy.budgets], now)
        kinds = [(unit, reading) for unit, budget in ledger.budgets.items() for reading in _readings(budget)]
        before = {kind: ledger.totals(*kind) for kind in kinds}
        reservation = reserve(plan, price, folder, ledger, now)
        foresights = []
        for unit, reading in kinds:
            after = ledger.totals(unit, reading, plan.hash)
            if after:
                key = max(after, key=lambda one: after[one])
                sides = [_balance(ledger, unit, reading, side.get(key, 0.0)) for side in (before[unit, reading], after)]
                foresights.append(Foresight(unit=unit, before=sides[0], after=sides[1]))
        charged = ledger.episodes(plan.hash)
        ours = manifest.of(consented(folder.path, plan, clock=lambda: now).covered)
        taking = set(allowed(plan.privacy.unit, ours, ledger.units(plan.hash), charged))
    others = {episode: digest for unit in ours.train for episode, digest in ours.contents[unit].items()}
    everything = [episode for unit in manifest.train for episode in manifest.contents[unit]]
    out = sorted((one, bytes.fromhex(digest) in charged) for one, digest in others.items() if one not in taking)
    return Foreseen(
        hash=plan.hash,
        reserved_before=there,
        episodes=len(taking),
        known=reservation.known,
        left_out=tuple(one for one, double in out if not double),
        doubles=tuple(one for one, double in out if double),
        unconsented=tuple(sorted(one for one in everything if one not in others)),
        foresights=tuple(foresights),
    )


def _readings(budget: Budget) -> list[Reading]:
    """The readings that a budget caps, always in one order."""
    return [reading for reading in Reading if reading in budget.caps]


def _granted(ledger: Ledger, unit: Unit) -> Budget:
    """The budget of a kind of unit."""
    budget = ledger.budgets.get(unit)
    if budget is None:
        raise PrivacyError("JG-privacy-022", where=unit.value)
    return budget


def _named(ledger: Ledger, name: str, known: Names) -> tuple[Unit, bytes]:
    """The one unit of a name."""
    found = set(known.get(name, ()))
    master = unit_key(Unit.MASTER, name)
    if master in ledger.enrolled() or ledger.campaigns_of(Unit.MASTER, master):
        found.add((Unit.MASTER, master))
    if re.fullmatch(r"[0-9a-f]{64}", name):
        content = Unit.EPISODE, bytes.fromhex(name)
        if ledger.campaigns_of(*content) or any(content in keys for keys in known.values()):
            found.add(content)
    if not found:
        raise SiteError("JG-site-344", unit=name)
    if len(found) > 1:
        raise SiteError("JG-site-345", unit=name, count=len(found))
    return found.pop()


def _budget(ledger: Ledger, budget: Budget) -> BudgetView:
    totals = {reading: ledger.totals(budget.unit, reading) for reading in _readings(budget)}
    balances = tuple(
        _balance(ledger, budget.unit, reading, max(total.values(), default=0.0)) for reading, total in totals.items()
    )
    nearly: set[bytes] = set()
    for reading, total in totals.items():
        most = _NEARLY * _whole(ledger, budget.unit, reading)
        nearly |= {key for key, divergence in total.items() if divergence > most}
    charged = ledger.charged(budget.unit)
    return BudgetView(
        unit=budget.unit, delta=budget.delta, balances=balances, charged=charged, nearly_spent=len(nearly)
    )


def _unit(ledger: Ledger, unit: Unit, key: bytes, name: str, totals: Mapping[Reading, float]) -> UnitBalance:
    balances = tuple(_balance(ledger, unit, reading, divergence) for reading, divergence in totals.items())
    return UnitBalance(unit=unit, name=name, key=key.hex(), balances=balances)


def _whole(ledger: Ledger, unit: Unit, reading: Reading) -> float:
    """A budget as Renyi divergence."""
    budget = ledger.budgets[unit]
    return filter_budget(ledger.order(unit, reading), budget.caps[reading], budget.delta)


def _balance(ledger: Ledger, unit: Unit, reading: Reading, divergence: float) -> Balance:
    share = _share(ledger, unit, reading, divergence)
    return Balance(
        reading=reading,
        cap=ledger.budgets[unit].caps[reading],
        order=ledger.order(unit, reading),
        epsilon=_epsilon(ledger, unit, reading, divergence),
        share=share,
        left=0.0 if share is None else max(0.0, 1.0 - share),
    )


def _share(ledger: Ledger, unit: Unit, reading: Reading, divergence: float) -> float | None:
    whole = _whole(ledger, unit, reading)
    return None if isinf(divergence) or whole <= 0 else divergence / whole


def _epsilon(ledger: Ledger, unit: Unit, reading: Reading, divergence: float) -> float | None:
    """As the filter counts it: nothing where nothing was spent."""
    if isinf(divergence):
        return None
    budget = ledger.budgets[unit]
    return epsilon_at(ledger.order(unit, reading), divergence, budget.delta) if divergence else 0.0


def _campaigns(ledger: Ledger, accounts: Iterable[Account], tight: Tight) -> tuple[CampaignView, ...]:
    """Campaigns; those that ask the same are priced once."""
    priced: dict[tuple[tuple[GaussianRelease, ...], float], float] = {}

    def once(releases: Sequence[GaussianRelease], delta: float) -> float:
        asked = tuple(releases), delta
        if asked not in priced:
            priced[asked] = tight(*asked) if releases else 0.0
        return priced[asked]

    return tuple(_campaign(ledger, account, once) for account in accounts)


def _campaign(ledger: Ledger, account: Account, tight: Tight) -> CampaignView:
    held, spent = account.reservation, len(account.spent - {0})
    stage = Stage.ENDED if account.ended else Stage.RUNNING if account.spent else Stage.RESERVED
    masters = account.members.get(Unit.MASTER)
    return CampaignView(
        hash=held.campaign,
        line=held.line,
        data_set=held.data_set,
        unit=held.unit,
        reserved_at=held.time,
        stage=stage,
        rounds=held.rounds,
        spent=spent,
        reserved=0 if account.ended else held.rounds - spent,
        opened=0 in account.spent,
        differential_privacy=held.cost is not None,
        episodes=len(account.members[Unit.EPISODE]),
        masters=None if masters is None else len(masters),
        left_out=held.left_out,
        known=held.known,
        costs=tuple(
            _cost(ledger, account, unit, reading, tight)
            for unit in account.members
            for reading in _readings(ledger.budgets[unit])
        ),
    )


def _cost(ledger: Ledger, account: Account, unit: Unit, reading: Reading, tight: Tight) -> CampaignCost:
    delta, releases = ledger.budgets[unit].delta, account.releases(unit, reading)
    divergence = account.divergence(unit, reading, ledger.order(unit, reading))
    return CampaignCost(
        unit=unit,
        reading=reading,
        delta=delta,
        epsilon=_epsilon(ledger, unit, reading, divergence),
        share=_share(ledger, unit, reading, divergence),
        tight_epsilon=None if isinf(divergence) else tight(releases or (), delta),
    )
