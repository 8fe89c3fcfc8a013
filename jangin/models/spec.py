"""Model specifications: the `model:` block of plans and simulations. Torch-free.

The law: a specification is data and names a model that is installed; no code ever arrives with a plan.
"""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from jangin.codec.document import Document

__all__ = ["Cnn1dSpec", "LinearSpec", "MlpSpec", "ModelSpec"]


class LinearSpec(Document):
    """One affine map from the flattened inputs; starts at zero.

    Attributes:
        personal: prefixes of parameter names that never leave the site, e.g. `head.bias`.
    """

    name: Literal["linear"]
    personal: tuple[str, ...] = ()


class MlpSpec(Document):
    """Affine maps with ReLU between them.

    Attributes:
        hidden: widths of the hidden layers, from input to output.
        personal: prefixes of parameter names that never leave the site, e.g. `head`.
    """

    name: Literal["mlp"]
    hidden: tuple[PositiveInt, ...] = (64, 64)
    personal: tuple[str, ...] = ()


class Cnn1dSpec(Document):
    """Convolutions over time with GroupNorm and ReLU, a mean over time, and an affine head.

    GroupNorm (Wu and He 2018, arXiv 1803.08494) normalises within one example: BatchNorm would mix records and
    has no place under differential privacy.

    Attributes:
        channels: output channels of each convolution; divisible by `groups`.
        kernel: odd kernel width in samples; every convolution after the first halves the length.
        groups: groups of GroupNorm.
        personal: prefixes of parameter names that never leave the site.
    """

    name: Literal["cnn1d"]
    channels: tuple[PositiveInt, ...] = (32, 64)
    kernel: PositiveInt = 5
    groups: PositiveInt = 8
    personal: tuple[str, ...] = ()

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError("an odd number of samples keeps a window centred")
        return kernel


ModelSpec = Annotated[LinearSpec | MlpSpec | Cnn1dSpec, Field(discriminator="name")]
