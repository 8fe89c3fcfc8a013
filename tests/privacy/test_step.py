"""The private step against one-by-one gradients, and replayed on neighbouring data sets."""

import copy
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from jangin.errors import PrivacyError
from jangin.models.networks import build
from jangin.models.spec import Cnn1dSpec, LinearSpec, MlpSpec
from jangin.models.tasks import Task, row_losses
from jangin.privacy import step as step_file
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease, Guarantee, LocalDpSgd, Relation, Unit
from jangin.privacy.sampling import Draw
from jangin.privacy.step import OpacusStep, noised_mean

Tape = Callable[[object], SecureRandom]
Mode = Literal["ew", "hooks"]
MODES: tuple[Mode, ...] = ("ew", "hooks")


class MeanOver(nn.Module):
    """The mean over everything behind the second axis."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(2).mean(dim=-1)


class Entries(nn.Module):
    """The mean of the embeddings of integer inputs."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3, **options)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.table((inputs.abs() * 2).long() % 5).mean(dim=1)


class Shared(nn.Module):
    """One layer used twice, one weight tied to it, and a layer that takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.tied, self.head, self.unused = (
            nn.Linear(4, 4),
            nn.Linear(4, 4),
            nn.Linear(4, 1),
            nn.Linear(4, 2),
        )
        self.tied.weight = self.body.weight

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(self.tied(torch.tanh(self.body(torch.tanh(self.body(inputs)))))))


def convolution(layer: type[nn.Conv1d] | type[nn.Conv2d], **options: Any) -> nn.Module:
    return nn.Sequential(layer(3, 6, 3, **options), nn.Tanh(), MeanOver(), nn.Linear(6, 1))


HOUSE = {
    "linear": (lambda: nn.Sequential(build(LinearSpec(name="linear"), (4,), 1, 0)), (4,)),
    "mlp": (lambda: build(MlpSpec(name="mlp", hidden=(8, 5)), (2, 3), 1, 0), (2, 3)),
    "cnn1d": (lambda: build(Cnn1dSpec(name="cnn1d", channels=(4, 6), kernel=5, groups=2), (3, 12), 1, 0), (3, 12)),
}
LAYERS = HOUSE | {
    "layer norm": (lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 1)), (4,)),
    "group norm": (lambda: nn.Sequential(nn.GroupNorm(3, 6), MeanOver(), nn.Linear(6, 1)), (6, 5)),
    "linear over time": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), MeanOver(), nn.Linear(3, 1)), (3, 5, 4)),
    "embedding": (lambda: nn.Sequential(Entries(), nn.Linear(3, 1)), (6,)),
    "embedding with a padding entry": (lambda: nn.Sequential(Entries(padding_idx=0), nn.Linear(3, 1)), (6,)),
    "shared and unused": (Shared, (4,)),
    "response norm": (
        lambda: nn.Sequential(nn.Conv1d(3, 6, 3), nn.LocalResponseNorm(2), MeanOver(), nn.Linear(6, 1)),
        (3, 9),
    ),
    "strided conv1d": (lambda: convolution(nn.Conv1d, stride=2, padding=1), (3, 9)),
    "grouped conv2d": (lambda: convolution(nn.Conv2d, groups=3, dilation=2, padding=2), (3, 7, 8)),
    "conv1d same": (lambda: convolution(nn.Conv1d, padding="same", dilation=2), (3, 9)),
}
for padding in ("zeros", "circular", "reflect", "replicate"):
    LAYERS[f"conv1d {padding}"] = (lambda p=padding: convolution(nn.Conv1d, padding=2, padding_mode=p), (3, 9))
    LAYERS[f"conv2d {padding}"] = (lambda p=padding: convolution(nn.Conv2d, padding=2, padding_mode=p), (3, 7, 8))


def made(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A model with weights that are not zero, the same in every call, and the shape of its rows."""
    model, shape = LAYERS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = model()
        for parameter in module.parameters():
            nn.init.uniform_(parameter, -0.7, 0.7)
    return module, shape


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return row_losses(Task.REGRESSION, outputs, targets)


