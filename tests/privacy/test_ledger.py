import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import EPISODES, MASTERS, NOON, Key, Memory, at, cost, keys, wish

from jangin.errors import PrivacyError
from jangin.privacy.accounts import MOVES, Budget, Event, State, unit_key
from jangin.privacy.ledger import Ledger
from jangin.privacy.releases import GaussianRelease, Reading, Unit
from jangin.privacy.renyi import epsilon_at, filter_budget, filter_order, renyi

KEY = Key()
SUM = Reading.SECURE_SUM
Open = Callable[[], Ledger]


@pytest.fixture
def anchor() -> Memory:
    return Memory()


@pytest.fixture
def reopen(tmp_path: Path, anchor: Memory) -> Iterator[Open]:
    """Open the one ledger of a test, again and again."""
    opened: list[Ledger] = []

    def again() -> Ledger:
        opened.append(Ledger(tmp_path / "ledger.sqlite", "site-0", KEY, anchor))
        return opened[-1]

    yield again
    for ledger in opened:
        ledger.__exit__(None, None, None)


@pytest.fixture
def ledger(reopen: Open) -> Ledger:
    made = reopen()
    made.grant([EPISODES], NOON)
    return made


def refused(code: str, do: Callable[[], object]) -> PrivacyError:
    with pytest.raises(PrivacyError) as caught:
        do()
    assert caught.value.code == code
    return caught.value


def test_the_order_of_a_filter_admits_more_gaussian_releases_than_any_other() -> None:
    for epsilon, delta in ((0.5, 1e-6), (1.0, 1e-5), (8.0, 1e-5), (50.0, 1e-5)):
        best = filter_order(epsilon, delta)
        admitted = {order: filter_budget(order, epsilon, delta) / order for order in range(2, 400)}
        assert best == max(admitted, key=lambda order: admitted[order])
        assert epsilon_at(best, filter_budget(best, epsilon, delta), delta) == pytest.approx(epsilon)


def test_a_reservation_counts_whole_until_its_campaign_is_closed(ledger: Ledger) -> None:
    ledger.reserve(wish(opening=9.0), NOON)
    order = ledger.order(Unit.EPISODE, SUM)
    whole = renyi([GaussianRelease(9.0, 1.0, 1), GaussianRelease(4.0, 1.0, 10)], order)
    assert ledger.spent(Unit.EPISODE, SUM) == pytest.approx(epsilon_at(order, whole, 1e-5))
    ledger.spend("a" * 64, 0, NOON)
    for number in (1, 2, 5):
        ledger.spend("a" * 64, number, NOON)
    assert ledger.spent(Unit.EPISODE, SUM) == pytest.approx(epsilon_at(order, whole, 1e-5))
    ledger.end("a" * 64, NOON)
    used = renyi([GaussianRelease(9.0, 1.0, 1), GaussianRelease(4.0, 1.0, 3)], order)
    assert ledger.spent(Unit.EPISODE, SUM) == pytest.approx(epsilon_at(order, used, 1e-5))


def test_what_was_never_spent_is_free_after_the_end_and_nothing_else(ledger: Ledger) -> None:
    ledger.reserve(wish(), NOON)
    ledger.spend("a" * 64, 3, NOON)
    ledger.spend("a" * 64, 4, NOON)
    ledger.give_back("a" * 64, 4, NOON)
    ledger.end("a" * 64, NOON)
    account = ledger.accounts["a" * 64]
    assert [account.state(number) for number in (2, 3, 4)] == [State.RELEASED, State.SPENT, State.RELEASED]
    for do in (
        lambda: ledger.spend("a" * 64, 5, NOON),
        lambda: ledger.give_back("a" * 64, 3, NOON),
        lambda: ledger.reserve(wish(), NOON),
    ):
        refused("JG-privacy-028", do)
    ledger.end("a" * 64, NOON)
    assert account.spent == {3}


