"""Laws of the state folder: a task moves by the table, a reply comes back as it was, and only the owner may read."""

import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from jangin.client import desk
from jangin.client.state import MOVES, Journal, Kept, SiteFolder, Task
from jangin.errors import SiteError

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
CAMPAIGN = "ab" * 32


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "site.sqlite") as journal:
        yield journal


def path_to(state: Task) -> list[Task]:
    """The shortest way from idle to a state."""
    ways = {Task.IDLE: list[Task]()}
    for held in list(Task) * len(Task):
        for following in MOVES[held] if held in ways else ():
            ways.setdefault(following, [*ways[held], following])
    return ways[state]


@pytest.mark.parametrize("held", Task)
@pytest.mark.parametrize("to", Task)
def test_a_task_moves_by_the_table_and_in_no_other_way(journal: Journal, held: Task, to: Task) -> None:
    for state in path_to(held):
        journal.move(CAMPAIGN, 1, state, NOW)
    if to in MOVES[held]:
        journal.move(CAMPAIGN, 1, to, NOW, "JG-site-320")
        assert journal.task(CAMPAIGN, 1) is to
        assert journal.moves(1)[0].code == "JG-site-320"
    else:
        with pytest.raises(ValueError, match="Expected a move out of"):
            journal.move(CAMPAIGN, 1, to, NOW)
        assert journal.task(CAMPAIGN, 1) is held


def test_what_a_dead_process_left_open_is_lost_and_may_be_asked_again(journal: Journal) -> None:
    for number, state in enumerate(Task):
        for step in path_to(state):
            journal.move(CAMPAIGN, number, step, NOW)
    journal.lose_open_tasks(NOW)
    found = {state: journal.task(CAMPAIGN, number) for number, state in enumerate(Task)}
    assert {state for state, now in found.items() if now is Task.LOST} == {
        Task.GATED,
        Task.TRAINING,
        Task.TRAINED,
        Task.LOST,
    }
    assert Task.GATED in MOVES[Task.LOST]


def test_the_last_round_answered_is_the_highest_that_was_ready_to_leave(journal: Journal) -> None:
    assert journal.last_answered(CAMPAIGN) is None
    for number, state in ((0, Task.SENT), (1, Task.TRAINED), (2, Task.ABSTAINED)):
        for step in path_to(state):
            journal.move(CAMPAIGN, number, step, NOW)
    assert journal.last_answered(CAMPAIGN) == 1
    assert journal.last_answered("cd" * 32) is None


def test_trainings_of_all_campaigns_are_counted_from_a_moment_on(journal: Journal) -> None:
    for number, campaign in enumerate((CAMPAIGN, "cd" * 32)):
        for state in (Task.GATED, Task.TRAINING, Task.LOST, Task.GATED, Task.TRAINING):
            journal.move(campaign, 1, state, NOW + timedelta(hours=number))
    assert [journal.begun(NOW + timedelta(hours=after)) for after in (0, 1, 2)] == [4, 2, 0]


def test_a_yes_once_given_stands_as_it_was_signed(journal: Journal) -> None:
    assert journal.approval(CAMPAIGN) is None
    journal.approve(CAMPAIGN, b"first", NOW)
    journal.approve(CAMPAIGN, b"second", NOW)
    assert journal.approval(CAMPAIGN) == b"first"


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "site.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(SiteError) as refused:
        Journal(tmp_path / "site.sqlite")
    assert refused.value.code == "JG-site-305"


@pytest.mark.parametrize("vector", [None, np.arange(5, dtype=np.float32)])
def test_a_kept_reply_comes_back_as_it_was(site: SiteFolder, vector: "np.ndarray | None") -> None:
    assert site.kept_reply(CAMPAIGN) is None
    site.keep_reply(CAMPAIGN, Kept(3, "cd" * 32, b"body", vector))
    kept = site.kept_reply(CAMPAIGN)
    assert kept is not None
    assert (kept.round, kept.order, kept.body) == (3, "cd" * 32, b"body")
    np.testing.assert_array_equal(kept.vector, vector)


def test_a_damaged_reply_is_told_and_not_sent(site: SiteFolder) -> None:
    for content in (b"x", b"\xa0"):
        (site.path / "updates" / f"{CAMPAIGN}.cbor").write_bytes(content)
        with pytest.raises(SiteError) as refused:
            site.kept_reply(CAMPAIGN)
        assert refused.value.code == "JG-site-305"


def test_a_site_is_made_once_and_for_its_owner_alone(site: SiteFolder, made_records: Path) -> None:
    for file in site.path.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    with pytest.raises(SiteError) as refused:
        desk.init(site.path, "site-0", "steel.bof_blow", made_records)
    assert refused.value.code == "JG-site-303"


def test_a_folder_without_a_site_says_so(tmp_path: Path) -> None:
    with pytest.raises(SiteError) as refused:
        SiteFolder(tmp_path).settings()
    assert refused.value.code == "JG-site-304"


def test_a_site_that_is_not_enrolled_believes_nobody(site: SiteFolder) -> None:
    with pytest.raises(SiteError) as refused:
        site.trust()
    assert refused.value.code == "JG-site-302"


def test_what_stays_at_the_site_is_read_back_under_its_campaign_alone(site: SiteFolder) -> None:
    assert site.own(CAMPAIGN) is None
    site.keep_own(CAMPAIGN, b"parameters of this works")
    assert site.own(CAMPAIGN) == b"parameters of this works"
    (file,) = (site.path / "own").iterdir()
    assert b"parameters" not in file.read_bytes()
    other = "f" * 64
    (site.path / "own" / f"{other}.bin").write_bytes(file.read_bytes())
    file.write_bytes(file.read_bytes()[:-1])
    for campaign in (CAMPAIGN, other):
        with pytest.raises(SiteError) as damaged:
            site.own(campaign)
        assert damaged.value.code == "JG-site-305"


def test_what_a_process_that_died_was_writing_is_swept_away_and_nothing_else(site: SiteFolder) -> None:
    site.keep_reply(CAMPAIGN, Kept(3, "cd" * 32, b"body", None))
    site.keep_own(CAMPAIGN, b"parameters of this works")
    whole = set(site.path.rglob("*"))
    for unfinished in ("updates/.a.cbor.x1", "own/.a.bin.x2"):
        (site.path / unfinished).write_bytes(b"half")
    site.sweep()
    assert set(site.path.rglob("*")) == whole


def test_pseudonyms_are_made_by_a_key_of_the_site_that_tells_no_other_key(site: SiteFolder) -> None:
    key = site.masters_key()
    assert (key, len(key)) == (SiteFolder(site.path).masters_key(), 32)
    assert key != site.storage_key_file.read_bytes()
    site.storage_key_file.unlink()
    with pytest.raises(SiteError) as refused:
        site.masters_key()
    assert refused.value.code == "JG-site-305"
