"""Laws of the state folder: made whole or not at all, its keys to its owner alone."""

import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jangin.errors import PlanError, ServerError, SiteError
from jangin.server.daemon import serve
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
    with pytest.raises(PlanError, match=r"JG-plan-001 .*'idle_pol_s'.*idle_poll_s;"):
        world.state.settings()


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"one")
    write_whole(tmp_path / "file", b"two")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"two"


def test_one_server_runs_on_a_folder(world: Any) -> None:
    with world.state.alone(), pytest.raises(ServerError, match="JG-server-306"), world.state.alone():
        pass
    with world.state.alone():
        pass


@pytest.mark.kill
def test_a_server_that_was_killed_holds_its_folder_no_more(world: Any) -> None:
    hold = (
        "import sys; from pathlib import Path; from jangin.server.settings import StateFolder\n"
        "with StateFolder(Path(sys.argv[1])).alone(): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(world.state.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"held"
        with pytest.raises(ServerError, match="JG-server-306"), world.state.alone():
            pass
        child.kill()
    with world.state.alone():
        pass


def test_a_second_server_on_the_same_folder_is_refused_and_leaves_the_first_ones_address(world: Any) -> None:
    world.state.address.write_text("127.0.0.1:1\n")
    with world.state.alone(), pytest.raises(ServerError, match="JG-server-306"):
        serve(world.state.path, threading.Event())
    assert world.state.address.exists()


def test_of_two_workers_on_one_folder_the_second_waits_for_the_end_of_the_first_or_its_own(world: Any) -> None:
    stop, led = threading.Event(), threading.Event()

    def follow() -> None:
        with world.state.led_alone(threading.Event()) as alone:
            assert alone
            led.set()

    follower = threading.Thread(target=follow)
    with world.state.led_alone(stop) as alone:
        assert alone
        follower.start()
        stop.set()
        with world.state.led_alone(stop) as second:
            assert not second
        assert not led.is_set()
    assert led.wait(10)
    follower.join(10)
