"""Laws of `jangin simulate` and `jangin demo`: one table or one line, what is set, what is said."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from jangin.cli.talk import Advance
from jangin.simulation import Result, demo, simulate, unfinished

Jangin = Callable[..., Any]
PRIVATE = (
    *("--set", "privacy.epsilon=8", "--set", "privacy.delta=1e-3", "--set", "data.y_range=[-9, 9]"),
    *("--set", "privacy.scaling_share=0", "--set", "strategy.batch=15", "--accept-noise"),
)


def test_stdout_is_one_line_of_json_and_nothing_is_said_beside_it(jangin: Jangin, simulation: Path) -> None:
    said = jangin("simulate", simulation, "--format", "json")
    assert (said.status, said.out.count("\n"), said.err) == (0, 1, "")
    line = json.loads(said.out)
    result = simulate(simulation)
    assert line["metric"] == dict(result.metric)
    assert line["better_off"] == dict(result.better_off)


@pytest.mark.parametrize(
    ("lang", "words"),
    [("en", ("model", "each site alone", "better off")), ("ko", ("모델", "사업장 단독", "평가용 기록"))],
)
def test_text_is_a_table_the_promise_and_who_is_better_off(
    jangin: Jangin, simulation: Path, lang: str, words: tuple[str, ...]
) -> None:
    said = jangin("simulate", simulation, "--lang", lang)
    assert (said.status, said.err) == (0, "")
    assert all(word in said.out for word in (*words, "rmse ↓", "NO DIFFERENTIAL PRIVACY"))
    assert max(map(len, said.out.splitlines())) <= 100


@pytest.mark.parametrize(("lang", "promise"), [("en", "for each episode at its site"), ("ko", "보호 단위: 에피소드")])
def test_with_privacy_the_promise_and_the_warnings_are_said(
    jangin: Jangin, simulation: Path, lang: str, promise: str
) -> None:
    said = jangin("simulate", simulation, *PRIVATE, "--set", "baselines=[]", "--lang", lang)
    assert said.status == 0
    assert promise in said.out
    assert "ε = 7.9" in said.out
    assert ("비교하지 않음" if lang == "ko" else "not compared with sites alone") in said.out
    assert "JG-privacy-010" in said.err
    assert "JG-privacy-011" in said.err
    line = json.loads(jangin("simulate", simulation, *PRIVATE, "--format", "json", "--lang", lang).out)
    assert [warning["code"] for warning in line["warnings"]] == ["JG-privacy-011", "JG-privacy-010"]
    assert all(warning["message"] in said.err for warning in line["warnings"])
    assert line["metric"]["local_private"] is not None


@pytest.mark.parametrize(
    ("lang", "trust"), [("en", "sees sums only, with up to 3 sites"), ("ko", "서버가 합만 보고 사업장 3곳까지")]
)
def test_under_m3_the_promise_says_whom_it_trusts_and_what_is_left_without(
    jangin: Jangin, simulation: Path, lang: str, trust: str
) -> None:
    asked = ("--set", "privacy.mechanism=M3", "--set", "privacy.unit=master", "--accept-noise", "--set", "baselines=[]")
    said = jangin("simulate", simulation, *PRIVATE, *asked, "--lang", lang)
    assert said.status == 0
    assert trust in " ".join(said.out.split())
    assert said.out.count("ε = 7.9") == 2
    assert "JG-privacy-018" in said.err


def test_options_do_what_the_library_does(jangin: Jangin, simulation: Path, tmp_path: Path) -> None:
    options = ("--set", "strategy.rounds=3", "--set", "baselines=[constant]", "--seed", 9, "--per-site", "--threads", 1)
    said = jangin("simulate", simulation, *options, "--out", tmp_path / "run", "--format", "json")
    result = simulate(simulation, seed=9, per_site=True, **{"strategy.rounds": 3, "baselines": ["constant"]})
    assert json.loads(said.out)["metric"] == dict(result.metric)
    np.testing.assert_array_equal(load_file(tmp_path / "run" / "final.safetensors")["parameters"], result.parameters)
    assert said.err == f"kept in {tmp_path / 'run'}\n"


def test_a_sweep_is_one_line_of_json_or_one_markdown_table_for_all_runs(
    jangin: Jangin, simulation: Path, tmp_path: Path
) -> None:
    swept = ("--sweep", "model.name=linear,mlp", "--sweep", "strategy.rounds=1,2", "--set", "baselines=[constant]")
    said = jangin("simulate", simulation, *swept, "--format", "json")
    assert (said.status, said.out.count("\n"), said.err) == (0, 1, "")
    line = json.loads(said.out)
    assert line["sweep"] == ["model.name", "strategy.rounds"]
    assert [run["set"]["strategy.rounds"] for run in line["runs"]] == [1, 2, 1, 2]
    alone = simulate(simulation, baselines=["constant"], **{"strategy.rounds": 1})
    assert line["runs"][0]["metric"] == dict(alone.metric)
    table = jangin("simulate", simulation, *swept, "--lang", "ko")
    assert (table.status, table.out.count("NO DIFFERENTIAL PRIVACY")) == (0, 4)
    assert "연합 모델" in table.out


def test_a_sweep_with_a_refused_combination_says_why_and_ends_with_1(jangin: Jangin, simulation: Path) -> None:
    asked = ("--sweep", "model.hidden=[4],[-1]", "--set", "model.name=mlp", "--set", "baselines=[]")
    said = jangin("simulate", simulation, *asked, "--format", "json")
    assert said.status == 1
    first, second = json.loads(said.out)["runs"]
    assert first["set"] == {"model.hidden": [4]}
    assert second["refused"]["code"] == "JG-plan-003"
    assert "JG-plan-003" in said.err
    assert jangin("simulate", simulation, "--sweep", "strategy.rounds").status == 2
    assert jangin("simulate", "nowhere.yaml", "--sweep", "seed=1,2").status == 2


@pytest.fixture
def ran(simulation: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[str, Any], Result]]:
    """Stands for `run_demo`: a small private simulation instead of five steelworks."""

    def run(process: str, *, sites: int, rounds: int, keep: Path | None, **rest: Any) -> Any:
        sets = dict(item.split("=") for item in PRIVATE if "=" in item)
        result = simulate(simulation, out=keep, accept_noise=True, **sets)
        return {"sites": sites, "rounds": rounds, "process": process, "ok": True}, result

    monkeypatch.setattr(demo, "run_demo", run)
    return run


def test_the_demo_ends_with_one_line_or_a_table_over_all_hold_outs(jangin: Jangin, ran: object, tmp_path: Path) -> None:
    said = jangin("demo", "--sites", 3, "--rounds", 2, "--keep", tmp_path / "kept", "--format", "json")
    assert said.status == 0
    assert json.loads(said.out) == {"sites": 3, "rounds": 2, "process": "steel.bof_blow", "ok": True}
    assert "JG-privacy-010" in said.err
    assert said.err.endswith(f"kept in {tmp_path / 'kept'}\n")
    table = jangin("demo", "--lang", "ko")
    assert "평가용 기록 전체" in table.out
    assert "자기 평가용 기록" in table.out
    assert "사업장 단독, 같은 엡실론" in table.out


def test_a_demo_of_another_process_is_refused(jangin: Jangin) -> None:
    said = jangin("demo", "--process", "steel.rolling", "--format", "json")
    assert (said.status, json.loads(said.out)["code"]) == (2, "JG-plan-003")


def test_one_site_is_no_federation(jangin: Jangin) -> None:
    assert jangin("demo", "--sites", 1).status == 2


@pytest.mark.slow
@pytest.mark.soak
def test_the_demo_runs_as_a_newcomer_runs_it() -> None:
    command = [sys.executable, "-m", "jangin", "demo", "--sites", "2", "--rounds", "2", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    line = json.loads(done.stdout)
    assert (line["ok"], line["sites"], line["rounds"], line["privacy"]["mechanism"]) == (True, 2, 2, "M1")
    assert line["metric"]["federated"] > 0


def test_a_stopped_run_says_how_to_go_on_and_then_that_it_does(
    jangin: Jangin, simulation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(bars: Advance, what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(unfinished, "_SECONDS_BETWEEN", 0.0)
    with monkeypatch.context() as first:
        first.setattr(Advance, "__call__", stop)
        said = jangin("simulate", simulation, "--out", tmp_path / "run")
    assert (said.status, said.out) == (130, "")
    assert f"{tmp_path}/.run.part: the same command goes on from there" in said.err
    said = jangin("simulate", simulation, "--out", tmp_path / "run", "--format", "json")
    assert said.status == 0
    assert said.err.splitlines()[0] == "going on after round 1 of 2"
    assert json.loads(said.out)["metric"] == dict(simulate(simulation).metric)


def test_a_stopped_sweep_says_how_to_go_on(
    jangin: Jangin, simulation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(bars: Advance, what: str, done: int, total: int) -> None:
        if what == "round":
            raise KeyboardInterrupt

    monkeypatch.setattr(unfinished, "_SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(Advance, "__call__", stop)
    said = jangin("simulate", simulation, "--sweep", "strategy.lr=0.1,0.2", "--out", tmp_path / "runs")
    assert (said.status, said.out) == (130, "")
    assert f"{tmp_path}/runs/.1-strategy.lr=0.1.part: the same command goes on from there" in said.err


@pytest.mark.parametrize("option", ["--set", "--sweep"])
def test_a_key_that_is_given_twice_is_no_ones_silent_loss(jangin: Jangin, simulation: Path, option: str) -> None:
    said = jangin("simulate", simulation, option, "strategy.lr=0.1", option, "strategy.lr=0.2")
    assert said.status == 2
    assert f"JG-plan-003 {option}" in said.err
    assert "the key is given twice" in said.err
