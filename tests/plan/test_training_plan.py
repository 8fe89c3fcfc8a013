"""Laws of the training plan: one document, one hash, and nothing in it that cannot be carried out."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from jangin.codec.document import assign, parse
from jangin.errors import PlanError
from jangin.models.lines import read_line
from jangin.plan.blocks import PrivacyBlock
from jangin.plan.training_plan import TrainingPlan, read_plan
from jangin.strategies.check import check

TEXT = """
campaign: weld-2026-11
process: pipe.tig_weld
model_line: national-weld
sites: {invite: [kr-0421, kr-0422, kr-0423, kr-0424, kr-0425], quorum: 0.7, min_sites: 2, round_deadline: 2h}
model: {name: mlp, hidden: [64, 64]}
strategy: {name: fedadam, rounds: 30, local_steps: 10, batch: 32, lr: 0.05, server_lr: 0.1}
privacy: {unit: episode, mechanism: M1, epsilon: 4, delta: 1e-5, clip: 1.0, nominal_units: 400, \
windows_per_episode: 4, scaling_share: 0.1, secure_aggregation: required}
evaluate: {metrics: [mae, rmse], bound: [0, 500], every: 5, epsilon_share: 0.1, \
stop_if: {metric: mae, no_gain_rounds: 6}}
governance: {purposes: [skill_preservation], prohibited: [worker_evaluation, dismissal], \
release: {recipients: contributors, export: domestic_only}}
kpi: {name: reject_rate, baseline: 0.081}
"""


def plan(**changes: object) -> TrainingPlan:
    """The plan with dotted keys changed; `None` takes a key out."""
    tree = yaml.safe_load(TEXT) | {"privacy": yaml.safe_load(TEXT)["privacy"] | {"delta": 1e-5}}
    for key, value in changes.items():
        if value is None:
            path, _, last = key.rpartition(".")
            at(tree, path).pop(last)
        else:
            assign(tree, key, value)
    return parse(tree, TrainingPlan, "plan.yaml")


def at(tree: Any, dotted: str) -> Any:
    for step in filter(None, dotted.split(".")):
        tree = tree[step]
    return tree


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def reordered(tree: Any) -> Any:
    return {key: reordered(tree[key]) for key in reversed(tree)} if isinstance(tree, dict) else tree


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_plan_is_read_from_its_file(file: Path) -> None:
    read = read_plan(file)
    assert read == plan()
    assert read.privacy.delta == 1e-5
    assert read.sites.invite == ("kr-0421", "kr-0422", "kr-0423", "kr-0424", "kr-0425")


def test_the_hash_of_a_plan_never_changes(file: Path) -> None:
    """Without sums it is that of the time before there were any: approvals and ledgers know a plan by it."""
    in_clear = plan(**{"privacy.secure_aggregation": "none"})
    assert in_clear.hash == "4d1bdd34bde53dc2c8fd22fd9979bc14c8cfe02999e008a5b4c4c23e3344c6f5"
    assert read_plan(file).hash == "6c9f6ea9972135d31b7ffb24707fe5fb9acbff8c7c44b66821712d6c034e139e"


def test_the_hash_is_the_same_in_another_process(file: Path) -> None:
    script = "import sys; from pathlib import Path; from jangin.plan.training_plan import read_plan\n"
    script += "print(read_plan(Path(sys.argv[1])).hash)"
    done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == plan().hash


def test_the_order_of_keys_is_no_part_of_a_plan(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(reordered(plan().model_dump(mode="json")), sort_keys=False), encoding="utf-8")
    assert other.read_text() != file.read_text()
    assert read_plan(other).hash == read_plan(file).hash


def test_defaults_written_out_are_the_same_plan() -> None:
    short = plan(**{"sites.quorum": None, "sites.round_deadline": None, "privacy.clip": None, "model.hidden": None})
    assert short.hash == plan().hash
    assert parse(plan().model_dump(mode="json"), TrainingPlan, "plan.yaml").hash == plan().hash


def test_one_number_written_in_two_ways_is_the_same_plan() -> None:
    assert plan(**{"privacy.epsilon": 4.0, "strategy.rounds": 30.0, "evaluate.bound": [0.0, 5e2]}).hash == plan().hash


CHANGES: dict[str, object] = {
    "campaign": "weld-2026-12",
    "sites.invite": ["kr-0421", "kr-0423", "kr-0422", "kr-0424", "kr-0425"],
    "sites.round_deadline": "3h",
    "model.hidden": [64],
    "model.personal": ["head"],
    "strategy.beta1": 0.5,
    "strategy.beta2": 0.5,
    "privacy.unit": "master",
    "privacy.secure_aggregation": "none",
    "evaluate.metrics": ["rmse", "mae"],
    "evaluate.bound": [0, 501],
    "evaluate.stop_if.metric": "rmse",
    "governance.purposes": ["safety"],
    "governance.prohibited": ["worker_evaluation", "dismissal", "reassignment"],
    "governance.release.recipients": "roster",
    "governance.release.export": "unrestricted",
}
NAMES = ("model.name", "strategy.name", "privacy.mechanism")  # what they bring with them changes too


def another(value: Any) -> object:
    match value:
        case None:
            return 1
        case str():
            return value + "2"
        case int():
            return value + 1
        case _:
            return value * 1.01


@pytest.mark.parametrize("key", [key for key, _ in leaves(plan().model_dump(mode="json")) if key not in NAMES])
def test_any_changed_value_is_another_plan(key: str) -> None:
    changed = CHANGES.get(key) or another(at(plan().model_dump(mode="json"), key))
    assert plan(**{key: changed}).hash != plan().hash


def test_another_model_or_strategy_is_another_plan() -> None:
    strategy = {"rounds": 30, "local_steps": 10, "batch": 32, "lr": 0.05, "server_lr": 0.1}
    names = ("fedavg", "median", "fedprox")
    hashes = {plan(strategy={"name": name} | strategy).hash for name in names} | {plan().hash}
    hashes |= {plan(model={"name": name}).hash for name in ("linear", "cnn1d")}
    assert len(hashes) == 6


def test_delta_is_at_most_a_tenth_of_one_over_the_units() -> None:
    assert plan(**{"privacy.delta": 1 / 4000}).privacy.delta == 1 / 4000
    with pytest.raises(PlanError, match=r"JG-plan-020 privacy\.delta: delta 0\.000251 .* 400 units.*at most 0\.00025,"):
        plan(**{"privacy.delta": 0.000251})


@pytest.mark.parametrize("units", [1, 3, 7, 15, 400, 12_345])
def test_the_delta_that_the_hint_names_is_accepted(units: int) -> None:
    with pytest.raises(PlanError) as caught:
        plan(**{"privacy.delta": 0.5, "privacy.nominal_units": units})
    assert plan(**{"privacy.delta": float(str(caught.value.coded.values["most"])), "privacy.nominal_units": units})


def test_a_plan_with_an_epsilon_says_how_many_units_are_public() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-003 .*privacy\.nominal_units is needed"):
        plan(**{"privacy.nominal_units": None})
    with pytest.raises(PlanError, match="or with secure_aggregation"):
        plan(**{"privacy.nominal_units": None, "privacy.epsilon": "none"})
    bare = {"privacy.nominal_units": None, "privacy.epsilon": "none", "privacy.secure_aggregation": "none"}
    assert plan(**bare).privacy.nominal_units is None


def test_a_plan_that_would_let_workers_be_measured_is_refused() -> None:
    for prohibited, lacks in ((["dismissal"], "worker_evaluation"), (["worker_evaluation"], "dismissal")):
        with pytest.raises(PlanError, match=rf"JG-plan-055 governance.*prohibit {lacks} by name"):
            plan(**{"governance.prohibited": prohibited})


def test_a_purpose_is_one_of_the_words_in_which_masters_consent() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-003 .*purposes.*skill_preservation"):
        plan(**{"governance.purposes": ["profit"]})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("sites.invite", ["kr-0421", "kr-0421"], "invited twice"),
        ("sites.min_sites", 6, "min_sites 6 is more than the 5 invited"),
        ("sites.quorum", 0, "greater than 0"),
        ("sites.quorum", 1.01, "less than or equal to 1"),
        ("sites.round_deadline", "0h", "round_deadline.*pattern"),
        ("sites.round_deadline", "2 hours", "round_deadline.*pattern"),
        ("campaign", "Weld 2026", "campaign.*pattern"),
        ("evaluate.bound", [500, 0], "low < high"),
        ("evaluate.bound", [1, 1], "low < high"),
        ("evaluate.stop_if.metric", "auc", "auc, which is not among the metrics"),
        ("evaluate.metrics", [], "at least 1"),
        ("evaluate.metrics", ["mae", "mae"], "named twice"),
        ("evaluate.bound", [-1, 1], "greater than or equal to 0"),
        ("evaluate.epsilon_share", 0, "greater than 0"),
        ("evaluate", {"metrics": ["accuracy"], "bound": [0, 2]}, r"the bound of accuracy is \[0, 1\]"),
        ("governance.purposes", [], "at least 1"),
        ("governance.release.export", "anywhere", r"governance\.release\.export"),
        ("privacy.epsilon", 0, r"privacy\.epsilon.*greater than or equal to 0\.001"),
        ("privacy.delta", 0, r"privacy\.delta.*greater than 0"),
        ("privacy.scaling_share", 1, "less than 1"),
        ("strategy.beta1", 1, r"strategy\.beta1.*less than 1"),
        ("strategy.lr", 0, r"strategy\.lr.*greater than 0"),
        ("seed", -1, "seed.*greater than or equal to 0"),
        ("seed", 2**31, "seed.*less than"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(key: str, value: object, said: str) -> None:
    with pytest.raises(PlanError, match=rf"JG-plan-003 plan\.yaml.*{said}"):
        plan(**{key: value})


@pytest.mark.parametrize("metric", ["macro_f1", "average_precision", "auc"])
def test_what_is_no_mean_over_units_is_never_evaluated(metric: str) -> None:
    with pytest.raises(PlanError, match=rf"JG-plan-040 evaluate\.metrics: {metric} .*mae, mse, rmse, accuracy"):
        plan(**{"evaluate.metrics": [metric], "evaluate.stop_if": None})


def test_an_evaluation_is_of_five_sites_or_more() -> None:
    few = {"sites.invite": [f"site-{number}" for number in range(4)]}
    with pytest.raises(PlanError, match=r"JG-plan-041 sites\.invite: 4 sites .*takes 5"):
        plan(**few)
    assert plan(**few, evaluate=None).evaluated_rounds == ()


@pytest.mark.parametrize(
    ("rounds", "every", "evaluated"),
    [(30, 10, (10, 20, 30)), (30, 7, (7, 14, 21, 28, 30)), (3, 5, (3,)), (5, 5, (5,)), (3, 1, (1, 2, 3))],
)
def test_a_model_is_evaluated_every_so_many_rounds_and_after_the_last(
    rounds: int, every: int, evaluated: tuple[int, ...]
) -> None:
    assert plan(**{"strategy.rounds": rounds, "evaluate.every": every}).evaluated_rounds == evaluated


@pytest.mark.parametrize("key", ["campaign", "process", "model_line", "sites.min_sites", "strategy.lr", "governance"])
def test_what_has_no_right_default_must_be_given(key: str) -> None:
    with pytest.raises(PlanError, match=rf"JG-plan-002 .*'{key}' is missing"):
        plan(**{key: None})


def test_a_strategy_knows_no_setting_of_another() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-001 .*'strategy\.mu'"):
        plan(**{"strategy.mu": 0.1})


def test_the_plan_in_the_documents_can_be_carried_out(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "federation.md"
    if not page.exists():
        pytest.skip("the documents are not in this tree")
    (text,) = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "plan.yaml").write_text(text)
    shown = read_plan(tmp_path / "plan.yaml")
    assert set(yaml.safe_load(text)) == set(TrainingPlan.model_fields) - {"evaluate", "kpi"}
    assert f"hash: {shown.hash}\n" in page.read_text(encoding="utf-8")
    assert read_line(shown.model_line).process == shown.process
    check(shown.strategy, shown.privacy)


def shared(mechanism: str, **changes: object) -> TrainingPlan:
    """A plan of twelve sites that share noise."""
    sites = {"sites.invite": [f"site-{number}" for number in range(12)], "sites.min_sites": 10}
    privacy = {"privacy.mechanism": mechanism, "privacy.secure_aggregation": "required", "privacy.n_plan": 10}
    return plan(**(sites | privacy | changes))


@pytest.mark.parametrize("mechanism", ["M2", "M3"])
def test_in_the_field_noise_is_shared_under_secure_aggregation_alone(mechanism: str) -> None:
    assert shared(mechanism).privacy.shares_noise
    with pytest.raises(PlanError, match=rf"JG-plan-032 privacy\.secure_aggregation: mechanism {mechanism}"):
        shared(mechanism, **{"privacy.secure_aggregation": "none"})


@pytest.mark.parametrize("mechanism", ["M2", "M3"])
def test_a_share_of_noise_needs_the_public_number_of_those_who_share(mechanism: str) -> None:
    unsaid = {"privacy.mechanism": mechanism, "privacy.secure_aggregation": "required"}
    with pytest.raises(PlanError, match=r"JG-plan-003 .*privacy\.n_plan is needed"):
        plan(**unsaid)


def test_noise_is_not_shared_among_more_sites_than_are_invited() -> None:
    assert shared("M2", **{"privacy.n_plan": 12}).privacy.n_plan == 12
    with pytest.raises(PlanError, match=r"JG-plan-034 privacy\.n_plan: .*fewer than 13 sites, and 12 can be"):
        shared("M2", **{"privacy.n_plan": 13})


def test_no_sum_is_opened_by_more_sites_than_begin_it() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-003 .*n_min_final 11 is more than the 10"):
        shared("M2", **{"privacy.n_min_final": 11})


def test_delta_counts_the_units_of_all_sites_that_share_noise() -> None:
    units = {"privacy.nominal_units": 200, "privacy.delta": 1e-4}
    assert plan(**units).privacy.delta == 1e-4
    with pytest.raises(PlanError, match="JG-plan-020"):
        shared("M2", **units)


def test_spare_rounds_are_charged_with_the_others_where_sums_may_be_done_anew() -> None:
    rounds = plan().strategy.rounds
    assert plan(**{"privacy.secure_aggregation": "none"}).charged_rounds == rounds
    assert shared("M2").charged_rounds == rounds + 2
    assert shared("M2", **{"privacy.spare_rounds": 0}).charged_rounds == rounds
    assert plan(**{"privacy.secure_aggregation": "required", "privacy.spare_rounds": 5}).charged_rounds == rounds + 5


SUMS = {"c_max", "n_plan", "n_min_final"}
REQUIRED = {"spare_rounds", "cells"}
OF_SUMS = {*SUMS, *REQUIRED, "coalition_epsilon", "update_clip"}


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ({}, set()),
        ({"epsilon": 4.0}, set()),
        ({"mechanism": "M2"}, SUMS | {"coalition_epsilon"}),
        ({"mechanism": "M3"}, SUMS | {"coalition_epsilon"}),
        ({"secure_aggregation": "required"}, SUMS | REQUIRED | {"update_clip"}),
        ({"secure_aggregation": "required", "epsilon": 4.0}, SUMS | REQUIRED | {"update_clip"}),
        ({"secure_aggregation": "required", "epsilon": 4.0, "mechanism": "M2"}, OF_SUMS - {"update_clip"}),
        ({"secure_aggregation": "required", "mechanism": "M2"}, OF_SUMS),
    ],
    ids=lambda keys: " ".join(sorted(keys)) or "none",
)
def test_constants_stand_where_they_are_read_and_in_no_other_plan_or_hash(
    asked: dict[str, object], read: set[str]
) -> None:
    for key in OF_SUMS:
        whole = asked | {key: 7}
        if key in read:
            parse(whole, PrivacyBlock, "plan.yaml")
        else:
            with pytest.raises(PlanError, match=rf"JG-plan-003 .*{key} belongs to "):
                parse(whole, PrivacyBlock, "plan.yaml")
    block = parse(asked, PrivacyBlock, "plan.yaml")
    written = block.model_dump(mode="json")
    assert OF_SUMS & set(written) == read - {"n_min_final", "cells"}
    assert parse(written, PrivacyBlock, "plan.yaml") == block


def test_the_hash_of_a_simulation_of_masters_has_not_changed_with_the_other_sums() -> None:
    block = parse({"mechanism": "M3", "n_plan": 75}, PrivacyBlock, "plan.yaml")
    assert block.digest("privacy") == "d5c8b990ef3887d90bd22406b46598bd52fce68a3078ee6ba3cb60dcf60208de"


@pytest.mark.parametrize(("text", "seconds"), [("20s", 20), ("3m", 180), ("2h", 7200), ("1d", 86_400)])
def test_a_deadline_in_seconds(text: str, seconds: float) -> None:
    assert plan(**{"sites.round_deadline": text}).sites.deadline_s == seconds