@pytest.mark.parametrize("number", [-1, 0, 11])
def test_a_round_that_the_plan_does_not_have_cannot_be_spent(ledger: Ledger, number: int) -> None:
    ledger.reserve(wish(), NOON)
    refused("JG-privacy-028", lambda: ledger.spend("a" * 64, number, NOON))


def test_a_round_is_spent_once(ledger: Ledger) -> None:
    ledger.reserve(wish(), NOON)
    ledger.spend("a" * 64, 1, NOON)
    refused("JG-privacy-028", lambda: ledger.spend("a" * 64, 1, NOON))
    refused("JG-privacy-028", lambda: ledger.give_back("a" * 64, 2, NOON))
    refused("JG-privacy-028", lambda: ledger.spend("b" * 64, 1, NOON))


def test_every_state_and_event_is_in_the_table_or_refused() -> None:
    released = {(State.RELEASED, event) for event in Event} | {
        (State.RESERVED, Event.GIVE_BACK),
        (State.SPENT, Event.SPEND),
    }
    assert released | set(MOVES) == {(state, event) for state in State for event in Event}
    assert not released & set(MOVES)


def test_a_campaign_that_would_overrun_is_refused_with_what_is_left(ledger: Ledger) -> None:
    ledger.reserve(wish(noise=4.0), NOON)
    error = refused("JG-privacy-020", lambda: ledger.reserve(wish("b" * 64, noise=2.0), NOON))
    order = ledger.order(Unit.EPISODE, SUM)
    whole = filter_budget(order, 8.0, 1e-5)
    assert error.coded.values["asked"] == pytest.approx(100 * renyi([GaussianRelease(2.0, 1.0, 10)], order) / whole)
    assert error.coded.values["left"] == pytest.approx(
        100 - 100 * renyi([GaussianRelease(4.0, 1.0, 10)], order) / whole
    )
    assert list(ledger.accounts) == ["a" * 64]


def test_an_episode_without_budget_stays_out_and_decides_nothing_for_the_others(ledger: Ledger) -> None:
    ledger.reserve(wish(episodes=["old"], noise=2.2), NOON)
    second = ledger.reserve(wish("b" * 64, episodes=["old", "new", "newer"], noise=2.2), NOON)
    assert ledger.episodes("b" * 64) == set(keys(["new", "newer"]))
    assert (second.left_out, second.known) == (1, 0)
    third = ledger.reserve(wish("c" * 64, episodes=["new", "newest"], noise=40.0), NOON)
    assert (third.left_out, third.known) == (0, 1)


def test_the_name_of_a_data_set_is_nothing_to_the_ledger(ledger: Ledger) -> None:
    ledger.reserve(wish(noise=2.2), NOON)
    renamed = replace(wish("b" * 64, noise=2.2), data_set="copied elsewhere", line="another-line")
    refused("JG-privacy-020", lambda: ledger.reserve(renamed, NOON))


def test_both_readings_have_to_admit(ledger: Ledger) -> None:
    ledger.grant([replace(EPISODES, caps={Reading.SECURE_SUM: 8.0, Reading.COALITION: 2.0})], NOON)
    split = dict(cost(noise=40.0)) | {Reading.COALITION: cost(noise=4.0)[SUM]}
    refused("JG-privacy-020", lambda: ledger.reserve(replace(wish(), cost=split), NOON))
    other = dict(cost(noise=4.0)) | {Reading.COALITION: cost(noise=40.0)[SUM]}
    ledger.reserve(replace(wish(), cost=other), NOON)
    assert ledger.spent(Unit.EPISODE, Reading.COALITION) < ledger.spent(Unit.EPISODE, SUM)


def test_a_budget_may_fall_and_never_rise_and_keeps_its_order(ledger: Ledger) -> None:
    ledger.reserve(wish(), NOON)
    order = ledger.order(Unit.EPISODE, SUM)
    ledger.grant([replace(EPISODES, caps={Reading.SECURE_SUM: 1.0, Reading.COALITION: 50.0})], NOON)
    assert ledger.order(Unit.EPISODE, SUM) == order
    for raised in (
        EPISODES,
        replace(EPISODES, delta=1e-4),
        Budget(Unit.EPISODE, 1e-5, {SUM: 1.5, Reading.COALITION: 1}),
    ):
        refused("JG-privacy-021", lambda raised=raised: ledger.grant([raised], NOON))
    assert ledger.budgets[Unit.EPISODE].caps[SUM] == 1.0


