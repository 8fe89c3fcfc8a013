"""What a ledger speaks of: budgets, wishes, reservations, a campaign's account, and the one table of what may happen.

The law: values alone, no file and no clock; what stands in an entry is the form of one of them, and its meaning never
changes.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import inf
from typing import Any, Final

from jangin.privacy.releases import Charge, Cost, GaussianRelease, Reading, Unit
from jangin.privacy.renyi import renyi
from jangin.privacy.unit_sets import Numbers

__all__ = [
    "MOVES",
    "UP",
    "Account",
    "Budget",
    "Event",
    "Reservation",
    "State",
    "Wish",
    "budget_form",
    "caps_text",
    "charge_of",
    "cost_form",
    "read_budget",
    "read_cost",
    "rounds_of",
    "unit_key",
]

UP: Final = 1.0 + 1e-9
"""Sums of floats are rounded; this is more than a million terms can lose."""


class State(StrEnum):
    """Where the releases of one (campaign, round) stand."""

    RESERVED = "reserved"
    SPENT = "spent"
    RELEASED = "released"


class Event(StrEnum):
    """What happens to a round."""

    SPEND = "spend"
    GIVE_BACK = "give_back"
    END = "end"


MOVES: Final[Mapping[tuple[State, Event], State]] = {
    (State.RESERVED, Event.SPEND): State.SPENT,
    (State.SPENT, Event.GIVE_BACK): State.RESERVED,
    (State.RESERVED, Event.END): State.RELEASED,
    (State.SPENT, Event.END): State.SPENT,
}
"""Everything that can happen to a round; what is not here is refused."""


@dataclass(frozen=True)
class Budget:
    """What one kind of unit may spend in all, for ever.

    Attributes:
        unit: of which kind.
        delta: of the promise.
        caps: epsilon in each reading.
    """

    unit: Unit
    delta: float
    caps: Mapping[Reading, float]


@dataclass(frozen=True)
class Wish:
    """What a campaign asks.

    Attributes:
        campaign: its plan's hash.
        line: its model line.
        data_set: what the site calls the records; for people.
        unit: whose presence it hides.
        rounds: of training; round 0 is what comes before.
        cost: None where it promises NO DIFFERENTIAL PRIVACY.
        units: the keys of the units that would take part, each with the keys of its episodes (an episode has itself).
    """

    campaign: str
    line: str
    data_set: str
    unit: Unit
    rounds: int
    cost: Cost | None
    units: Mapping[bytes, Collection[bytes]] = field(repr=False)


@dataclass(frozen=True)
class Reservation:
    """What a campaign was granted.

    Attributes:
        campaign, line, data_set, unit, rounds, cost: of the wish.
        time: when.
        left_out: how many episodes have no budget left for it.
        known: how many that take part did so in campaigns before.
    """

    campaign: str
    line: str
    data_set: str
    unit: Unit
    rounds: int
    cost: Cost | None
    time: datetime
    left_out: int
    known: int


@dataclass
class Account:
    """One campaign in the ledger.

    Attributes:
        reservation: what it was granted.
        members: numbers of the charged units of each kind.
        spent: the rounds that were, 0 among them where something came before the first.
        ended: whether it is over.
    """

    reservation: Reservation
    members: Mapping[Unit, Numbers] = field(repr=False)
    spent: set[int] = field(default_factory=set)
    ended: bool = False

    @property
    def opened(self) -> bool:
        """Whether what is paid before the first round was."""
        return 0 in self.spent

    def state(self, number: int) -> State:
        """Where a round stands."""
        if number in self.spent:
            return State.SPENT
        return State.RELEASED if self.ended else State.RESERVED

    def releases(self, unit: Unit, reading: Reading) -> tuple[GaussianRelease, ...] | None:
        """What it may have released, or still may, about one unit of a kind; None: everything."""
        charge = charge_of(self.reservation.cost, unit, reading)
        if charge is None or not self.ended:
            return None if charge is None else charge.releases()
        return charge.releases(len(self.spent - {0}), opened=self.opened)

    def divergence(self, unit: Unit, reading: Reading, order: int) -> float:
        """The same as Renyi divergence."""
        releases = self.releases(unit, reading)
        if releases is None:
            return inf if self.spent or not self.ended else 0.0
        return renyi(releases, order) * UP


def unit_key(unit: Unit, name: str) -> bytes:
    """The key of a unit that is known by a name (a master's pseudonym, a site's id), 32 bytes."""
    return hashlib.sha256(b"jangin/unit\0" + unit.encode() + b"\0" + name.encode()).digest()


def rounds_of(reservation: Reservation) -> range:
    """The rounds it may spend: 0 where something is released before the first."""
    opens = reservation.cost is None or any(charge.paid_first for charge in reservation.cost.values())
    return range(0 if opens else 1, reservation.rounds + 1)


def charge_of(cost: Cost | None, unit: Unit, reading: Reading) -> Charge | None:
    """What a cost asks of one unit of a kind; None for NO DIFFERENTIAL PRIVACY."""
    if cost is None:
        return None
    return cost[reading].for_episodes() if unit is Unit.EPISODE else cost[reading]


def caps_text(budget: Budget) -> str:
    """A budget's figures, for messages."""
    caps = ", ".join(f"{reading.value} {cap:g}" for reading, cap in budget.caps.items())
    return f"{caps}, delta {budget.delta:g}"


def budget_form(budget: Budget) -> dict[str, object]:
    """A budget in the codec's data model, as it stands in an entry."""
    caps = {reading.value: float(cap) for reading, cap in budget.caps.items()}
    return {"unit": budget.unit.value, "delta": float(budget.delta), "caps": caps}


def read_budget(form: Mapping[str, Any]) -> Budget:
    """The budget of a form."""
    caps = {Reading(reading): cap for reading, cap in form["caps"].items()}
    return Budget(Unit(form["unit"]), form["delta"], caps)


def cost_form(cost: Cost | None) -> dict[str, object] | None:
    """A cost in the codec's data model, as it stands in an entry; None: NO DIFFERENTIAL PRIVACY.

    Evaluations stand in it with the opening, with which they are paid.
    """

    def listed(releases: Iterable[GaussianRelease]) -> list[list[float | int]]:
        return [[float(one.noise_multiplier), float(one.sampling_probability), one.count] for one in releases]

    if cost is None:
        return None
    return {
        reading.value: {"opening": listed(charge.paid_first), "each_round": listed(charge.each_round)}
        for reading, charge in cost.items()
    }


def read_cost(unit: Unit, rounds: int, form: Mapping[str, Any] | None) -> Cost | None:
    """The cost of a form."""

    def read(releases: Iterable[list[Any]]) -> tuple[GaussianRelease, ...]:
        return tuple(GaussianRelease(*one) for one in releases)

    if form is None:
        return None
    return {
        Reading(reading): Charge(unit, rounds, read(charge["opening"]), read(charge["each_round"]))
        for reading, charge in form.items()
    }
