"""The torch modules behind the specifications. Every one is made of layers whose records stay apart."""

from math import prod

import torch
from torch import Tensor, nn

from jangin.errors import PlanError
from jangin.models.spec import Cnn1dSpec, LinearSpec, MlpSpec, ModelSpec

__all__ = ["build"]


def build(spec: ModelSpec, input_shape: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
    """A module from inputs (rows, *input_shape) to (rows, outputs), its initial weights drawn from `seed`.

    Torch's own random state stays as it was.

    Raises:
        PlanError: JG-plan-011, inputs whose shape the model cannot take; JG-plan-012, groups that do not divide;
            JG-plan-014, a group of one value, which cannot be normalised.
        TypeError: `spec` is no specification.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        match spec:
            case LinearSpec():
                return _linear(prod(input_shape), outputs)
            case MlpSpec():
                return _mlp(prod(input_shape), spec.hidden, outputs)
            case Cnn1dSpec():
                if len(input_shape) != 2:
                    raise PlanError("JG-plan-011", where="model.name", model=spec.name, shape=input_shape)
                for width in spec.channels:
                    if width % spec.groups:
                        raise PlanError("JG-plan-012", where="model.channels", width=width, groups=spec.groups)
                last = -(-input_shape[1] // 2 ** (len(spec.channels) - 1))
                if last == 1 and spec.groups in spec.channels:
                    raise PlanError("JG-plan-014", where="model.groups", groups=spec.groups, length=input_shape[1])
                return _cnn1d(input_shape[0], spec, outputs)
            case _:
                raise TypeError(f"Expected a model specification: {spec!r}.")


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


def _cnn1d(channels: int, spec: Cnn1dSpec, outputs: int) -> nn.Module:
    body = nn.Sequential()
    for depth, width in enumerate(spec.channels):
        stride = 1 if depth == 0 else 2
        body.append(nn.Conv1d(channels, width, spec.kernel, stride=stride, padding=spec.kernel // 2))
        body.append(nn.GroupNorm(spec.groups, width)).append(nn.ReLU())
        channels = width
    return _named(body=body, pool=_MeanOverTime(), head=nn.Linear(channels, outputs))


def _named(**parts: nn.Module) -> nn.Sequential:
    named = nn.Sequential()
    for name, part in parts.items():
        named.add_module(name, part)
    return named


class _MeanOverTime(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean(dim=-1)
