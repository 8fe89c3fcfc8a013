"""Laws of `jangin model`, `jangin report` and `jangin campaign measure`: one line of JSON, or a code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Plan = Callable[..., Any]
LINE = "national-bof-blow"


@pytest.fixture
def jangin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any, str]]:
    """Exit status, the last line of stdout, and stderr of a command."""
    from jangin.cli import main

    def run(*arguments: object, text: bool = False) -> tuple[int, Any, str]:
        form = [] if text else ["--format", "json"]
        monkeypatch.setattr("sys.argv", ["jangin", *map(str, arguments), *form])
        with pytest.raises(SystemExit) as leaving:
            main()
        out, err = capsys.readouterr()
        return int(leaving.value.code or 0), out if text else json.loads(out.splitlines()[-1]), err

    return run


def test_a_model_goes_from_candidate_to_withdrawn(world: Any, plan: Plan, jangin: Any, tmp_path: Path) -> None:
    folder, key = world.state.path, world.key("approver")
    assert jangin("model", "list", folder)[1]["models"] == []
    campaign = world.learnt(plan(kpi={"name": "reject_rate", "baseline": 0.081}), "site-0", "site-1")
    world.registry.register(campaign, world.now)
    (listed,) = jangin("model", "list", folder)[1]["models"]
    assert (listed["model"], listed["state"], listed["aliases"]) == (f"{LINE}@1", "candidate", ["candidate"])
    assert jangin("model", "verify", folder, LINE)[1]["approver"] is None
    status, refused, _ = jangin("model", "release", folder, LINE, "--key", world.key("operator"))
    assert (status, refused["code"]) == (4, "JG-site-117")
    status, released, err = jangin("model", "release", folder, LINE, "--key", key)
    assert (status, released["state"], released["aliases"]) == (0, "released", ["national"])
    assert listed["hash"] in err  # who signs has seen what
    assert jangin("model", "verify", folder, f"{LINE}@national")[1]["approver"] == "approver"
    shown = jangin("model", "show", folder, LINE)[1]
    assert (shown["contributors"], shown["manifest"]["operator"]) == (["site-0", "site-1"], "operator")
    assert shown["statement"]["privacy_loss"] == "NO DIFFERENTIAL PRIVACY"
    assert "contributors: site-0, site-1" in jangin("model", "show", folder, LINE, text=True)[1]
    assert [one["model"] for one in jangin("model", "list", folder, "--influence", "site-1")[1]["models"]] == [
        f"{LINE}@1"
    ]
    assert jangin("model", "list", folder, "--influence", "site-2")[1]["models"] == []
    measured = jangin(
        "campaign", "measure", folder, campaign[:8], 0.074, "--note", "line 2", "--key", world.key("evaluator")
    )
    assert (measured[1]["value"], measured[1]["baseline"], measured[1]["person"]) == (0.074, 0.081, "evaluator")
    reason = ("--reason", "it fails on thin plates")
    _, gone, err = jangin("model", "withdraw", folder, f"{LINE}@1", *reason, "--key", key)
    assert (gone["state"], gone["aliases"], "no national model" in err) == ("withdrawn", [], True)
    again = jangin("model", "withdraw", folder, f"{LINE}@1", *reason, "--key", key)
    assert (again[0], again[1]["code"]) == (1, "JG-server-332")
    # The report of it all, in a file and on stdout.
    file = tmp_path / "report.html"
    told = jangin("report", "campaign", folder, campaign[:8], "--out", file)[1]
    assert (told["file"], told["report"]["state"]) == (str(file), "withdrawn")
    assert "0.074" in file.read_text(encoding="utf-8")
    assert "캠페인 보고서" in jangin("report", "campaign", folder, campaign[:8], "--lang", "ko", text=True)[1]
    nowhere = jangin("report", "campaign", folder, campaign[:8], "--out", tmp_path / "no" / "report.html")
    assert nowhere[1]["code"] == "JG-server-451"


def test_a_folder_that_is_no_pulled_model_is_told_apart(world: Any, jangin: Any, tmp_path: Path) -> None:
    root = ("--root", tmp_path / "staff" / "root.pub")
    assert jangin("model", "verify", tmp_path, *root)[1]["code"] == "JG-site-456"
    status, usage, _ = jangin("model", "verify", tmp_path)
    assert (status, usage["code"]) == (2, "JG-plan-030")
    assert jangin("model", "show", world.state.path, "x@1")[1]["code"] == "JG-server-440"
