"""The private step: model, loss and a draw give the clipped sum of the units' gradients.

The law: the very tensors that are measured are the ones that are clipped and summed; a unit whose gradient is not
finite gives nothing; a model that mixes records is refused. Noise is not added here but by `noised_mean`, once.

Sensitivity: adding or removing one unit moves the sum by at most clip * (1 + 1e-5) in L2 (float32 rounding).
"""

import warnings
from collections.abc import Callable, Iterator
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
_MIXES_RECORDS = (nn.modules.batchnorm._BatchNorm, nn.LocalResponseNorm)
_SOUND_IN_EW = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.GroupNorm, nn.LayerNorm, nn.Embedding)

RowLosses = Callable[[Tensor, Tensor], Tensor]


class OpacusStep:
    """Per-example gradients by Opacus, then our own mean over a unit's examples, clip and sum.

    Two modes of Opacus 1.6 are sound and used: `ew` (torch's expanded weights, the faster) and `hooks` (all layers
    Opacus knows). Its `ghost` mode is not: with circular padding one record moved the sum by 141 at clip 0.01.
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
            PrivacyError: JG-privacy-003, a layer that mixes records; JG-privacy-004, one without a gradient rule.
        """
        from opacus.grad_sample import GradSampleModule, GradSampleModuleExpandedWeights

        for name, layer in module.named_modules():
            if isinstance(layer, _MIXES_RECORDS) or next(layer.buffers(recurse=False), None) is not None:
                raise PrivacyError("JG-privacy-003", where=name, layer=type(layer).__name__)
        self._clip, self._row_losses = clip, row_losses
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._bytes_per_row = 4 * sum(p.numel() for p in self._parameters)
        wrapper = GradSampleModuleExpandedWeights if mode == "ew" and _sound_in_ew(module) else GradSampleModule
        try:
            self._module = wrapper(module, loss_reduction="sum")
        except NotImplementedError as error:
            layers = sorted({type(layer).__name__ for layer in module.modules()})
            raise PrivacyError("JG-privacy-004", where="model", layers=", ".join(layers)) from error

    def clipped_sum(self, inputs: Tensor, targets: Tensor, draw: Draw) -> Tensor:
        """The sum over drawn units of their clipped mean gradients, shape (parameters,), float32.

        Args:
            inputs: the inputs of `draw.rows`, shape (rows, ...), float32.
            targets: their targets, shape (rows, targets) or (rows,).
            draw: which unit each row belongs to; no unit at all gives zeros.
        """
        total = torch.zeros(self._bytes_per_row // 4)
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
        with warnings.catch_warnings():
            # torch warns that inputs need no gradient; Opacus' hooks want only those of outputs.
            warnings.simplefilter("ignore", UserWarning)
            self._row_losses(self._module(inputs), targets).sum().backward()  # type: ignore[no-untyped-call]
        share = 1.0 / torch.bincount(units, minlength=count).to(torch.float32)
        gradients = []
        for parameter in self._parameters:
            rows = cast(Tensor, parameter.grad_sample).flatten(start_dim=1)  # type: ignore[attr-defined]
            parameter.grad_sample = None  # type: ignore[attr-defined]
            if len(rows) != count:
                # index_add keeps a NaN inside its own unit, where a matrix product would spread it.
                rows = torch.zeros(count, rows.shape[1]).index_add_(0, units, rows * share[units, None])
            gradients.append(rows)
        norms = torch.stack([g.square().sum(dim=1, dtype=torch.float64) for g in gradients]).sum(dim=0).sqrt()
        finite = torch.isfinite(norms)
        if not bool(finite.all()):
            gradients = [torch.where(finite[:, None], g, 0.0) for g in gradients]
        factors = torch.where(finite, (self._clip / norms).clamp(max=1.0), 0.0).to(torch.float32)
        return torch.cat([factors @ g for g in gradients])


def noised_mean(clipped_sum: Tensor, mechanism: LocalDpSgd, random: SecureRandom) -> NDArray[np.float64]:
    """The clipped sum plus its noise, over the public divisor; shape (parameters,).

    Guarantee: one of the `mechanism.steps.count` releases of the sampled Gaussian mechanism.
    """
    noise = random.gaussian(clipped_sum.numel()) * (mechanism.steps.noise_multiplier * mechanism.clip)
    return (clipped_sum.numpy().astype(np.float64) + noise) / mechanism.divisor


def _sound_in_ew(module: nn.Module) -> bool:
    """Whether every layer with parameters has a rule in torch's expanded weights that we have replayed."""
    layers = [layer for layer in module.modules() if next(layer.parameters(recurse=False), None) is not None]
    zero_padded = all(getattr(layer, "padding_mode", "zeros") == "zeros" for layer in layers)
    return zero_padded and all(type(layer) in _SOUND_IN_EW for layer in layers)
