"""Affine maps with ReLU between, forward and backward by hand, of several sites at once.

The law: rows never meet, so what becomes of a site's rows is what torch would make of them, up to rounding, whoever
stands beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch
from threadpoolctl import threadpool_info
from torch import Tensor, nn

from jangin.models.tasks import Task

__all__ = [
    "SILENT",
    "CommonMap",
    "Map",
    "OwnMap",
    "backward",
    "forward",
    "is_affine",
    "output_gradient",
    "pairs",
    "product",
    "products",
]

SILENT = np.errstate(over="ignore", invalid="ignore")
"""Numpy says nothing of what is not finite, as torch does not."""

_HAS_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")  # by no other name do float32 matrices reach it
_FEW_ROWS = 32
_SMALL, _SMALL_TRANSPOSED = 2**14, 2**13  # values of a right factor, and of one that lies transposed; see `products`


class Map(Protocol):
    """One affine map at every site."""

    def outputs(self, read: Tensor) -> Tensor:
        """What it makes of its inputs, (sites, rows, in): (sites, rows, out); the caller's to use up."""
        ...

    def back(self, gradient: Tensor) -> Tensor:
        """The gradient of what it reads, (sites, rows, in), from that of what it gives, (sites, rows, out); as well."""
        ...


@dataclass(frozen=True)
class OwnMap:
    """A map of which every site has its own weight, (sites, out, in), and bias, (sites, out)."""

    weight: Tensor
    bias: Tensor

    def outputs(self, read: Tensor) -> Tensor:
        """See `Map`."""
        return products(read, self.weight.mT).add_(self.bias.unsqueeze(1))

    def back(self, gradient: Tensor) -> Tensor:
        """See `Map`."""
        return products(gradient, self.weight)


@dataclass(frozen=True)
class CommonMap:
    """A map that is the same at all sites, weight (out, in) and bias (out,)."""

    weight: Tensor
    bias: Tensor

    def outputs(self, read: Tensor) -> Tensor:
        """See `Map`."""
        return product(read, self.weight.mT, self.bias)

    def back(self, gradient: Tensor) -> Tensor:
        """See `Map`."""
        return product(gradient, self.weight)


def is_affine(module: nn.Module) -> bool:
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


def pairs(parts: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of every map of an affine module, from its parameters in their order."""
    return list(zip(parts[::2], parts[1::2], strict=True))


def forward(maps: Sequence[Map], inputs: Tensor) -> tuple[list[Tensor], Tensor]:
    """What every map reads, (sites, rows, in), and what the last one gives, (sites, rows, outputs)."""
    reads = [inputs.flatten(start_dim=2)]
    for one in maps[:-1]:
        reads.append(one.outputs(reads[-1]).relu_())
    return reads, maps[-1].outputs(reads[-1])


def backward(maps: Sequence[Map], reads: Sequence[Tensor], gradient: Tensor) -> Iterator[Tensor]:
    """The gradients of what every map gives, (sites, rows, out), from the last map's, which is given, to the first's.

    A map is not read again once its gradient was handed out: it may then be changed.
    """
    for one, read in zip(reversed(maps[1:]), reversed(reads[1:]), strict=True):
        through = one.back(gradient)
        yield gradient
        gradient = torch.ops.aten.threshold_backward.grad_input(through, read, 0, grad_input=through)
    yield gradient


def output_gradient(task: Task, outputs: Tensor, targets: Tensor) -> Tensor:
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


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product of (..., k) and (k, n), of as many rows as are, and a bias, (n,): (..., n).

    By OpenBLAS' kernels for AVX-512, or by oneDNN's; MKL, torch's own, has none on other processors than Intel's.
    """
    rows = left.flatten(0, -2)
    if _multiplies_in_place():
        found = torch.from_numpy(np.matmul(rows.numpy(), right.numpy()))
        found = found if bias is None else found.add_(bias)
    elif _HAS_ONEDNN:
        found = torch.ops.mkldnn._linear_pointwise(rows, right.mT, bias, "none", [], "")
    else:
        found = nn.functional.linear(rows, right.mT, bias)
    return found.view(*left.shape[:-1], -1)


def products(left: Tensor, right: Tensor, onto: Tensor | None = None) -> Tensor:
    """The products of every site's factors, (sites, rows, k) and (sites, k, n), added to `onto`: (sites, rows, n).

    OpenBLAS' kernels for AVX-512 multiply small matrices where they lie, and torch's MKL copies each before it does,
    which takes as long as the product where rows are few. What is not small is handed over some columns at once.
    """
    (sites, rows, wide), count = left.shape, right.shape[-1]
    if rows > _FEW_ROWS or not _multiplies_in_place():
        return torch.bmm(left, right) if onto is None else onto.baddbmm_(left, right)
    at_once = max(1, (_SMALL if right.stride(-1) == 1 else _SMALL_TRANSPOSED) // max(1, wide))
    given, a, b = np.empty((sites, rows, count), np.float32), left.numpy(), right.numpy()
    blocks = count // at_once
    whole = blocks * at_once
    if whole:
        columns = b[:, :, :whole].reshape(sites, wide, blocks, at_once).swapaxes(1, 2)
        np.matmul(a[:, None], columns, out=given[:, :, :whole].reshape(sites, rows, blocks, at_once).swapaxes(1, 2))
    if whole < count:
        np.matmul(a, b[:, :, whole:], out=given[:, :, whole:])
    found = torch.from_numpy(given)
    return found if onto is None else onto.add_(found)


@cache
def _multiplies_in_place() -> bool:
    """Whether numpy's BLAS is OpenBLAS on a processor that it takes for one with AVX-512."""
    return any(pool.get("architecture") in ("SkylakeX", "Cooperlake", "SapphireRapids") for pool in threadpool_info())
