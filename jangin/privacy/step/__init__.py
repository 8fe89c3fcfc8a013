"""The private step: model, loss and a draw give the clipped sum of the units' gradients.

`interface` says what every engine promises; `bookkeeping` is the default, with the gradients of its layers in
`rules`, `recurrent` and `attention`; `vmap` takes any functional model; `opacus` is the cross-check. Noise is not
added by an engine but by `noised_mean`, once.
"""

from torch import nn

from jangin.privacy.step.bookkeeping import BookkeepingStep
from jangin.privacy.step.interface import PrivateStep, RowLosses, noised_mean
from jangin.privacy.step.opacus import OpacusStep
from jangin.privacy.step.vmap import VmapStep

__all__ = ["BookkeepingStep", "OpacusStep", "PrivateStep", "RowLosses", "VmapStep", "noised_mean", "private_step"]


def private_step(module: nn.Module, row_losses: RowLosses, clip: float) -> PrivateStep:
    """The fastest engine for `module`: bookkeeping where every parameter has a rule, else vmap.

    Raises:
        PrivacyError: JG-privacy-003, a layer that mixes records or keeps statistics of them.
    """
    engine = VmapStep if BookkeepingStep.unknown_layers(module) else BookkeepingStep
    return engine(module, row_losses, clip)
