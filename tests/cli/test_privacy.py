"""Laws of `jangin privacy`: what a plan costs is said before it runs; a statement holds, or the command fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Jangin = Callable[..., Any]
GOLDEN = Path(__file__).parents[1] / "vectors" / "statement" / "statement.json"
PRIVACY = {"epsilon": 2, "delta": 1e-4, "nominal_units": 50, "scaling_share": 0}
PLAN: dict[str, Any] = {
    "campaign": "steel-2026-11",
    "process": "steel.bof_blow",
    "model_line": "national-bof-blow",
    "sites": {"invite": ["site-0", "site-1", "site-2"], "min_sites": 2},
    "model": {"name": "linear"},
    "strategy": {"name": "fedavg", "rounds": 8, "local_steps": 2, "batch": 50, "lr": 0.05},
    "privacy": PRIVACY,
    "governance": {
        "purposes": ["skill_preservation"],
        "prohibited": ["worker_evaluation", "dismissal"],
        "release": {"recipients": "contributors", "export": "domestic_only"},
    },
}
RECORDS = {"records": ["a", "b", "c"], "model_line": "national-bof-blow"}
MADE = {"process": "steel.bof_blow", "model_line": "national-bof-blow", "sites": 3, "masters": 2, "episodes": 60}


def written(folder: Path, tree: dict[str, Any]) -> Path:
    file = folder / "plan.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def simulated(data: dict[str, Any], privacy: dict[str, Any]) -> dict[str, Any]:
    return {"data": data, "privacy": privacy, **{key: PLAN[key] for key in ("model", "strategy")}}


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("en", ("one episode of a site", "A master with 10 episodes", "no promise", "the plan can learn", "at least")),
        ("ko", ("사업장의 에피소드 하나", "에피소드 100개인 장인", "약속 없음", "학습할 수 있는 계획", "이상")),
    ],
)
def test_a_plan_is_explained_in_words(jangin: Jangin, tmp_path: Path, lang: str, words: tuple[str, ...]) -> None:
    said = jangin("privacy", "explain", written(tmp_path, PLAN), "--lang", lang)
    assert (said.status, said.err) == (0, "")
    assert all(word in said.out for word in (*words, "ε = 1.99", "δ = 0.0001", "nominal_units"))


@pytest.mark.parametrize(("lang", "words"), [("en", "of which H = 11 count"), ("ko", "H = 11 몫만 셈")])
def test_shared_noise_is_explained_with_the_shares_that_count(
    jangin: Jangin, tmp_path: Path, lang: str, words: str
) -> None:
    tree = simulated(MADE | {"sites": 20}, PRIVACY | {"mechanism": "M2", "delta": 1e-5})
    tree["strategy"] = tree["strategy"] | {"local_steps": 1}
    said = jangin("privacy", "explain", written(tmp_path, tree), "--lang", lang)
    assert (said.status, said.err) == (0, "")
    assert all(word in said.out for word in (words, "n_plan = 20", "c_max = 3", "M2"))


def test_a_simulation_costs_what_the_plan_of_its_blocks_costs(jangin: Jangin, tmp_path: Path) -> None:
    told = []
    for tree in (PLAN, simulated(MADE, PRIVACY), simulated(RECORDS, PRIVACY)):
        said = jangin("privacy", "explain", written(tmp_path, tree), "--format", "json")
        assert (said.status, said.out.count("\n")) == (0, 1)
        told.append(json.loads(said.out))
    assert told[0]["ok"] is True
    assert told[0] == told[1] == told[2]
    price = told[0]["privacy"]
    assert (price["unit"], price["sites"], price["steps"], price["learns"]) == ("episode", 3, 16, True)
    assert [part["rounds"] for part in price["readings"]["secure_sum"]["by_rounds"]] == [2, 4, 6, 8]
    assert price["thresholds"]["epsilon"] < 2


@pytest.mark.parametrize(
    "tree",
    [PLAN | {"privacy": {"epsilon": "none"}}, simulated({"npz": "set.npz", "task": "regression"}, {"epsilon": "none"})],
    ids=["plan", "npz"],
)
def test_a_plan_without_privacy_says_so(jangin: Jangin, tmp_path: Path, tree: dict[str, Any]) -> None:
    assert jangin("privacy", "explain", written(tmp_path, tree)).out == "NO DIFFERENTIAL PRIVACY\n"
    line = json.loads(jangin("privacy", "explain", written(tmp_path, tree), "--format", "json").out)
    assert line == {"ok": True, "privacy": "NO DIFFERENTIAL PRIVACY"}


@pytest.mark.parametrize(
    ("tree", "code", "status"),
    [
        (simulated({"npz": "set.npz", "task": "regression"}, PRIVACY), "JG-privacy-043", 1),
        (simulated(MADE, {"epsilon": 2, "delta": 1e-4}), "JG-privacy-043", 1),
        (PLAN | {"privacy": PRIVACY | {"delta": 0.1}}, "JG-plan-020", 2),
        (PLAN | {"privacy": PRIVACY | {"secure_aggregation": "required", "n_plan": 2}}, "JG-plan-033", 2),
        (PLAN | {"privcy": {}}, "JG-plan-001", 2),
    ],
)
def test_what_cannot_be_explained_has_a_code(
    jangin: Jangin, tmp_path: Path, tree: dict[str, Any], code: str, status: int
) -> None:
    said = jangin("privacy", "explain", written(tmp_path, tree), "--format", "json")
    assert (said.status, json.loads(said.out)["code"]) == (status, code)


@pytest.mark.parametrize(("lang", "yes"), [("en", "yes"), ("ko", "예")])
def test_a_statement_that_holds_is_a_table_and_status_0(jangin: Jangin, lang: str, yes: str) -> None:
    said = jangin("privacy", "verify", GOLDEN, "--lang", lang)
    assert (said.status, said.err, said.out.splitlines()[0]) == (0, "", "holds")
    assert yes in said.out
    line = json.loads(jangin("privacy", "verify", GOLDEN, "--format", "json").out)
    assert (line["ok"], line["verdict"], {figure["holds"] for figure in line["figures"]}) == (True, "holds", {True})


def test_another_noise_multiplier_does_not_hold(jangin: Jangin, tmp_path: Path) -> None:
    tree = json.loads(GOLDEN.read_bytes())
    tree["privacy_loss"]["readings"]["secure_sum"]["events"][1]["noise_multiplier"] *= 1.05
    bent = tmp_path / "bent.json"
    bent.write_text(json.dumps(tree))
    said = jangin("privacy", "verify", bent, "--lang", "en")
    assert (said.status, said.out.splitlines()[0]) == (1, "DOES NOT HOLD")
    assert "JG-privacy-042" in said.err
    assert "NO" in said.out
    said = jangin("privacy", "verify", bent, "--format", "json")
    line = json.loads(said.out)
    assert (said.status, line["ok"], line["code"], line["verdict"]) == (1, False, "JG-privacy-042", "DOES NOT HOLD")


def test_no_promise_is_no_promise_that_holds(jangin: Jangin, tmp_path: Path) -> None:
    from jangin.privacy.statement import read_statement, state

    plain = tmp_path / "plain.json"
    plain.write_bytes(state(read_statement(GOLDEN.read_bytes(), "golden").deployment, None).as_json())
    said = jangin("privacy", "verify", plain)
    assert (said.status, said.out) == (1, "NO DIFFERENTIAL PRIVACY\n")


@pytest.mark.parametrize("content", [None, b"{}"])
def test_what_is_no_statement_has_a_code(jangin: Jangin, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "other.json"
    if content is not None:
        file.write_bytes(content)
    said = jangin("privacy", "verify", file, "--format", "json")
    assert (said.status, json.loads(said.out)["code"]) == (1, "JG-privacy-041")
