"""What every engine of the private step promises, and what they share: refusals, runs of whole units, clip, noise.

The law: the very tensors that are measured are the ones that are clipped and summed; a unit whose gradient is not
finite gives nothing; a model that mixes records is refused, as far as its layers and one try on made-up records tell.

Sensitivity: adding or removing one unit moves the sum by at most clip * (1 + 1e-5) in L2. Gradients are float32;
norms and sums are float64, because a float32 sum of 1000 units that agree is rounded by more than 1e-5 of one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, isfinite
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jangin.errors import PrivacyError
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import LocalDpSgd
from jangin.privacy.sampling import Draw

__all__ = [
    "VALUES_IN_CACHE",
    "PrivateStep",
    "RowLosses",
    "Run",
    "clip_factors",
    "clipped_sum_of",
    "noised_mean",
    "refuse_company",
    "refuse_mixing",
    "refuse_reduced",
    "squared_norms",
    "trainable",
    "unit_gradients",
    "unit_runs",
    "weighted_sum",
]

_FEW = 256  # a float32 norm over so many values is exact to 1e-6
_LEAST_CLIP = 1e-12  # float32 squares of the gradients that a smaller clip is about are 0
_MADE_UP = 3  # records
_COMPANY = 1e-3  # of a gradient, that is more than rounding
VALUES_IN_CACHE = 2**18
"""Of float64, that are worked on at once."""

RowLosses = Callable[[Tensor, Tensor], Tensor]
"""From outputs and targets to the loss of every row, shape (rows,)."""

RowGradients = Callable[[Tensor, Tensor, NDArray[np.intp]], Tensor]
"""From inputs, targets and sizes to the gradient of every row's loss over its size, shape (rows, parameters)."""


class PrivateStep(Protocol):
    """A model whose rows do not depend on each other, the loss of a row, and a clip."""

    def __init__(self, module: nn.Module, row_losses: RowLosses, clip: float) -> None:
        """Prepare `module`, whose parameters stay where they are; `clip` bounds a unit's gradient in L2, >= 1e-12.

        Raises:
            ValueError: another clip.
            PrivacyError: JG-privacy-003, a layer that mixes records or keeps statistics of them; JG-privacy-004,
                parameters in a layer without a gradient rule.
        """
        ...

    def clipped_sum(self, inputs: Tensor, targets: Tensor, draw: Draw) -> Tensor:
        """The sum over drawn units of their clipped mean gradients, shape (trainable parameters,), float64.

        Guarantee: as this file's head says.

        Args:
            inputs: the inputs of `draw.rows`, shape (rows, ...), float32.
            targets: their targets, shape (rows, targets) or (rows,).
            draw: which unit each row belongs to; no unit at all gives zeros.

        Raises:
            PrivacyError: JG-privacy-003, the model or the loss turns out to mix records; JG-privacy-004, the model
                turns out to use parameters in a way that the engine has no gradient for.
        """
        ...


@dataclass(frozen=True)
class Run:
    """Whole units whose rows stand side by side: `rows` of the draw are those of `count` units.

    Attributes:
        rows: where they stand.
        units: number of each row's unit within the run, shape (rows,), ascending.
        count: number of units.
    """

    rows: slice
    units: Tensor
    count: int


def unit_runs(units: NDArray[np.intp], count: int, most_rows: int) -> Iterator[Run]:
    """Whole units in runs of at most `most_rows` rows; a unit with more of them is a run of its own.

    Args:
        units: of each row, shape (rows,), ascending numbers 0 .. count - 1.
        count: number of units.
        most_rows: that fit into memory at once.
    """
    if 0 < len(units) <= most_rows:
        yield Run(slice(0, len(units)), torch.from_numpy(units), count)
        return
    ends = np.cumsum(np.bincount(units, minlength=count))
    first_row = first_unit = 0
    while first_unit < count:
        unit = max(first_unit + 1, int(np.searchsorted(ends, first_row + most_rows, side="right")))
        rows = slice(first_row, int(ends[unit - 1]))
        yield Run(rows, torch.from_numpy(units[rows] - first_unit), unit - first_unit)
        first_row, first_unit = rows.stop, unit


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained, each once, in the order of `module.parameters()`."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def unit_gradients(rows: Tensor, units: Tensor, count: int) -> Tensor:
    """Means over each unit's rows, (count, ...), of gradients (rows, ...)."""
    if len(rows) == count:
        return rows
    share = 1.0 / torch.bincount(units, minlength=count).to(rows.dtype)
    # index_add keeps a NaN inside its own unit, where a matrix product would spread it.
    rows = rows.flatten(start_dim=1) * share[units, None]
    return torch.zeros(count, rows.shape[1], dtype=rows.dtype).index_add_(0, units, rows)


