"""Model specifications: the `model:` block of plans and simulations. Torch-free.

The law: a specification is data and names a model that is installed; no code ever arrives with a plan.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from jangin.codec.document import Document

__all__ = ["Cnn1dSpec", "GruSpec", "LinearSpec", "MlpSpec", "ModelSpec", "TransformerSpec"]


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


class GruSpec(Document):
    """Patches of samples, an affine map of each, gated recurrent units over them (Cho et al. 2014, arXiv 1406.1078).

    An affine head reads the last state. The oldest samples that fill no patch are left out.

    Attributes:
        hidden: width of the states.
        layers: recurrent layers, one above another.
        patch: samples in one step.
        personal: prefixes of parameter names that never leave the site.
    """

    name: Literal["gru"]
    hidden: PositiveInt = 64
    layers: PositiveInt = 2
    patch: PositiveInt = 4
    personal: tuple[str, ...] = ()


class TransformerSpec(Document):
    """Patches of samples, an affine map of each, and self-attention over them (Nie et al. 2023, arXiv 2211.14730).

    Blocks normalise first (Xiong et al. 2020, arXiv 2002.04745); positions are fixed sines (Vaswani et al. 2017,
    arXiv 1706.03762), so that none is learned from noise; an affine head reads the mean over patches. The oldest
    samples that fill no patch are left out.

    Attributes:
        width: of a patch's representation; even, and divisible by `heads`.
        heads: of attention.
        layers: blocks of attention and a map of 4 * width.
        patch: samples in one patch.
        personal: prefixes of parameter names that never leave the site.
    """

    name: Literal["transformer"]
    width: PositiveInt = 96
    heads: PositiveInt = 4
    layers: PositiveInt = 2
    patch: PositiveInt = 8
    personal: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % 2 or self.width % self.heads:
            raise ValueError("width is even and a multiple of heads")
        return self


ModelSpec = Annotated[LinearSpec | MlpSpec | Cnn1dSpec | GruSpec | TransformerSpec, Field(discriminator="name")]
