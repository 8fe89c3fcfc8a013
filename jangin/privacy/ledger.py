"""The ledger of one site: what every unit has spent, of what it was granted, across campaigns and data sets.

    reserve    a whole campaign, before the site's yes leaves: refused where it would overrun
    spend      one round of it, on the disk before the first gradient
    give back  one round of which surely nothing left (the training failed)
    end        the campaign is over: what it never spent is free again

The law: the truth is the events, never an epsilon; a unit is what it holds (an episode by the digest of its content),
whatever its folder, name or data set is called; each unit has one filter at one order, fixed when its budget was
granted (Feldman and Zrnic 2021, arXiv 2008.11193), and is judged by its own history alone; a round whose end nobody
knows is spent. Signing, the clock and the anchor are handed in.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from jangin.codec import cbor
from jangin.errors import PrivacyError
from jangin.privacy.accounts import (
    MOVES,
    UP,
    Account,
    Budget,
    Event,
    Reservation,
    Wish,
    budget_form,
    caps_text,
    charge_of,
    cost_form,
    read_budget,
    read_cost,
    rounds_of,
)
from jangin.privacy.chain import Anchor, Chain, Head, Signer
from jangin.privacy.releases import Reading, Unit
from jangin.privacy.renyi import epsilon_at, filter_budget, filter_order, renyi
from jangin.privacy.unit_sets import UnitSets

__all__ = ["Ledger"]

_NOBODY: Final = np.empty(0, np.int64)


class Ledger:
    """A site's ledger; a context manager, used by one thread. Several processes may have it open."""

    def __init__(self, path: Path, site: str, signer: Signer, anchor: Anchor, connect: Any = None) -> None:
        """Open it and read it through, or make it where there never was one; arguments as `Chain`'s.

        Raises:
            PrivacyError: JG-privacy-025 altered, 026 cut short, 027 gone or not to be used.
        """
        self._chain = Chain(path, site, signer, anchor, connect)
        self._budgets: dict[Unit, tuple[Budget, Mapping[Reading, int]]] = {}
        self._accounts: dict[str, Account] = {}
        self._enrolled: dict[bytes, datetime] = {}
        self._written: list[bytes] = []
        try:
            self._sets = UnitSets(self._chain)
            self._take(self._chain.bodies)
        except BaseException:
            self._chain.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._chain.close()

    @property
    def head(self) -> Head:
        """What it has come to: what a site commits to, and shows others."""
        return self._chain.head

    def holds(self, head: Head) -> bool:
        """Whether this ledger once had this head: if not, it was rolled back or exchanged."""
        return self._chain.holds(head)

    def check(self) -> None:
        """Verify every signature.

        Raises:
            PrivacyError: JG-privacy-025.
        """
        self._chain.check_signatures()

    @property
    def accounts(self) -> Mapping[str, Account]:
        """Every campaign by its plan's hash, in the order of their reservations."""
        return self._accounts

    @property
    def budgets(self) -> Mapping[Unit, Budget]:
        """What was granted."""
        return {unit: budget for unit, (budget, _) in self._budgets.items()}

    def order(self, unit: Unit, reading: Reading) -> int:
        """The order of the filter."""
        return self._budgets[unit][1][reading]

    def refresh(self) -> None:
        """Take what other processes wrote."""
        self._take(self._chain.news())

    def grant(self, budgets: Iterable[Budget], now: datetime) -> None:
        """Set the budgets. What stands when the first campaign is reserved may be lowered later, and never raised.

        Their orders are fixed then, too.

        Raises:
            PrivacyError: JG-privacy-021, a budget that would be raised, or one for masters after episodes were charged.
        """
        with self._writing():
            changed = [budget for budget in budgets if self._changes(budget)]
            if changed:
                self._append("grant", now, budgets=[budget_form(budget) for budget in changed])

    def reserve(self, wish: Wish, now: datetime, *, exposed: bool = False) -> Reservation:
        """Reserve a whole campaign for the units that have budget for it; asked again, what it was granted.

        Args:
            wish: what it asks.
            now: the time.
            exposed: whether a campaign without differential privacy is allowed; it ends every budget it touches.

        Raises:
            PrivacyError: JG-privacy-020 no unit has enough left; 022 no budget for its unit; 023 a plan for episodes
                where masters were promised a budget; 024 no differential privacy; 028 the campaign is ended.
        """
        with self._writing():
            account = self._accounts.get(wish.campaign)
            if account is None:
                self._reserve(wish, now, exposed=exposed)
            elif account.ended:
                raise PrivacyError("JG-privacy-028", where=wish.campaign[:12], state="ended", event="reserve")
        return self._accounts[wish.campaign].reservation

    def spend(self, campaign: str, number: int, now: datetime) -> None:
        """Charge one round of a campaign before its first gradient.

        Raises:
            PrivacyError: JG-privacy-028, no reservation, a round it does not have, or one that is spent or released.
        """
        self._move(campaign, number, Event.SPEND, now)

    def give_back(self, campaign: str, number: int, now: datetime) -> None:
        """Take back the charge of a round of which nothing has left, nor ever will.

        Raises:
            PrivacyError: JG-privacy-028, it was not spent, or its campaign is ended.
        """
        self._move(campaign, number, Event.GIVE_BACK, now)

    def end(self, campaign: str, now: datetime) -> None:
        """End a campaign: rounds that were not spent are released, and none can be spent any more.

        Raises:
            PrivacyError: JG-privacy-028, no reservation.
        """
        self._move(campaign, None, Event.END, now)

    def spent(self, unit: Unit, reading: Reading, key: bytes | None = None) -> float:
        """Epsilon of a unit's filter, reserved rounds with it: of the unit of this key, else of the one that paid most.

        Raises:
            PrivacyError: JG-privacy-022, no budget for this kind of unit.
        """
        budget, orders = self._granted(unit)
        totals = self._totals(unit, reading)
        total = float(totals.max() if key is None else totals[self._sets.number(key)])
        return epsilon_at(orders[reading], total, budget.delta) if total else 0.0

    def totals(self, unit: Unit, reading: Reading, campaign: str | None = None) -> dict[bytes, float]:
        """What units of a kind have spent or reserved, by key, as Renyi divergence at the order of the filter.

        Args:
            unit: the kind.
            reading: towards whom.
            campaign: only units that this one charged; None: all that were ever charged.

        Raises:
            PrivacyError: JG-privacy-022, no budget for this kind of unit.
        """
        totals = self._totals(unit, reading)
        members = None if campaign is None else self._accounts[campaign].members
        numbers = np.flatnonzero(self._ever(unit)) if members is None else members.get(unit, _NOBODY)
        return dict(zip(self._sets.keys(numbers), totals[numbers].tolist(), strict=True))

    def episodes(self, campaign: str) -> frozenset[bytes]:
        """The keys of the episodes that may take part in a campaign; none without a reservation."""
        account = self._accounts.get(campaign)
        return frozenset(() if account is None else self._sets.keys(account.members[Unit.EPISODE]))

    def units(self, campaign: str) -> frozenset[bytes]:
        """The keys of the units of a campaign's own kind that it charged; none without a reservation."""
        account = self._accounts.get(campaign)
        return frozenset(() if account is None else self._sets.keys(account.members[account.reservation.unit]))

    def campaigns_of(self, unit: Unit, key: bytes) -> list[Account]:
        """The campaigns that charged the unit of this key, in the order of their reservations."""
        number = self._sets.number(key)
        return [one for one in self._accounts.values() if number in one.members.get(unit, ())]

    def charged(self, unit: Unit) -> int:
        """How many units of a kind were ever charged."""
        return int(self._ever(unit).sum())

    def enrolled(self) -> Collection[bytes]:
        """The keys of the masters who are charged by every campaign whose unit is the master, with or without data."""
        return self._enrolled.keys()

    def enrol(self, masters: Collection[bytes], now: datetime) -> None:
        """Enrol masters from this moment on; a campaign enrols those whose records it sees first."""
        with self._writing():
            self._append("enrol", now, masters=sorted(set(masters) - self._enrolled.keys()))

    def leave(self, masters: Collection[bytes], now: datetime) -> None:
        """End the enrolment of masters; what was spent stays spent."""
        with self._writing():
            self._append("leave", now, masters=sorted(set(masters) & self._enrolled.keys()))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """What is appended within counts once it is on the disk."""
        self._written = []
        with self._chain.alone() as news:
            self._take(news)
            yield
        self._take(self._written)

    def _append(self, kind: str, now: datetime, **fields: object) -> None:
        body = cbor.encode({"kind": kind, "time": now.astimezone(UTC).isoformat(timespec="milliseconds"), **fields})
        self._chain.append(body)
        self._written.append(body)

    def _take(self, bodies: Iterable[bytes]) -> None:
        """Add entries of the chain to what is known; where one cannot be added, nothing here is counted on again."""
        try:
            for body in bodies:
                self._add(cbor.decode(body))
        except BaseException:
            self._chain.close()
            raise

    def _add(self, entry: Any) -> None:
        """Add one entry."""
        match entry:
            case {"kind": "spend", "campaign": campaign, "round": number}:
                self._accounts[campaign].spent.add(number)
            case {"kind": "give_back", "campaign": campaign, "round": number}:
                self._accounts[campaign].spent.remove(number)
            case {"kind": "end", "campaign": campaign}:
                self._accounts[campaign].ended = True
            case {"kind": "reserve"}:
                self._accounts[entry["campaign"]] = self._account(entry)
            case {"kind": "grant", "budgets": budgets}:
                for form in budgets:
                    self._set(read_budget(form))
            case {"kind": "enrol", "time": time, "masters": masters}:
                self._enrolled |= dict.fromkeys(masters, datetime.fromisoformat(time))
            case {"kind": "leave", "masters": masters}:
                for master in masters:
                    del self._enrolled[master]
            case _:
                raise ValueError(f"Expected an entry of the ledger: {entry!r:.80}.")

    def _set(self, budget: Budget) -> None:
        """The last grant before anything was charged fixes the orders."""
        if budget.unit in self._budgets and self._accounts:
            orders = self._budgets[budget.unit][1]
        else:
            orders = {reading: filter_order(cap, budget.delta) for reading, cap in budget.caps.items()}
        self._budgets[budget.unit] = budget, orders

    def _changes(self, budget: Budget) -> bool:
        """Whether a grant says something new that it may say."""
        if budget.unit not in self._budgets:
            if budget.unit is not Unit.EPISODE and self._accounts:
                raise PrivacyError(
                    "JG-privacy-021", where=budget.unit.value, asked=caps_text(budget), held="nothing counted"
                )
            return True
        held = self._budgets[budget.unit][0]
        if not self._accounts:
            return budget != held
        raised = budget.caps.keys() != held.caps.keys() or any(
            cap > held.caps[reading] for reading, cap in budget.caps.items()
        )
        if raised or budget.delta > held.delta:
            raise PrivacyError("JG-privacy-021", where=budget.unit.value, asked=caps_text(budget), held=caps_text(held))
        return budget != held

    def _granted(self, unit: Unit) -> tuple[Budget, Mapping[Reading, int]]:
        if unit not in self._budgets:
            raise PrivacyError("JG-privacy-022", where=unit.value)
        return self._budgets[unit]

    def _reserve(self, wish: Wish, now: datetime, *, exposed: bool) -> None:
        """Grant a wish to the units that have budget for it."""
        self._refuse_unlike(wish, exposed=exposed)
        charged: dict[Unit, list[bytes]] = {}
        parts: Iterable[Collection[bytes]] = wish.units.values()
        if wish.unit is not Unit.EPISODE:
            new = sorted(set(wish.units) - self._enrolled.keys())
            if new:
                self._append("enrol", now, masters=new)
            charged[wish.unit] = self._fitting(wish, wish.unit, [*self._enrolled, *new])
            parts = [wish.units[key] for key in charged[wish.unit] if key in wish.units]
        every = {episode for episodes in wish.units.values() for episode in episodes}
        charged[Unit.EPISODE] = self._fitting(wish, Unit.EPISODE, (one for episodes in parts for one in episodes))
        if not charged[Unit.EPISODE]:
            asked, left = self._shortage(wish, every)
            raise PrivacyError("JG-privacy-020", where=wish.campaign[:12], asked=asked, left=left, episodes=len(every))
        before = self._ever(Unit.EPISODE)
        self._append(
            "reserve",
            now,
            campaign=wish.campaign,
            line=wish.line,
            data=wish.data_set,
            unit=wish.unit.value,
            rounds=wish.rounds,
            cost=cost_form(wish.cost),
            sets=dict(zip((unit.value for unit in charged), self._sets.keep(charged.values()), strict=True)),
            left_out=len(every) - len(charged[Unit.EPISODE]),
            known=sum(bool(before[self._sets.number(key)]) for key in charged[Unit.EPISODE]),
        )

    def _refuse_unlike(self, wish: Wish, *, exposed: bool) -> None:
        """Whether the wish is of a kind that the granted budgets can count at all."""
        for unit in (Unit.EPISODE, wish.unit):
            self._granted(unit)
        if Unit.MASTER in self._budgets and (wish.unit is not Unit.MASTER or wish.cost is None):
            raise PrivacyError("JG-privacy-023", where=wish.campaign[:12])
        if wish.cost is None and not exposed:
            raise PrivacyError("JG-privacy-024", where=wish.campaign[:12])

    def _fitting(self, wish: Wish, unit: Unit, keys: Iterable[bytes]) -> list[bytes]:
        """Those of some units whose filters admit the wish in every reading."""
        known = list(dict.fromkeys(keys))
        fits = np.ones(len(known), bool)
        for _, left, price in self._balances(wish, unit, known):
            fits &= price <= left
        return [key for key, fit in zip(known, fits, strict=True) if fit]

    def _balances(
        self, wish: Wish, unit: Unit, keys: Collection[bytes]
    ) -> Iterator[tuple[float, NDArray[np.float64], float]]:
        """In each reading, as Renyi divergence: the budget, what each unit has left (units,), what the wish asks."""
        budget, orders = self._granted(unit)
        for reading, cap in budget.caps.items():
            charge = charge_of(wish.cost, unit, reading)
            if charge is not None:
                whole = filter_budget(orders[reading], cap, budget.delta)
                spent = self._totals(unit, reading)[[self._sets.number(key) for key in keys]]
                yield whole, whole - spent, renyi(charge.releases(), orders[reading]) * UP

    def _shortage(self, wish: Wish, episodes: Collection[bytes]) -> tuple[float, float]:
        """What a refused wish asks of a budget, and what the richest unit has left of it, in percent."""
        groups = [(Unit.EPISODE, episodes)] + ([] if wish.unit is Unit.EPISODE else [(wish.unit, wish.units.keys())])
        sides = [
            (price / whole * 100, max(float(left.max(initial=0.0)) / whole, 0.0) * 100) if whole > 0 else (inf, 0.0)
            for unit, keys in groups
            for whole, left, price in self._balances(wish, unit, keys)
        ]
        return max(sides, key=lambda side: side[0] - side[1])

    def _totals(self, unit: Unit, reading: Reading) -> NDArray[np.float64]:
        """What every unit has spent or reserved at its order, shape (units + 1,); the last never was charged."""
        order = self._granted(unit)[1][reading]
        totals = np.zeros(len(self._sets) + 1)
        for account in self._accounts.values():
            if unit in account.members:
                totals[account.members[unit]] += account.divergence(unit, reading, order)
        return totals

    def _ever(self, unit: Unit) -> NDArray[np.bool_]:
        """Whether each unit was ever charged as one of this kind, shape (units + 1,); the last never was."""
        ever = np.zeros(len(self._sets) + 1, bool)
        for account in self._accounts.values():
            if unit in account.members:
                ever[account.members[unit]] = True
        return ever

    def _account(self, entry: Mapping[str, Any]) -> Account:
        members = {Unit(unit): self._sets.members(digest) for unit, digest in entry["sets"].items()}
        unit, rounds = Unit(entry["unit"]), entry["rounds"]
        reservation = Reservation(
            campaign=entry["campaign"],
            line=entry["line"],
            data_set=entry["data"],
            unit=unit,
            rounds=rounds,
            cost=read_cost(unit, rounds, entry["cost"]),
            time=datetime.fromisoformat(entry["time"]),
            left_out=entry["left_out"],
            known=entry["known"],
        )
        return Account(reservation, members)

    def _move(self, campaign: str, number: int | None, event: Event, now: datetime) -> None:
        with self._writing():
            account = self._accounts.get(campaign)
            if account is None or (number is not None and number not in rounds_of(account.reservation)):
                raise PrivacyError("JG-privacy-028", where=campaign[:12], state="not reserved", event=event.value)
            if number is None:
                if not account.ended:
                    self._append(event.value, now, campaign=campaign)
                return
            state = account.state(number)
            if account.ended or (state, event) not in MOVES:
                raise PrivacyError("JG-privacy-028", where=campaign[:12], state=state.value, event=event.value)
            self._append(event.value, now, campaign=campaign, round=number)
