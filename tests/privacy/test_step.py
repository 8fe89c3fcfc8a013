"""Every engine of the private step against one-by-one gradients, and replayed on neighbouring data sets."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from fusions import FUSION, ROW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from jangin.errors import PrivacyError
from jangin.models.networks import build
from jangin.models.spec import Cnn1dSpec, GruSpec, LinearSpec, MlpSpec, TransformerSpec
from jangin.models.tasks import Task, row_losses
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease, Guarantee, LocalDpSgd, Relation, Unit
from jangin.privacy.sampling import Draw
from jangin.privacy.step import BookkeepingStep, OpacusStep, PrivateStep, VmapStep, noised_mean, private_step
from jangin.privacy.step import bookkeeping as bookkeeping_file
from jangin.privacy.step import opacus as opacus_file
from jangin.privacy.step import vmap as vmap_file
from jangin.privacy.step.interface import squared_norms

Tape = Callable[[object], SecureRandom]
Engine = Callable[[nn.Module, Any, float], PrivateStep]


class MeanOver(nn.Module):
    """The mean over everything behind the second axis."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(2).mean(dim=-1)


class Turned(nn.Module):
    """Turns the last two axes."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.transpose(1, 2)


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


class Recurrent(nn.Module):
    """A recurrent layer whose output and last states all count."""

    def __init__(self, layer: type[nn.GRU] | type[nn.LSTM], **options: Any) -> None:
        super().__init__()
        self.layer = layer(3, 4, **options)
        self.head = nn.Linear(4 * (1 + self.layer.bidirectional), 1)

    def forward(self, inputs: Tensor) -> Tensor:
        first = self.layer.batch_first
        outputs, last = self.layer(inputs if first else inputs.transpose(0, 1))
        ends = torch.cat(last) if isinstance(last, tuple) else last
        return self.head(outputs.mean(dim=1 if first else 0)) + ends.sum(dim=(0, 2))[:, None]


class Attention(nn.Module):
    """Torch's own attention, alone and in its encoder layer."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)
        self.head = nn.Linear(4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        steps = self.encoder(self.embed(inputs))
        return self.head(steps + self.attention(steps, steps, steps, need_weights=False)[0]).mean(dim=1)


def convolution(layer: type[nn.Conv1d] | type[nn.Conv2d], **options: Any) -> nn.Module:
    return nn.Sequential(layer(3, 6, 3, **options), nn.Tanh(), MeanOver(), nn.Linear(6, 1))


HOUSE = {
    "linear": (lambda: nn.Sequential(build(LinearSpec(name="linear"), (4,), 1, 0)), (4,)),
    "mlp": (lambda: build(MlpSpec(name="mlp", hidden=(8, 5)), (2, 3), 1, 0), (2, 3)),
    "cnn1d": (lambda: build(Cnn1dSpec(name="cnn1d", channels=(4, 6), kernel=5, groups=2), (3, 12), 1, 0), (3, 12)),
    "transformer": (
        lambda: build(TransformerSpec(name="transformer", width=8, heads=2, layers=1, patch=3), (2, 13), 1, 0),
        (2, 13),
    ),
    "fusion": (lambda: build(FUSION, ROW, 1, 0), ROW),
}
RECURRENT = {
    "gru model": (lambda: build(GruSpec(name="gru", hidden=5, layers=2, patch=2), (2, 11), 1, 0), (2, 11)),
    "gru": (lambda: Recurrent(nn.GRU, batch_first=True), (5, 3)),
    "gru, steps first, two ways": (lambda: Recurrent(nn.GRU, num_layers=2, bidirectional=True), (5, 3)),
    "gru without bias": (lambda: Recurrent(nn.GRU, bias=False, batch_first=True), (5, 3)),
    "lstm": (lambda: Recurrent(nn.LSTM, batch_first=True), (5, 3)),
    "lstm, steps first, two ways": (lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True), (5, 3)),
    "lstm without bias": (lambda: Recurrent(nn.LSTM, bias=False, batch_first=True), (5, 3)),
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
    "conv2d of many channels": (
        lambda: nn.Sequential(nn.Conv2d(17, 6, 3, padding=1, stride=2), nn.Tanh(), MeanOver(), nn.Linear(6, 1)),
        (17, 5, 4),
    ),
    "grouped conv1d": (lambda: convolution(nn.Conv1d, groups=3, stride=2), (3, 9)),
    "conv2d of bars": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, (1, 3), (2, 1), (0, 1)), MeanOver(), nn.Linear(4, 1)),
        (2, 5, 4),
    ),
    "layer norm over two axes": (lambda: nn.Sequential(nn.LayerNorm((3, 4)), nn.Flatten(), nn.Linear(12, 1)), (3, 4)),
    "in place": (lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 1)), (4,)),
    "conv1d same": (lambda: convolution(nn.Conv1d, padding="same", dilation=2), (3, 9)),
}
ATTENTION = {"attention": (Attention, (5, 3)), "attention without bias": (lambda: Attention(bias=False), (5, 3))}
for padding in ("zeros", "circular", "reflect", "replicate"):
    LAYERS[f"conv1d {padding}"] = (lambda p=padding: convolution(nn.Conv1d, padding=2, padding_mode=p), (3, 9))
    LAYERS[f"conv2d {padding}"] = (lambda p=padding: convolution(nn.Conv2d, padding=2, padding_mode=p), (3, 7, 8))
