"""FlatModel: a module whose parameters and gradients are views of one flat tensor each.

Loading a vector, adding a step and reading an update are then single operations, and the model is trained in place.
"""

import torch
from torch import Tensor, nn

from jangin.models.layout import ParameterLayout, Vector

__all__ = ["FlatModel"]


class FlatModel:
    """One module over flat storage.

    Attributes:
        module: the torch module; its parameters are views of `vector`.
        layout: names, shapes and offsets.
        vector: all parameters, shape (size,), float32.
        gradient: their gradients, shape (size,), float32; filled by `backward()`, never cleared by itself.
    """

    def __init__(self, module: nn.Module, personal: tuple[str, ...] = ()) -> None:
        """Move the parameters of `module` into flat storage; it stays usable as it was.

        Raises:
            PlanError: JG-plan-010, a prefix in `personal` that no parameter has.
        """
        parameters = list(module.named_parameters())
        self.module = module
        self.layout = ParameterLayout.of([(name, p.shape) for name, p in parameters], personal)
        self.vector = torch.cat([p.detach().reshape(-1) for _, p in parameters]).to(torch.float32)
        self.gradient = torch.zeros_like(self.vector)
        for entry, (_, parameter) in zip(self.layout.entries, parameters, strict=True):
            here = slice(entry.offset, entry.offset + entry.size)
            parameter.data = self.vector[here].view(entry.shape)
            parameter.grad = self.gradient[here].view(entry.shape)

    def load(self, vector: Vector) -> None:
        """Overwrite all parameters with `vector`, shape (size,).

        Raises:
            ValueError: another shape.
        """
        if vector.shape != (self.layout.size,):
            raise ValueError(f"Expected a vector of {self.layout.size} values: shape {vector.shape}.")
        self.vector.numpy()[:] = vector

    def read(self) -> Vector:
        """A copy of all parameters, shape (size,), float32."""
        return self.vector.numpy().copy()

    def backward(self, loss: Tensor) -> Tensor:
        """The gradient of a scalar loss, written into `gradient` and returned, shape (size,)."""
        self.gradient.zero_()
        loss.backward()  # type: ignore[no-untyped-call]
        return self.gradient
