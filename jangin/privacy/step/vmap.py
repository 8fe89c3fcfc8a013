"""The engine `vmap`: gradients of single rows by torch.func, for any functional model.

A parameter may be used anywhere and any number of times. What vmap cannot take, such as control flow that looks at
the data, is refused when it is met.
"""

import warnings

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from jangin.errors import PrivacyError
from jangin.privacy.sampling import Draw
from jangin.privacy.step.interface import (
    RowLosses,
    clipped_sum_of,
    refuse_mixing,
    refuse_reduced,
    trainable,
    unit_gradients,
    unit_runs,
)

__all__ = ["VmapStep"]

_BYTES_AT_ONCE = 32 * 2**20


class VmapStep:
    """See `interface.PrivateStep`."""

    def __init__(self, module: nn.Module, row_losses: RowLosses, clip: float) -> None:
        """Prepare `module`.

        Raises:
            PrivacyError: JG-privacy-003, a layer that mixes records or keeps statistics of them.
        """
        refuse_mixing(module, clip)
        self._module, self._clip = module, clip
        self._size = sum(p.numel() for p in trainable(module))

        def loss(parameters: dict[str, Tensor], row: Tensor, target: Tensor) -> Tensor:
            losses = row_losses(functional_call(module, parameters, (row[None],)), target[None])
            refuse_reduced(losses, 1)
            return losses[0]

        self._gradients = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")

    def clipped_sum(self, inputs: Tensor, targets: Tensor, draw: Draw) -> Tensor:
        """See `interface.PrivateStep`.

        Raises:
            PrivacyError: JG-privacy-004, a model that vmap cannot take.
        """
        total = torch.zeros(self._size, dtype=torch.float64)
        parameters = {name: p.detach() for name, p in self._module.named_parameters() if p.requires_grad}
        for run in unit_runs(draw.units, draw.count, _BYTES_AT_ONCE // (4 * self._size)):
            try:
                with warnings.catch_warnings():
                    # torch warns where it goes row by row: slower, and as right.
                    warnings.simplefilter("ignore", UserWarning)
                    rows = self._gradients(parameters, inputs[run.rows], targets[run.rows])
            except RuntimeError as error:
                problem = str(error).splitlines()[0]
                raise PrivacyError("JG-privacy-004", where="model under vmap", layers=problem) from None
            gradients = [unit_gradients(rows[name].contiguous(), run.units, run.count) for name in parameters]
            total += clipped_sum_of(gradients, self._clip)
        return total
