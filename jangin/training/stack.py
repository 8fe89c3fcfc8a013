"""Several sites' parameters in one place, and a step of gradient descent that all of them take together.

The law: rows never meet: what becomes of a site's parameters is what `Learner.descend` would make of them, up to
rounding, whoever stands beside it. Parameters are laid out one after another, each (sites, *shape) without gaps: only
so does torch hand a whole stack to one batched product.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from jangin.models.layout import ParameterLayout
from jangin.models.tasks import Task, row_losses
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import LocalDpSgd
from jangin.privacy.step.stack import MOST_ROWS, clip_rows

__all__ = ["PrivateStep", "Step", "parts_of", "private_stacked_step", "stacked_step"]

Maps = list[tuple[Tensor, Tensor]]
"""Weight and bias of a model's affine maps: of every site, (sites, out, in) and (sites, out), or one for all."""

_FEW_ROWS = 32
_OUTPUTS_AT_ONCE, _INPUTS_AT_ONCE = 32, 64  # see `_product`
_SILENT = np.errstate(over="ignore", invalid="ignore")  # of what is not finite torch says nothing either


class Step(Protocol):
    """One step of gradient descent of several sites."""

    def __call__(
        self,
        parts: Sequence[Tensor],
        inputs: Tensor,
        targets: Tensor,
        weights: Tensor,
        lr: float,
        starts: Sequence[Tensor] | None = None,
    ) -> None:
        """Take from every site's parameters `lr` times the gradient of its weighted sum of losses.

        Args:
            parts: of the layout's entries, each (sites, *shape); changed in place.
            inputs: of every site's batch, (sites, rows, ...).
            targets: (sites, rows, targets) or (sites, rows).
            weights: of the rows, (sites, rows); 0 where a site has fewer.
            lr: learning rate.
            starts: one point where all sites stand, each (*shape,); what `parts` held is then lost. None: at `parts`.
        """
        ...


class PrivateStep(Protocol):
    """One private step of several sites."""

    def __call__(
        self, parts: Sequence[Tensor], inputs: Tensor, targets: Tensor, there: Tensor, lr: float, random: SecureRandom
    ) -> None:
        """Take from every site's parameters `lr` times a noised mean gradient of its own (mechanism M1).

        Guarantee: for each site one of the mechanism's `steps.count` releases, fresh noise in every value.

        Args:
            parts: of the layout's entries, each (sites, *shape), contiguous; changed in place.
            inputs: the rows that were drawn, one of each unit, (sites, rows, ...); which stand in empty places is all
                the same.
            targets: (sites, rows, targets) or (sites, rows).
            there: which places are taken, bool (sites, rows).
            lr: learning rate.
            random: secret.
        """
        ...


def parts_of(layout: ParameterLayout, room: Tensor, sites: int) -> list[Tensor]:
    """The parameters of so many sites as views of `room`, (sites * size,) or more; one (sites, *shape) an entry."""
    places = torch.split(room[: sites * layout.size], [sites * entry.size for entry in layout.entries])
    return [place.view(sites, *entry.shape) for place, entry in zip(places, layout.entries, strict=True)]


def stacked_step(module: nn.Module, task: Task) -> Step:
    """The step of `module`: batched products where it is affine maps with ReLU between, else torch.func."""
    return _affine_step(task) if _is_affine(module) else _func_step(module, task)


def private_stacked_step(module: nn.Module, task: Task, mechanism: LocalDpSgd) -> PrivateStep | None:
    """The private step of `module`, for units of one row each; None where it is not affine maps with ReLU between."""
    return _private_affine_step(task, mechanism) if _is_affine(module) else None


def _is_affine(module: nn.Module) -> bool:
    """Whether a module is nothing but flatten, linear, ReLU, linear, ..., linear, each with a bias."""
    leaves = [layer for layer in module.modules() if type(layer) is not nn.Sequential]
    kinds = [type(layer) for layer in leaves]
    linear, between = leaves[1::2], kinds[2::2]
    return (
        kinds[:1] == [nn.Flatten]
        and len(kinds) % 2 == 0
        and all(type(layer) is nn.Linear and layer.bias is not None for layer in linear)
        and all(kind is nn.ReLU for kind in between)
    )


def _affine_step(task: Task) -> Step:
    """Forward and backward by hand; a gradient goes straight into the parameters and is stored nowhere."""

    @torch.no_grad()
    @_SILENT
    def step(
        parts: Sequence[Tensor],
        inputs: Tensor,
        targets: Tensor,
        weights: Tensor,
        lr: float,
        starts: Sequence[Tensor] | None = None,
    ) -> None:
        stand = _maps(parts if starts is None else starts)
        reads, outputs = _forward(stand, inputs)
        last = _output_gradient(task, outputs, targets).mul_(weights[:, :, None])
        gradients = _backward(stand, reads, last)
        for (weight, bias), (to_weight, to_bias), read, gradient in zip(
            reversed(stand), reversed(_maps(parts)), reversed(reads), gradients, strict=True
        ):
            torch.baddbmm(weight, gradient.mT, read, alpha=-lr, out=to_weight)
            torch.sub(bias, gradient.sum(dim=1), alpha=lr, out=to_bias)

    return step


