"""Rules of layers: run a layer so that the gradients of single units can be had afterwards.

A rule runs a layer's forward pass and records on a tape each output together with the uses of parameters behind it.
Backpropagation then needs the gradients of the recorded outputs only, never those of parameters, and a use turns
one into the gradients of units, float32 (Goodfellow 2015, arXiv 1510.01799; Bu et al. 2023, arXiv 2210.00038).

The law: a rule computes what torch's own layer computes, for rows along the first axis, and its uses name every
parameter it touched.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional

from jangin.errors import PrivacyError

__all__ = ["LAYERS", "Affine", "Part", "Room", "Rule", "Tape", "Use", "affine", "affine_parts", "refuse", "trained"]


class Part(NamedTuple):
    """Gradients of units for one parameter.

    Attributes:
        parameter: whose.
        gradient: shape (units, ...), contiguous.
        order: of the axes behind the first, by which they become the parameter's; None for as they are.
    """

    parameter: Tensor
    gradient: Tensor
    order: tuple[int, ...] | None = None


class Use(ABC):
    """One use of parameters in a forward pass, behind one recorded output."""

    parameters: tuple[Tensor, ...]

    @abstractmethod
    def parts(self, gradient: Tensor, rows: slice, count: int, room: "Room") -> Iterator[Part]:
        """Gradients of the `count` units that stand in `rows`, of which each has the same number.

        Args:
            gradient: of the losses by the recorded output, in its shape.
            rows: of all.
            count: number of units.
            room: where they may be written.
        """


class Room:
    """Memory for the gradients of a few units, the same again and again: fresh memory costs page faults."""

    def __init__(self) -> None:
        """Take nothing yet."""
        self._free: dict[int, Tensor] = {}
        self._taken: dict[int, Tensor] = {}

    def take(self, parameter: Tensor, *shape: int) -> Tensor:
        """A buffer of that shape, float32, whatever it holds; one at a time for each parameter is used again."""
        key, size = id(parameter), prod(shape)
        buffer = self._free.pop(key, None)
        if buffer is None or buffer.numel() < size:
            buffer = torch.empty(size)
        self._taken[key] = buffer
        return buffer[:size].view(shape)

    def clear(self) -> None:
        """Everything taken is free again."""
        self._free |= self._taken
        self._taken.clear()


@dataclass
class Tape:
    """What one forward pass recorded: outputs, as edges of autograd's graph, and the uses behind each."""

    rows: int = 0
    edges: list[GradientEdge] = field(default_factory=list)
    uses: list[list[Use]] = field(default_factory=list)
    _held: list[tuple[nn.Module, Tensor, int]] = field(default_factory=list)

    def record(self, layer: nn.Module, rows: int, inputs: Tensor, output: Tensor | GradientEdge, *uses: Use) -> None:
        """Note the uses behind `output`, and that nobody may change `inputs`, which they keep.

        Raises:
            PrivacyError: JG-privacy-004, the layer's `rows` are not the records.
        """
        if rows != self.rows:
            refuse(layer, "its rows are not the records")
        trains = [use for use in uses if use.parameters]
        if isinstance(output, Tensor):
            if not trains or not output.requires_grad:  # frozen, or run without gradients
                return
            output = get_gradient_edge(output)
        self.edges.append(output)
        self.uses.append(trains)
        self._held.append((layer, inputs, inputs._version))

    def check(self) -> None:
        """Refuse a pass that changed what a use needs.

        Raises:
            PrivacyError: JG-privacy-004, inputs of a layer were changed in place.
        """
        for layer, inputs, version in self._held:
            if inputs._version != version:
                refuse(layer, "its inputs are changed in place")

    def start(self, rows: int) -> None:
        """Forget everything, for a pass over so many rows."""
        self.rows = rows
        self.edges, self.uses, self._held = [], [], []


Rule = Callable[..., Any]
"""From a tape, a layer and the layer's arguments to what the layer returns."""


