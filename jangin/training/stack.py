"""Several sites' parameters in one place, and a step of gradient descent that all of them take together.

The law: rows never meet: what becomes of a site's parameters is what `Learner.descend` would make of them, up to
rounding, whoever stands beside it. Parameters are laid out one after another, each (sites, *shape) without gaps: only
so does torch hand a whole stack to one batched product.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from jangin.models.layout import ParameterLayout
from jangin.models.tasks import Task, row_losses
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import LocalDpSgd
from jangin.privacy.step.stack import MOST_ROWS, clip_rows
from jangin.training.affine import SILENT, CommonMap, Map, OwnMap, backward, forward, is_affine, output_gradient, pairs

__all__ = ["Moved", "PrivateStep", "Step", "parts_of", "private_stacked_step", "stacked_step"]


class Step(Protocol):
    """One step of gradient descent of several sites."""

    def __call__(self, parts: Sequence[Tensor], inputs: Tensor, targets: Tensor, weights: Tensor, lr: float) -> None:
        """Take from every site's parameters `lr` times the gradient of its weighted sum of losses.

        Args:
            parts: of the layout's entries, each (sites, *shape); changed in place.
            inputs: of every site's batch, (sites, rows, ...).
            targets: (sites, rows, targets) or (sites, rows).
            weights: of the rows, (sites, rows); 0 where a site has fewer.
            lr: learning rate.
        """
        ...


class PrivateStep(Protocol):
    """One private step of several sites."""

    def __call__(
        self,
        parts: Sequence[Tensor],
        inputs: Tensor,
        targets: Tensor,
        there: Tensor,
        lr: float,
        random: SecureRandom,
        common: Sequence[Tensor] | None = None,
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
            common: the parameters, (*shape) each, while they are the same at all sites.
        """
        ...


@dataclass(frozen=True)
class Moved:
    """Where several sites' parameters have been moved to; what one method gives uses it up.

    Attributes:
        parts: those that are shared, of the layout's entries, each (sites, *shape).
        anchors: what their updates count from, (*shape) each.
    """

    parts: Sequence[Tensor]
    anchors: Sequence[Tensor]

    def total(self) -> list[Tensor]:
        """The sum of the sites' updates, of every part, (*shape)."""
        return [part.sum(dim=0) for part in self.each()]

    def each(self) -> list[Tensor]:
        """Every site's update, of every part, (sites, *shape)."""
        return [part.sub_(anchor) for part, anchor in zip(self.parts, self.anchors, strict=True)]


def parts_of(layout: ParameterLayout, room: Tensor, sites: int) -> list[Tensor]:
    """The parameters of so many sites as views of `room`, (sites * size,) or more; one (sites, *shape) an entry."""
    places = torch.split(room[: sites * layout.size], [sites * entry.size for entry in layout.entries])
    return [place.view(sites, *entry.shape) for place, entry in zip(places, layout.entries, strict=True)]


def stacked_step(module: nn.Module, task: Task) -> Step:
    """The step of `module`: batched products where it is affine maps with ReLU between, else torch.func."""
    return _affine_step(task) if is_affine(module) else _func_step(module, task)


def private_stacked_step(module: nn.Module, task: Task, mechanism: LocalDpSgd) -> PrivateStep | None:
    """The private step of `module`, for units of one row each; None where it is not affine maps with ReLU between."""
    return _private_affine_step(task, mechanism) if is_affine(module) else None


def _affine_step(task: Task) -> Step:
    """Forward and backward by hand; a gradient goes straight into the parameters and is stored nowhere."""

    @torch.no_grad()
    @SILENT
    def step(parts: Sequence[Tensor], inputs: Tensor, targets: Tensor, weights: Tensor, lr: float) -> None:
        maps = _own(parts)
        reads, outputs = forward(maps, inputs)
        last = output_gradient(task, outputs, targets).mul_(weights[:, :, None])
        for one, read, gradient in zip(reversed(maps), reversed(reads), backward(maps, reads, last), strict=True):
            one.weight.baddbmm_(gradient.mT, read, alpha=-lr)
            one.bias.sub_(gradient.sum(dim=1), alpha=lr)

    return step


def _private_affine_step(task: Task, mechanism: LocalDpSgd) -> PrivateStep:
    """As `_affine_step`, with clipped rows, the public divisor, and noise."""
    deviation = mechanism.steps.noise_multiplier * mechanism.clip
    room = torch.empty(0)

    @torch.no_grad()
    @SILENT
    def step(
        parts: Sequence[Tensor],
        inputs: Tensor,
        targets: Tensor,
        there: Tensor,
        lr: float,
        random: SecureRandom,
        common: Sequence[Tensor] | None = None,
    ) -> None:
        nonlocal room
        rate = lr / mechanism.divisor
        maps: Sequence[Map] = [CommonMap(*one) for one in pairs(common)] if common else _own(parts)
        reads, outputs = forward(maps, inputs)
        gradients = list(backward(maps, reads, output_gradient(task, outputs, targets)))[::-1]
        clip_rows(reads, gradients, there, mechanism.clip)
        # By themselves: what parameters would round is then rounded of the sum and its noise together.
        sizes = [part.numel() for part in parts]
        if len(room) < sum(sizes):
            room = torch.empty(sum(sizes))
        moved = room[: sum(sizes)]
        moves = [one.view(part.shape) for one, part in zip(torch.split(moved, sizes), parts, strict=True)]
        random.fill_gaussian(moved.numpy(), rate * deviation)
        for (of_weight, of_bias), read, gradient in zip(pairs(moves), reads, gradients, strict=True):
            if inputs.shape[1] <= MOST_ROWS:
                torch.baddbmm(of_weight, gradient.mT, read, alpha=-rate, out=of_weight)
                of_bias.sub_(gradient.sum(dim=1), alpha=rate)
            else:
                of_weight.sub_(torch.bmm(gradient.mT.double(), read.double()), alpha=rate)
                of_bias.sub_(gradient.sum(dim=1, dtype=torch.float64), alpha=rate)
        for part, move in zip(parts, moves, strict=True):
            part.add_(move)

    return step


def _own(parts: Sequence[Tensor]) -> list[OwnMap]:
    return [OwnMap(*pair) for pair in pairs(parts)]


def _func_step(module: nn.Module, task: Task) -> Step:
    """Any functional model: torch.func's gradient of one site, over the stack."""
    from torch.func import functional_call, grad, vmap  # its first call loads a compiler, for a second or two

    names = [name for name, _ in module.named_parameters()]

    def loss(parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        return (row_losses(task, functional_call(module, parameters, (inputs,)), targets) * weights).sum()

    gradients: Callable[..., dict[str, Tensor]] = vmap(grad(loss))

    def step(parts: Sequence[Tensor], inputs: Tensor, targets: Tensor, weights: Tensor, lr: float) -> None:
        found = gradients(dict(zip(names, parts, strict=True)), inputs, targets, weights)
        for part, name in zip(parts, names, strict=True):
            part.sub_(found[name], alpha=lr)

    return step
