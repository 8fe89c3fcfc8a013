"""Laws of what people are told of a ledger: its figures are those that admit and refuse; looking changes nothing."""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from consents import allow
from ledgers import EPISODES, MASTERS, NOON, Key, Memory, at, cost, keys, wish

from jangin.client import accounts, desk
from jangin.client.accounts import Stage
from jangin.client.settings import BudgetBlock, PrivacyLimits
from jangin.client.state import SiteFolder
from jangin.errors import JanginError
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.accounting import epsilon_pld
from jangin.privacy.accounts import Wish, unit_key
from jangin.privacy.ledger import Ledger
from jangin.privacy.releases import Cost, GaussianRelease, Reading, Unit
from jangin.records.manifest import read_manifest, write_manifest

PROCESS = "steel.bof_blow"
Plan = Callable[..., TrainingPlan]


def tight(releases: Sequence[GaussianRelease], delta: float) -> float:
    return epsilon_pld(releases, delta, 1e-3)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(JanginError) as error:
        call()
    assert str(error.value)
    return error.value.code


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite", "site-0", Key(), Memory()) as made:
        made.grant([EPISODES], NOON)
        yield made


def spend(ledger: Ledger, campaign: str, rounds: Sequence[int]) -> None:
    for number in rounds:
        ledger.spend(campaign, number, at(number))


def test_the_book_says_what_the_filter_says_and_the_tighter_figure_is_below_it(ledger: Ledger) -> None:
    ledger.reserve(wish("a" * 64, range(5), noise=8.0, opening=6.0), NOON)
    ledger.reserve(wish("b" * 64, range(3, 9), noise=8.0), NOON)
    spend(ledger, "a" * 64, range(4))
    book = accounts.book(ledger, tight)
    assert (book.entries, book.head) == (ledger.head.entries, ledger.head.digest.hex())
    (budget,) = book.budgets
    assert (budget.charged, [balance.reading for balance in budget.balances]) == (9, list(Reading))
    for balance in budget.balances:
        assert balance.epsilon == ledger.spent(Unit.EPISODE, balance.reading)
        assert balance.left == pytest.approx(1 - balance.share)
    first, second = book.campaigns
    assert (first.stage, first.spent, first.reserved, first.opened) == (Stage.RUNNING, 3, 7, True)
    assert (second.stage, second.spent, second.reserved, second.known) == (Stage.RESERVED, 0, 10, 2)
    both = [first.costs[0].share + second.costs[0].share, first.costs[1].share + second.costs[1].share]
    assert [balance.share for balance in budget.balances] == pytest.approx(both)
    for cost_ in first.costs + second.costs:
        assert 0 < cost_.tight_epsilon < cost_.epsilon


def test_what_was_never_spent_is_no_cost_of_a_campaign_that_ended(ledger: Ledger) -> None:
    asked = wish("a" * 64, range(4), noise=6.0)
    ledger.reserve(asked, NOON)
    spend(ledger, "a" * 64, (1, 2))
    whole = accounts.book(ledger, tight).campaigns[0]
    ledger.end("a" * 64, at(9))
    ended = accounts.book(ledger, tight).campaigns[0]
    assert (ended.stage, ended.spent, ended.reserved) == (Stage.ENDED, 2, 0)
    for before, after in zip(whole.costs, ended.costs, strict=True):
        assert after.share == pytest.approx(before.share / 5)
        assert after.tight_epsilon == tight([GaussianRelease(6.0, 1.0, 2)], before.delta) < before.tight_epsilon


def test_a_campaign_that_ended_before_it_began_cost_nothing(ledger: Ledger) -> None:
    ledger.reserve(wish(), NOON)
    ledger.end("a" * 64, NOON)
    (campaign,) = accounts.book(ledger, tight).campaigns
    assert {(one.epsilon, one.share, one.tight_epsilon) for one in campaign.costs} == {(0.0, 0.0, 0.0)}


