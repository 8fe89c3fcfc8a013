"""Laws of `jangin campaign new`: stdout is a plan, or one line of JSON with it."""

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from jangin.plan.training_plan import read_plan

Jangin = Callable[..., Any]
NEW = ("campaign", "new", "--from-simulation", files("jangin.configs") / "simulations" / "steel-bof-blow.yaml")


@pytest.mark.parametrize(("lang", "word"), [("en", "a draft"), ("ko", "초안")])
def test_stdout_is_a_plan_that_reads_back_and_stderr_says_it_is_a_draft(
    jangin: Jangin, tmp_path: Path, lang: str, word: str
) -> None:
    options = ("--site", "pohang", "--site", "gwangyang", "--set", "campaign=steel-2026", "--set", "kpi=null")
    said = jangin(*NEW, *options, "--lang", lang)
    assert (said.status, said.err.startswith(word)) == (0, True)
    (tmp_path / "plan.yaml").write_text(said.out)
    plan = read_plan(tmp_path / "plan.yaml")
    assert (plan.campaign, plan.sites.invite) == ("steel-2026", ("pohang", "gwangyang"))
    line = json.loads(jangin(*NEW, *options, "--format", "json").out)
    assert (line["ok"], line["campaign"]) == (True, plan.hash)
    assert line["plan"] == yaml.safe_load(said.out)


def test_what_is_no_plan_is_refused_by_its_key(jangin: Jangin, simulation: Path) -> None:
    for arguments, code in (
        ((*NEW, "--set", "sites.quorum=2"), "JG-plan-003"),
        ((*NEW, "--set", "sites"), "JG-plan-003"),
        ((*NEW[:3], simulation), "JG-plan-024"),
        ((*NEW[:3], simulation.parent), "JG-plan-004"),
    ):
        said = jangin(*arguments)
        assert (said.status, said.out) == (2, "")
        assert said.err.startswith(f"error: {code}")


@pytest.fixture
def drafted(jangin: Jangin, tmp_path: Path) -> Path:
    """A plan without a promise, whose price nobody has to calibrate."""
    options = ("--site", "pohang", "--site", "gwangyang", "--set", "privacy={epsilon: none}", "--set", "kpi=null")
    (tmp_path / "plan.yaml").write_text(jangin(*NEW, *options).out)
    return tmp_path / "plan.yaml"


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("en", ("can be proposed", "2 sites invited", "training", "at the latest")),
        ("ko", ("제안할 수 있는", "초대 2곳", "학습", "늦어도")),
    ],
)
def test_a_plan_that_holds_is_priced_in_words_and_in_one_line(
    jangin: Jangin, drafted: Path, lang: str, words: tuple[str, ...]
) -> None:
    said = jangin("campaign", "check", drafted, "--lang", lang)
    assert (said.status, said.err) == (0, "")
    assert all(word in said.out for word in words)
    assert "NO DIFFERENTIAL PRIVACY" in said.out
    line = json.loads(jangin("campaign", "check", drafted, "--lang", lang, "--format", "json").out)
    assert list(line) == ["ok", "campaign", "cohort", "epsilon", "bytes", "hours", "findings"]
    assert (line["ok"], line["campaign"], line["findings"]) == (True, read_plan(drafted).hash, [])
    assert line["hours"]["basis"] == "pace"


def test_a_plan_that_would_be_refused_names_every_reason_and_ends_with_1(jangin: Jangin, drafted: Path) -> None:
    tree = yaml.safe_load(drafted.read_text()) | {"process": "pipe.tig_weld"}
    tree["privacy"] |= {"secure_aggregation": "required", "nominal_units": 10}
    drafted.write_text(yaml.safe_dump(tree))
    said = jangin("campaign", "check", drafted, "--format", "json")
    line = json.loads(said.out)
    assert (said.status, line["ok"]) == (1, False)
    assert [(one["code"], one["refused"]) for one in line["findings"]] == [
        ("JG-plan-060", True),
        ("JG-plan-003", True),
        ("JG-plan-062", False),
    ]
    text = jangin("campaign", "check", drafted, "--lang", "en").out
    assert text.count("refused: ") == text.count("  hint: ") - 1 == 2