def drawn(sizes: list[int]) -> Draw:
    return Draw(np.arange(sum(sizes)), np.repeat(np.arange(len(sizes)), sizes), len(sizes))


def rows(shape: tuple[int, ...], count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    inputs, targets = rng.normal(size=(count, *shape)), rng.normal(size=(count, 1)) * 3
    return torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(targets.astype(np.float32))


def one_by_one(module: nn.Module, inputs: Tensor, targets: Tensor, draw: Draw, clip: float) -> Tensor:
    """The definition: plain gradients of each unit's mean loss in float64, clipped one after another."""
    module = copy.deepcopy(module).double()
    total = torch.zeros(sum(p.numel() for p in module.parameters()), dtype=torch.float64)
    for unit in range(draw.count):
        module.zero_grad()
        here = torch.from_numpy(draw.units == unit)
        squared(module(inputs[here].double()), targets[here].double()).mean().backward()
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in module.parameters()]
        gradient = torch.cat([part.flatten() for part in parts])
        total += gradient * min(1.0, clip / float(gradient.norm()))
    return total


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("clip", [0.3, 1e4])
def test_the_clipped_sum_is_that_of_one_by_one_gradients(name: str, mode: Mode, clip: float) -> None:
    module, shape = made(name)
    draw = drawn([3, 1, 2, 1])
    inputs, targets = rows(shape, 7)
    expected = one_by_one(module, inputs, targets, draw, clip)
    found = OpacusStep(module, squared, clip, mode).clipped_sum(inputs, targets, draw)
    assert found.shape == expected.shape
    assert (found - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("mode", MODES)
def test_one_example_a_unit_is_the_same_law(mode: Mode) -> None:
    module, shape = made("mlp")
    inputs, targets = rows(shape, 5)
    expected = one_by_one(module, inputs, targets, drawn([1] * 5), 0.2)
    found = OpacusStep(module, squared, 0.2, mode).clipped_sum(inputs, targets, drawn([1] * 5))
    assert (found - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("task", Task)
def test_every_tasks_loss_is_clipped_alike(task: Task) -> None:
    module = build(LinearSpec(name="linear"), (4,), 3 if task is Task.MULTICLASS else 1, 0)
    inputs, _ = rows((4,), 6)
    targets = inputs[:, :1] if task is Task.REGRESSION else (inputs[:, 0] > 0).long()
    step = OpacusStep(module, lambda outputs, truth: row_losses(task, outputs, truth), 1e6)
    found = step.clipped_sum(inputs, targets, drawn([1] * 6))
    plain = copy.deepcopy(module)
    row_losses(task, plain(inputs), targets).sum().backward()
    expected = torch.cat([p.grad.flatten() for p in plain.parameters() if p.grad is not None])
    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [*HOUSE, "layer norm", "conv2d circular", "embedding"])
def test_one_unit_more_or_less_moves_the_sum_by_at_most_the_clip(name: str, mode: Mode) -> None:
    module, shape = made(name)
    clips = {clip: OpacusStep(copy.deepcopy(module), squared, clip, mode) for clip in (1e-3, 1.0, 50.0)}

    @settings(max_examples=15, deadline=None)
    @given(
        sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6),
        seed=st.integers(0, 2**16),
        extreme=st.sampled_from([0.0, 1e-12, 1.0, 1e4, 1e12, 1e19, 3e38, float("inf"), float("nan")]),
        everywhere=st.booleans(),
        clip=st.sampled_from(list(clips)),
    )
    def replay(sizes: list[int], seed: int, extreme: float, everywhere: bool, clip: float) -> None:
        draw = drawn(sizes)
        inputs, targets = rows(shape, sum(sizes), seed)
        gone = seed % len(sizes)
        here = torch.from_numpy(draw.units == gone)
        first = int(here.nonzero()[0, 0])
        inputs[here if everywhere else first] *= extreme
        targets[first] *= extreme
        step = clips[clip]
        whole = step.clipped_sum(inputs, targets, draw)
        less = step.clipped_sum(inputs[~here], targets[~here], drawn([s for u, s in enumerate(sizes) if u != gone]))
        assert torch.isfinite(whole).all()
        assert (whole - less).norm() <= clip * (1 + 1e-5)

    replay()