def test_a_budget_too_small_for_its_order_admits_nothing(ledger: Ledger) -> None:
    ledger.reserve(wish(), NOON)
    ledger.grant([replace(EPISODES, caps={Reading.SECURE_SUM: 0.1, Reading.COALITION: 0.1})], NOON)
    error = refused("JG-privacy-020", lambda: ledger.reserve(wish("b" * 64, episodes=["new"], noise=1e6), NOON))
    assert error.coded.values["left"] == 0.0


def test_before_the_first_campaign_a_budget_is_still_free(ledger: Ledger) -> None:
    ledger.grant([replace(EPISODES, caps={Reading.SECURE_SUM: 9.0, Reading.COALITION: 2.0})], NOON)
    assert ledger.order(Unit.EPISODE, Reading.COALITION) == filter_order(2.0, 1e-5)


def test_without_a_budget_nothing_is_reserved(reopen: Open) -> None:
    empty = reopen()
    refused("JG-privacy-022", lambda: empty.reserve(wish(), NOON))
    empty.grant([EPISODES], NOON)
    refused("JG-privacy-022", lambda: empty.reserve(of_masters({"kim": ["e1"]}), NOON))


def test_without_differential_privacy_every_budget_ends(ledger: Ledger) -> None:
    bare = replace(wish(), cost=None)
    refused("JG-privacy-024", lambda: ledger.reserve(bare, NOON))
    ledger.reserve(bare, NOON, exposed=True)
    assert ledger.spent(Unit.EPISODE, SUM) == float("inf")
    refused("JG-privacy-020", lambda: ledger.reserve(wish("b" * 64, noise=1000.0), NOON))
    assert ledger.reserve(wish("c" * 64, episodes=["new"]), NOON).left_out == 0


def test_without_differential_privacy_and_without_a_round_nothing_ended(ledger: Ledger) -> None:
    ledger.reserve(replace(wish(), cost=None), NOON, exposed=True)
    ledger.end("a" * 64, NOON)
    assert ledger.spent(Unit.EPISODE, SUM) == 0.0


def of_masters(records: dict[str, list[str]], campaign: str = "a" * 64, noise: float = 40.0):
    asks = cost(noise=noise, unit=Unit.MASTER)
    units = {unit_key(Unit.MASTER, name): keys(episodes) for name, episodes in records.items()}
    return replace(wish(campaign), unit=Unit.MASTER, cost=asks, units=units)


def test_a_master_pays_for_every_run_while_enrolled_with_or_without_data(reopen: Open) -> None:
    ledger = reopen()
    ledger.grant([EPISODES, MASTERS], NOON)
    ledger.reserve(of_masters({"kim": ["e1"], "lee": ["e2"]}), NOON)
    ledger.reserve(of_masters({"lee": ["e2"]}, "b" * 64), NOON)
    kim, lee = (unit_key(Unit.MASTER, name) for name in ("kim", "lee"))
    assert ledger.spent(Unit.MASTER, SUM, kim) == ledger.spent(Unit.MASTER, SUM, lee) > 0
    ledger.leave([kim], at(60))
    ledger.reserve(of_masters({"lee": ["e2"]}, "c" * 64), at(61))
    assert 0 < ledger.spent(Unit.MASTER, SUM, kim) < ledger.spent(Unit.MASTER, SUM, lee)
    assert set(ledger.enrolled()) == {lee}


