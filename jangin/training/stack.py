"""Several sites' parameters in one place, and a step of gradient descent that all of them take together.

The law: rows never meet: what becomes of a site's parameters is what `Learner.descend` would make of them, up to
rounding, whoever stands beside it. Parameters are laid out one after another, each (sites, *shape) without gaps: only
so does torch hand a whole stack to one batched product.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from jangin.models.layout import ParameterLayout
from jangin.models.tasks import Task, row_losses

__all__ = ["Step", "parts_of", "stacked_step"]


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


def parts_of(layout: ParameterLayout, room: Tensor, sites: int) -> list[Tensor]:
    """The parameters of so many sites as views of `room`, (sites * size,) or more; one (sites, *shape) an entry."""
    places = torch.split(room[: sites * layout.size], [sites * entry.size for entry in layout.entries])
    return [place.view(sites, *entry.shape) for place, entry in zip(places, layout.entries, strict=True)]


def stacked_step(module: nn.Module, task: Task) -> Step:
    """The step of `module`: batched products where it is affine maps with ReLU between, else torch.func."""
    return _affine_step(task) if _is_affine(module) else _func_step(module, task)


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
    def step(parts: Sequence[Tensor], inputs: Tensor, targets: Tensor, weights: Tensor, lr: float) -> None:
        layers = list(zip(parts[::2], parts[1::2], strict=True))
        reads = [inputs.flatten(start_dim=2)]
        for weight, bias in layers[:-1]:
            reads.append(torch.baddbmm(bias[:, None], reads[-1], weight.mT).relu_())
        weight, bias = layers[-1]
        outputs = torch.baddbmm(bias[:, None], reads[-1], weight.mT)
        gradient = _output_gradient(task, outputs, targets).mul_(weights[:, :, None])
        for depth in reversed(range(len(layers))):
            weight, bias = layers[depth]
            behind = torch.bmm(gradient, weight) if depth else gradient
            weight.baddbmm_(gradient.mT, reads[depth], alpha=-lr)
            bias.sub_(gradient.sum(dim=1), alpha=lr)
            if depth:
                gradient = torch.ops.aten.threshold_backward(behind, reads[depth], 0)

    return step


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

    def step(parts: Sequence[Tensor], inputs: Tensor, targets: Tensor, weights: Tensor, lr: float) -> None:
        with warnings.catch_warnings():
            # torch warns where it goes site by site: slower, and as right.
            warnings.simplefilter("ignore", UserWarning)
            found = gradients(dict(zip(names, parts, strict=True)), inputs, targets, weights)
        for part, name in zip(parts, names, strict=True):
            part.sub_(found[name], alpha=lr)

    return step
