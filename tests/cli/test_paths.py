"""Laws of paths and places that are not as a command needs them: a code and its exit status, never a bug."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Jangin = Callable[..., Any]


@pytest.fixture
def places(tmp_path: Path, jangin: Jangin) -> dict[str, Path]:
    """Staff, a server, a site, an empty file and a path with nothing."""
    found = {name: tmp_path / name for name in ("staff", "server", "site", "plain", "nothing")}
    found["plain"].touch()
    found |= {"key": found["staff"] / "operator.key", "root": found["staff"] / "root.pub"}
    found |= {"list": found["staff"] / "staff.envelope", "ca": found["server"] / "tls" / "ca.crt"}
    jangin("server", "staff", found["staff"])
    jangin("server", "init", found["server"], "--staff", found["list"], "--root", found["root"])
    told = jangin("site", "init", found["site"], "--id", "a", "--process", "steel.bof_blow", "--records", tmp_path)
    assert told.status == 0
    assert told.err.startswith("warning: JG-site-320 There are no usable records of steel.bof_blow here: JG-data-004")
    return found


NEW = "--id a --process steel.bof_blow --records {nothing}"
JOIN = "site enroll {site} --server https://127.0.0.1:1 --token x"


@pytest.mark.parametrize(
    ("command", "code", "status"),
    [
        ("server staff {plain}", "JG-server-351", 1),
        ("server init {plain}/x --staff {list} --root {root}", "JG-server-351", 1),
        ("server init {nothing} --staff {nothing} --root {root}", "JG-server-350", 1),
        ("server init {nothing} --staff {list} --root {staff}", "JG-server-350", 1),
        ("server run {plain}", "JG-server-301", 1),
        ("roster list {staff}", "JG-server-301", 1),
        ("campaign propose {server} {staff} --key {key}", "JG-plan-004", 2),
        ("campaign approve {server} 00000000 --key {key}", "JG-server-330", 1),
        (f"site init {{plain}} {NEW}", "JG-site-342", 1),
        (f"site init {{plain}}/x {NEW}", "JG-site-342", 1),
        (f"site init {{site}} {NEW}", "JG-site-303", 1),
        (f"{JOIN} --root {{nothing}} --ca {{ca}}", "JG-site-341", 1),
        (f"{JOIN} --root {{staff}} --ca {{ca}}", "JG-site-341", 1),
        (f"{JOIN} --root {{root}} --ca {{server}}", "JG-site-341", 1),
        (f"{JOIN} --root {{root}} --ca {{plain}}", "JG-site-341", 1),
        (f"{JOIN} --root {{root}} --ca {{root}}", "JG-site-341", 1),
        (f"{JOIN} --root {{ca}} --ca {{ca}}", "JG-site-341", 1),
        (f"{JOIN} --root {{root}} --ca {{ca}}", "JG-site-201", 3),
        ("site status {plain}", "JG-site-304", 1),
        ("site campaigns {site}", "JG-site-302", 1),
        ("site run {nothing}", "JG-site-304", 1),
        ("demo --keep {staff}", "JG-sim-001", 1),
        ("demo --keep {plain}/x", "JG-sim-003", 1),
        ("demo --from {staff}", "JG-plan-004", 2),
        ("simulate {plain}", "JG-plan-005", 2),
    ],
)
def test_a_place_that_is_not_as_it_is_needed_has_a_code(
    jangin: Jangin, places: dict[str, Path], command: str, code: str, status: int
) -> None:
    said = jangin(*command.format(**places).split())
    assert (said.status, said.out) == (status, "")
    assert said.err.splitlines()[-2].startswith(f"error: {code} ")
    assert "Traceback" not in said.err


def test_whoever_proposed_may_not_approve_and_that_is_4(jangin: Jangin, places: dict[str, Path]) -> None:
    said = jangin("roster", "confirm", places["server"], "--key", places["key"])
    assert said.status == 4
    assert said.err.startswith("error: JG-site-11")


def test_a_line_of_flower_is_one_line_in_the_form_of_all_others() -> None:
    script = (
        "import logging\n"
        "import jangin.client.daemon\n"
        "from jangin.cli.talk import log_to_stderr\n"
        "log_to_stderr()\n"
        "logging.getLogger('flwr').warning('theirs')\n"
        "logging.getLogger('flwr').info('chatter')\n"
        "logging.getLogger('jangin.client').info('ours')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    lines = done.stderr.splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["WARNING theirs", "INFO ours"]
    assert "\x1b" not in done.stderr
