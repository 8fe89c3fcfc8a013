"""Laws of `jangin site ledger` and `jangin privacy explain --site`: figures in words of two languages, codes else."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from consents import allow

from jangin.client import desk
from jangin.client.state import SiteFolder
from jangin.codec.document import read
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.statement import Deployment, promise_of, state
from jangin.records.checks import validate
from jangin.records.generate import generate
from jangin.records.manifest import read_manifest
from jangin.training.mechanism import mechanism
from jangin.training.price import price

Jangin = Callable[..., Any]
PROCESS = "steel.bof_blow"
PLAN: dict[str, Any] = {
    "campaign": "steel-2026-11",
    "process": PROCESS,
    "model_line": "national-bof-blow",
    "sites": {"invite": ["site-0"], "min_sites": 1},
    "model": {"name": "linear"},
    "strategy": {"name": "fedavg", "rounds": 4, "local_steps": 2, "batch": 50, "lr": 0.05},
    "privacy": {"epsilon": 4, "delta": 1e-5, "nominal_units": 50, "scaling_share": 0},
    "governance": {
        "purposes": ["skill_preservation"],
        "prohibited": ["worker_evaluation", "dismissal"],
        "release": {"recipients": "contributors", "export": "domestic_only"},
    },
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = generate(PROCESS, tmp_path_factory.mktemp("records"), sites=1, masters=2, episodes=12, seed=5)[0]
    validate(folder, level=1, unit="episode", random_bytes=np.random.default_rng(5).bytes).require(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, records: Path) -> Path:
    desk.init(tmp_path / "site", "site-0", PROCESS, records)
    allow(tmp_path / "site")
    return tmp_path / "site"


def planned(folder: Path, **changed: Any) -> Path:
    file = folder / "plan.yaml"
    file.write_text(yaml.safe_dump(PLAN | changed))
    return file


def reserve(folder: Path, file: Path) -> None:
    place = SiteFolder(folder)
    with place.ledger() as ledger:
        desk.reserve(read(file, TrainingPlan), price, place, ledger, desk.now_utc())


def said(jangin: Jangin, *arguments: object) -> dict[str, Any]:
    line = jangin(*arguments, "--format", "json")
    assert (line.status, line.err, line.out.count("\n")) == (0, "", 1)
    return dict(json.loads(line.out))


def test_a_new_site_has_an_empty_ledger(jangin: Jangin, folder: Path) -> None:
    book = said(jangin, "site", "ledger", folder)
    assert (book["ok"], book["site"], book["entries"], book["budgets"], book["campaigns"]) == (
        True,
        "site-0",
        0,
        [],
        [],
    )
    for lang, words in (("en", "No budget yet"), ("ko", "예산 없음")):
        shown = jangin("site", "ledger", folder, "--lang", lang)
        assert (shown.status, shown.err, words in shown.out) == (0, "", True)


def test_what_a_plan_leaves_is_said_before_and_after_it_is_reserved(
    jangin: Jangin, tmp_path: Path, folder: Path, records: Path
) -> None:
    plan = planned(tmp_path)
    foreseen = said(jangin, "privacy", "explain", plan, "--site", folder)["site"]
    assert foreseen["episodes"] == len(read_manifest(records).train)
    assert said(jangin, "site", "ledger", folder)["entries"] == 0
    shown = jangin("privacy", "explain", plan, "--site", folder, "--lang", "ko")
    assert (shown.status, shown.err, "예산" in shown.out, "참여" in shown.out) == (0, "", True, True)
    reserve(folder, plan)
    book = said(jangin, "site", "ledger", folder)
    assert [one["after"] for one in foreseen["foresights"]] == book["budgets"][0]["balances"]
    (campaign,) = book["campaigns"]
    assert (campaign["hash"], campaign["stage"], campaign["reserved"]) == (foreseen["hash"], "reserved", 4)
    assert campaign["costs"][0]["tight_epsilon"] == pytest.approx(4, rel=0.01)
    for lang, words in (
        ("en", ("the server and all other sites together", "every signature holds", "[#", "reserved", "ε by PLD")),
        ("ko", ("서버와 나머지 모든 사업장이 결탁한 경우", "모든 서명 확인됨", "[#", "예약", "PLD의 ε")),
    ):
        text = jangin("site", "ledger", folder, "--lang", lang).out
        assert all(word in text for word in (*words, book["head"][:16], campaign["hash"][:12]))
        assert book["head"][:17] not in text


def test_one_unit_and_all_units_are_shown_by_name(jangin: Jangin, tmp_path: Path, folder: Path, records: Path) -> None:
    reserve(folder, planned(tmp_path))
    manifest = read_manifest(records)
    listed = said(jangin, "site", "ledger", folder, "--unit", "episode")["units"]
    assert sorted(one["name"] for one in listed) == sorted(manifest.train)
    name = manifest.train[0]
    one = said(jangin, "site", "ledger", folder, "--unit", name)
    assert (one["balance"] in listed, len(one["campaigns"])) == (True, 1)
    held_out = said(jangin, "site", "ledger", folder, "--unit", manifest.holdout[0])
    assert (held_out["campaigns"], held_out["balance"]["balances"][0]["epsilon"]) == ([], 0.0)
    for lang in ("en", "ko"):
        assert name in jangin("site", "ledger", folder, "--unit", "episode", "--lang", lang).out
        assert one["balance"]["key"] in jangin("site", "ledger", folder, "--unit", one["balance"]["key"]).out


def test_what_has_no_promise_reads_so(jangin: Jangin, tmp_path: Path, folder: Path) -> None:
    plan = planned(tmp_path, privacy={"epsilon": "none"})
    shown = jangin("privacy", "explain", plan, "--site", folder, "--format", "json")
    assert (shown.status, json.loads(shown.out)["code"]) == (1, "JG-privacy-024")
    settings = folder / "site.yaml"
    settings.write_text(settings.read_text().replace("privacy: false", "privacy: true"))
    assert said(jangin, "privacy", "explain", plan, "--site", folder)["site"]["foresights"][0]["after"]["left"] == 0
    reserve(folder, plan)
    assert "NO DIFFERENTIAL PRIVACY" in jangin("site", "ledger", folder, "--lang", "ko").out


def test_what_cannot_be_shown_or_tried_has_a_code(jangin: Jangin, tmp_path: Path, folder: Path) -> None:
    def code(*arguments: object) -> tuple[int, str]:
        shown = jangin(*arguments, "--format", "json")
        return shown.status, json.loads(shown.out)["code"]

    assert code("site", "ledger", tmp_path / "none") == (1, "JG-site-304")
    assert code("site", "ledger", folder, "--unit", "h-99") == (1, "JG-site-344")
    assert code("site", "ledger", folder, "--unit", "master") == (1, "JG-privacy-022")
    dear = planned(tmp_path, privacy=PLAN["privacy"] | {"epsilon": 8})
    assert code("privacy", "explain", dear, "--site", folder) == (1, "JG-privacy-031")
    (folder / "ledger.head").unlink()
    assert code("site", "ledger", folder) == (1, "JG-privacy-027")


def test_a_statement_is_compared_with_the_ledger_that_paid_for_it(jangin: Jangin, tmp_path: Path, folder: Path) -> None:
    file = planned(tmp_path)
    plan = read(file, TrainingPlan)
    made = mechanism(plan.privacy, plan.strategy, 50)
    assert made is not None

    def stated(hash_: str, noise: float = 1.0) -> Path:
        deployment = Deployment(
            kind="campaign",
            name=plan.campaign,
            plan_hash=hash_,
            model_line=plan.model_line,
            process=plan.process,
            sites=1,
            rounds_planned=4,
            rounds_done=4,
            rounds_charged=4,
        )
        louder = replace(made.steps, noise_multiplier=noise * made.steps.noise_multiplier)
        promise = promise_of(replace(made, steps=louder), plan.strategy.rounds)
        (tmp_path / "statement.json").write_bytes(state(deployment, promise).as_json())
        return tmp_path / "statement.json"

    assert "JG-privacy-045" in jangin("privacy", "verify", stated(plan.hash), "--site", folder).err
    reserve(folder, file)
    assert said(jangin, "privacy", "verify", stated(plan.hash), "--site", folder)["verdict"] == "holds"
    other = jangin("privacy", "verify", stated(plan.hash, noise=1.01), "--site", folder)
    assert (other.status, "JG-privacy-044" in other.err) == (1, True)
