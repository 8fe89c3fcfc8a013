"""The paths of several sites from one point, found without writing a site's parameters down.

A step takes from a map's weight, (out, in), the product of two thin matrices: lr times the gradients of the rows of
its batch, (rows, out), by what the map reads of them, (rows, in). So the weight after some steps is W + M'X, of the W
where all began, with X what was read, and M what was moved by it, of the rows since; and what it makes of Z is
Z W' + (Z X')M. The first product is one large one for all sites; the second is small where a site has seen fewer rows
than the map is wide. The sum of all updates is again one large product, of all rows of all sites.

The law: that of training/affine.py, and what a site's path comes to is what `Learner.descend` would make of its
parameters, up to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jangin.models.tasks import Task
from jangin.training.affine import (
    SILENT,
    CommonMap,
    backward,
    forward,
    is_affine,
    output_gradient,
    pairs,
    product,
    products,
)

__all__ = ["Paths", "held_by_paths", "paths"]

_THIN = 0.6


def held_by_paths(module: nn.Module, rows: int, batch: int) -> int | None:
    """Values held for one site whose path leads over so many rows; None where its parameters are the cheaper way.

    Small products, of (rows - batch) / 2 rows on average, are then more than `_THIN` times as much work as one large.
    """
    if not is_affine(module):
        return None
    sides = [layer.weight.shape for layer in module.modules() if isinstance(layer, nn.Linear)]
    rims = sum(map(sum, sides))
    return rows * rims if (rows - batch) * rims <= _THIN * sum(out * wide for out, wide in sides) else None


@dataclass(frozen=True)
class Paths:
    """Where every site's path has led.

    Attributes:
        reads: of every map what it read, (sites, rows, in).
        moves: of every map -lr times the weighted gradients of what it gave, (sites, rows, out).
    """

    reads: Sequence[Tensor]
    moves: Sequence[Tensor]

    def total(self) -> list[Tensor]:
        """The sum of the sites' updates, of every weight and bias, (*shape)."""
        return [
            part
            for read, move in zip(self.reads, self.moves, strict=True)
            for part in (product(move.flatten(0, 1).mT, read.flatten(0, 1)), move.sum(dim=(0, 1)))
        ]

    def each(self) -> list[Tensor]:
        """Every site's update, of every weight and bias, (sites, *shape)."""
        return [
            part
            for read, move in zip(self.reads, self.moves, strict=True)
            for part in (torch.bmm(move.mT, read), move.sum(dim=1))
        ]


@dataclass(frozen=True)
class _MovedMap(CommonMap):
    """A map that was, and what each site's steps have read, (sites, rows, in), and moved, (sites, rows, out), since."""

    read: Tensor
    moved: Tensor

    def outputs(self, read: Tensor) -> Tensor:
        """See `Map`."""
        along = products(read, self.read.mT).add_(1)  # the bias reads 1 of every row
        return products(along, self.moved, onto=super().outputs(read))

    def back(self, gradient: Tensor) -> Tensor:
        """See `Map`."""
        along = products(gradient, self.moved.mT)
        return products(along, self.read, onto=super().back(gradient))


@torch.no_grad()
@SILENT
def paths(task: Task, start: Sequence[Tensor], inputs: Tensor, targets: Tensor, weights: Tensor, lr: float) -> Paths:
    """Take every site's steps of gradient descent from `start`.

    Args:
        task: whose loss (models/tasks.py).
        start: weight and bias of every map, (*shape) each.
        inputs: of every site's batches, (sites, steps, rows, ...).
        targets: (sites, steps, rows, targets) or (sites, steps, rows).
        weights: of a batch's rows, (sites, rows); 0 where a site has fewer.
        lr: learning rate.
    """
    sites, steps, batch = targets.shape[:3]
    maps = pairs(start)
    reads = [torch.empty(sites, steps * batch, weight.shape[1]) for weight, _ in maps]
    moves = [torch.empty(sites, steps * batch, len(bias)) for _, bias in maps]
    share = weights[:, :, None] * -lr
    now: list[CommonMap] = [CommonMap(*pair) for pair in maps]
    for step in range(steps):
        here = slice(step * batch, (step + 1) * batch)
        found, outputs = forward(now, inputs[:, step])
        gradients = backward(now, found, output_gradient(task, outputs, targets[:, step]).mul_(share))
        for read, one in zip(reads, found, strict=True):
            read[:, here] = one
        for moved, one in zip(reversed(moves), gradients, strict=True):
            moved[:, here] = one
        now = [
            _MovedMap(*pair, read[:, : here.stop], moved[:, : here.stop])
            for pair, read, moved in zip(maps, reads, moves, strict=True)
        ]
    return Paths(reads, moves)