def test_a_large_lot_of_units_that_agree_keeps_the_law() -> None:
    # A float32 sum would be off by 2.5e-5 clips here.
    step, count = OpacusStep(nn.Linear(3, 1), squared, 1.0), 1500
    inputs = torch.from_numpy(np.random.default_rng(0).uniform(0, 0.3, (count, 3)).astype(np.float32))
    targets = torch.full((count, 1), 100.0)
    whole = step.clipped_sum(inputs, targets, drawn([1] * count))
    assert whole.norm() > 0.98 * count
    less = step.clipped_sum(inputs[:-1], targets[:-1], drawn([1] * (count - 1)))
    assert (whole - less).norm() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("width", [1, 511, 512, 513, 3000])
def test_norms_are_those_of_the_whole_gradient_at_any_width(width: int) -> None:
    inputs, targets = torch.full((2, width), 0.1), torch.tensor([[1e3], [-2e3]])
    step = OpacusStep(nn.Linear(width, 1), squared, 1.0)
    assert step.clipped_sum(inputs[:1], targets[:1], drawn([1])).norm() == pytest.approx(1.0, abs=1e-6)
    assert step.clipped_sum(inputs, targets, drawn([1, 1])).norm() < 1e-6


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf"), 3e38])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [*HOUSE, "layer norm", "conv2d reflect"])
def test_what_is_not_finite_silences_its_own_unit_only(name: str, mode: Mode, broken: float) -> None:
    module, shape = made(name)
    inputs, targets = rows(shape, 6)
    inputs[2].view(-1)[0] = broken
    targets[2] = broken
    step = OpacusStep(module, squared, 0.5, mode)
    others = torch.tensor([0, 1, 4, 5])
    expected = step.clipped_sum(inputs[others], targets[others], drawn([2, 1, 1]))
    found = step.clipped_sum(inputs, targets, drawn([2, 2, 1, 1]))
    assert torch.isfinite(found).all()
    assert (found - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("mode", MODES)
def test_bounded_memory_changes_nothing_and_splits_no_unit(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    module, shape = made("cnn1d")
    inputs, targets = rows(shape, 14)
    seen: list[int] = []

    def counted(outputs: Tensor, truth: Tensor) -> Tensor:
        seen.append(len(outputs))
        return squared(outputs, truth)

    step, draw = OpacusStep(module, counted, 0.4, mode), drawn([2, 1, 4, 6, 1])
    whole = step.clipped_sum(inputs, targets, draw)
    assert seen == [14]
    seen.clear()
    monkeypatch.setattr(step_file, "_ROW_BYTES_AT_ONCE", 4 * sum(p.numel() for p in module.parameters()) * 4)
    parts = step.clipped_sum(inputs, targets, draw)
    assert seen == [3, 4, 6, 1]
    assert (parts - whole).norm() <= 1e-6 * whole.norm()


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_draw_gives_zeros(mode: Mode) -> None:
    module, shape = made("mlp")
    inputs, targets = rows(shape, 0)
    found = OpacusStep(module, squared, 1.0, mode).clipped_sum(inputs, targets, drawn([]))
    assert found.shape == (sum(p.numel() for p in module.parameters()),)
    assert not found.any()


@pytest.mark.filterwarnings("ignore:Full backward hook")  # torch's remark on inputs without gradients
@pytest.mark.parametrize("mode", MODES)
def test_plain_training_in_between_leaves_nothing_behind(mode: Mode) -> None:
    module, shape = made("cnn1d")
    inputs, targets = rows(shape, 4)
    step = OpacusStep(module, squared, 0.5, mode)
    before = step.clipped_sum(inputs, targets, drawn([2, 2]))
    for _ in range(2):
        squared(module(inputs * 3), targets).mean().backward()
    assert all(getattr(p, "grad_sample", None) is None for p in module.parameters())
    assert torch.equal(step.clipped_sum(inputs, targets, drawn([2, 2])), before)


def test_a_frozen_parameter_is_left_out() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    module[0].requires_grad_(False)
    inputs, targets = rows((4,), 3)
    assert OpacusStep(module, squared, 1.0).clipped_sum(inputs, targets, drawn([1, 2])).shape == (4,)


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("BatchNorm1d", lambda: nn.BatchNorm1d(4)),
        ("BatchNorm2d", lambda: nn.BatchNorm2d(4, track_running_stats=False)),
        ("SyncBatchNorm", lambda: nn.SyncBatchNorm(4, affine=False, track_running_stats=False)),
        ("InstanceNorm1d", lambda: nn.InstanceNorm1d(4, track_running_stats=True)),
        ("Counter", Counter),
        ("Embedding", lambda: nn.Embedding(5, 4, max_norm=1.0)),
        ("Embedding", lambda: nn.Embedding(5, 4, scale_grad_by_freq=True)),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_layer_that_mixes_records_is_refused_by_name(name: str, layer: Callable[[], nn.Module], mode: Mode) -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Sequential(layer()))
    with pytest.raises(PrivacyError, match=f"JG-privacy-003 Layer '1.0' \\({name}\\)"):
        OpacusStep(module, squared, 1.0, mode)


class Gain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.gain


@pytest.mark.parametrize(
    ("name", "layer"),
    [("GRU", lambda: nn.GRU(4, 4)), ("MultiheadAttention", lambda: nn.MultiheadAttention(4, 2)), ("Gain", Gain)],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_layer_without_a_gradient_rule_is_refused_by_name(
    name: str, layer: Callable[[], nn.Module], mode: Mode
) -> None:
    with pytest.raises(PrivacyError, match=f"JG-privacy-004 .*{name}"):
        OpacusStep(nn.Sequential(nn.Linear(4, 4), layer()), squared, 1.0, mode)


@pytest.fixture
def mechanism() -> LocalDpSgd:
    guarantee = Guarantee(Unit.EPISODE, Relation.ADD_OR_REMOVE, 1.0, 1e-5)
    return LocalDpSgd(Unit.EPISODE, 0.5, GaussianRelease(3.0, 0.1, 40), 20.0, 4, None, guarantee)


def test_noise_has_the_deviation_that_is_priced(mechanism: LocalDpSgd, tape: Tape) -> None:
    random, zeros = tape("noise"), torch.zeros(999, dtype=torch.float64)
    noise = np.stack([noised_mean(zeros, mechanism, random) for _ in range(200)])
    assert stats.kstest(noise.ravel() / (3.0 * 0.5 / 20.0), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise[:20]) - np.eye(20)).max() < 5 / np.sqrt(999)


def test_a_noised_mean_is_the_sum_and_its_noise_over_the_public_divisor(mechanism: LocalDpSgd, tape: Tape) -> None:
    total = torch.linspace(-5, 5, 7, dtype=torch.float64)
    expected = (total.numpy() + 1.5 * tape("mean").gaussian(7)) / 20
    np.testing.assert_allclose(noised_mean(total, mechanism, tape("mean")), expected, rtol=1e-12)


def test_no_seed_reproduces_a_noised_mean(mechanism: LocalDpSgd) -> None:
    def seeded() -> np.ndarray:
        torch.manual_seed(42)
        return noised_mean(torch.zeros(50), mechanism, SecureRandom())

    assert not np.intersect1d(seeded(), seeded()).size
