"""The torch modules behind the specifications. Every one is made of layers whose records stay apart."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from jangin.errors import PlanError
from jangin.models.spec import (
    Cnn1dSpec,
    Cnn2dSpec,
    FusionSpec,
    GruSpec,
    LinearSpec,
    MlpSpec,
    ModelSpec,
    TransformerSpec,
)

__all__ = ["build", "normalisation"]


def build(spec: ModelSpec, input_shape: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
    """A module from inputs (rows, *input_shape) to (rows, outputs), its initial weights drawn from `seed`.

    Torch's own random state stays as it was.

    Raises:
        PlanError: JG-plan-011, inputs whose shape the model cannot take; JG-plan-012, groups that do not divide;
            JG-plan-014, a group of one value, which cannot be normalised; JG-plan-064, rows that parts do not fit.
        TypeError: `spec` is no specification.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _built(spec, input_shape, outputs, "model")


def _built(spec: ModelSpec, shape: tuple[int, ...], outputs: int, where: str) -> nn.Module:
    match spec:
        case LinearSpec():
            return _linear(prod(shape), outputs)
        case MlpSpec():
            return _mlp(prod(shape), spec.hidden, outputs)
        case Cnn1dSpec() | Cnn2dSpec():
            _refuse_other_axes(spec, shape, where)
            return _convolutions(shape[0], spec, outputs)
        case GruSpec() | TransformerSpec():
            if len(shape) != 2 or shape[1] < spec.patch:
                raise PlanError("JG-plan-011", where=f"{where}.name", model=spec.name, shape=shape)
            return _over_patches(shape[0], spec, outputs)
        case FusionSpec():
            taken = sum(prod(part.shape) for part in spec.parts)
            if len(shape) != 1 or shape[0] < taken:
                raise PlanError("JG-plan-064", where=f"{where}.parts", taken=taken, shape=shape)
            branches = {
                f"from_{part.name}": _built(part.body, part.shape, part.width, f"{where}.parts.{part.name}.body")
                for part in spec.parts
            }
            beside = shape[0] - taken + sum(part.width for part in spec.parts)
            return _Fusion(branches, [part.shape for part in spec.parts], _mlp(beside, spec.hidden, outputs))
        case _:
            raise TypeError(f"Expected a model specification: {spec!r}.")


