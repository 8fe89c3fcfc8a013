"""Laws of the border to Flower: its rules here do what they do there, and so do ours in a Flower app."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.clientapp import ClientApp
from flwr.serverapp import strategy as theirs

from jangin.codec.document import parse
from jangin.errors import JanginError, PlanError
from jangin.flower_link.in_process import InProcessGrid
from jangin.plan.blocks import FLOWER_RULES, FlowerBlock
from jangin.strategies.base import Gathered, Strategy, Vector
from jangin.strategies.fedadam import FedAdam
from jangin.strategies.fedavg import FedAvg
from jangin.strategies.fedavgm import FedAvgM
from jangin.strategies.fedbn import FedBn
from jangin.strategies.fedprox import FedProx
from jangin.strategies.fedyogi import FedYogi
from jangin.strategies.flower import Flower, as_flower
from jangin.strategies.median import Median
from jangin.strategies.mrmtl import MrMtl
from jangin.strategies.scaffold import Scaffold

SITES, ROUNDS, SHAPES = 3, 4, {"a": (2, 3), "b": (2,)}
SIZE = 8
START: Vector = np.random.default_rng(1).normal(size=SIZE).astype(np.float32)
TAU = 0.01
OPTIONS = {
    "FedAvg": {},
    "FedAvgM": {"server_learning_rate": 0.5, "server_momentum": 0.8},
    "FedAdagrad": {"eta": 0.05, "tau": TAU},
    "FedAdam": {"eta": 0.05, "beta_1": 0.8, "beta_2": 0.95, "tau": TAU},
    "FedYogi": {"eta": 0.05, "beta_1": 0.8, "beta_2": 0.95, "tau": TAU},
}


def updates(number: int) -> Gathered:
    """What the sites answer in a round, (SITES, SIZE), whatever they are sent."""
    return np.random.default_rng([2, number]).normal(size=(SITES, SIZE)).astype(np.float32).astype(np.float64)


def record(vector: np.ndarray) -> ArrayRecord:
    made, at = {}, 0
    for name, shape in SHAPES.items():
        size = int(np.prod(shape))
        made[name], at = Array(vector[at : at + size].reshape(shape)), at + size
    return ArrayRecord(made)


def vector(arrays: ArrayRecord) -> np.ndarray:
    return np.concatenate([array.numpy().reshape(-1) for array in arrays.values()])


def app(examples: tuple[int, ...] = (10, 10, 10)) -> ClientApp:
    """A plain ClientApp: partition k adds row k of the round's updates to the parameters that it is sent."""
    made = ClientApp()

    @made.train()
    def train(message: Message, context: Context) -> Message:
        partition = int(context.node_config["partition-id"])
        number = int(message.content["config"]["server-round"])
        trained = vector(message.content["arrays"]) + updates(number)[partition]
        metrics = MetricRecord({"num-examples": examples[partition], "loss": float(partition)})
        return Message(RecordDict({"arrays": record(trained.astype(np.float32)), "metrics": metrics}), reply_to=message)

    return made


def run(rule: theirs.Strategy, client: ClientApp | None = None) -> Any:
    return rule.start(InProcessGrid(client or app(), SITES), record(START), num_rounds=ROUNDS)


def ours(rule: Strategy[Any]) -> Vector:
    state, parameters = rule.init(START), START
    for number in range(1, ROUNDS + 1):
        rows = updates(number)
        parameters, state = rule.update(state, rows if rule.consumes == "updates" else rows.sum(axis=0), SITES)
    return parameters


def begun_at_tau(rule: Any) -> Any:
    """Flower's rule with v begun at tau^2, as the paper has it."""
    rule.v_t = {name: np.full(shape, TAU**2) for name, shape in SHAPES.items()}
    return rule


EQUAL = {"fraction_evaluate": 0.0}


@pytest.mark.parametrize("rule", FLOWER_RULES)
def test_a_rule_of_flowers_does_here_what_it_does_in_a_flower_app(rule: str) -> None:
    trained = run(getattr(theirs, rule)(**EQUAL, **OPTIONS[rule])).arrays
    np.testing.assert_allclose(ours(Flower(rule, OPTIONS[rule])), vector(trained), rtol=1e-4, atol=1e-5)