def _private_affine_step(task: Task, mechanism: LocalDpSgd) -> PrivateStep:
    """As `_affine_step`, with clipped rows, the public divisor, and noise."""
    deviation = mechanism.steps.noise_multiplier * mechanism.clip
    room = torch.empty(0)

    @torch.no_grad()
    @_SILENT
    def step(
        parts: Sequence[Tensor], inputs: Tensor, targets: Tensor, there: Tensor, lr: float, random: SecureRandom
    ) -> None:
        nonlocal room
        rate, maps = lr / mechanism.divisor, _maps(parts)
        reads, outputs = _forward(maps, inputs)
        gradients = list(_backward(maps, reads, _output_gradient(task, outputs, targets)))[::-1]
        clip_rows(reads, gradients, there, mechanism.clip)
        # By themselves: what parameters would round is then rounded of the sum and its noise together.
        sizes = [part.numel() for part in parts]
        if len(room) < sum(sizes):
            room = torch.empty(sum(sizes))
        moved = room[: sum(sizes)]
        moves = [one.view(part.shape) for one, part in zip(torch.split(moved, sizes), parts, strict=True)]
        random.fill_gaussian(moved.numpy(), rate * deviation)
        for (of_weight, of_bias), read, gradient in zip(_maps(moves), reads, gradients, strict=True):
            if inputs.shape[1] <= MOST_ROWS:
                torch.baddbmm(of_weight, gradient.mT, read, alpha=-rate, out=of_weight)
            else:
                of_weight.sub_(torch.bmm(gradient.mT.double(), read.double()), alpha=rate)
            of_bias.sub_(gradient.sum(dim=1, dtype=torch.float64), alpha=rate)
        for part, move in zip(parts, moves, strict=True):
            part.add_(move)

    return step


def _maps(parts: Sequence[Tensor]) -> Maps:
    return list(zip(parts[::2], parts[1::2], strict=True))


def _forward(maps: Maps, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
    """What every map reads, (sites, rows, in), and what the last one gives, (sites, rows, outputs)."""
    reads = [inputs.flatten(start_dim=2)]
    for weight, bias in maps[:-1]:
        reads.append(_read_by(weight, reads[-1]).add_(bias.unsqueeze(-2)).relu_())
    weight, bias = maps[-1]
    return reads, _read_by(weight, reads[-1]).add_(bias.unsqueeze(-2))


def _backward(maps: Maps, reads: Sequence[Tensor], gradient: Tensor) -> Iterator[Tensor]:
    """The gradients of what every map gives, (sites, rows, out), from the last map's, which is given, to the first's.

    A map is not read again once its gradient was handed out: it may then be changed.
    """
    for (weight, _), read in zip(reversed(maps[1:]), reversed(reads[1:]), strict=True):
        through = _product(gradient, weight, _INPUTS_AT_ONCE)
        before = torch.ops.aten.threshold_backward(through, read, 0)
        yield gradient
        gradient = before
    yield gradient


def _read_by(weight: Tensor, read: Tensor) -> Tensor:
    """What a map makes of its inputs, without its bias: (sites, rows, in) to (sites, rows, out)."""
    return _product(read, weight.mT, _OUTPUTS_AT_ONCE)


def _product(left: Tensor, right: Tensor, at_once: int) -> Tensor:
    """The products of every site's factors: (sites, rows, k) and (sites, k, n), or (k, n) for all; (sites, rows, n).

    Numpy's OpenBLAS multiplies small matrices where they lie, and torch's MKL copies each before it does, which takes
    as long as the product where rows are few. It takes for small what has few columns, and fewer where they are those
    of a transposed matrix: it is handed some `at_once`.
    """
    (sites, rows, wide), count = left.shape, right.shape[-1]
    if right.dim() == 2 or rows > _FEW_ROWS:
        return left @ right
    given, a, b = np.empty((sites, rows, count), np.float32), left.numpy(), right.numpy()
    blocks = count // at_once
    whole = blocks * at_once
    if whole:
        columns = b[:, :, :whole].reshape(sites, wide, blocks, at_once).swapaxes(1, 2)
        np.matmul(a[:, None], columns, out=given[:, :, :whole].reshape(sites, rows, blocks, at_once).swapaxes(1, 2))
    if whole < count:
        np.matmul(a, b[:, :, whole:], out=given[:, :, whole:])
    return torch.from_numpy(given)


def _output_gradient(task: Task, outputs: Tensor, targets: Tensor) -> Tensor:
    """The gradient of every row's loss (models/tasks.py) by its outputs, (sites, rows, outputs), which are lost."""
    match task:
        case Task.REGRESSION:
            return outputs.sub_(targets).mul_(2 / outputs.shape[2])
        case Task.BINARY:
            return outputs.sigmoid_().sub_(targets[:, :, None])
        case Task.MULTICLASS:
            found = torch.softmax(outputs, dim=2)
            places = targets[:, :, None]
            return found.scatter_add_(2, places, torch.full_like(places, -1, dtype=found.dtype))
        case _:
            raise ValueError(f"Expected a task: {task!r}.")


def _func_step(module: nn.Module, task: Task) -> Step:
    """Any functional model: torch.func's gradient of one site, over the stack."""
    from torch.func import functional_call, grad, vmap  # its first call loads a compiler, for a second or two

    names = [name for name, _ in module.named_parameters()]

    def loss(parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        return (row_losses(task, functional_call(module, parameters, (inputs,)), targets) * weights).sum()

    gradients: Callable[..., dict[str, Tensor]] = vmap(grad(loss))

    def step(
        parts: Sequence[Tensor],
        inputs: Tensor,
        targets: Tensor,
        weights: Tensor,
        lr: float,
        starts: Sequence[Tensor] | None = None,
    ) -> None:
        if starts is not None:
            for part, start in zip(parts, starts, strict=True):
                part.copy_(start)
        found = gradients(dict(zip(names, parts, strict=True)), inputs, targets, weights)
        for part, name in zip(parts, names, strict=True):
            part.sub_(found[name], alpha=lr)

    return step
