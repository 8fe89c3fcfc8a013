"""Laws of the state folder: made whole or not at all, its keys to its owner alone."""

import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jangin.errors import PlanError, ServerError, SiteError
from jangin.server.settings import ServerSettings, StateFolder, write_whole

NOW = datetime.now(UTC)


def test_a_folder_holds_what_a_server_needs_and_its_keys_are_closed(world: Any) -> None:
    state = world.state
    assert state.settings() == ServerSettings(port=0, idle_poll_s=0.05)
    assert stat.S_IMODE(state.key.stat().st_mode) == 0o600
    assert not list(state.path.rglob("ca.key"))
    assert state.root == (world.folder / "staff" / "root.pub").read_text().strip()
    assert world.members.staff(world.now).version == 1


def test_nothing_stands_half_made_where_the_staff_list_is_not_the_roots(world: Any, tmp_path: Path) -> None:
    other = b"{}"
    with pytest.raises(SiteError, match="JG-site-110"):
        StateFolder.make(tmp_path / "new", ServerSettings(), world.state.root, other, ["127.0.0.1"], NOW)
    with pytest.raises(ServerError, match="JG-server-304"):
        StateFolder.make(tmp_path / "new", ServerSettings(), "no key", other, ["127.0.0.1"], NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server", "staff"]


def test_a_folder_is_never_made_over_another(world: Any) -> None:
    before = world.state.key.read_bytes()
    with pytest.raises(ServerError, match="JG-server-302"):
        StateFolder.make(world.state.path, ServerSettings(), world.state.root, b"", ["127.0.0.1"], NOW)
    assert world.state.key.read_bytes() == before


def test_another_folder_and_an_unknown_key_have_a_code(world: Any, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="JG-server-301"):
        StateFolder(tmp_path).settings()
    (world.state.path / "server.yaml").write_text("idle_pol_s: 3\n")
    with pytest.raises(PlanError, match=r"JG-plan-001 .*'idle_pol_s'.*'idle_poll_s'"):
        world.state.settings()


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"one")
    write_whole(tmp_path / "file", b"two")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"two"