def refuse(layer: nn.Module, why: str) -> NoReturn:
    """Refuse one layer.

    Raises:
        PrivacyError: JG-privacy-004, always.
    """
    raise PrivacyError("JG-privacy-004", where="model", layers=f"{type(layer).__name__} ({why})")


def trained(*parameters: Tensor | None) -> tuple[Tensor, ...]:
    """Those that there are and that are trained."""
    return tuple(p for p in parameters if p is not None and p.requires_grad)


class Affine(Use):
    """z = a W^T + b at every step of a row: the gradient of W is the sum over steps of z's times a.

    Sums over steps are formed for every unit and then measured. Their norms could be had from two (steps, steps)
    products without forming them, but in float32 these lose the bound where steps cancel each other. A row of one
    step cannot cancel: there the norm is the product of two (`flat`).
    """

    def __init__(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        """Keep a, shape (rows, ..., features)."""
        self.inputs, self.weight, self.bias = inputs, weight, bias
        self.parameters = trained(weight, bias)

    @property
    def flat(self) -> bool:
        """Whether a row is one step."""
        return self.inputs.dim() == 2

    def parts(self, gradient: Tensor, rows: slice, count: int, room: Room) -> Iterator[Part]:
        """See `Use`."""
        g = gradient[rows].reshape(count, -1, gradient.shape[-1])
        a = self.inputs[rows].reshape(count, -1, self.inputs.shape[-1])
        yield from affine_parts(self.weight, self.bias, a, g, room)


def affine_parts(weight: Tensor, bias: Tensor | None, a: Tensor, g: Tensor, room: Room) -> Iterator[Part]:
    """Gradients of W and b from inputs (units, steps, features) and gradients (units, steps, outputs)."""
    if weight.requires_grad:
        found = room.take(weight, len(g), *weight.shape)
        yield Part(weight, torch.bmm(g.transpose(1, 2), a, out=found))
    if bias is not None and bias.requires_grad:
        yield Part(bias, g.sum(dim=1))


def affine(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """An affine map of inputs (..., features), which may be changed in place.

    Where a row has steps, torch's own is a view: changed in place, it would lose its edge.
    """
    flat = functional.linear(inputs.reshape(-1, inputs.shape[-1]), weight, bias)
    output: Tensor = torch.ops.aten._unsafe_view(flat, [*inputs.shape[:-1], len(weight)])
    return output


def _linear(tape: Tape, layer: nn.Linear, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
    flat = input.dim() == 2
    output = (functional.linear if flat else affine)(input, layer.weight, layer.bias)
    tape.record(layer, len(input), input, output, Affine(input, layer.weight, layer.bias))
    return output


_FEW_CHANNELS = 16  # with so few, patches of two axes are copied faster a tap than a step at a time


class _Convolution(Use):
    """The affine map of every patch; patches are cut out for few units at a time."""

    def __init__(self, inputs: Tensor, layer: nn.Conv1d | nn.Conv2d) -> None:
        self._inputs, self._layer = inputs, layer
        self.parameters = trained(layer.weight, layer.bias)

    def parts(self, gradient: Tensor, rows: slice, count: int, room: Room) -> Iterator[Part]:
        layer = self._layer
        steps = gradient[rows].flatten(start_dim=2)
        if layer.weight.requires_grad:
            if layer.groups == 1 and layer.weight.dim() == 4 and layer.weight.shape[1] <= _FEW_CHANNELS:
                yield self._weight_by_taps(rows, gradient.shape[2:], steps, count, room)
            else:
                yield self._weight(self._patches(rows, gradient.shape[2:]), steps, count, room)
        if layer.bias is not None and layer.bias.requires_grad:
            yield Part(layer.bias, steps.sum(dim=2).view(count, -1, len(layer.bias)).sum(dim=1))

    def _weight(self, patches: Tensor, g: Tensor, count: int, room: Room) -> Part:
        """From patches (rows, steps, *kernel, inputs) and gradients (rows, outputs, steps); a group is a row's row."""
        weight, groups = self._layer.weight, self._layer.groups
        shape = (count, len(weight), *self._layer.kernel_size, weight.shape[1])
        found = room.take(weight, *shape)
        if groups == 1 and len(g) == count:
            a = patches.reshape(count, patches.shape[1], -1)
            torch.bmm(g, a, out=found.view(count, len(weight), -1))
        else:
            size, steps = len(g) // count, g.shape[2]
            a = patches.reshape(count, size, steps, -1, groups, weight.shape[1]).permute(0, 4, 1, 2, 3, 5)
            g = g.reshape(count, size, groups, -1, steps).permute(0, 2, 3, 1, 4)
            torch.bmm(
                g.reshape(count * groups, -1, size * steps),
                a.reshape(count * groups, size * steps, -1),
                out=found.view(count * groups, len(weight) // groups, -1),
            )
        return Part(weight, found, (0, weight.dim() - 1, *range(1, weight.dim() - 1)))

    def _weight_by_taps(self, rows: slice, lengths: torch.Size, g: Tensor, count: int, room: Room) -> Part:
        """As `_weight`, in the parameter's own order: what each tap of the kernel reads is copied a line at a time."""
        layer, weight, size = self._layer, self._layer.weight, len(g) // count
        padded = _padded(self._inputs[rows], layer).contiguous()
        row, channel, *places = padded.stride()
        taps = [stride * by for stride, by in zip(places, layer.dilation, strict=True)]
        steps = [stride * by for stride, by in zip(places, layer.stride, strict=True)]
        shape = (count, *weight.shape[1:], size, *lengths)
        read = padded.as_strided(shape, (size * row, channel, *taps, row, *steps)).reshape(count, -1, size * g.shape[2])
        g = g.view(count, size, len(weight), -1).transpose(1, 2).reshape(count, len(weight), -1)
        found = room.take(weight, count, *weight.shape)
        torch.bmm(g, read.mT, out=found.view(count, len(weight), -1))
        return Part(weight, found)

    def _patches(self, rows: slice, lengths: torch.Size) -> Tensor:
        """Views of the padded inputs, (rows, steps, *kernel, channels), a copy where there are two axes."""
        layer = self._layer
        padded = _padded(self._inputs[rows], layer).movedim(1, -1).contiguous()
        strides = padded.stride()
        steps = [stride * by for stride, by in zip(strides[1:-1], layer.stride, strict=True)]
        taps = [stride * by for stride, by in zip(strides[1:-1], layer.dilation, strict=True)]
        shape = (len(padded), *lengths, *layer.kernel_size, padded.shape[-1])
        patches = padded.as_strided(shape, (strides[0], *steps, *taps, 1))
        return patches.flatten(1, len(lengths))


def _padded(inputs: Tensor, layer: nn.Conv1d | nn.Conv2d) -> Tensor:
    """Inputs as the layer's padding completes them."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded: Tensor = functional.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
    return padded


def _convolution(tape: Tape, layer: nn.Conv1d | nn.Conv2d, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
    if input.dim() != layer.weight.dim():
        refuse(layer, "its inputs have no axis of records")
    output: Tensor = layer._conv_forward(input, layer.weight, layer.bias)
    tape.record(layer, len(input), input, output, _Convolution(input, layer))
    return output


class _GroupNorm(Use):
    """z = w x + b with x normalised: w's gradient is the sum over steps of z's times x."""

    def __init__(self, inputs: Tensor, mean: Tensor, rstd: Tensor, layer: nn.GroupNorm) -> None:
        self._inputs, self._mean, self._rstd, self._layer = inputs, mean, rstd, layer
        self.parameters = trained(layer.weight, layer.bias)

    def parts(self, gradient: Tensor, rows: slice, count: int, room: Room) -> Iterator[Part]:
        x, g = self._inputs[rows].contiguous(), gradient[rows].contiguous()
        # Taken for one row of many channels, torch's own sums over rows are none: each channel keeps its own.
        channels = x.shape[0] * x.shape[1]
        _, weight, bias = torch.ops.aten.native_group_norm_backward(
            g.view(1, -1),
            x.view(1, -1),
            self._mean[rows].reshape(1, -1),
            self._rstd[rows].reshape(1, -1),
            torch.ones(channels),
            1,
            channels,
            prod(x.shape[2:]),
            x.shape[0] * self._layer.num_groups,
            [False, True, True],
        )
        for parameter, found in ((self._layer.weight, weight), (self._layer.bias, bias)):
            if parameter.requires_grad:
                yield Part(parameter, found.view(count, -1, x.shape[1]).sum(dim=1))


def _group_norm(tape: Tape, layer: nn.GroupNorm, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
    rows, channels, *lengths = input.shape
    input = input.contiguous()  # noqa: A001
    output, mean, rstd = torch.native_group_norm(
        input, layer.weight, layer.bias, rows, channels, prod(lengths), layer.num_groups, layer.eps
    )
    tape.record(layer, len(input), input, output, _GroupNorm(input, mean, rstd, layer))
    return output


class _LayerNorm(Use):
    """As `_GroupNorm`, over the last axes."""

    def __init__(self, inputs: Tensor, mean: Tensor, rstd: Tensor, layer: nn.LayerNorm) -> None:
        self._inputs, self._mean, self._rstd, self._layer = inputs, mean, rstd, layer
        self.parameters = trained(layer.weight, layer.bias)

    def parts(self, gradient: Tensor, rows: slice, count: int, room: Room) -> Iterator[Part]:
        weight, bias = self._layer.weight, self._layer.bias
        shape = (count, -1, *self._layer.normalized_shape)
        g = gradient[rows]
        if weight.requires_grad:
            x = (self._inputs[rows] - self._mean[rows]).mul_(self._rstd[rows]).mul_(g)
            yield Part(weight, x.reshape(shape).sum(dim=1))
        if bias is not None and bias.requires_grad:
            yield Part(bias, g.reshape(shape).sum(dim=1))


def _layer_norm(tape: Tape, layer: nn.LayerNorm, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
    output, mean, rstd = torch.native_layer_norm(
        input, list(layer.normalized_shape), layer.weight, layer.bias, layer.eps
    )
    tape.record(layer, len(input), input, output, _LayerNorm(input, mean, rstd, layer))
    return output


class _Entries(Use):
    """The gradient of an entry is the sum over the places where a unit names it; the padding entry's is none."""

    def __init__(self, inputs: Tensor, layer: nn.Embedding) -> None:
        self._inputs, self._layer = inputs, layer
        self.parameters = trained(layer.weight)

    def parts(self, gradient: Tensor, rows: slice, count: int, room: Room) -> Iterator[Part]:
        entries, width = self._layer.weight.shape
        named = self._inputs[rows].reshape(count, -1)
        g = gradient[rows].reshape(-1, width)
        if self._layer.padding_idx is not None:
            g = g.masked_fill((named == self._layer.padding_idx).view(-1, 1), 0.0)
        places = (named + entries * torch.arange(count)[:, None]).view(-1)
        found = torch.zeros(count * entries, width).index_add_(0, places, g)
        yield Part(self._layer.weight, found.view(count, entries, width))


def _embedding(tape: Tape, layer: nn.Embedding, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
    output = functional.embedding(input, layer.weight, layer.padding_idx)
    tape.record(layer, len(input), input, output, _Entries(input, layer))
    return output


LAYERS: Final[Mapping[type[nn.Module], Rule]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.Embedding: _embedding,
}
"""By exact type: a subclass may compute something else."""