def test_a_unit_has_little_left_below_a_tenth_in_any_reading(ledger: Ledger) -> None:
    ledger.reserve(wish("a" * 64, range(3), noise=4.0, rounds=10), NOON)
    share = accounts.book(ledger, tight).budgets[0].balances[0].share
    more = int(0.9 / (share / 10)) - 10
    ledger.reserve(wish("b" * 64, range(2), noise=4.0, rounds=more), NOON)
    assert accounts.book(ledger, tight).budgets[0].nearly_spent == 0
    ledger.reserve(wish("c" * 64, range(1), noise=4.0, rounds=1), NOON)
    assert accounts.book(ledger, tight).budgets[0].nearly_spent == 1


def test_without_differential_privacy_nothing_is_left_and_no_figure_is_given(ledger: Ledger) -> None:
    bare = Wish("a" * 64, "a-line", "records", Unit.EPISODE, 2, None, {one: [one] for one in keys(range(2))})
    ledger.reserve(bare, NOON, exposed=True)
    book = accounts.book(ledger, tight)
    assert not book.campaigns[0].differential_privacy
    assert {(one.epsilon, one.share, one.tight_epsilon) for one in book.campaigns[0].costs} == {(None, None, None)}
    assert {(one.epsilon, one.share, one.left) for one in book.budgets[0].balances} == {(None, None, 0.0)}
    assert book.budgets[0].nearly_spent == 2


def test_units_stand_in_the_order_of_what_they_have_left_by_the_names_of_the_records(ledger: Ledger) -> None:
    one, two, three = keys(range(3))
    ledger.reserve(wish("a" * 64, range(3)), NOON)
    ledger.reserve(wish("b" * 64, (1,)), NOON)
    listed = accounts.units(ledger, Unit.EPISODE, {"h-1": frozenset({(Unit.EPISODE, one)})})
    assert [(unit.name, unit.key) for unit in listed] == [
        ("", two.hex()),
        *sorted([("", three.hex()), ("h-1", one.hex())]),
    ]
    for unit in listed:
        for balance in unit.balances:
            assert balance.epsilon == ledger.spent(Unit.EPISODE, balance.reading, bytes.fromhex(unit.key))
    assert code_of(lambda: accounts.units(ledger, Unit.MASTER, {})) == "JG-privacy-022"


def test_a_unit_is_found_by_name_or_content_and_nothing_is_guessed(ledger: Ledger) -> None:
    one, two, three = keys(range(3))
    known = {
        "h-1": frozenset({(Unit.EPISODE, one)}),
        "h-2": frozenset({(Unit.EPISODE, one), (Unit.EPISODE, two)}),
        "h-3": frozenset({(Unit.EPISODE, three)}),
    }
    ledger.reserve(wish("a" * 64, range(2)), NOON)
    ledger.reserve(wish("b" * 64, (0,)), NOON)

    def found(name: str) -> accounts.UnitView:
        return accounts.one_unit(ledger, name, known, tight)

    assert [campaign.hash[0] for campaign in found("h-1").campaigns] == ["a", "b"]
    assert found(one.hex()).campaigns == found("h-1").campaigns
    assert found(one.hex()).balance.balances == found("h-1").balance.balances
    assert [campaign.hash[0] for campaign in found(two.hex()).campaigns] == ["a"]
    fresh = found("h-3")
    assert (fresh.campaigns, {one.epsilon for one in fresh.balance.balances}) == ((), {0.0})
    assert fresh.balance == found(three.hex()).balance.model_copy(update={"name": "h-3"})
    assert code_of(lambda: found("h-2")) == "JG-site-345"
    for name in ("h-4", "0" * 64, one.hex().upper(), one.hex()[:16], ""):
        assert code_of(lambda name=name: found(name)) == "JG-site-344"