def _refuse_other_axes(spec: Cnn1dSpec | Cnn2dSpec, shape: tuple[int, ...], where: str) -> None:
    """Refuse inputs that have not one axis of channels and those of the kernel, and groups that cannot be made."""
    if len(shape) != (2 if isinstance(spec, Cnn1dSpec) else 3):
        raise PlanError("JG-plan-011", where=f"{where}.name", model=spec.name, shape=shape)
    for width in spec.channels:
        if width % spec.groups:
            raise PlanError("JG-plan-012", where=f"{where}.channels", width=width, groups=spec.groups)
    last = prod(-(-length // 2 ** (len(spec.channels) - 1)) for length in shape[1:])
    if last == 1 and spec.groups in spec.channels:
        lengths = " x ".join(map(str, shape[1:]))
        raise PlanError("JG-plan-014", where=f"{where}.groups", groups=spec.groups, length=lengths)


def normalisation(module: nn.Module) -> tuple[str, ...]:
    """The names of a module's normalisation layers."""
    return tuple(name for name, part in module.named_modules() if isinstance(part, nn.GroupNorm | nn.LayerNorm))


def _linear(features: int, outputs: int) -> nn.Module:
    head = nn.Linear(features, outputs)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return _named(flatten=nn.Flatten(), head=head)


def _mlp(features: int, hidden: tuple[int, ...], outputs: int) -> nn.Module:
    body = nn.Sequential()
    for width in hidden:
        body.append(nn.Linear(features, width)).append(nn.ReLU())
        features = width
    return _named(flatten=nn.Flatten(), body=body, head=nn.Linear(features, outputs))


def _convolutions(channels: int, spec: Cnn1dSpec | Cnn2dSpec, outputs: int) -> nn.Module:
    layer, body = nn.Conv1d if isinstance(spec, Cnn1dSpec) else nn.Conv2d, nn.Sequential()
    for depth, width in enumerate(spec.channels):
        stride = 1 if depth == 0 else 2
        body.append(layer(channels, width, spec.kernel, stride=stride, padding=spec.kernel // 2))
        body.append(nn.GroupNorm(spec.groups, width)).append(nn.ReLU())
        channels = width
    return _named(body=body, pool=_MeanOverPlaces(), head=nn.Linear(channels, outputs))


def _over_patches(channels: int, spec: GruSpec | TransformerSpec, outputs: int) -> nn.Module:
    body: nn.Module
    match spec:
        case GruSpec():
            width, body = spec.hidden, _LastState(spec.hidden, spec.layers)
        case TransformerSpec():
            width = spec.width
            blocks = (_Block(width, spec.heads) for _ in range(spec.layers))
            body = nn.Sequential(_Positions(width), *blocks, nn.LayerNorm(width), _MeanOverSteps())
        case _:
            raise TypeError(f"Expected a model over patches: {spec!r}.")
    embed = nn.Linear(channels * spec.patch, width)
    return _named(patches=_Patches(spec.patch), embed=embed, body=body, head=nn.Linear(width, outputs))


def _named(**parts: nn.Module) -> nn.Sequential:
    named = nn.Sequential()
    for name, part in parts.items():
        named.add_module(name, part)
    return named


class _Fusion(nn.Module):
    """A branch for each part of a row, and what reads their representations and the rest of the row."""

    def __init__(self, branches: Mapping[str, nn.Module], shapes: Sequence[tuple[int, ...]], fusion: nn.Module) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)
        self.fusion = fusion
        self._shapes = dict(zip(branches, shapes, strict=True))

    def forward(self, inputs: Tensor) -> Tensor:
        sizes = [prod(shape) for shape in self._shapes.values()]
        *parts, rest = torch.tensor_split(inputs, list(accumulate(sizes)), dim=1)
        seen = [
            torch.tanh(self.get_submodule(name)(part.reshape(len(part), *shape)))
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        ]
        output: Tensor = self.fusion(torch.cat([*seen, rest], dim=1))
        return output


class _MeanOverPlaces(nn.Module):
    """The mean over time, or over height and width."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(start_dim=2).mean(dim=-1)


class _MeanOverSteps(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean(dim=1)


class _Patches(nn.Module):
    """From (rows, channels, length) to (rows, patches, channels * samples), the newest sample in the last patch."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self._samples = samples

    def forward(self, inputs: Tensor) -> Tensor:
        whole = inputs[:, :, inputs.shape[2] % self._samples :]
        rows, channels, length = whole.shape
        return whole.reshape(rows, channels, length // self._samples, -1).transpose(1, 2).flatten(start_dim=2)


class _LastState(nn.Module):
    """The state after the last step, (rows, size), of recurrent layers over (rows, steps, size)."""

    def __init__(self, size: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.GRU(size, size, num_layers=layers, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.layers(inputs)
        last: Tensor = states[:, -1]
        return last


class _Positions(nn.Module):
    """Adds sines and cosines of the position, of wavelengths from 2 pi to 10000 * 2 pi steps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def forward(self, inputs: Tensor) -> Tensor:
        half = torch.arange(0, self._width, 2, dtype=inputs.dtype) / self._width
        angles = torch.arange(inputs.shape[1], dtype=inputs.dtype)[:, None] * 10000.0**-half
        return inputs + torch.cat([angles.sin(), angles.cos()], dim=1)


class _Block(nn.Module):
    """Self-attention and a map of each step, both added to what they read."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, inputs: Tensor) -> Tensor:
        rows, steps, _ = inputs.shape
        parts = self.attend(self.before(inputs)).view(rows, steps, 3, self._heads, -1)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind()
        attended = functional.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(start_dim=2)
        inputs = inputs + self.mix(attended)
        mapped: Tensor = self.narrow(functional.gelu(self.widen(self.between(inputs))))
        return inputs + mapped
