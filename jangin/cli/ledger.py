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
    Stage,
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

_STAGES = {Stage.RESERVED: "예약", Stage.RUNNING: "진행 중", Stage.ENDED: "종료"}


def tight_epsilon(releases: Sequence[GaussianRelease], delta: float) -> float:
    """Epsilon by privacy loss distributions on a grid of a thousandth: an upper bound, in hundredths of a second."""
    return epsilon_pld(releases, delta, _GRID * min(1.0, max(_GRID, epsilon_rdp(releases, delta))))


def book_text(book: Book, site: str, talk: Talk) -> str:
    """The whole ledger."""
    heading = talk.word(
        f"site: {site}\nledger: {book.entries} entries, every signature holds, head {book.head[:16]}",
        f"사업장: {site}\n장부: 항목 {book.entries}개, 모든 서명 확인됨, 머리 {book.head[:16]}",
    )
    if book.enrolled:
        heading += talk.word(f"\nenrolled masters: {book.enrolled}", f"\n등록된 장인: {book.enrolled}명")
    if not book.budgets:
        nothing = talk.word(
            "No budget yet: those of site.yaml are granted when the daemon starts or a campaign is approved.",
            "예산 없음: 데몬을 시작하거나 캠페인을 승인할 때 site.yaml의 예산이 부여됩니다.",
        )
        return f"{heading}\n\n{nothing}"
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
    head = talk.word(
        "unit, towards, cap, delta, order, spent ε, share of the one that paid most, charged, under 10 % left",
        "단위, 상대, 한도, delta, 차수, 쓴 ε, 가장 많이 쓴 단위의 몫, 쓴 단위 수, 10 % 미만 남음",
    )
    title = talk.word("Budgets; what is reserved counts as spent", "예산 (예약도 쓴 것으로 셈)")
    return f"{heading}\n\n{_block(title, head, rows)}\n\n{_campaigns(book.campaigns, talk)}"


def units_text(units: Sequence[UnitBalance], talk: Talk) -> str:
    """Units, one line each."""
    if not units:
        return talk.word("none was ever charged", "쓴 단위 없음")
    rows = [
        [
            one.name or "-",
            one.key[:16],
            *(cell for side in one.balances for cell in (_epsilon(side.epsilon, talk), _bar(side))),
        ]
        for one in units
    ]
    sides = [_towards(balance, talk) for balance in units[0].balances]
    spent = [f"ε: {side}, {talk.word('share', '몫')}" for side in sides]
    return table(", ".join([talk.word("name, content or key", "이름, 내용 또는 키"), *spent]).split(", "), rows)


def unit_text(view: UnitView, talk: Talk) -> str:
    """One unit and its campaigns."""
    one = view.balance
    rows = [
        [*_of_reading(side, talk), _epsilon(side.epsilon, talk), _bar(side), _percent(side.left)]
        for side in one.balances
    ]
    head = talk.word("towards, cap, spent ε, share, left", "상대, 한도, 쓴 ε, 몫, 남음")
    title = f"{_unit(one.unit, talk)} {one.name} ({one.key[:16]})" if one.name else f"{_unit(one.unit, talk)} {one.key}"
    return f"{_block(title, head, rows)}\n\n{_campaigns(view.campaigns, talk)}"


def foreseen_text(found: Foreseen, talk: Talk) -> str:
    """What a plan would leave."""
    lines = [
        talk.word(
            f"At this site {found.episodes} episodes would take part, {found.known} of them known from before.",
            f"이 사업장의 에피소드 {found.episodes}개 참여, 그중 {found.known}개는 이전 캠페인에도 참여함.",
        )
    ]
    if found.reserved_before:
        lines.append(
            talk.word(
                "The plan is in the ledger already: nothing more is charged.",
                "이미 장부에 있는 계획입니다. 더 쓰지 않습니다.",
            )
        )
    for out, why in (
        (found.left_out, talk.word("too little budget left", "남은 예산 부족")),
        (found.doubles, talk.word("another one has the same content", "내용이 같은 다른 에피소드가 있음")),
        (found.unconsented, talk.word("their masters' consent does not cover it", "장인의 동의 범위 밖")),
    ):
        if out:
            more = ", ..." if len(out) > _FEW else ""
            stays = talk.word(f"{len(out)} episodes stay out", f"에피소드 {len(out)}개 불참")
            lines.append(f"{stays} ({why}): {', '.join(out[:_FEW])}{more}")
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
    title = talk.word("The unit that would have least left of it", "참여한 뒤 가장 적게 남는 단위")
    head = talk.word(
        "unit, towards, cap, ε before, ε after, share after, left", "단위, 상대, 한도, 전 ε, 후 ε, 후 몫, 남음"
    )
    return "\n".join(lines) + f"\n\n{_block(title, head, rows)}"


def _campaigns(campaigns: Sequence[CampaignView], talk: Talk) -> str:
    """What each was granted, and under it what it costs one unit."""
    title = talk.word("Campaigns", "캠페인")
    if not campaigns:
        return f"{title}: {talk.word('none', '없음')}"
    head = talk.word(
        "campaign, line, records, unit, state, rounds, spent, reserved, episodes, left out, known from before",
        "캠페인, 모델 라인, 기록, 단위, 상태, 라운드, 씀, 예약, 에피소드, 불참, 이전 참여",
    )
    rows = [
        [
            one.hash[:12],
            one.line,
            one.data_set,
            _unit(one.unit, talk),
            talk.word(one.stage.value, _STAGES[one.stage]),
            *(str(count) for count in (one.rounds, one.spent, one.reserved, one.episodes, one.left_out, one.known)),
        ]
        for one in campaigns
    ]
    costs = [[one.hash[:12], *_cost(cost, talk)] for one in campaigns for cost in one.costs]
    priced = talk.word(
        "What each costs one unit, whole while it lasts, at the budget's delta (ε by PLD is tighter and binds nobody)",
        "캠페인별 단위 하나의 비용, 끝나기 전에는 전체, 예산의 delta 기준 (PLD의 ε은 더 정확하나 구속력 없음)",
    )
    head_of_costs = talk.word(
        "campaign, unit, towards, share of budget, ε of the filter, ε by PLD",
        "캠페인, 단위, 상대, 예산의 몫, 필터의 ε, PLD의 ε",
    )
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
    return talk.word("no bound", "한계 없음") if epsilon is None else f"{epsilon:.3g}"


def _percent(share: float | None) -> str:
    return "100 %" if share is None else f"{share * 100:.0f} %"


def _bar(balance: Balance) -> str:
    """The share that is spent, e.g. `[####......] 35 %`; full as soon as nothing fits any more."""
    full = round(_BAR * (1.0 - balance.left))
    return f"[{'#' * full}{'.' * (_BAR - full)}] {_percent(balance.share)}"
