"""Losses and gradients as functions of a flat vector of parameters, for attackers who differentiate through them."""

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from jangin.models.flat import FlatModel
from jangin.models.tasks import Task, row_losses

__all__ = ["losses_at", "named", "of_rows"]


def named(model: FlatModel, vector: Tensor) -> dict[str, Tensor]:
    """The parts of a flat vector (size,), views of it, under the names of the model's parameters."""
    return {e.name: vector[e.offset : e.offset + e.size].view(e.shape) for e in model.layout.entries}


def losses_at(model: FlatModel, task: Task, parameters: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of each row at `parameters`, (size,); shape (rows,)."""
    return row_losses(task, functional_call(model.module, named(model, parameters), (inputs,)), targets)


def of_rows(model: FlatModel, task: Task, parameters: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    """The gradient of each row's loss at `parameters`, (size,); shape (rows, size)."""

    def loss(vector: Tensor, row: Tensor, target: Tensor) -> Tensor:
        return losses_at(model, task, vector, row[None], target[None])[0]

    each: Tensor = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, inputs, targets)
    return torch.flatten(each, start_dim=1)
