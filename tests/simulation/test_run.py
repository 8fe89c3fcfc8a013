"""Laws of `simulate`: seeds, equalities with plain numpy, the promise, figures and warnings."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant

from jangin import simulate
from jangin.errors import PlanError, PrivacyError, SimulationError
from jangin.simulation.result import Scores
from jangin.simulation.setting import Setting

Write = Callable[..., Path]
Rows = Callable[..., dict[str, np.ndarray]]
ALL = ["local", "local_trees", "pooled", "personalised", "constant"]
STRATEGIES = ["fedavg", "fedadam", "fedprox", "median", "mrmtl"]
MODELS = [
    {"name": "linear"},
    {"name": "mlp", "hidden": [8]},
    {"name": "cnn1d", "channels": [4], "kernel": 3, "groups": 2},
]


def test_the_same_seed_gives_the_same_bits_without_privacy_and_another_seed_others(write: Write) -> None:
    file = write(sets={"model": MODELS[1]})
    first, again, other = (simulate(file, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.parameters, again.parameters)
    assert not np.array_equal(first.parameters, other.parameters)
    two, same = (simulate(file, seed=1, threads=2).parameters for _ in range(2))
    np.testing.assert_array_equal(two, same)
    np.testing.assert_allclose(two, first.parameters, rtol=0, atol=1e-6)


def test_the_order_of_rows_between_sites_changes_nothing_and_sites_stand_by_number(write: Write, rows: Rows) -> None:
    arrays = rows("regression")
    names = {0: 7, 1: 2, 2: 5}
    arrays["silo"] = np.array([names[number] for number in arrays["silo"]])
    mixed = {key: value[np.argsort(np.arange(len(value)) % 5, kind="stable")] for key, value in arrays.items()}
    result = simulate(write(arrays))
    assert result.sites == ("site-2", "site-5", "site-7")
    in_order = np.lexsort((mixed["unit"], mixed["silo"]))
    ordered = simulate(write({key: value[in_order] for key, value in mixed.items()}))
    np.testing.assert_array_equal(ordered.parameters, result.parameters)


def test_fedavg_of_one_full_step_is_gradient_descent_on_the_mean_of_site_losses(write: Write, rows: Rows) -> None:
    """The same in twenty lines of numpy: scaled by all training rows, then the mean of the sites' gradients."""
    arrays, lr, count = rows("regression"), 0.1, 12
    block = {"strategy.local_steps": 1, "strategy.batch": 1000, "strategy.lr": lr, "strategy.rounds": count}
    result = simulate(write(arrays, block))
    train = arrays["split"] == 0
    columns = np.column_stack([arrays["X"], arrays["y"]]).astype(np.float64)
    scaled = (columns - columns[train].mean(axis=0)) / columns[train].std(axis=0)
    sites = [scaled[train & (arrays["silo"] == silo)] for silo in range(3)]
    assert len({len(site) for site in sites}) == 3
    weights, bias = np.zeros(3), 0.0
    for _ in range(count):
        errors = [site[:, :3] @ weights + bias - site[:, 3] for site in sites]
        step = np.mean([2 * site[:, :3].T @ e / len(e) for site, e in zip(sites, errors, strict=True)], axis=0)
        bias -= lr * np.mean([2 * e.mean() for e in errors])
        weights -= lr * step
    np.testing.assert_allclose(result.parameters, [*weights, bias], rtol=1e-5, atol=1e-6)