def test_an_episode_pays_four_times_its_master_s_divergence(reopen: Open) -> None:
    ledger = reopen()
    ledger.grant([EPISODES, MASTERS], NOON)
    ledger.reserve(of_masters({"kim": ["e1"]}, noise=40.0), NOON)
    order = ledger.order(Unit.EPISODE, SUM)
    paid = renyi([GaussianRelease(40.0, 1.0, 10)], order) * 4
    assert ledger.spent(Unit.EPISODE, SUM, keys(["e1"])[0]) == pytest.approx(epsilon_at(order, paid, 1e-5))


def test_where_masters_have_a_budget_no_campaign_hides_episodes_only(reopen: Open) -> None:
    ledger = reopen()
    ledger.grant([EPISODES, MASTERS], NOON)
    refused("JG-privacy-023", lambda: ledger.reserve(wish(noise=100.0), NOON))
    refused("JG-privacy-023", lambda: ledger.reserve(replace(of_masters({"a": ["b"]}), cost=None), NOON, exposed=True))


def test_a_budget_for_masters_cannot_begin_after_episodes_were_charged(ledger: Ledger) -> None:
    ledger.reserve(wish(), NOON)
    refused("JG-privacy-021", lambda: ledger.grant([MASTERS], NOON))


def test_what_was_written_is_there_after_opening_again(reopen: Open) -> None:
    first = reopen()
    first.grant([EPISODES], NOON)
    first.reserve(wish(opening=30.0, q=0.3, noise=1.5), at(1))
    first.spend("a" * 64, 0, at(2))
    second = reopen()
    assert second.accounts["a" * 64].reservation == first.accounts["a" * 64].reservation
    assert (second.head, second.budgets) == (first.head, first.budgets)
    assert second.accounts["a" * 64].spent == {0}
    second.check()


def test_two_campaigns_at_once_cannot_both_spend_the_last_budget(reopen: Open) -> None:
    one, other = reopen(), reopen()
    one.grant([EPISODES], NOON)
    one.reserve(wish(noise=2.2), NOON)
    refused("JG-privacy-020", lambda: other.reserve(wish("b" * 64, noise=2.2), NOON))
    other.spend("a" * 64, 1, NOON)
    refused("JG-privacy-028", lambda: one.spend("a" * 64, 1, NOON))
    assert one.head == other.head


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("code", "statement"),
    [
        ("JG-privacy-025", "UPDATE entries SET body = (SELECT body FROM entries WHERE number = 3) WHERE number = 2"),
        ("JG-privacy-025", "DELETE FROM entries WHERE number = 3"),
        ("JG-privacy-025", "UPDATE entries SET head = zeroblob(32) WHERE number = 1"),
        ("JG-privacy-025", "UPDATE entries SET signature = zeroblob(64) WHERE number = 4"),
        ("JG-privacy-025", "UPDATE units SET key = zeroblob(32) WHERE number = 1"),
        ("JG-privacy-025", "UPDATE sets SET members = substr(members, 9)"),
        ("JG-privacy-025", "DELETE FROM sets"),
        ("JG-privacy-026", "DELETE FROM entries WHERE number = 4"),
        ("JG-privacy-026", "DELETE FROM entries"),
    ],
)
def test_whatever_is_changed_by_hand_is_noticed(reopen: Open, tmp_path: Path, code: str, statement: str) -> None:
    with reopen() as ledger:
        ledger.grant([EPISODES], NOON)
        ledger.reserve(wish(), NOON)
        ledger.spend("a" * 64, 1, NOON)
        ledger.spend("a" * 64, 2, NOON)
    change(tmp_path / "ledger.sqlite", statement)
    refused(code, reopen)


def test_a_signature_in_the_middle_is_verified_when_asked(reopen: Open, tmp_path: Path) -> None:
    with reopen() as ledger:
        ledger.grant([EPISODES], NOON)
        ledger.reserve(wish(), NOON)
    change(tmp_path / "ledger.sqlite", "UPDATE entries SET signature = zeroblob(64) WHERE number = 1")
    refused("JG-privacy-025", lambda: reopen().check())


