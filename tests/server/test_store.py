"""Laws of the database: one transaction a method, nothing twice, no worker anywhere, and only its own version."""

import re
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from jangin.errors import ServerError
from jangin.privacy.secure_sum.server import Certificate
from jangin.server import tables
from jangin.server.database import Database
from jangin.server.life import Act, State
from jangin.server.store import CampaignRow, Outcome, RoundEntry, Store
from jangin.server.tables import METADATA
from jangin.trust.keys import Identity

HASH = "ab" * 32
ROW = CampaignRow(HASH, "steel", b"signed", State.DRAFT)
ENTRY = RoundEntry(1, 1, Outcome.FINISHED, ["site-0"], {"site-1": "local"}, {}, ["site-2"], 0.5)


KEY = Identity.generate()


@pytest.fixture
def url(database_url: str) -> str:
    return database_url


@pytest.fixture
def store(url: str) -> Any:
    store = Store(Database(url, KEY))
    yield store
    store.close()


def running(store: Store) -> None:
    store.draft(ROW, ["site-0", "site-1"], "operator")
    for act in (Act.PROPOSE, Act.APPROVE, Act.CONSULT, Act.START):
        store.move(HASH, act)


def test_what_is_kept_is_there_for_another_process(store: Store, url: str) -> None:
    store.add_roster(1, b"one")
    store.add_roster(2, b"two")
    store.draft(ROW, ["site-0", "site-1"], "operator")
    store.record(HASH, ENTRY)
    again = Store(Database(url, KEY))
    assert (again.roster(), again.staff()) == (b"two", b"")
    assert again.campaigns() == [ROW]
    assert again.rounds(HASH) == [ENTRY]
    again.close()


def test_no_version_comes_twice_or_after_a_later_one(store: Store) -> None:
    store.add_staff(2, b"two")
    for version in (1, 2):
        with pytest.raises(ServerError, match="JG-server-305"):
            store.add_staff(version, b"other")
    assert store.staff() == b"two"


def test_a_step_of_a_campaign_is_made_once_by_whoever_comes_first(store: Store) -> None:
    store.draft(ROW, ["site-0"], "operator")
    ended: list[str] = []

    def step() -> None:
        try:
            store.move(HASH, Act.PROPOSE)
            ended.append("moved")
        except ServerError as error:
            ended.append(error.code)

    threads = [threading.Thread(target=step) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["JG-server-332"] * 7 + ["moved"]


def test_a_plan_is_proposed_once(store: Store) -> None:
    store.draft(ROW, ["site-0"], "operator")
    with pytest.raises(ServerError, match="JG-server-331"):
        store.draft(ROW, ["site-1"], "operator")
    assert store.campaigns_of("site-1") == []


def test_an_unknown_campaign_is_named(store: Store) -> None:
    for wish in (lambda: store.campaign(HASH), lambda: store.move(HASH, Act.PROPOSE)):
        with pytest.raises(ServerError, match=f"JG-server-330 {HASH}"):
            wish()


def test_only_invited_sites_approve_and_only_running_campaigns_make_them_active(store: Store) -> None:
    running(store)
    store.move(HASH, Act.PAUSE)
    with pytest.raises(ServerError, match="JG-server-317"):
        store.approve(HASH, "site-9", b"yes")
    store.approve(HASH, "site-1", b"yes")
    assert store.approvals(HASH) == {"site-1": b"yes"}
    assert [approved for _, approved in store.campaigns_of("site-1")] == [True]
    assert store.active() == set()
    store.move(HASH, Act.RESUME)
    assert store.active() == {"site-1"}


def test_a_round_is_recorded_once_an_attempt(store: Store) -> None:
    store.draft(ROW, ["site-0"], "operator")
    store.record(HASH, ENTRY)
    with pytest.raises(Exception, match=r"(?i)unique"):
        store.record(HASH, ENTRY)


def test_a_token_is_kept_by_its_hash_and_in_time(world: Any) -> None:
    token = world.members.invite("site-0", world.now)
    content = b"".join(file.read_bytes() for file in world.state.path.glob("jangin.sqlite*"))
    assert token.encode() not in content
    assert not world.store.use("0" * 64, "site-0", "a", "b", world.now)
    assert world.store.invitations()["site-0"].expires == world.now + timedelta(days=7)


def test_a_database_of_another_version_is_not_opened(store: Store, url: str) -> None:
    with store.database.writing() as database:
        database.execute(update(tables.revision).values(version_num="9999"))
    with pytest.raises(ServerError, match=r"JG-server-303 .*9999"):
        Database(url, KEY)


@pytest.mark.parametrize("name", ["no/such/folder.sqlite", "garbage.sqlite"])
def test_a_file_that_is_no_database_has_a_code(tmp_path: Path, name: str) -> None:
    (tmp_path / "garbage.sqlite").write_bytes(b"not a database " * 100)
    with pytest.raises(ServerError, match="JG-server-303"):
        Database(f"sqlite:///{tmp_path / name}", KEY)


def test_no_column_could_name_a_worker() -> None:
    names = {f"{table.name}.{column.name}" for table in METADATA.sorted_tables for column in table.columns}
    assert "invited.site" in names
    assert not [name for name in names if re.search(r"worker|master|episode|employee", name)]


def test_an_attempt_that_began_may_end_once(store: Store) -> None:
    store.draft(ROW, ["site-0"], "operator")
    begun = replace(ENTRY, outcome=Outcome.BEGUN, reported=[])
    for entry in (begun, replace(begun, released=True), replace(ENTRY, released=True)):
        store.record(HASH, entry)
        assert store.rounds(HASH) == [entry]
    with pytest.raises(Exception, match=r"(?i)unique"):
        store.record(HASH, begun)
    assert store.rounds(HASH) == [replace(ENTRY, released=True)]


def test_what_was_signed_of_a_sum_is_given_back_as_it_was(store: Store) -> None:
    store.draft(ROW, ["site-0"], "operator")
    assert store.last_certified(HASH) == b""
    names = ("site-0", "site-1")
    kept = {
        (number, attempt): Certificate(bytes([number]) * 32, names, names, names[:attempt], {"site-0": bytes(64)})
        for number, attempt in [(1, 2), (2, 1), (10, 1)]
    }
    for (number, attempt), certificate in kept.items():
        store.certify(HASH, number, attempt, certificate)
    assert store.certificates(HASH) == kept
    assert store.last_certified(HASH) == kept[10, 1].digest
