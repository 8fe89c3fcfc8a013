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
