"""The engine `opacus`: per-example gradients by Opacus, then our own mean over a unit's examples, clip and sum.

Two modes of Opacus 1.6 are sound and used: `ew` (torch's expanded weights, the faster) and `hooks` (all layers
Opacus knows). Its `ghost` mode is not: with circular padding one record moved the sum by 141 at clip 0.01. Both
know convolutions padded with zeros and embeddings without a padding entry only: the others go to functorch.
Neither sees a parameter that is used outside its layer: one try on made-up records does, and refuses.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jangin.errors import PrivacyError
from jangin.privacy.sampling import Draw
from jangin.privacy.step.interface import (
    RowLosses,
    clipped_sum_of,
    refuse_company,
    refuse_mixing,
    refuse_reduced,
    trainable,
    unit_gradients,
    unit_runs,
)

__all__ = ["OpacusStep"]

_BYTES_AT_ONCE = 128 * 2**20
_SOUND_IN_EW = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.GroupNorm, nn.LayerNorm, nn.Embedding)


class OpacusStep:
    """See `interface.PrivateStep`."""

    def __init__(
        self, module: nn.Module, row_losses: RowLosses, clip: float, mode: Literal["ew", "hooks"] = "ew"
    ) -> None:
        """Wrap `module`; a layer that `ew` has no sound rule for falls back to `hooks`.

        Raises:
            PrivacyError: JG-privacy-003, a layer that mixes records or keeps statistics of them; JG-privacy-004,
                parameters in a layer without a gradient rule.
        """
        from opacus.grad_sample import GradSampleModule, GradSampleModuleExpandedWeights

        refuse_mixing(module, clip)
        layers = _with_parameters(module)
        unknown = sorted(
            {type(layer).__name__ for layer in layers if type(layer) not in GradSampleModule.GRAD_SAMPLERS}
        )
        if unknown:
            raise PrivacyError("JG-privacy-004", where="model", layers=", ".join(unknown))
        self._plain, self._clip, self._row_losses = module, clip, row_losses
        self._parameters = trainable(module)
        self._bytes_per_row = 4 * sum(p.numel() for p in self._parameters)
        plain = all(_plain(layer) for layer in layers)
        if mode == "ew" and plain and all(type(layer) in _SOUND_IN_EW for layer in layers):
            self._module = GradSampleModuleExpandedWeights(module, loss_reduction="sum")
        else:
            self._module = GradSampleModule(module, loss_reduction="sum", force_functorch=not plain)
        self._module.hooks_enabled = False
        self._tried = False

    def clipped_sum(self, inputs: Tensor, targets: Tensor, draw: Draw) -> Tensor:
        """See `interface.PrivateStep`.

        Raises:
            PrivacyError: JG-privacy-003, the model or the loss mixes records; JG-privacy-004, parameters used outside
                layers.
        """
        if draw.count and not self._tried:
            refuse_company(self._plain, self._of_rows, inputs, targets)
            self._tried = True
        total = torch.zeros(self._bytes_per_row // 4, dtype=torch.float64)
        for run in unit_runs(draw.units, draw.count, _BYTES_AT_ONCE // self._bytes_per_row):
            rows = self._rows(inputs[run.rows], targets[run.rows])
            gradients = [unit_gradients(gradient, run.units, run.count) for gradient in rows]
            total += clipped_sum_of(gradients, self._clip)
        return total

    def _rows(self, inputs: Tensor, targets: Tensor) -> list[Tensor]:
        """The gradient of every row, one (rows, ...) a parameter."""
        own = [parameter.grad for parameter in self._parameters]
        with self._hooked():
            losses = self._row_losses(self._module(inputs), targets)
            refuse_reduced(losses, len(inputs))
            losses.sum().backward()  # type: ignore[no-untyped-call]
        for parameter, gradient in zip(self._parameters, own, strict=True):
            parameter.grad = gradient
        return [self._taken(parameter, len(inputs)) for parameter in self._parameters]

    def _of_rows(self, inputs: Tensor, targets: Tensor, sizes: NDArray[np.intp]) -> Tensor:
        """See `interface.RowGradients`.

        Raises:
            PrivacyError: JG-privacy-004, where the rows' gradients are not the whole.
        """
        state = torch.get_rng_state()
        rows = torch.cat([part.flatten(start_dim=1) for part in self._rows(inputs.clone(), targets)], dim=1)
        torch.set_rng_state(state)
        with _quietly():
            losses = self._row_losses(self._plain(inputs), targets)
            plain = torch.autograd.grad(losses.sum(), self._parameters, allow_unused=True, materialize_grads=True)
        whole = torch.cat([part.flatten() for part in plain])
        if (rows.sum(dim=0) - whole).norm() > 1e-3 * whole.norm():
            raise PrivacyError("JG-privacy-004", where="model", layers="parameters used outside their layers")
        return rows / torch.from_numpy(sizes)[:, None]

    @staticmethod
    def _taken(parameter: nn.Parameter, rows: int) -> Tensor:
        """The gradient of every row, (rows, ...); a parameter that took no part has none."""
        samples = cast(Tensor | None, parameter.grad_sample)  # type: ignore[attr-defined]
        parameter.grad_sample = None  # type: ignore[attr-defined]
        return torch.zeros(rows, *parameter.shape) if samples is None else samples.contiguous()

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        """Opacus' hooks see these rows only: training the module plainly in between leaves nothing behind."""
        self._module.hooks_enabled = True
        try:
            with _quietly():
                yield
        finally:
            self._module.hooks_enabled = False


@contextmanager
def _quietly() -> Iterator[None]:
    """Torch warns that inputs need no gradient; Opacus' hooks want only those of outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _with_parameters(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if next(layer.parameters(recurse=False), None) is not None]


def _plain(layer: nn.Module) -> bool:
    """Whether the layer uses no option of padding that the engines' own rules overlook."""
    return getattr(layer, "padding_mode", "zeros") == "zeros" and getattr(layer, "padding_idx", None) is None