def test_a_master_is_found_by_his_pseudonym_and_his_episodes_pay_more(tmp_path: Path) -> None:
    with Ledger(tmp_path / "masters.sqlite", "site-0", Key(), Memory()) as ledger:
        ledger.grant([EPISODES, MASTERS], NOON)
        (episode,) = keys(range(1))
        asked: Cost = cost(noise=12.0, unit=Unit.MASTER)
        master = unit_key(Unit.MASTER, "M-07")
        ledger.reserve(Wish("a" * 64, "a-line", "r", Unit.MASTER, 10, asked, {master: [episode]}), NOON)
        view = accounts.one_unit(ledger, "M-07", {}, tight)
        assert (view.balance.unit, view.balance.key, len(view.campaigns)) == (Unit.MASTER, master.hex(), 1)
        (campaign,) = view.campaigns
        shares = {unit: {one.share for one in campaign.costs if one.unit is unit} for unit in Unit}
        assert (campaign.masters, campaign.episodes) == (1, 1)
        assert min(shares[Unit.EPISODE]) > min(shares[Unit.MASTER])
        assert accounts.book(ledger, tight).enrolled == 1
        assert code_of(lambda: accounts.one_unit(ledger, "M-08", {}, tight)) == "JG-site-344"


def test_no_figure_is_shown_of_a_ledger_with_a_signature_that_does_not_hold(tmp_path: Path) -> None:
    key, anchor = Key(), Memory()
    with Ledger(tmp_path / "ledger.sqlite", "site-0", key, anchor) as ledger:
        ledger.grant([EPISODES], NOON)
        ledger.reserve(wish(), NOON)
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    connection.execute("UPDATE entries SET signature = zeroblob(64) WHERE number = 1")
    connection.commit()
    connection.close()
    with Ledger(tmp_path / "ledger.sqlite", "site-0", key, anchor) as ledger:
        for look in (
            lambda: accounts.book(ledger, tight),
            lambda: accounts.units(ledger, Unit.EPISODE, {}),
            lambda: accounts.one_unit(ledger, keys([0])[0].hex(), {}, tight),
        ):
            assert code_of(look) == "JG-privacy-025"


def content(folder: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.is_file() and not file.name.endswith("-shm")
    }


def priced(plan: TrainingPlan) -> Cost:
    return cost(noise=14.0, rounds=plan.strategy.rounds, steps=30)


def private(plan: Plan, name: str, epsilon: float = 4.0) -> TrainingPlan:
    return plan(campaign=name, privacy={"epsilon": epsilon, "delta": 1e-5, "nominal_units": 12, "clip": 0.3})


@pytest.fixture
def careful(tmp_path: Path, made_records: Path) -> SiteFolder:
    """A site with the budgets of a new one."""
    desk.init(tmp_path / "careful", "site-0", PROCESS, made_records)
    allow(tmp_path / "careful")
    return SiteFolder(tmp_path / "careful")


def test_trying_a_plan_writes_nothing_and_says_what_its_reservation_then_says(careful: SiteFolder, plan: Plan) -> None:
    asked = private(plan, "first")
    before = content(careful.path)
    foreseen = accounts.foresee(careful, asked, priced, NOON)
    assert accounts.foresee(careful, asked, priced, NOON) == foreseen
    assert content(careful.path) == before
    with careful.ledger() as ledger:
        assert (ledger.head.entries, ledger.accounts) == (0, {})
        reservation = desk.reserve(asked, priced, careful, ledger, NOON)
        balances = accounts.book(ledger, tight).budgets[0].balances
        assert len(ledger.episodes(asked.hash)) == foreseen.episodes > 0
    assert (foreseen.reserved_before, foreseen.left_out, reservation.left_out) == (False, (), 0)
    assert tuple(one.after for one in foreseen.foresights) == balances
    assert {one.before.epsilon for one in foreseen.foresights} == {0.0}
    again = accounts.foresee(careful, asked, priced, NOON)
    assert (again.reserved_before, [one.before for one in again.foresights]) == (True, list(balances))


def test_an_episode_without_budget_is_foreseen_to_stay_out_by_its_id(careful: SiteFolder, plan: Plan) -> None:
    (block,) = careful.settings().data
    manifest = read_manifest(Path(block.path))
    poor = manifest.train[0]
    digest = bytes.fromhex(manifest.contents[poor][poor])
    with careful.ledger() as ledger:
        ledger.grant([EPISODES], NOON)
        spent = Wish("f" * 64, "a-line", "r", Unit.EPISODE, 10, cost(noise=2.1), {digest: [digest]})
        ledger.reserve(spent, NOON)
    foreseen = accounts.foresee(careful, private(plan, "second"), priced, NOON)
    assert (foreseen.left_out, foreseen.doubles, foreseen.known) == ((poor,), (), 0)
    assert foreseen.episodes == len(manifest.train) - 1