def test_fedavgm_and_fedyogi_are_flowers_where_both_begin_alike() -> None:
    heavy = run(theirs.FedAvgM(**EQUAL, **OPTIONS["FedAvgM"])).arrays
    np.testing.assert_allclose(ours(FedAvgM(0.5, 0.8)), vector(heavy), rtol=1e-4, atol=1e-5)
    yogi = run(begun_at_tau(theirs.FedYogi(**EQUAL, **OPTIONS["FedYogi"]))).arrays
    np.testing.assert_allclose(ours(FedYogi(0.05, 0.8, 0.95, TAU)), vector(yogi), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", [FedAvg(0.5), FedAvgM(), FedAdam(0.1), FedYogi(), Median()])
def test_a_strategy_of_ours_in_a_flower_app_trains_what_it_trains_here(rule: Strategy[Any]) -> None:
    """Whatever number of examples a site names: that weighs its metrics alone."""
    result = run(as_flower(rule, **EQUAL), app((1, 10, 89)))
    np.testing.assert_allclose(vector(result.arrays), ours(rule), rtol=1e-5, atol=1e-6)
    assert [array.shape for array in result.arrays.values()] == list(SHAPES.values())
    assert result.train_metrics_clientapp[1]["loss"] == pytest.approx(0.1 * 1 + 0.89 * 2)


@pytest.mark.parametrize("rule", [FedProx(1.0, 0.1), MrMtl(0.1), Scaffold(2, 0.1), FedBn(1.0)])
def test_a_strategy_that_asks_more_of_sites_than_training_is_refused(rule: Strategy[Any]) -> None:
    with pytest.raises(PlanError, match="JG-plan-048"):
        as_flower(rule)


def test_a_reply_that_failed_is_left_out_and_without_any_the_model_stays() -> None:
    rule = as_flower(FedAvg(), **EQUAL)
    grid = InProcessGrid(app(), SITES)
    asked = list(rule.configure_train(1, record(START), ConfigRecord(), grid))
    assert len(asked) == SITES
    assert rule.aggregate_train(1, [_failed()]) == (None, None)
    arrays, metrics = rule.aggregate_train(1, [_failed(), _reply(record(START + 1))])
    assert arrays is not None
    np.testing.assert_allclose(vector(arrays), START + 1, rtol=1e-6)
    assert metrics is None


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        (record(START.astype(np.int64)), "int64"),
        (ArrayRecord({"a": Array(START[:6].reshape(3, 2)), "b": Array(START[6:])}), r"\(3, 2\)"),
        (ArrayRecord({"a": Array(START[:6].reshape(2, 3))}), "'b'"),
    ],
)
def test_other_arrays_than_were_sent_are_refused(arrays: ArrayRecord, named: str) -> None:
    rule = as_flower(FedAvg(), **EQUAL)
    list(rule.configure_train(1, record(START), ConfigRecord(), InProcessGrid(app(), SITES)))
    with pytest.raises(JanginError, match=rf"JG-sim-020 .*{named}"):
        rule.aggregate_train(1, [_reply(arrays)])


@pytest.mark.parametrize(
    ("rule", "options", "code"),
    [("Krum", {}, "046"), ("FedProx", {}, "046"), ("FedAvg", {"eta": 1.0}, "047"), ("FedAdam", {"eta_l": 1.0}, "001")],
)
def test_a_rule_or_option_that_cannot_be_adapted_is_refused(rule: str, options: dict[str, float], code: str) -> None:
    content = {"name": "flower", "rounds": 1, "local_steps": 1, "batch": 1, "lr": 0.1, "rule": rule, **options}
    with pytest.raises(PlanError, match=f"JG-plan-{code}"):
        parse(content, FlowerBlock, "plan.yaml")


def _metadata() -> Metadata:
    return Metadata(0, "", 2, 1, "", "", 0.0, 1.0, "train")


def _reply(arrays: ArrayRecord) -> Message:
    return make_message(_metadata(), RecordDict({"arrays": arrays}))


def _failed() -> Message:
    return make_message(_metadata(), error=Error(0, "it failed"))
