"""Laws of the upgrade: a backup first, the log begins with what is there, and nothing is done twice."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from jangin.errors import ServerError
from jangin.server import migrations, tables
from jangin.server.audit import Report, exported, verify
from jangin.server.backup import restore
from jangin.server.database import engine
from jangin.server.life import Act, State
from jangin.server.settings import StateFolder
from jangin.server.upgrade import upgrade


@pytest.fixture
def old(world: Any, plan: Any) -> str:
    """The world's folder and database as they were before there were migrations and a log; a campaign in it."""
    campaign = world.propose(plan())
    kept = (tables.staff, tables.rosters, tables.invitations, tables.campaigns, tables.invited)
    with world.store.database.reading() as connection:
        rows = {table: [dict(row) for row in connection.execute(select(table)).mappings()] for table in kept}
    for row in rows[tables.campaigns]:
        del row["proposer"]  # nobody kept it then
    world.store.close()
    for file in world.state.path.glob("jangin.sqlite*"):
        file.unlink()
    for name in ("audit.key", "audit.pub"):
        (world.state.path / name).unlink()
    made = engine(world.state.database_url)
    migrations.upgrade(made, "0001")
    with made.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
        connection.execute(text("INSERT INTO schema (version) VALUES (2)"))
        for table in kept:
            connection.execute(
                insert(table), [{**row, "state": "running"} if "state" in row else row for row in rows[table]]
            )
    made.dispose()
    return campaign


def log(folder: Path, now: Any) -> Report:
    with closing(StateFolder(folder).store()) as store:
        database, key = store.database, StateFolder(folder).audit_key
        return verify(exported(database.audit(), *database.audit_head(), now, key), key.public)


def test_an_old_server_comes_along_with_its_campaigns_once_and_can_go_back(
    world: Any, old: str, tmp_path: Path
) -> None:
    folder = world.state.path
    with pytest.raises(ServerError, match="JG-server-303") as refused:
        world.state.store()
    assert "jangin server upgrade" in refused.value.coded.text("hint")
    with world.state.alone(), pytest.raises(ServerError, match="JG-server-306"):
        upgrade(folder, world.now)
    kept = upgrade(folder, world.now)
    assert kept is not None
    report = log(folder, world.now)
    assert (report.campaigns, report.entries) == ({old: State.RUNNING}, 2)
    assert upgrade(folder, world.now) is None
    assert log(folder, world.now).entries == 2
    # The log goes on from there, and the backup is a server again, with the newest tables.
    with closing(world.state.store()) as store:
        store.move(old, Act.PAUSE)
        assert log(folder, world.now).campaigns == {old: State.PAUSED}
    restore(kept, tmp_path / "again", world.now + timedelta(days=1))
    assert log(tmp_path / "again", world.now).campaigns == {old: State.RUNNING}


def test_a_lost_key_of_a_log_is_not_made_again(world: Any) -> None:
    (world.state.path / "audit.key").unlink()
    for wish in (world.state.store, lambda: upgrade(world.state.path, world.now)):
        with pytest.raises(ServerError, match="JG-server-303"):
            wish()
    assert not (world.state.path / "audit.key").exists()