def test_a_ledger_that_is_gone_or_older_or_another_s_is_refused(reopen: Open, tmp_path: Path, anchor: Memory) -> None:
    file = tmp_path / "ledger.sqlite"
    with reopen() as ledger:
        ledger.grant([EPISODES], NOON)
    older = file.read_bytes()
    with reopen() as ledger:
        ledger.reserve(wish(), NOON)
        newer = ledger.head
    file.write_bytes(older)
    refused("JG-privacy-026", reopen)
    file.unlink()
    refused("JG-privacy-027", reopen)
    anchor.content = None
    with Ledger(file, "site-0", KEY, anchor) as anew:
        assert not anew.holds(newer)
    anchor.content = None
    refused("JG-privacy-026", reopen)
    with pytest.raises(PrivacyError, match=r"JG-privacy-02[56]"):
        Ledger(file, "site-1", KEY, anchor)


def test_a_ledger_holds_each_head_it_ever_had(ledger: Ledger) -> None:
    heads = [ledger.head]
    ledger.reserve(wish(), NOON)
    heads.append(ledger.head)
    ledger.spend("a" * 64, 1, NOON)
    assert all(ledger.holds(head) for head in heads)
    assert not ledger.holds(replace(heads[0], digest=heads[1].digest))
    assert not ledger.holds(replace(ledger.head, entries=ledger.head.entries + 1))


def test_a_failing_disk_leaves_the_ledger_as_it_was(
    ledger: Ledger, anchor: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.reserve(wish(), NOON)

    def full(content: bytes) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(anchor, "write", full)
        refused("JG-privacy-027", lambda: ledger.spend("a" * 64, 1, NOON))
    refused("JG-privacy-028", lambda: ledger.spend("a" * 64, 1, NOON))
    ledger.spend("a" * 64, 2, NOON)
    assert ledger.accounts["a" * 64].spent == {1, 2}


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "spend", "give_back", "end"]),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 4),
        st.sets(st.integers(0, 4), min_size=1),
        st.floats(1.0, 20.0),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(acts=ACTS)
def test_no_unit_ever_passes_its_cap_and_what_left_is_never_forgotten(
    acts, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Against a plain second count of everything that was let through."""
    folder = tmp_path_factory.mktemp("ledger")
    asked, members, left = {}, {}, {}
    with Ledger(folder / "ledger.sqlite", "site-0", KEY, Memory()) as ledger:
        ledger.grant([EPISODES], NOON)
        for what, name, number, episodes, noise in acts:
            campaign = name * 64
            try:
                match what:
                    case "reserve":
                        ledger.reserve(wish(campaign, episodes, noise=noise, rounds=4), NOON)
                        members[campaign] = ledger.episodes(campaign)
                        asked.setdefault(campaign, noise)
                    case "spend":
                        ledger.spend(campaign, number, NOON)
                        left.setdefault(campaign, set()).add(number)
                    case "give_back":
                        ledger.give_back(campaign, number, NOON)
                        left[campaign].discard(number)
                    case "end":
                        ledger.end(campaign, NOON)
            except PrivacyError as error:
                unexpected = error.code not in {"JG-privacy-020", "JG-privacy-028"}
                if unexpected:
                    raise
            for key in keys(range(5)):
                sigmas = [asked[one] for one, rounds in left.items() for _ in rounds if key in members[one]]
                order = ledger.order(Unit.EPISODE, SUM)
                truly = sum(order / (2 * sigma**2) for sigma in sigmas)
                counted = ledger.spent(Unit.EPISODE, SUM, key)
                assert counted <= 8.0 + 1e-6
                assert counted >= (epsilon_at(order, truly, 1e-5) if truly else 0.0)


def test_an_entry_that_another_process_adds_while_the_ledger_is_opened_is_no_loss(
    reopen: Open, tmp_path: Path, anchor: Memory
) -> None:
    other = reopen()
    other.grant([EPISODES], NOON)

    class Between(Memory):
        def read(self) -> bytes | None:
            other.reserve(wish(), NOON)
            return anchor.read()

    with Ledger(tmp_path / "ledger.sqlite", "site-0", KEY, Between()) as ledger:
        assert ledger.head == other.head
