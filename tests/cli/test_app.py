"""Laws of the entrance: help, version, streams, exit statuses, both languages."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jangin import __version__
from jangin.errors import DataError, JanginError, PlanError

Jangin = Callable[..., Any]


@pytest.mark.parametrize(
    "command", [(), ("simulate",), ("demo",), ("data",), ("data", "generate"), ("data", "validate")], ids="-".join
)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_help_on_stdout(jangin: Jangin, command: tuple[str, ...], option: str) -> None:
    said = jangin(*command, option)
    assert (said.status, said.err) == (0, "")
    assert "Usage" in said.out


def test_the_version_is_data(jangin: Jangin) -> None:
    said = jangin("--version")
    assert (said.status, said.out, said.err) == (0, f"jangin {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [("fly",), ("simulate",), ("simulate", "a.yaml", "--fast"), ("demo", "--sites", "one")]
)
def test_wrong_usage_is_2_and_coded_like_every_error(jangin: Jangin, arguments: tuple[str, ...]) -> None:
    said = jangin(*arguments)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("error: JG-plan-030 jangin: not understood: ")
    assert "--help" in said.err
    line = json.loads(jangin(*arguments, "--format", "json").out)
    assert (line["ok"], line["code"]) == (False, "JG-plan-030")


def test_a_bug_is_5_with_its_code_and_where_it_happened(
    jangin: Jangin, simulation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr("jangin.simulation.simulate", broken)
    said = jangin("simulate", simulation, "--format", "json")
    assert said.status == 5
    assert json.loads(said.out)["code"] == "JG-sim-900"
    assert "LookupError: a bug" in said.err
    assert "error: JG-sim-900" in said.err


@pytest.mark.parametrize("kind", [DataError, PlanError])
@pytest.mark.parametrize("options", [(), ("--format=json",), ("--lang=ko",), ("--lang", "ko", "--format", "json")])
def test_an_error_is_words_on_stderr_and_one_line_of_json_where_that_was_asked_for(
    jangin: Jangin,
    simulation: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[JanginError],
    options: tuple[str, ...],
) -> None:
    error = kind("JG-plan-006", where="a.yaml", key="lr")

    def refused(*arguments: object, **other: object) -> None:
        raise error

    monkeypatch.setattr("jangin.simulation.simulate", refused)
    said = jangin("simulate", simulation, *options)
    assert said.status == 2
    lang = "ko" if any("ko" in option for option in options) else "en"
    assert error.coded.text("what", lang) in said.err
    assert error.coded.text("hint", lang) in said.err
    if any("json" in option for option in options):
        assert said.out.count("\n") == 1
        assert json.loads(said.out) == {"ok": False, **error.coded.as_dict(lang)}
    else:
        assert said.out == ""


def test_the_language_follows_the_locale(jangin: Jangin, simulation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = ("JANGIN_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)
    for name, word in (("ko_KR", "오류"), ("Korean_Korea", "오류"), ("de_DE", "error"), (None, "error")):
        monkeypatch.setattr("locale.getlocale", lambda category, name=name: (name, "UTF-8"))
        assert jangin("simulate", simulation, "--engine", "warp").err.startswith(word)
    for variable in reversed(variables):  # each is stronger than those before
        for name, word in (("ko_KR.UTF-8", "오류"), ("C.UTF-8", "error")):
            monkeypatch.setenv(variable, name)
            assert jangin("simulate", simulation, "--engine", "warp").err.startswith(word)


def test_python_m_jangin_is_jangin(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jangin", "data", "validate", str(tmp_path / "nowhere"), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["code"] == "JG-data-011"


def test_a_reader_that_went_is_no_bug(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "jangin", "data", "validate", str(tmp_path / "nowhere")]
    with open(writing, "wb") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "JG-sim-900" not in done.stderr


def test_commands_on_records_do_not_wait_for_torch(tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv[1:] = ['data', 'validate', 'x']; from jangin.cli import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "False"