def squared_norms(gradients: Tensor) -> Tensor:
    """Squared L2 norms of (units, ...), contiguous; shape (units,), float64."""
    count, size = len(gradients), gradients[0].numel()
    flat = gradients.view(count, size)
    whole = size - size % _FEW
    squares = torch.zeros(count, dtype=torch.float64)
    for part in (flat[:, :whole].reshape(count, whole // _FEW, _FEW), flat[:, None, whole:]):
        if part.numel():
            exact = torch.promote_types(part.dtype, torch.float32)
            squares += torch.linalg.vector_norm(part, dim=2, dtype=exact).double().square_().sum(dim=1)
    return squares


def clip_factors(squares: Tensor, clip: float) -> tuple[Tensor, Tensor | None]:
    """Factors min(1, clip / norm), shape (units,), float64, and which units are to be silenced, if any.

    Args:
        squares: squared norms of the units' gradients, shape (units,), float64.
        clip: L2 bound.
    """
    factors = squares.rsqrt().mul_(clip).clamp_(max=1.0)
    if isfinite(squares.sum().item()):
        return factors, None
    broken = torch.isfinite(squares).logical_not_()
    return factors.masked_fill_(broken, 0.0), broken


def weighted_sum(factors: Tensor, gradients: Tensor, total: Tensor, exact: Tensor) -> None:
    """Add factors (units,), float64, times gradients (units, ...), contiguous, to `total`, (size,), float64.

    Args:
        factors: of the units.
        gradients: float32.
        total: what is added to.
        exact: room for gradients in float64, at least one value a unit.
    """
    flat = gradients.view(len(factors), -1)
    most = max(1, len(exact) // len(factors))
    for some, sums in zip(torch.split(flat, most, dim=1), torch.split(total, most), strict=True):
        sums.addmv_(exact[: some.numel()].view(some.shape).copy_(some).t(), factors)


def clipped_sum_of(gradients: list[Tensor], clip: float) -> Tensor:
    """The clipped sum, (parameters,), float64, of the units' gradients, one (units, ...) for each parameter."""
    squares = torch.stack([squared_norms(part) for part in gradients]).sum(dim=0)
    factors, broken = clip_factors(squares, clip)
    exact = torch.empty(max(VALUES_IN_CACHE, len(factors)), dtype=torch.float64)
    totals = []
    for part in gradients:
        if broken is not None:
            part[broken] = 0.0
        totals.append(torch.zeros(part[0].numel(), dtype=torch.float64))
        weighted_sum(factors, part, totals[-1], exact)
    return torch.cat(totals)


def noised_mean(clipped_sum: Tensor, mechanism: LocalDpSgd, random: SecureRandom) -> NDArray[np.float64]:
    """The clipped sum plus its noise, over the public divisor; shape (parameters,).

    Guarantee: one of the `mechanism.steps.count` releases of the sampled Gaussian mechanism.
    """
    noise = np.empty(clipped_sum.numel(), np.float32)
    random.fill_gaussian(noise, mechanism.steps.noise_multiplier * mechanism.clip)
    mean: NDArray[np.float64] = noise + clipped_sum.numpy()
    mean /= mechanism.divisor
    return mean


def refuse_mixing(module: nn.Module, clip: float) -> None:
    """Refuse a model in which one record changes another's gradient, by its layers, and a clip that bounds nothing.

    Raises:
        PrivacyError: JG-privacy-003, a layer that mixes records or keeps statistics of them.
        ValueError: a clip below 1e-12, or none.
    """
    if not _LEAST_CLIP <= clip < inf:
        raise ValueError(f"Expected {_LEAST_CLIP} <= {clip=}.")
    for name, layer in module.named_modules():
        if _mixes_records(layer):
            raise PrivacyError("JG-privacy-003", where=name, layer=type(layer).__name__)


def refuse_reduced(losses: Tensor, rows: int) -> None:
    """Refuse losses that are not one value a row.

    Raises:
        PrivacyError: JG-privacy-003, the loss of several records at once.
    """
    if losses.shape != (rows,):
        raise PrivacyError("JG-privacy-003", where="loss", layer="not one value a row")


def refuse_company(module: nn.Module, of_rows: RowGradients, inputs: Tensor, targets: Tensor) -> None:
    """Refuse a model or a loss under which the gradient of a record is another one in company than alone.

    Records are made up, so that no refusal tells of data; numbers truncate to the names 0 and 1. What happens under
    other numbers or more records only, or later, is not seen. Dropout makes a model differ from itself: one that
    differs and draws random numbers is tried as in evaluation.

    Args:
        module: the model.
        of_rows: gives the gradients of rows.
        inputs: of shape and type as those to be made up.
        targets: as `inputs`.

    Raises:
        PrivacyError: JG-privacy-003, they differ.
    """
    generator = torch.Generator().manual_seed(0)
    made_up = [
        torch.rand(_MADE_UP, *like.shape[1:], generator=generator).mul_(3.0).sub_(1.0).to(like.dtype)
        for like in (inputs, targets)
    ]

    sizes = np.arange(1, 1 + _MADE_UP)

    def of(rows: slice) -> Tensor:
        return of_rows(made_up[0][rows].clone(), made_up[1][rows].clone(), sizes[rows])

    def differs() -> bool:
        alone = torch.cat([of(slice(row, row + 1)) for row in range(_MADE_UP)])
        return bool((of(slice(None)) - alone).norm() > _COMPANY * alone.norm())

    training = [layer for layer in module.modules() if layer.training and _may_drop(layer)]
    state = torch.get_rng_state()
    try:
        mixes = differs()
        if mixes and not torch.equal(state, torch.get_rng_state()):
            for layer in training:
                layer.training = False
            mixes = differs()
    finally:
        torch.set_rng_state(state)
        for layer in training:
            layer.training = True
    if mixes:
        raise PrivacyError("JG-privacy-003", where="model", layer=type(module).__name__)


def _may_drop(layer: nn.Module) -> bool:
    """Whether a layer may drop values at random; those with parameters that do, in torch, have an option of that name.

    Opacus passes over others that have parameters where they are in evaluation.
    """
    return next(layer.parameters(recurse=False), None) is None or hasattr(layer, "dropout")


def _mixes_records(layer: nn.Module) -> bool:
    """Whether a row's gradient, or the layer itself, depends on the other rows: nothing of it could be clipped."""
    match layer:
        case nn.modules.batchnorm._BatchNorm():
            return True
        case nn.Embedding() | nn.EmbeddingBag():
            # max_norm rewrites the weights of the rows' entries in place; frequencies are counted over the batch.
            return layer.max_norm is not None or layer.scale_grad_by_freq
        case _:
            return next(layer.buffers(recurse=False), None) is not None
