"""Laws of backups: one moment whole, on either database, and nothing of an altered file is used."""

import random
import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from jangin.errors import ServerError
from jangin.server import backup as room
from jangin.server import tables
from jangin.server.audit import exported, verify
from jangin.server.backup import OWN_FILE, backup, restore
from jangin.server.database import Database, engine, still
from jangin.server.life import Act, State
from jangin.server.settings import StateFolder
from jangin.server.store import EvaluationEntry, Outcome, RoundEntry


def rounds(world: Any, campaign: str, *numbers: int) -> None:
    """Finished rounds, each with its checkpoint."""
    folder = world.state.checkpoints(campaign)
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number}.safetensors").write_bytes(b"state %d" % number)
        world.store.record(campaign, RoundEntry(number, 1, Outcome.FINISHED, ["site-0"], {"site-1": "x"}, {}, [], 0.5))


def running(world: Any, plan: Any) -> str:
    """A campaign that is led, at its second round."""
    campaign: str = world.propose(plan())
    for act in (Act.APPROVE, Act.CONSULT, Act.START):
        world.store.move(campaign, act)
    world.store.commit("site-0", 3, "ab" * 32, b"\x00\xff")
    world.store.record_evaluation(campaign, EvaluationEntry(1, {"mae": [1.0, 0.5]}, [], {}, {}, [], 0.5, "why not"))
    rounds(world, campaign, 0, 1, 2)
    return campaign


def content(store: Any) -> dict[str, list[Any]]:
    """Everything that is in a database."""
    with store.database.reading() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(table.select()).all()))
            for table in tables.METADATA.sorted_tables
        }


def opened(folder: Path) -> Any:
    return StateFolder(folder).store()


WAYS = [("sqlite", "postgresql"), ("postgresql", "sqlite"), ("sqlite", "sqlite")]


