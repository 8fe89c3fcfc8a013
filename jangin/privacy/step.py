"""The private step: model, loss and a draw give the clipped sum of the units' gradients.

The law: the very tensors that are measured are the ones that are clipped and summed; a unit whose gradient is not
finite gives nothing; a model that mixes records is refused. Noise is not added here but by `noised_mean`, once.

Sensitivity: adding or removing one unit moves the sum by at most clip * (1 + 1e-5) in L2 (float32 rounding).
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jangin.errors import PrivacyError
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import LocalDpSgd
from jangin.privacy.sampling import Draw

__all__ = ["OpacusStep", "noised_mean"]

_ROW_BYTES_AT_ONCE = 128 * 2**20
_COLUMNS_AT_ONCE = 512
_SOUND_IN_EW = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.GroupNorm, nn.LayerNorm, nn.Embedding)

RowLosses = Callable[[Tensor, Tensor], Tensor]


class OpacusStep:
    """Per-example gradients by Opacus, then our own mean over a unit's examples, clip and sum.

    Two modes of Opacus 1.6 are sound and used: `ew` (torch's expanded weights, the faster) and `hooks` (all layers
    Opacus knows). Its `ghost` mode is not: with circular padding one record moved the sum by 141 at clip 0.01. Both
    know convolutions padded with zeros and embeddings without a padding entry only: the others go to functorch.
    """

    def __init__(
        self, module: nn.Module, row_losses: RowLosses, clip: float, mode: Literal["ew", "hooks"] = "ew"
    ) -> None:
        """Wrap `module`, whose parameters stay where they are.

        Args:
            module: maps (rows, ...) to outputs; its rows must not depend on each other.
            row_losses: maps outputs and targets to the loss of every row, shape (rows,).
            clip: L2 bound of one unit's gradient, > 0.
            mode: engine of Opacus; a layer that `ew` has no sound rule for falls back to `hooks`.

        Raises:
            PrivacyError: JG-privacy-003, a layer that mixes records or keeps statistics of them; JG-privacy-004,
                parameters in a layer without a gradient rule.
        """
        from opacus.grad_sample import GradSampleModule, GradSampleModuleExpandedWeights

        for name, layer in module.named_modules():
            if _mixes_records(layer):
                raise PrivacyError("JG-privacy-003", where=name, layer=type(layer).__name__)
        layers = _with_parameters(module)
        unknown = sorted(
            {type(layer).__name__ for layer in layers if type(layer) not in GradSampleModule.GRAD_SAMPLERS}
        )
        if unknown:
            raise PrivacyError("JG-privacy-004", where="model", layers=", ".join(unknown))
        self._clip, self._row_losses = clip, row_losses
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._bytes_per_row = 4 * sum(p.numel() for p in self._parameters)
        plain = all(_plain(layer) for layer in layers)
        if mode == "ew" and plain and all(type(layer) in _SOUND_IN_EW for layer in layers):
            self._module = GradSampleModuleExpandedWeights(module, loss_reduction="sum")
        else:
            self._module = GradSampleModule(module, loss_reduction="sum", force_functorch=not plain)
        self._module.hooks_enabled = False

    def clipped_sum(self, inputs: Tensor, targets: Tensor, draw: Draw) -> Tensor:
        """The sum over drawn units of their clipped mean gradients, shape (parameters,), float64.

        Guarantee: as this file's head says; float64, because a float32 sum of 1000 units that agree is rounded by
        more than 1e-5 of one of them.

        Args:
            inputs: the inputs of `draw.rows`, shape (rows, ...), float32.
            targets: their targets, shape (rows, targets) or (rows,).
            draw: which unit each row belongs to; no unit at all gives zeros.
        """
        total = torch.zeros(self._bytes_per_row // 4, dtype=torch.float64)
        for rows, units, count in self._chunks(draw):
            total += self._clipped_sum(inputs[rows], targets[rows], units, count)
        return total

    def _chunks(self, draw: Draw) -> Iterator[tuple[slice, Tensor, int]]:
        """Whole units in runs whose per-example gradients fit into bounded memory."""
        if not draw.count:
            return
        most = max(1, _ROW_BYTES_AT_ONCE // self._bytes_per_row)
        ends = np.cumsum(np.bincount(draw.units, minlength=draw.count))
        first_row = first_unit = 0
        while first_unit < draw.count:
            unit = max(first_unit + 1, int(np.searchsorted(ends, first_row + most, side="right")))
            rows = slice(first_row, int(ends[unit - 1]))
            yield rows, torch.from_numpy(draw.units[rows] - first_unit), unit - first_unit
            first_row, first_unit = rows.stop, unit

    def _clipped_sum(self, inputs: Tensor, targets: Tensor, units: Tensor, count: int) -> Tensor:
        with self._hooked():
            self._row_losses(self._module(inputs), targets).sum().backward()  # type: ignore[no-untyped-call]
        share = 1.0 / torch.bincount(units, minlength=count).to(torch.float32)
        gradients = []
        for parameter in self._parameters:
            samples = cast(Tensor | None, parameter.grad_sample)  # type: ignore[attr-defined]
            parameter.grad_sample = None  # type: ignore[attr-defined]
            # A parameter that took no part has no gradient.
            rows = torch.zeros(len(inputs), parameter.numel()) if samples is None else samples.flatten(start_dim=1)
            if len(rows) != count:
                # index_add keeps a NaN inside its own unit, where a matrix product would spread it.
                rows = torch.zeros(count, rows.shape[1]).index_add_(0, units, rows * share[units, None])
            gradients.append(rows)
        norms = torch.stack([torch.linalg.vector_norm(part, dim=1).double() for part in _parts(gradients)]).norm(dim=0)
        finite = torch.isfinite(norms)
        if not bool(finite.all()):
            gradients = [torch.where(finite[:, None], g, 0.0) for g in gradients]
        factors = torch.where(finite, (self._clip / norms).clamp(max=1.0), 0.0)
        return torch.cat([factors @ part.double() for part in _parts(gradients)])

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        """Opacus' hooks see these rows only: training the module plainly in between leaves nothing behind."""
        self._module.hooks_enabled = True
        try:
            with warnings.catch_warnings():
                # torch warns that inputs need no gradient; Opacus' hooks want only those of outputs.
                warnings.simplefilter("ignore", UserWarning)
                yield
        finally:
            self._module.hooks_enabled = False


def noised_mean(clipped_sum: Tensor, mechanism: LocalDpSgd, random: SecureRandom) -> NDArray[np.float64]:
    """The clipped sum plus its noise, over the public divisor; shape (parameters,).

    Guarantee: one of the `mechanism.steps.count` releases of the sampled Gaussian mechanism.
    """
    noise = random.gaussian(clipped_sum.numel()) * (mechanism.steps.noise_multiplier * mechanism.clip)
    return (clipped_sum.numpy().astype(np.float64) + noise) / mechanism.divisor


def _parts(gradients: list[Tensor]) -> Iterator[Tensor]:
    """Columns in runs so short that float32 norms stay exact and float64 copies stay in the cache."""
    for gradient in gradients:
        yield from torch.split(gradient, _COLUMNS_AT_ONCE, dim=1)


def _with_parameters(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if next(layer.parameters(recurse=False), None) is not None]


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


def _plain(layer: nn.Module) -> bool:
    """Whether the layer uses no option of padding that the engines' own rules overlook."""
    return getattr(layer, "padding_mode", "zeros") == "zeros" and getattr(layer, "padding_idx", None) is None