def test_of_one_content_one_is_foreseen_to_take_part(tmp_path: Path, made_records: Path, plan: Plan) -> None:
    records = tmp_path / "twice"
    shutil.copytree(made_records, records)
    manifest = read_manifest(records)
    one, other = sorted(manifest.train)[:2]
    same = manifest.contents | {other: {other: manifest.contents[one][one]}}
    write_manifest(records, manifest.model_copy(update={"contents": same}))
    desk.init(tmp_path / "site-2", "site-0", PROCESS, records)
    allow(tmp_path / "site-2")
    foreseen = accounts.foresee(SiteFolder(tmp_path / "site-2"), private(plan, "first"), priced, NOON)
    assert (foreseen.doubles, foreseen.left_out) == ((other,), ())
    assert foreseen.episodes == len(manifest.train) - 1


def test_what_would_be_refused_is_refused_by_the_same_code(
    tmp_path: Path, careful: SiteFolder, made_records: Path, plan: Plan
) -> None:
    def code(asked: TrainingPlan, price: accounts.Price = priced, folder: SiteFolder = careful) -> str:
        return code_of(lambda: accounts.foresee(folder, asked, price, NOON))

    assert code(private(plan, "first", 8.0)) == "JG-privacy-031"
    assert code(private(plan, "first"), lambda asked: cost(noise=0.5, rounds=asked.strategy.rounds)) == "JG-privacy-020"
    assert code(plan(), lambda asked: None) == "JG-privacy-024"
    both = PrivacyLimits(
        budgets=tuple(BudgetBlock(unit=unit, secure_sum=8, coalition=50, delta=1e-5) for unit in ("episode", "master"))
    )
    desk.init(tmp_path / "masters", "site-0", PROCESS, made_records, both)
    allow(tmp_path / "masters")
    assert code(private(plan, "first"), folder=SiteFolder(tmp_path / "masters")) == "JG-privacy-023"
    with careful.ledger() as ledger:
        desk.reserve(private(plan, "first"), priced, careful, ledger, NOON)
        ledger.end(private(plan, "first").hash, NOON)
    assert code(private(plan, "first")) == "JG-privacy-028"
    (careful.path / "ledger.sqlite").unlink()
    assert code(private(plan, "first")) == "JG-privacy-027"


def test_names_are_those_of_both_sides_and_records_that_cannot_be_read_give_none(
    tmp_path: Path, careful: SiteFolder, made_records: Path
) -> None:
    manifest = read_manifest(made_records)
    known = accounts.names(careful)
    assert sorted(known) == sorted(manifest.train + manifest.holdout)
    assert all(unit is Unit.EPISODE for keys_ in known.values() for unit, _ in keys_)
    for name, broken in (("gone", None), ("odd", b"{")):
        (tmp_path / name).mkdir()
        if broken is not None:
            (tmp_path / name / "manifest.json").write_bytes(broken)
        desk.init(tmp_path / f"{name}-site", "site-0", PROCESS, tmp_path / name)
        assert accounts.names(SiteFolder(tmp_path / f"{name}-site")) == {}
    masters = tmp_path / "of-masters"
    shutil.copytree(made_records, masters)
    write_manifest(masters, manifest.model_copy(update={"unit": "master", "train": ("M-01",), "holdout": (),
                                                        "contents": {"M-01": {"h-1": "ab" * 32}}}))  # fmt: skip
    desk.init(tmp_path / "masters-site", "site-0", PROCESS, masters)
    assert accounts.names(SiteFolder(tmp_path / "masters-site")) == {
        "M-01": frozenset({(Unit.MASTER, unit_key(Unit.MASTER, "M-01"))}),
        "h-1": frozenset({(Unit.EPISODE, bytes.fromhex("ab" * 32))}),
    }
