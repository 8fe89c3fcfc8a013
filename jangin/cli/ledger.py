"""The ledger as text, in two languages: what `jangin site ledger` and `jangin privacy explain --site` print."""

from collections.abc import Sequence
from typing import Final

from jangin.cli.talk import Talk, table
from jangin.client.accounts import (
    Balance,
    Book,
    CampaignCost,
    CampaignView,
    Foreseen,
    UnitBalance,
    UnitView,
)
from jangin.privacy.accounting import epsilon_pld, epsilon_rdp
from jangin.privacy.releases import NO_DIFFERENTIAL_PRIVACY, GaussianRelease
from jangin.privacy.statement import wording

__all__ = ["book_text", "foreseen_text", "tight_epsilon", "unit_text", "units_text"]

_BAR: Final = 10
_GRID: Final = 1e-3
_FEW: Final = 10


def tight_epsilon(releases: Sequence[GaussianRelease], delta: float) -> float:
    """Epsilon by privacy loss distributions on a grid of a thousandth: an upper bound, in hundredths of a second."""
    return epsilon_pld(releases, delta, _GRID * min(1.0, max(_GRID, epsilon_rdp(releases, delta))))


def book_text(book: Book, site: str, talk: Talk) -> str:
    """The whole ledger."""
    lines = [
        talk.said("ledger", "site", site=site),
        talk.said("ledger", "chain", entries=book.entries, head=book.head[:16]),
    ]
    if book.enrolled:
        lines.append(talk.said("ledger", "enrolled", masters=book.enrolled))
    heading = "\n".join(lines)
    if not book.budgets:
        return f"{heading}\n\n{talk.said('ledger', 'no_budget')}"
    rows = [
        [
            _unit(budget.unit, talk),
            *_of_reading(balance, talk),
            f"{budget.delta:g}",
            str(balance.order),
            _epsilon(balance.epsilon, talk),
            _bar(balance),
            str(budget.charged),
            str(budget.nearly_spent),
        ]
        for budget in book.budgets
        for balance in budget.balances
    ]
    title, head = talk.said("ledger", "budgets"), talk.said("ledger", "budgets-columns")
    return f"{heading}\n\n{_block(title, head, rows)}\n\n{_campaigns(book.campaigns, talk)}"


def units_text(units: Sequence[UnitBalance], talk: Talk) -> str:
    """Units, one line each."""
    if not units:
        return talk.said("ledger", "nobody")
    rows = [
        [
            one.name or "-",
            one.key[:16],
            *(cell for side in one.balances for cell in (_epsilon(side.epsilon, talk), _bar(side))),
        ]
        for one in units
    ]
    sides = [_towards(balance, talk) for balance in units[0].balances]
    spent = [f"ε: {side}, {talk.said('ledger', 'share')}" for side in sides]
    return table(", ".join([talk.said("ledger", "units-columns"), *spent]).split(", "), rows)


def unit_text(view: UnitView, talk: Talk) -> str:
    """One unit and its campaigns."""
    one = view.balance
    rows = [
        [*_of_reading(side, talk), _epsilon(side.epsilon, talk), _bar(side), _percent(side.left)]
        for side in one.balances
    ]
    head = talk.said("ledger", "unit-columns")
    title = f"{_unit(one.unit, talk)} {one.name} ({one.key[:16]})" if one.name else f"{_unit(one.unit, talk)} {one.key}"
    return f"{_block(title, head, rows)}\n\n{_campaigns(view.campaigns, talk)}"


def foreseen_text(found: Foreseen, talk: Talk) -> str:
    """What a plan would leave."""
    lines = [talk.said("ledger", "would_join", episodes=found.episodes, known=found.known)]
    if found.reserved_before:
        lines.append(talk.said("ledger", "in_ledger"))
    for out, why in (
        (found.left_out, talk.said("ledger", "too_little")),
        (found.doubles, talk.said("ledger", "doubled")),
        (found.unconsented, talk.said("ledger", "unconsented")),
    ):
        if out:
            names = ", ".join([*out[:_FEW], *(["..."] if len(out) > _FEW else [])])
            lines.append(talk.said("ledger", "stay_out", episodes=len(out), why=why, names=names))
    rows = [
        [
            _unit(one.unit, talk),
            *_of_reading(one.after, talk),
            _epsilon(one.before.epsilon, talk),
            _epsilon(one.after.epsilon, talk),
            _bar(one.after),
            _percent(one.after.left),
        ]
        for one in found.foresights
    ]
    title, head = talk.said("ledger", "least_left"), talk.said("ledger", "least_left-columns")
    return "\n".join(lines) + f"\n\n{_block(title, head, rows)}"


def _campaigns(campaigns: Sequence[CampaignView], talk: Talk) -> str:
    """What each was granted, and under it what it costs one unit."""
    title, head = talk.said("ledger", "campaigns"), talk.said("ledger", "campaigns-columns")
    if not campaigns:
        return f"{title}: {talk.said('ledger', 'no_campaign')}"
    rows = [
        [
            one.hash[:12],
            one.line,
            one.data_set,
            _unit(one.unit, talk),
            talk.said("ledger", f"stage-{one.stage.value}"),
            *(str(count) for count in (one.rounds, one.spent, one.reserved, one.episodes, one.left_out, one.known)),
        ]
        for one in campaigns
    ]
    costs = [[one.hash[:12], *_cost(cost, talk)] for one in campaigns for cost in one.costs]
    priced, head_of_costs = talk.said("ledger", "costs"), talk.said("ledger", "costs-columns")
    return f"{_block(title, head, rows)}\n\n{_block(priced, head_of_costs, costs)}"


def _cost(cost: CampaignCost, talk: Talk) -> list[str]:
    unit, towards = _unit(cost.unit, talk), wording()["readings"][cost.reading][talk.language]
    if cost.epsilon is None or cost.tight_epsilon is None:
        return [unit, towards, NO_DIFFERENTIAL_PRIVACY, "-", "-"]
    return [unit, towards, _percent(cost.share), f"{cost.epsilon:.3g}", f"{cost.tight_epsilon:.3g}"]


def _block(title: str, head: str, rows: Sequence[Sequence[str]]) -> str:
    return f"{title}:\n{table(head.split(', '), rows)}"


def _of_reading(balance: Balance, talk: Talk) -> list[str]:
    return [_towards(balance, talk), f"{balance.cap:g}"]


def _towards(balance: Balance, talk: Talk) -> str:
    return str(wording()["readings"][balance.reading][talk.language])


def _unit(unit: str, talk: Talk) -> str:
    return str(wording()["units"][unit][talk.language])


def _epsilon(epsilon: float | None, talk: Talk) -> str:
    return talk.said("ledger", "no_bound") if epsilon is None else f"{epsilon:.3g}"


def _percent(share: float | None) -> str:
    return "100 %" if share is None else f"{share * 100:.0f} %"


def _bar(balance: Balance) -> str:
    """The share that is spent, e.g. `[####......] 35 %`; full as soon as nothing fits any more."""
    full = round(_BAR * (1.0 - balance.left))
    return f"[{'#' * full}{'.' * (_BAR - full)}] {_percent(balance.share)}"
