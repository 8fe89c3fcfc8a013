"""Laws of the engine `stacked`: sites that train together learn what each would learn in its turn."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jangin import simulate
from jangin.models.layout import ParameterLayout
from jangin.models.networks import build
from jangin.models.spec import MlpSpec
from jangin.models.tasks import Task, row_losses
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.sampling import Draw, UnitIndex
from jangin.simulation import stacked
from jangin.simulation.stacked import StackedExchange
from jangin.training.paths import paths
from jangin.training.stack import parts_of, stacked_step

Write = Callable[..., Path]
Rows = Callable[..., dict[str, np.ndarray]]

STEPS = {"rounds": 3, "local_steps": 3, "batch": 16, "lr": 0.05}
UNEVEN = (40, 12, 56)
MLP = {"name": "mlp", "hidden": [8, 4]}
WAVES = [
    {"name": "gru", "hidden": 4, "patch": 2},
    {"name": "transformer", "width": 4, "heads": 2, "layers": 1, "patch": 2},
    {"name": "cnn1d", "channels": [4, 4], "groups": 2, "kernel": 3},
]


@pytest.fixture(autouse=True)
def torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def assert_equal_engines(file: Path, sets: dict[str, Any], threads: int = 1) -> None:
    one, other = simulate(file, engine="sequential", sets=sets), simulate(file, threads=threads, sets=sets)
    assert np.linalg.norm(one.parameters - other.parameters) <= 1e-5 * np.linalg.norm(one.parameters)
    for name in ("federated", "personalised"):
        if one.metric[name] is not None:
            assert other.metric[name] == pytest.approx(one.metric[name], rel=1e-4)


@pytest.mark.parametrize("task", [task.value for task in Task])
@pytest.mark.parametrize("model", [{"name": "linear"}, MLP, {"name": "mlp", "hidden": [3]}])
def test_affine_models_learn_the_same_at_uneven_sites(
    write: Write, rows: Rows, task: str, model: dict[str, Any]
) -> None:
    file = write(rows(task, sizes=UNEVEN), task=task)
    assert_equal_engines(file, {"model": model, "strategy": {"name": "fedavg"} | STEPS})


@pytest.mark.parametrize("strategy", ["fedavg", "median"])
@pytest.mark.parametrize("threads", [1, 2])
def test_few_rows_of_wide_maps_walk_and_learn_the_same(
    write: Write, rows: Rows, monkeypatch: pytest.MonkeyPatch, strategy: str, threads: int
) -> None:
    walked = []
    monkeypatch.setattr(stacked, "paths", lambda *given: walked.append(given) or paths(*given))
    block = {"name": strategy} | STEPS | {"local_steps": 2}
    file = write(rows("multiclass", sizes=UNEVEN), task="multiclass")
    assert_equal_engines(file, {"model": {"name": "mlp", "hidden": [128, 128]}, "strategy": block}, threads)
    assert walked


@pytest.mark.parametrize("model", WAVES, ids=lambda model: model["name"])
def test_every_other_model_learns_the_same(write: Write, rows: Rows, model: dict[str, Any]) -> None:
    file = write(rows("regression", (2, 8), UNEVEN))
    assert_equal_engines(file, {"model": model, "strategy": {"name": "fedavg"} | STEPS})


@pytest.mark.parametrize("model", WAVES[::2], ids=lambda model: model["name"])
def test_every_process_has_a_module_of_its_own(
    write: Write, rows: Rows, monkeypatch: pytest.MonkeyPatch, model: dict[str, Any]
) -> None:
    file = write(rows("regression", (2, 8), (20, 12, 24, 16, 28, 20)))
    monkeypatch.setattr(stacked, "_MOST_SITES", 1)
    assert_equal_engines(file, {"model": model}, threads=3)


@pytest.mark.parametrize(
    ("strategy", "personal"),
    [
        ({"name": "fedavg"}, ["head"]),
        ({"name": "fedadam"}, ["body.0"]),
        ({"name": "median"}, ["head"]),
        ({"name": "fedprox", "mu": 0.7}, []),
        ({"name": "fedprox", "mu": 0.7}, ["head"]),
        ({"name": "mrmtl", "lam": 0.7}, []),
        ({"name": "mrmtl", "lam": 0.7}, ["head.bias"]),
        ({"name": "scaffold"}, []),
        ({"name": "scaffold"}, ["head"]),
    ],
)
def test_every_strategy_learns_the_same_and_so_does_what_stays(
    write: Write, rows: Rows, strategy: dict[str, Any], personal: list[str]
) -> None:
    file = write(rows("regression", sizes=UNEVEN), {"baselines": ["personalised"]})
    assert_equal_engines(file, {"model": MLP | {"personal": personal}, "strategy": strategy | STEPS})


@pytest.mark.parametrize(
    ("strategy", "personal"), [("fedadam", ["head"]), ("median", []), ("mrmtl", ["head.bias"]), ("scaffold", ["head"])]
)
def test_what_stays_is_known_here_whichever_process_trained_it(
    write: Write, rows: Rows, strategy: str, personal: list[str]
) -> None:
    file = write(rows("regression", sizes=UNEVEN), {"baselines": ["personalised"]})
    sets = {"model": MLP | {"personal": personal}, "strategy": {"name": strategy} | STEPS}
    assert_equal_engines(file, sets, threads=2)


def test_normalisation_that_stays_learns_the_same(write: Write, rows: Rows) -> None:
    file = write(rows("regression", (2, 8), UNEVEN))
    assert_equal_engines(file, {"model": WAVES[-1], "strategy": {"name": "fedbn"} | STEPS})


@pytest.mark.parametrize("threads", [1, 2, 9])
def test_a_seed_fixes_every_bit_whatever_stands_in_one_group(
    write: Write, rows: Rows, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    file = write(rows("regression", sizes=(20, 24, 12, 16, 28)), {"model": MLP, "strategy.batch": 16})
    monkeypatch.setattr(stacked, "_MOST_SITES", 2)
    one, other = (simulate(file, threads=threads).parameters for _ in range(2))
    assert torch.get_num_threads() == threads
    np.testing.assert_array_equal(one, other)
    monkeypatch.setattr(stacked, "_MOST_SITES", 64)
    np.testing.assert_allclose(simulate(file, threads=1).parameters, one, rtol=1e-4, atol=1e-6)


def test_batches_laid_out_in_pieces_are_the_same(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(sets={"strategy.local_steps": 5})
    one = simulate(file).parameters
    monkeypatch.setattr(stacked, "_VALUES_AT_ONCE", 1)
    np.testing.assert_array_equal(simulate(file).parameters, one)


@pytest.mark.parametrize(
    ("strategy", "personal", "threads"),
    [
        ("fedavg", [], 1),
        ("fedavg", ["head"], 1),
        ("mrmtl", [], 2),
        ("median", [], 1),
        ("fedprox", [], 1),
        ("scaffold", [], 2),
    ],
)
def test_in_private_a_stack_learns_the_same_but_for_the_noise(
    write: Write,
    rows: Rows,
    private: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
    personal: list[str],
    threads: int,
) -> None:
    def nothing(self: SecureRandom, values: np.ndarray, deviation: float) -> None:
        assert deviation > 0
        values.fill(0.0)

    monkeypatch.setattr(SecureRandom, "fill_gaussian", nothing)
    file = write(rows("regression", sizes=UNEVEN), private)  # 42 of at most 42 units: every unit is drawn
    assert_equal_engines(
        file, {"model": MLP | {"personal": personal}, "strategy": {"name": strategy} | STEPS | {"batch": 42}}, threads
    )


def test_in_private_noise_is_fresh_and_draws_are_of_units_and_the_promise_is_the_same(
    write: Write, private: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(sets=private)
    asked: list[int] = []
    draw = UnitIndex.draw

    def drawn(self: UnitIndex, probability: float, windows: int, random: SecureRandom) -> Draw:
        asked.append(len(self))
        assert (probability, windows) == (1.0, 4)
        return draw(self, probability, windows, random)

    monkeypatch.setattr(UnitIndex, "draw", drawn)
    one, other, alone = (simulate(file, engine=engine) for engine in ("stacked", "stacked", "sequential"))
    assert asked == 2 * [108] * 6 + [30, 30, 36, 36, 42, 42] * 3
    assert not np.intersect1d(one.parameters, other.parameters).size
    assert one.privacy == alone.privacy


@pytest.mark.parametrize("sets", [{"model": WAVES[0]}, {"data.unit": "set"}], ids=["gru", "units of two rows"])
def test_in_private_what_has_no_stack_is_answered_site_by_site(
    write: Write, rows: Rows, private: dict[str, Any], monkeypatch: pytest.MonkeyPatch, sets: dict[str, Any]
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("together")

    shape = (2, 8) if "model" in sets else (3,)
    arrays = rows("regression", shape)
    file = write(arrays | {"unit": arrays["unit"] // 2 if shape == (3,) else arrays["unit"]}, private)
    monkeypatch.setattr(StackedExchange, "_train", never)
    assert simulate(file, threads=2, sets=sets).metric["federated"] is not None
    with pytest.raises(AssertionError, match="together"):
        simulate(file, sets={"model": {"name": "linear"}, "data.unit": "row"})


def test_a_total_is_the_sum_of_the_replies(write: Write, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(rows("regression", sizes=UNEVEN), {"model": MLP})
    total = simulate(file)
    monkeypatch.setattr(StackedExchange, "stacks", lambda self, order: False)
    replies = simulate(file)
    np.testing.assert_allclose(total.parameters, replies.parameters, rtol=1e-5, atol=1e-7)


def test_a_step_moves_every_site_by_its_own_gradient_alone() -> None:
    module = build(MlpSpec(name="mlp", hidden=(5, 4)), (3,), 2, 0)
    layout = ParameterLayout.of([(name, p.shape) for name, p in module.named_parameters()])
    sites, stream = 3, torch.Generator().manual_seed(0)
    parts = parts_of(layout, torch.randn(sites * layout.size, generator=stream), sites)
    inputs, targets = torch.randn(sites, 4, 3, generator=stream), torch.randn(sites, 4, 2, generator=stream)
    weights = torch.rand(sites, 4, generator=stream)
    inputs[1] = torch.nan
    before = [part.clone() for part in parts]
    stacked_step(module, Task.REGRESSION)(parts, inputs, targets, weights, 0.1)
    for site in (0, 2):
        for parameter, part in zip(module.parameters(), before, strict=True):
            parameter.data = part[site].clone()
        module.zero_grad()
        (row_losses(Task.REGRESSION, module(inputs[site]), targets[site]) * weights[site]).sum().backward()
        for parameter, part in zip(module.parameters(), parts, strict=True):
            torch.testing.assert_close(part[site], parameter.data - 0.1 * parameter.grad)
    assert all(part[1].isnan().all() for part in parts[:2])