@pytest.mark.parametrize(("world", "after"), WAYS, indirect=["world"])
def test_a_backup_is_the_server_again_on_either_database(
    world: Any, after: str, plan: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = OWN_FILE if after == "sqlite" else request.getfixturevalue("own_postgres").database()
    campaign, file = running(world, plan), tmp_path / "one.backup"
    (world.state.path / "models").mkdir()
    (world.state.path / "models" / "1.safetensors").write_bytes(bytes(2000))
    made = backup(world.state.path, file, world.now)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "private keys" in made.holds
    before = content(world.store)
    world.store.add_roster(9, b"after the backup")
    assert restore(file, tmp_path / "again", world.now, url) == made
    store = opened(tmp_path / "again")
    held, key = content(store), StateFolder(tmp_path / "again").audit_key
    # 1. The database is what it was, but for one entry, and numbers go on.
    changed = {"audit", "audit_head"}
    assert {name: rows for name, rows in held.items() if name not in changed} == {
        name: rows for name, rows in before.items() if name not in changed
    }
    (last,) = store.database.audit(len(before["audit"]))
    assert (last.entry.act, last.entry.detail["entries"]) == ("restore", len(before["audit"]))
    report = verify(exported(store.database.audit(), *store.database.audit_head(), world.now, key), key.public)
    assert (report.campaigns[campaign], report.rounds[campaign]) == (State.RUNNING, 3)
    store.invite("site-8", "99" * 32, world.now)
    # 2. So is the folder, without what is no more needed.
    for name in ("server.yaml", "tls/server.key", "audit.key", "models/1.safetensors", "root.pub"):
        old, new = world.state.path / name, tmp_path / "again" / name
        assert name == "server.yaml" or old.read_bytes() == new.read_bytes()
        assert stat.S_IMODE(old.stat().st_mode) == stat.S_IMODE(new.stat().st_mode)
    kept = [file.name for file in StateFolder(tmp_path / "again").checkpoints(campaign).iterdir()]
    assert kept == ["2.safetensors"]
    store.close()


@pytest.fixture
def file(world: Any, plan: Any, tmp_path: Path) -> Path:
    running(world, plan)
    backup(world.state.path, tmp_path / "one.backup", world.now)
    return tmp_path / "one.backup"


def test_a_backup_with_any_bit_changed_or_any_end_missing_is_refused_and_leaves_nothing(
    world: Any, file: Path, tmp_path: Path
) -> None:
    whole, chance, target = file.read_bytes(), random.Random(7), tmp_path / "again"
    there = set(tmp_path.iterdir())
    wrong = [whole[: chance.randrange(len(whole))] for _ in range(10)] + [b"", whole + b"\0", whole[:-1]]
    for _ in range(40):
        place = chance.randrange(len(whole))
        wrong.append(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
    for bad in wrong:
        file.write_bytes(bad)
        with pytest.raises(ServerError, match="JG-server-461"):
            restore(file, target, world.now)
    assert set(tmp_path.iterdir()) == there


def test_a_backup_is_never_made_over_anything(world: Any, file: Path, tmp_path: Path, own_postgres: Any) -> None:
    with pytest.raises(ServerError, match=r"JG-server-460 .*already"):
        backup(world.state.path, file, world.now)
    with pytest.raises(ServerError, match=r"JG-server-460 .*to save"):
        backup(world.state.path, world.state.path / "b", world.now)
    with pytest.raises(ServerError, match="JG-server-302"):
        restore(file, world.state.path, world.now)
    url = own_postgres.database()
    restore(file, tmp_path / "first", world.now, url)
    first = opened(tmp_path / "first")
    before = content(first)
    with pytest.raises(ServerError, match="JG-server-462"):
        restore(file, tmp_path / "second", world.now, url)
    assert (content(first), (tmp_path / "second").exists()) == (before, False)
    first.close()


def test_a_log_that_does_not_hold_is_not_restored_and_the_database_stays_empty(
    world: Any, file: Path, tmp_path: Path, own_postgres: Any
) -> None:
    with world.store.database.writing() as database:
        database.execute(tables.audit.update().where(tables.audit.c.number == 2).values(signature=bytes(64)))
    file.unlink()
    backup(world.state.path, file, world.now)
    url = own_postgres.database()
    with pytest.raises(ServerError, match="JG-server-432"):
        restore(file, tmp_path / "again", world.now, url)
    assert not (tmp_path / "again").exists()
    with world.store.database.writing() as database:  # and mended
        database.execute(tables.audit.delete())
        database.execute(tables.audit_head.update().values(entries=0, digest="00" * 32))
    file.unlink()
    backup(world.state.path, file, world.now)
    restore(file, tmp_path / "again", world.now, url)


def test_a_backup_of_newer_tables_is_refused(world: Any, tmp_path: Path) -> None:
    with world.store.database.writing() as database:
        database.execute(tables.revision.update().values(version_num="9999"))
    backup(world.state.path, tmp_path / "b", world.now)
    with pytest.raises(ServerError, match=r"JG-server-463 .*9999"):
        restore(tmp_path / "b", tmp_path / "again", world.now)


def test_checkpoints_are_those_of_the_moment_of_the_tables_while_rounds_go_on(
    world: Any, plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that ends between the look at the tables and that at the files makes the backup look again."""
    campaign, looks = running(world, plan), [3]
    real = room._needed

    def meanwhile(*given: Any) -> Any:
        needed = list(real(*given))
        if looks:
            rounds(world, campaign, looks.pop())
            (world.state.checkpoints(campaign) / "2.safetensors").unlink()
        return needed

    monkeypatch.setattr(room, "_needed", meanwhile)
    made = backup(world.state.path, tmp_path / "b", world.now)
    assert f"folder/checkpoints/{campaign}/3.safetensors" in made.parts
    restore(tmp_path / "b", tmp_path / "again", world.now)
    store = opened(tmp_path / "again")
    assert [entry.round for entry in store.rounds(campaign)] == [0, 1, 2, 3]
    store.close()


def test_what_is_written_after_the_first_look_is_not_in_it(world: Any, database_url: str) -> None:
    database, made = Database(database_url, world.state.audit_key), engine(database_url)
    with still(made) as connection:
        first = connection.execute(tables.staff.select()).all()
        with database.writing() as writing:
            writing.execute(insert(tables.staff).values(version=1, envelope=b"later"))
        assert connection.execute(tables.staff.select()).all() == first == []
    made.dispose()
    database.close()


def test_a_name_that_leads_out_of_the_folder_is_no_part(tmp_path: Path) -> None:
    for name in ("folder/../../x", "folder//etc/x", "folder/.x/y", "folder/", "else/x", "tables/../x"):
        assert room._place(name, tmp_path / "f", tmp_path / "t") is None, name
    assert room._place("folder/a/b", tmp_path / "f", tmp_path / "t") == tmp_path / "f" / "a" / "b"