EVERYTHING = LAYERS | RECURRENT | ATTENTION


def made(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A model with weights that are not zero, the same in every call, and the shape of its rows."""
    model, shape = EVERYTHING[name]
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


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


class Gain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.gain


class Borrowed(nn.Module):
    """A layer's weight used beside the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.body(inputs) + torch.tanh(inputs @ self.body.weight.t())


class Positions(nn.Module):
    """Embeddings that all rows share, as many as the probe has rows by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.head = nn.Embedding(3, 4), nn.Linear(4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(inputs + self.places(torch.arange(3)))).mean(dim=1)


class StepsFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(inputs.transpose(0, 1)).mean(dim=0)


class Overwritten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        copied = inputs.clone()
        hidden = self.body(copied)
        copied.mul_(2.0)
        return self.head(hidden + copied)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        mask = torch.ones(3, 3, dtype=torch.bool).triu(1)
        return self.head(self.attention(inputs, inputs, inputs, attn_mask=mask, need_weights=False)[0]).mean(dim=1)


class Between(nn.Module):
    """Two layers, and something that is done to inputs, to what is between them, or to outputs."""

    def __init__(self, where: str, does: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)  # what is rounded depends on the weights
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 1)
        self.where, self.does = where, does

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.body(self.does(inputs) if self.where == "inputs" else inputs))
        outputs = self.head(self.does(hidden) if self.where == "between" else hidden)
        return self.does(outputs) if self.where == "outputs" else outputs


class Backwards(torch.autograd.Function):
    """Mixes gradients only."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.sum(dim=0, keepdim=True).expand_as(gradient)


class Carried(nn.Module):
    """A statistic of records that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mean = nn.Linear(4, 1), torch.zeros(4)

    def forward(self, inputs: Tensor) -> Tensor:
        self.mean = 0.5 * self.mean + 0.5 * inputs.mean(dim=0)
        return self.body(inputs - self.mean)


class Late(nn.Module):
    """Uses a weight beside its layer where there are many rows."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.body(inputs)
        return outputs + torch.tanh(inputs @ self.body.weight.t()) if len(inputs) > 4 else outputs


class Unlearned(nn.Module):
    """A layer that runs without gradients, before one that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = torch.tanh(self.body(inputs))
        return self.head(hidden)


MIXING = {
    "centred": Between("inputs", lambda x: x - x.mean(dim=0)),
    "centred, without gradients": Between("inputs", lambda x: x - x.detach().mean(dim=0)),
    "batch norm, functional": Between("between", lambda x: nn.functional.layer_norm(x.t(), [len(x)]).t()),
    "softmax over records": Between("between", lambda x: x.softmax(dim=0)),
    "sorted": Between("inputs", lambda x: x.sort(dim=0)[0]),
    "summed up": Between("outputs", lambda x: x.cumsum(dim=0)),
    "turned round": Between("outputs", lambda x: x.flip(0)),
    "folded": Between("inputs", lambda x: x.t().reshape(len(x), -1)),
    "shared out": Between("outputs", lambda x: x / len(x)),
    "the largest only": Between("between", lambda x: x * (x[:, :1] == x[:, :1].max())),
    "the first for all": Between("between", lambda x: x + x[:1]),
    "gradients summed": Between("between", lambda x: Backwards.apply(x)),
    "carried": Carried(),
}
MIXING_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "shared out": lambda outputs, targets: squared(outputs, targets) / len(outputs),
    "less the mean": lambda outputs, targets: (lambda losses: losses - 0.5 * losses.mean())(squared(outputs, targets)),
    "ranked": lambda outputs, _: torch.relu(outputs - outputs.t() + 1.0).mean(dim=1),
    "over the largest": lambda outputs, targets: squared(outputs, targets) / squared(outputs, targets).detach().max(),
}
ENGINES: dict[str, Engine] = {
    "bookkeeping": BookkeepingStep,
    "ew": OpacusStep,
    "hooks": lambda *arguments: OpacusStep(*arguments, mode="hooks"),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "known" in metafunc.fixturenames:
        metafunc.parametrize("known", metafunc.cls.layers)


@pytest.mark.filterwarnings("ignore:Full backward hook")  # torch's remark on inputs without gradients
class Contract:
    """What holds for every engine."""

    engine: Engine
    layers = tuple(EVERYTHING)
    wide: tuple[Any, str]

    @pytest.mark.parametrize("clip", [0.3, 1e4])
    def test_the_clipped_sum_is_that_of_one_by_one_gradients(self, known: str, clip: float) -> None:
        module, shape = made(known)
        draw = drawn([3, 1, 2, 1])
        inputs, targets = rows(shape, 7)
        expected = one_by_one(module, inputs, targets, draw, clip)
        found = self.engine(module, squared, clip).clipped_sum(inputs, targets, draw)
        assert found.shape == expected.shape
        assert found.dtype == torch.float64
        assert (found - expected).norm() <= 1e-6 * expected.norm()

    @pytest.mark.parametrize("name", ["mlp", "cnn1d", "transformer", "shared and unused"])
    def test_one_example_a_unit_is_the_same_law(self, name: str) -> None:
        module, shape = made(name)
        inputs, targets = rows(shape, 5)
        expected = one_by_one(module, inputs, targets, drawn([1] * 5), 0.2)
        found = self.engine(module, squared, 0.2).clipped_sum(inputs, targets, drawn([1] * 5))
        assert (found - expected).norm() <= 1e-6 * expected.norm()

    @pytest.mark.no_cover
    def test_one_unit_more_or_less_moves_the_sum_by_at_most_the_clip(self, known: str) -> None:
        module, shape = made(known)
        clips = {clip: self.engine(copy.deepcopy(module), squared, clip) for clip in (1e-3, 1.0, 50.0)}

        @settings(max_examples=8, deadline=None)
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
            others = drawn([size for unit, size in enumerate(sizes) if unit != gone])
            less = step.clipped_sum(inputs[~here], targets[~here], others)
            assert torch.isfinite(whole).all()
            assert (whole - less).norm() <= clip * (1 + 1e-5)

        replay()

    def test_steps_that_cancel_each_other_keep_the_law(self) -> None:
        # In float32 the norm of such a gradient cannot be had from products of its factors.
        module = nn.Sequential(nn.Linear(4, 3), MeanOver())
        turn = torch.tensor([1.0, -1.0])[:, None] * torch.full((2, 4), 1e4)
        inputs = (turn + 1e-2 * torch.arange(8.0).view(2, 4))[None].repeat(2, 3, 1)

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            return ((outputs - targets) * 1e3).sum(dim=1)

        step, targets = self.engine(module, loss, 1e-2), torch.zeros(2, 1)
        whole = step.clipped_sum(inputs, targets, drawn([1, 1]))
        assert whole.norm() == pytest.approx(2e-2, rel=1e-5)
        assert (whole - step.clipped_sum(inputs[:1], targets[:1], drawn([1]))).norm() <= 1e-2 * (1 + 1e-5)

    def test_a_large_lot_of_units_that_agree_keeps_the_law(self) -> None:
        # A float32 sum would be off by 2.5e-5 clips here.
        step, count = self.engine(nn.Linear(3, 1), squared, 1.0), 1500
        inputs = torch.from_numpy(np.random.default_rng(0).uniform(0, 0.3, (count, 3)).astype(np.float32))
        targets = torch.full((count, 1), 100.0)
        whole = step.clipped_sum(inputs, targets, drawn([1] * count))
        assert whole.norm() > 0.98 * count
        less = step.clipped_sum(inputs[:-1], targets[:-1], drawn([1] * (count - 1)))
        assert (whole - less).norm() == pytest.approx(1.0, abs=1e-6)

    @pytest.mark.parametrize("width", [1, 255, 256, 257, 3000])
    @pytest.mark.parametrize("size", [1, 2])
    def test_norms_are_those_of_the_whole_gradient_at_any_width(self, width: int, size: int) -> None:
        inputs = torch.full((2 * size, width), 0.1)
        targets = torch.tensor([[1e3], [-2e3]]).repeat_interleave(size, dim=0)
        step = self.engine(nn.Linear(width, 1), squared, 1.0)
        alone = step.clipped_sum(inputs[:size], targets[:size], drawn([size]))
        assert alone.norm() == pytest.approx(1.0, abs=1e-6)
        assert step.clipped_sum(inputs, targets, drawn([size, size])).norm() < 1e-6

    @pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf"), 3e38])
    @pytest.mark.no_cover
    def test_what_is_not_finite_silences_its_own_unit_only(self, known: str, broken: float) -> None:
        module, shape = made(known)
        inputs, targets = rows(shape, 6)
        inputs[2].view(-1)[0] = 0.0 if "embedding" in known else broken  # there, numbers are names
        targets[2] = broken
        step = self.engine(module, squared, 0.5)
        others = torch.tensor([0, 1, 4, 5])
        expected = step.clipped_sum(inputs[others], targets[others], drawn([2, 1, 1]))
        found = step.clipped_sum(inputs, targets, drawn([2, 2, 1, 1]))
        assert torch.isfinite(found).all()
        assert (found - expected).norm() <= 1e-6 * expected.norm()

    def test_bounded_memory_changes_nothing_and_splits_no_unit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module, shape = made("cnn1d")
        inputs, targets = rows(shape, 14)
        step, draw = self.engine(module, squared, 0.4), drawn([2, 1, 4, 6, 1])
        whole = step.clipped_sum(inputs, targets, draw)
        monkeypatch.setattr(*self.wide, 4 * sum(p.numel() for p in module.parameters()) * 4)
        if self.wide[0] is bookkeeping_file:
            monkeypatch.setattr(bookkeeping_file, "_MOST_ROWS", 4)
        parts = step.clipped_sum(inputs, targets, draw)
        assert (parts - whole).norm() <= 1e-6 * whole.norm()

    @pytest.mark.parametrize("loss", [lambda o, t: squared(o, t).mean(), lambda o, t: (o - t).square()])
    def test_losses_that_are_not_one_a_row_are_refused(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        with pytest.raises(PrivacyError, match="JG-privacy-003 Layer 'loss'"):
            self.engine(nn.Linear(4, 1), loss, 1.0).clipped_sum(*rows((4,), 3), drawn([1, 2]))

    @pytest.mark.parametrize("clip", [0.0, -1.0, 1e-13, float("inf"), float("nan")])
    def test_a_clip_that_float32_cannot_keep_is_refused(self, clip: float) -> None:
        with pytest.raises(ValueError, match="Expected 1e-12 <= clip"):
            self.engine(nn.Linear(4, 1), squared, clip)

    def test_the_least_clip_is_kept(self) -> None:
        inputs, targets = rows((4,), 3)
        step = self.engine(nn.Linear(4, 1), squared, 1e-12)
        found = step.clipped_sum(inputs[:2] * 1e-9, targets[:2] * 1e-3, drawn([2]))
        assert found.norm() == pytest.approx(1e-12, rel=1e-5)

    def test_a_step_leaves_no_gradient_and_no_mode_behind(self) -> None:
        module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)).eval(), nn.Linear(4, 1))
        self.engine(module, squared, 1.0).clipped_sum(*rows((4,), 5), drawn([2, 3]))
        assert all(parameter.grad is None for parameter in module.parameters())
        assert [layer.training for layer in module.modules()] == [True, True, True, False, False, True]

    def test_the_first_draw_is_treated_as_any_other(self) -> None:
        module, shape = made("mlp")
        inputs, targets = rows(shape, 5)
        step, other = (self.engine(copy.deepcopy(module), squared, 0.5) for _ in range(2))
        assert not step.clipped_sum(inputs[:1] * float("nan"), targets[:1], drawn([1])).any()
        draw = drawn([2, 3])
        assert torch.equal(step.clipped_sum(inputs, targets, draw), other.clipped_sum(inputs, targets, draw))

    def test_an_empty_draw_gives_zeros(self) -> None:
        module, shape = made("mlp")
        inputs, targets = rows(shape, 0)
        found = self.engine(module, squared, 1.0).clipped_sum(inputs, targets, drawn([]))
        assert found.shape == (sum(p.numel() for p in module.parameters()),)
        assert not found.any()

    def test_plain_training_in_between_leaves_nothing_behind(self) -> None:
        module, shape = made("cnn1d")
        inputs, targets = rows(shape, 4)
        step = self.engine(module, squared, 0.5)
        before = step.clipped_sum(inputs, targets, drawn([2, 2]))
        for _ in range(2):
            squared(module(inputs * 3), targets).mean().backward()
        assert all(getattr(p, "grad_sample", None) is None for p in module.parameters())
        assert torch.equal(step.clipped_sum(inputs, targets, drawn([2, 2])), before)

    def test_the_parameters_of_the_moment_count(self) -> None:
        module, shape = made("mlp")
        inputs, targets = rows(shape, 4)
        step = self.engine(module, squared, 0.5)
        step.clipped_sum(inputs, targets, drawn([2, 2]))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(0.5)
        expected = one_by_one(module, inputs, targets, drawn([2, 2]), 0.5)
        found = step.clipped_sum(inputs, targets, drawn([2, 2]))
        assert (found - expected).norm() <= 1e-6 * expected.norm()

    @pytest.mark.parametrize("frozen", [["0.weight", "0.bias"], ["0.weight"], ["2.bias"], ["2.weight"]])
    def test_a_frozen_parameter_is_left_out(self, frozen: list[str]) -> None:
        module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
        for name in frozen:
            module.get_parameter(name).requires_grad_(False)
        inputs, targets = rows((4,), 3)
        loss = (squared(module(inputs), targets) * torch.tensor([1, 0.5, 0.5])).sum()
        gradients = torch.autograd.grad(loss, [p for p in module.parameters() if p.requires_grad])
        expected = torch.cat([gradient.flatten() for gradient in gradients])
        found = self.engine(module, squared, 1e6).clipped_sum(inputs, targets, drawn([1, 2]))
        torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-6)

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
    def test_a_layer_that_mixes_records_is_refused_by_name(self, name: str, layer: Callable[[], nn.Module]) -> None:
        module = nn.Sequential(nn.Linear(4, 4), nn.Sequential(layer()))
        with pytest.raises(PrivacyError, match=f"JG-privacy-003 Layer '1.0' \\({name}\\)"):
            self.engine(module, squared, 1.0)


class TestBookkeeping(Contract):
    engine = staticmethod(BookkeepingStep)
    wide = (bookkeeping_file, "_BYTES_IN_CACHE")

    def test_a_parameter_outside_layers_is_refused_by_name(self) -> None:
        with pytest.raises(PrivacyError, match=r"JG-privacy-004 .*Gain"):
            BookkeepingStep(nn.Sequential(nn.Linear(4, 4), Gain()), squared, 1.0)

    @pytest.mark.parametrize(
        ("model", "shape", "why"),
        [
            (lambda: Borrowed(), (4,), "body.weight, used outside its layer"),
            (lambda: Positions(), (3, 4), r"Embedding \(its rows are not the records\)"),
            (lambda: StepsFirst(), (3, 4), r"Linear \(its rows are not the records\)"),
            (lambda: Overwritten(), (4,), r"Linear \(its inputs are changed in place\)"),
            (lambda: Recurrent(nn.LSTM, proj_size=2, batch_first=True), (5, 3), r"LSTM \(it has a rule for"),
            (lambda: Masked(), (3, 4), r"MultiheadAttention \(it has a rule for self-attention"),
        ],
    )
    def test_a_use_that_no_rule_sees_is_refused_by_name(
        self, model: Callable[[], nn.Module], shape: tuple[int, ...], why: str
    ) -> None:
        inputs, targets = rows(shape, 3)
        with pytest.raises(PrivacyError, match=f"JG-privacy-004 .*{why}"):
            BookkeepingStep(model(), squared, 1.0).clipped_sum(inputs, targets, drawn([1, 2]))

    def test_a_use_that_comes_with_more_rows_is_refused_when_it_comes(self) -> None:
        step, (inputs, targets) = BookkeepingStep(Late(), squared, 1.0), rows((4,), 5)
        assert step.clipped_sum(inputs[:3], targets[:3], drawn([1, 2])).any()
        with pytest.raises(PrivacyError, match=r"JG-privacy-004 .*body.weight, used outside its layer"):
            step.clipped_sum(inputs, targets, drawn([2, 3]))

    def test_a_forward_that_was_replaced_is_no_layers_own(self) -> None:
        module, (inputs, targets) = nn.Sequential(nn.Linear(4, 1)), rows((4,), 3)
        step = BookkeepingStep(module, squared, 1.0)
        replaced = module[0].forward = lambda values: module[0].bias + values.sum(dim=1, keepdim=True)
        assert BookkeepingStep.unknown_layers(module) == ["Linear"]
        with pytest.raises(PrivacyError, match=r"JG-privacy-004 .*its forward has been replaced"):
            step.clipped_sum(inputs, targets, drawn([1, 2]))
        assert module[0].forward is replaced

    @pytest.mark.parametrize(
        ("model", "shape"),
        [
            (Unlearned, (4,)),
            (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), MeanOver(), nn.Linear(6, 1)), (6, 4)),
            (lambda: nn.Sequential(Turned(), nn.LayerNorm(6), MeanOver(), nn.Linear(4, 1)), (6, 4)),
        ],
        ids=["without gradients", "in place after steps", "layer norm of turned axes"],
    )
    def test_unusual_models_keep_the_law(self, model: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
        torch.manual_seed(1)
        module, (inputs, targets), draw = model(), rows(shape, 5), drawn([2, 1, 2])
        expected = one_by_one(module, inputs, targets, draw, 0.3)
        found = BookkeepingStep(module, squared, 0.3).clipped_sum(inputs, targets, draw)
        assert (found - expected).norm() <= 1e-6 * expected.norm()

    def test_dropout_is_no_mixing(self) -> None:
        class Dropping(Recurrent):
            def forward(self, inputs: Tensor) -> Tensor:
                return nn.functional.dropout(super().forward(inputs), 0.5, self.training)

        inputs, targets = rows((5, 3), 4)
        for module in (Dropping(nn.GRU, num_layers=2, dropout=0.5), Attention(dropout=0.5)):
            state = torch.get_rng_state()
            step = BookkeepingStep(module, squared, 1.0)
            assert not step.clipped_sum(inputs[:0], targets[:0], drawn([])).any()
            found = step.clipped_sum(inputs, targets, drawn([2, 2]))
            torch.set_rng_state(state)
            assert torch.equal(step.clipped_sum(inputs, targets, drawn([2, 2])), found)

    @pytest.mark.parametrize("frozen", ["attention.in_proj_weight", "attention.out_proj.weight"])
    def test_attention_may_be_frozen_in_part(self, frozen: str) -> None:
        module, shape = made("attention without bias")
        module.requires_grad_(False)
        module.attention.requires_grad_(True)
        module.get_parameter(frozen).requires_grad_(False)
        inputs, targets = rows(shape, 3)
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(squared(module(inputs), targets).sum(), trained)
        expected = torch.cat([gradient.flatten() for gradient in gradients])
        found = BookkeepingStep(module, squared, 1e6).clipped_sum(inputs, targets, drawn([1, 1, 1]))
        torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-6)

    def test_layers_are_their_own_again_after_a_failure(self) -> None:
        module = Borrowed()
        with pytest.raises(PrivacyError):
            BookkeepingStep(module, squared, 1.0).clipped_sum(*rows((4,), 1), drawn([1]))
        assert "forward" not in vars(module.body)

    def test_weights_computed_from_others_are_no_layers_own(self) -> None:
        module = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 1)))
        assert BookkeepingStep.unknown_layers(module)


class TestVmap(Contract):
    engine = staticmethod(VmapStep)
    layers = tuple(name for name in EVERYTHING if "gru" not in name)
    wide = (vmap_file, "_BYTES_AT_ONCE")

    def test_what_vmap_cannot_take_is_refused(self) -> None:
        module, shape = made("gru")
        with pytest.raises(PrivacyError, match="JG-privacy-004 The model under vmap"):
            VmapStep(module, squared, 1.0).clipped_sum(*rows(shape, 2), drawn([2]))

    @pytest.mark.parametrize("name", ["centred", "softmax over records", "summed up", "folded", "shared out"])
    def test_a_row_that_is_alone_mixes_with_none(self, name: str) -> None:
        module, (inputs, targets) = MIXING[name], rows((4,), 5)
        found = VmapStep(module, squared, 0.3).clipped_sum(inputs, targets, drawn([1] * 5))
        alone = [one_by_one(module, inputs[[i]], targets[[i]], drawn([1]), 0.3) for i in range(5)]
        assert (found - sum(alone)).norm() <= 1e-6 * found.norm()

    @pytest.mark.parametrize(("model", "shape"), [(lambda: Borrowed(), (4,)), (lambda: Positions(), (3, 4))])
    def test_parameters_may_be_used_anywhere(self, model: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
        torch.manual_seed(1)
        module, (inputs, targets), draw = model(), rows(shape, 5), drawn([2, 1, 2])
        expected = one_by_one(module, inputs, targets, draw, 0.3)
        found = VmapStep(module, squared, 0.3).clipped_sum(inputs, targets, draw)
        assert (found - expected).norm() <= 1e-6 * expected.norm()


class TestOpacusEw(Contract):
    engine = staticmethod(OpacusStep)
    layers = tuple(name for name in EVERYTHING if name not in {*RECURRENT, *ATTENTION, "in place"})
    wide = (opacus_file, "_BYTES_AT_ONCE")

    @pytest.mark.parametrize(
        ("name", "layer"),
        [("GRU", lambda: nn.GRU(4, 4)), ("MultiheadAttention", lambda: nn.MultiheadAttention(4, 2)), ("Gain", Gain)],
    )
    def test_a_layer_without_a_gradient_rule_is_refused_by_name(
        self, name: str, layer: Callable[[], nn.Module]
    ) -> None:
        with pytest.raises(PrivacyError, match=f"JG-privacy-004 .*{name}"):
            self.engine(nn.Sequential(nn.Linear(4, 4), layer()), squared, 1.0)


class TestOpacusHooks(TestOpacusEw):
    engine = staticmethod(partial(OpacusStep, mode="hooks"))


def test_hooks_refuse_a_parameter_that_is_used_outside_its_layer() -> None:
    with pytest.raises(PrivacyError, match=r"JG-privacy-004 .*outside their layers"):
        OpacusStep(Borrowed(), squared, 1.0, mode="hooks").clipped_sum(*rows((4,), 3), drawn([1, 2]))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", MIXING)
def test_a_forward_that_mixes_records_is_refused(name: str, engine: str) -> None:
    step, (inputs, targets) = ENGINES[engine](copy.deepcopy(MIXING[name]), squared, 1.0), rows((4,), 1)
    with pytest.raises(PrivacyError, match=r"JG-privacy-003|JG-privacy-004 .*outside"):
        step.clipped_sum(inputs, targets, drawn([1]))


@pytest.mark.parametrize("name", MIXING_LOSSES)
def test_a_loss_that_mixes_records_is_refused(name: str) -> None:
    step, (inputs, targets) = BookkeepingStep(nn.Linear(4, 1), MIXING_LOSSES[name], 1.0), rows((4,), 1)
    with pytest.raises(PrivacyError, match="JG-privacy-003"):
        step.clipped_sum(inputs, targets, drawn([1]))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_norms_of_half_precision_are_not_rounded_to_it(kind: torch.dtype) -> None:
    gradients = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 700))).to(kind)
    torch.testing.assert_close(squared_norms(gradients), gradients.double().square().sum(dim=1), rtol=1e-6, atol=0)


def test_the_default_is_bookkeeping_where_it_knows_every_layer_and_vmap_else() -> None:
    assert isinstance(private_step(nn.Linear(4, 1), squared, 1.0), BookkeepingStep)
    step = private_step(nn.Sequential(Gain(), nn.Linear(4, 1)), squared, 1.0)
    assert isinstance(step, VmapStep)


@pytest.mark.parametrize("task", Task)
def test_every_tasks_loss_is_clipped_alike(task: Task) -> None:
    module = build(LinearSpec(name="linear"), (4,), 3 if task is Task.MULTICLASS else 1, 0)
    inputs, _ = rows((4,), 6)
    targets = inputs[:, :1] if task is Task.REGRESSION else (inputs[:, 0] > 0).long()
    step = private_step(module, lambda outputs, truth: row_losses(task, outputs, truth), 1e6)
    found = step.clipped_sum(inputs, targets, drawn([1] * 6))
    plain = copy.deepcopy(module)
    row_losses(task, plain(inputs), targets).sum().backward()
    expected = torch.cat([p.grad.flatten() for p in plain.parameters() if p.grad is not None])
    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-6)


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
    noise = np.empty(7, np.float32)
    tape("mean").fill_gaussian(noise, 1.5)
    expected = (total.numpy() + noise) / 20
    np.testing.assert_allclose(noised_mean(total, mechanism, tape("mean")), expected, rtol=1e-12)


def test_no_seed_reproduces_a_noised_mean(mechanism: LocalDpSgd) -> None:
    def seeded() -> np.ndarray:
        torch.manual_seed(42)
        return noised_mean(torch.zeros(50), mechanism, SecureRandom())

    assert not np.intersect1d(seeded(), seeded()).size
