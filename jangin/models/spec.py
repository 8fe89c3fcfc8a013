"""Model specifications: the `model:` block of plans and simulations. Torch-free.

The law: a specification is data and names a model that is installed; no code ever arrives with a plan.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, StringConstraints, model_validator

from jangin.codec.document import Document

__all__ = [
    "BranchSpec",
    "Cnn1dSpec",
    "Cnn2dSpec",
    "FusionSpec",
    "GruSpec",
    "LinearSpec",
    "MlpSpec",
    "ModelSpec",
    "TransformerSpec",
]


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("an odd number of samples keeps a window centred")
    return kernel


Kernel = Annotated[PositiveInt, AfterValidator(_odd)]


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
    kernel: Kernel = 5
    groups: PositiveInt = 8
    personal: tuple[str, ...] = ()


class Cnn2dSpec(Document):
    """Convolutions over height and width with GroupNorm and ReLU, a mean over both, and an affine head.

    For pictures, whose frames are channels, and for spectra, whose bands are the height and whose time is the width.

    Attributes:
        channels: output channels of each convolution; divisible by `groups`.
        kernel: odd height and width of the kernel; every convolution after the first halves height and width.
        groups: groups of GroupNorm, as in `Cnn1dSpec`.
        personal: prefixes of parameter names that never leave the site.
    """

    name: Literal["cnn2d"]
    channels: tuple[PositiveInt, ...] = (16, 32)
    kernel: Kernel = 3
    groups: PositiveInt = 8
    personal: tuple[str, ...] = ()


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


Body = Annotated[
    LinearSpec | MlpSpec | Cnn1dSpec | Cnn2dSpec | GruSpec | TransformerSpec,
    Field(discriminator="name"),
]


class BranchSpec(Document):
    """One part of a row, and the model that reads it.

    Attributes:
        name: what the part is called, e.g. a stream; its parameters are `from_<name>.*`.
        shape: of the part, which stands flat in the row: e.g. (channels, height, width).
        body: the model that reads it; what stays at the site is said of the whole, in `FusionSpec.personal`.
        width: values of its representation.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]
    shape: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=3)]
    body: Body
    width: PositiveInt = 16

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.body.personal:
            raise ValueError(f"what stays at the site stands in model.personal, e.g. from_{self.name}")
        return self


class FusionSpec(Document):
    """Late fusion: a model for each part of a row, what they make of it side by side, and affine maps over all of it.

    Representations pass tanh, which keeps them within the [-1, 1] of what stands beside them: the rest of the row,
    behind its parts, as it is (Baltrusaitis et al. 2019, arXiv 1705.09406, Section 6; Snoek et al. 2005, ACM
    Multimedia, 399-402, compare fusing early and late).

    Attributes:
        parts: from the start of the row on, one after another.
        hidden: widths of the hidden layers above them; none gives one affine map.
        personal: prefixes of parameter names that never leave the site, e.g. `fusion.head` or `from_sound`.
    """

    name: Literal["fusion"]
    parts: Annotated[tuple[BranchSpec, ...], Field(min_length=1)]
    hidden: tuple[PositiveInt, ...] = (32,)
    personal: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if len({part.name for part in self.parts}) < len(self.parts):
            raise ValueError("each part has a name of its own")
        return self


ModelSpec = Annotated[
    LinearSpec | MlpSpec | Cnn1dSpec | Cnn2dSpec | GruSpec | TransformerSpec | FusionSpec,
    Field(discriminator="name"),
]