def test_identical_sites_that_see_all_their_records_equal_the_pool(write: Write, rows: Rows) -> None:
    one = rows("regression", sizes=(40,))
    arrays = {key: np.concatenate([value] * 3) for key, value in one.items()}
    arrays["silo"] = np.repeat(np.arange(3), 40)
    arrays["unit"] = np.arange(120)
    block = {"strategy.batch": 30, "baselines": ["pooled", "local"], "strategy.lr": 0.02}
    result = simulate(write(arrays, block))
    assert result.metric["federated"] == pytest.approx(result.metric["pooled"], rel=1e-5)
    assert result.metric["federated"] == pytest.approx(result.metric["local"], rel=1e-5)
    assert len(set(result.per_site["federated"])) == 1


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["name"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.no_cover
def test_every_strategy_trains_every_model_to_beat_the_constant(
    write: Write, rows: Rows, strategy: str, model: dict[str, Any]
) -> None:
    block = {
        "strategy.name": strategy,
        "strategy.rounds": 15,
        "strategy.local_steps": 5,
        "strategy.lr": 0.01,
        "model": model,
        "baselines": ["constant"],
    }
    if strategy == "fedadam":
        block["strategy.server_lr"] = 0.05
    result = simulate(write(rows("regression", (3, 8)), block))
    assert result.metric["federated"] < 0.9 * result.metric["constant"]
    assert len(result.parameters) == result.layout.size


@pytest.mark.parametrize(
    ("task", "metric", "outputs"),
    [
        ("regression", "mae", 1),
        ("regression", "mse", 1),
        ("binary", "auc", 1),
        ("binary", "average_precision", 1),
        ("multiclass", "macro_f1", 3),
        ("multiclass", "accuracy", 3),
    ],
)
def test_every_task_learns_by_every_kind_of_metric(write: Write, task: str, metric: str, outputs: int) -> None:
    file = write(sets={"metric": metric, "strategy.rounds": 15, "baselines": ["constant"]}, task=task)
    result = simulate(file)
    better = result.metric["federated"] - result.metric["constant"]
    assert (better > 0.05) if result.metric["higher_is_better"] else (better < -0.05)
    assert len(result.parameters) == outputs * (3 + 1)


def test_proximal_pull_keeps_the_model_nearer_to_its_start(write: Write) -> None:
    start, free, held = (
        simulate(write(sets={"strategy.name": "fedprox", "strategy.rounds": 1, "strategy.mu": mu, "strategy.lr": lr}))
        for mu, lr in ((0.0, 1e-12), (0.0, 0.05), (9.0, 0.05))
    )

    def moved(result: Any) -> float:
        return float(np.linalg.norm(result.parameters - start.parameters))

    assert 0 < moved(held) < moved(free)


def test_mrmtl_fits_each_site_better_than_the_mean_of_all_does_and_others_worse(write: Write) -> None:
    mrmtl = {"name": "mrmtl", "rounds": 30, "local_steps": 5, "batch": 8, "lr": 0.02, "lam": 0.5}
    result = simulate(write(sets={"baselines": ["personalised"]}), strategy=mrmtl)
    assert result.metric["personalised"] < 0.9 * result.metric["federated"]
    assert result.union["personalised"] > result.metric["personalised"]
    alone = simulate(write(), strategy=mrmtl | {"lam": 0.0}, baselines=["personalised"])
    assert result.union["personalised"] < alone.union["personalised"]


def test_mrmtl_of_one_site_without_a_pull_is_fedavg(write: Write, rows: Rows) -> None:
    file = write(rows("regression", sizes=(40,)), {"baselines": ["personalised"]})
    alone = simulate(file, **{"strategy.name": "mrmtl", "strategy.lam": 0.0, "strategy.finetune_steps": 1})
    np.testing.assert_allclose(alone.parameters, simulate(file).parameters, rtol=1e-6)
    assert alone.metric["personalised"] == pytest.approx(alone.metric["federated"], rel=1e-5)


def test_a_personal_part_stays_at_its_site_and_out_of_the_model_that_is_kept(write: Write, rows: Rows) -> None:
    block = {"model": MODELS[1] | {"personal": ["head"]}, "strategy.rounds": 20, "strategy.local_steps": 5}
    result = simulate(write(rows("regression"), block))
    personal = [entry for entry in result.layout.entries if not entry.shared]
    assert {entry.name for entry in personal} == {"head.weight", "head.bias"}
    assert len(result.parameters) == result.layout.size - sum(entry.size for entry in personal)
    # Each site's own head fits its own offset, and not the others'.
    assert result.union["federated"] > 1.1 * result.metric["federated"]


def test_models_of_single_sites_are_judged_on_all_hold_outs_after_the_last_round_alone(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, score = [], Setting.score

    def noted(self: Setting, predict: Any, *, common: bool, union: bool = True) -> Scores:
        asked.append(union)
        return score(self, predict, common=common, union=union)

    monkeypatch.setattr(Setting, "score", noted)
    result = simulate(write(sets={"model": MODELS[1] | {"personal": ["head"]}, "strategy.rounds": 3, "baselines": []}))
    assert asked == [False, False, True]
    assert math.isfinite(result.union["federated"])


def test_a_model_common_to_all_has_one_figure_on_all_records(write: Write) -> None:
    result = simulate(write(sets={"baselines": ALL}))
    for name in ("federated", "pooled", "constant"):
        assert result.union[name] == result.metric[name]
    for name in ("local", "local_trees"):
        assert result.union[name] > result.metric[name]


def test_every_hold_out_record_counts_the_same_and_per_site_every_site(write: Write) -> None:
    file = write(sets={"metric": "mse", "baselines": ALL})
    whole, by_site = simulate(file), simulate(file, per_site=True)
    for name in (*ALL, "federated"):
        sites = whole.per_site[name]
        assert whole.metric[name] == pytest.approx(np.average(sites, weights=(10, 12, 14)), rel=1e-5)
        assert by_site.metric[name] == pytest.approx(np.mean(sites), rel=1e-6)
        assert by_site.union[name] == whole.union[name]


def test_figures_are_means_over_seeds_with_their_standard_deviation(write: Write) -> None:
    file = write(sets={"baselines": ["local"]})
    both = simulate(file, seed=4, seeds=2)
    one, other = simulate(file, seed=4), simulate(file, seed=5)
    for name in ("federated", "local"):
        figures = one.metric[name], other.metric[name]
        assert both.metric[name] == pytest.approx(np.mean(figures))
        assert both.std[name] == pytest.approx(abs(figures[0] - figures[1]) / 2)
        assert one.std[name] == 0
    np.testing.assert_array_equal(both.parameters, one.parameters)
    assert [(row["seed"], row["round"]) for row in both.rounds] == [(s, r) for s in (4, 5) for r in (1, 2, 3)]


def test_history_has_a_row_a_round_that_ends_with_the_figure(write: Write) -> None:
    result = simulate(write())
    assert result.history.column_names == ["seed", "round", "federated", "seconds"]
    assert result.history["round"].to_pylist() == [1, 2, 3]
    assert result.history["federated"].to_pylist()[-1] == result.metric["federated"]


def test_what_was_not_asked_for_is_null_and_the_promise_is_said_aloud(write: Write) -> None:
    line = json.loads(json.dumps(simulate(write(sets={"baselines": ["constant"]})).as_dict(), allow_nan=False))
    assert list(line) == [
        *("metric", "std", "better_off", "privacy", "client_rounds_per_second", "seconds", "peak_rss_mb", "warnings")
    ]
    figures = {"local", "local_trees", "federated", "personalised", "pooled", "constant"}
    assert line["metric"].keys() == figures | {"name", "higher_is_better"}
    assert line["std"].keys() == figures
    assert {name for name in figures if line["metric"][name] is None} == figures - {"federated", "constant"}
    assert {name for name in figures if line["std"][name] is None} == figures - {"federated", "constant"}
    assert line["better_off"] == {"federated": None, "personalised": None, "sites_worse": []}
    assert line["privacy"] == "NO DIFFERENTIAL PRIVACY"
    assert line["warnings"] == []


def test_with_privacy_no_two_runs_are_alike_whatever_the_seed(write: Write, private: dict[str, Any]) -> None:
    file = write(sets=private | {"baselines": ["local"]})
    first, again = simulate(file, seed=1), simulate(file, seed=1)
    assert not np.array_equal(first.parameters, again.parameters)
    assert first.metric["local"] == again.metric["local"]  # the baseline has no noise
    assert first.metric["local_private"] != again.metric["local_private"]
    assert "local_private" not in simulate(file, **{"privacy.epsilon": "none"}).metric
    assert first.warnings == ()


@pytest.mark.no_cover
def test_the_promise_is_what_an_accountant_says_of_the_constants(write: Write, private: dict[str, Any]) -> None:
    said = simulate(write(sets=private | {"privacy.unit": "master", "strategy.batch": 8})).privacy
    assert {"unit", "epsilon", "delta", "noise_multiplier"} <= said.keys()
    assert (said["unit"], said["delta"], said["mechanism"]) == ("master", 1e-3, "M1")
    accountant = PLDAccountant()
    step = dp_accounting.GaussianDpEvent(said["noise_multiplier"])
    accountant.compose(dp_accounting.PoissonSampledDpEvent(8 / 42, step), 3 * 2)
    assert said["epsilon"] == pytest.approx(accountant.get_epsilon(1e-3), rel=1e-3)
    assert 0.95 * 8 < said["epsilon"] <= 8


def test_a_plan_of_noise_is_refused_unless_it_is_accepted(write: Write, private: dict[str, Any]) -> None:
    file = write(sets=private | {"privacy.epsilon": 0.3, "model": {"name": "mlp", "hidden": [64, 64]}})
    with pytest.raises(PrivacyError, match=r"JG-privacy-005 .*--accept-noise") as refused:
        simulate(file)
    assert refused.value.coded.values["ratio"] > refused.value.coded.values["limit"]
    assert simulate(file, accept_noise=True).privacy["epsilon"] <= 0.3


def test_what_was_assumed_public_is_said(write: Write, private: dict[str, Any]) -> None:
    assumed = private | {
        "privacy.nominal_units": None,
        "privacy.scaling_share": 0.02,
        "data.x_range": None,
        "data.y_range": None,
    }
    result = simulate(write(sets=assumed, task="multiclass"), accept_noise=True)
    said = {warning.code: warning for warning in result.warnings}
    assert said.keys() == {f"JG-privacy-{number:03d}" for number in (10, 11, 12, 13)}
    assert said["JG-privacy-010"].values["units"] == 42  # training units of the largest site
    assert said["JG-privacy-013"].values["classes"] == 3
    korean = result.as_dict("ko")["warnings"]
    assert {line["code"]: line["message"] for line in korean} == {c: w.text("what", "ko") for c, w in said.items()}


def test_a_site_of_one_class_may_be_kept(write: Write, rows: Rows) -> None:
    arrays = rows("binary")
    arrays["y"] = ((arrays["X"][:, 2] > arrays["silo"]) & (arrays["silo"] != 1)).astype(np.int64)
    block = {"data.one_class_sites": "keep", "baselines": ALL, "metric": "auc"}
    result = simulate(write(arrays, block, "binary"), per_site=True)
    for name in (*ALL, "federated"):
        figures = result.per_site[name]
        assert [math.isnan(figure) for figure in figures] == [False, True, False]
        assert result.metric[name] == pytest.approx((figures[0] + figures[2]) / 2)
    assert "site-1" not in result.better_off["sites_worse"]


def test_a_figure_that_is_defined_nowhere_is_null(write: Write, rows: Rows) -> None:
    arrays = rows("binary")
    arrays["y"][arrays["split"] == 1] = 0
    result = simulate(write(arrays, {"metric": "auc", "baselines": ["local"]}, "binary"), per_site=True)
    line = result.as_dict()
    assert line["metric"]["federated"] is None
    assert line["better_off"] == {"federated": None, "personalised": None, "sites_worse": []}


@pytest.mark.parametrize("rate", [1e3, 1e30])
def test_training_that_diverges_is_no_result(write: Write, rate: float) -> None:
    with pytest.raises(SimulationError, match=r"JG-sim-002 round \d+: .*diverged"):
        simulate(write(sets={"strategy.lr": rate, "strategy.rounds": 20}))


def test_progress_counts_every_round_and_every_baseline(write: Write) -> None:
    steps: list[tuple[str, int, int]] = []
    simulate(write(), progress=lambda what, done, total: steps.append((what, done, total)))
    assert steps == [("round", i, 3) for i in (1, 2, 3)] + [("baselines", i, 3) for i in (1, 2, 3)]


def test_several_targets_are_compared_in_their_ranges(write: Write, rows: Rows) -> None:
    arrays = rows("regression")
    arrays["y"] = np.column_stack([arrays["y"], 1000 * arrays["y"]])
    result = simulate(write(arrays, {"data.y_range": [[-20, 20], [-20000, 20000]], "baselines": ["constant"]}))
    single = simulate(write(sets={"baselines": ["constant"]}))
    # The same target in two units: in its range of width 40, both have one figure.
    assert result.metric["constant"] == pytest.approx(single.metric["constant"] / 40, rel=1e-5)


def test_a_public_number_of_units_below_the_real_one_is_said_and_delta_is_held_to_the_real_one(
    write: Write, private: dict[str, Any]
) -> None:
    file = write(sets=private | {"strategy.batch": 2, "privacy.nominal_units": 2})
    result = simulate(file, accept_noise=True)
    assert [warning.code for warning in result.warnings] == ["JG-privacy-014"]
    with pytest.raises(PlanError, match=r"JG-plan-020 .* 42 units"):
        simulate(file, accept_noise=True, **{"privacy.delta": 1e-2})


def test_a_delta_is_judged_by_the_public_number_of_units_where_that_is_more(
    write: Write, private: dict[str, Any]
) -> None:
    file = write(sets=private | {"privacy.nominal_units": 200, "privacy.delta": 1e-2})
    with pytest.raises(
        PlanError, match=r"JG-plan-020 .* 200 units.*at most 0\.0005, i\.e\. 1/\(10 \* 200\)"
    ) as refused:
        simulate(file)
    assert "42" not in str(refused.value)


def test_a_unit_at_two_sites_is_said(write: Write, rows: Any, private: dict[str, Any]) -> None:
    file = write(sets=private, arrays=rows("regression") | {"unit": np.arange(144) % 100})
    result = simulate(file, **{"privacy.nominal_units": 60, "strategy.batch": 60})
    assert "JG-privacy-015" in [warning.code for warning in result.warnings]


def test_several_seeds_under_privacy_are_several_runs(write: Write, private: dict[str, Any]) -> None:
    said = simulate(write(sets=private | {"seeds": 2})).privacy
    assert said["runs"] == 2


def test_a_dotted_key_may_be_any_key_of_the_file(write: Write) -> None:
    assert simulate(write(), sets={"seed": 8}).rounds[0]["seed"] == 8
