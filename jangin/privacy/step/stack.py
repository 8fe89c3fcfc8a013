"""Clipping for several sites at once: units of one row each, whose gradients are outer products and never formed.

A unit's gradient in an affine map is the product of what the map read and of the gradient of what it gave, so its norm
is a product of two norms (Goodfellow 2015, arXiv 1510.01799, Section 3; for a bias, what was read is 1). The law is
that of `interface`: the very tensors that are measured are scaled, and a unit whose gradient is not finite gives
nothing. Norms are float64; the sum is the caller's, in float32 over at most `MOST_ROWS` rows, else in float64.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from jangin.privacy.step.interface import clip_factors

__all__ = ["MOST_ROWS", "clip_rows"]

MOST_ROWS: Final = 32
"""Of a float32 sum: rounded by less than 1e-5 of one unit, even where all of them agree."""


def clip_rows(reads: Sequence[Tensor], gradients: Sequence[Tensor], there: Tensor, clip: float) -> None:
    """Scale gradients of outputs so that their products with what was read are clipped gradients of units.

    Guarantee: for each site, the sum over rows of these products, over all maps, is moved by at most
    clip * (1 + 1e-5) in L2 by adding or removing one row that is there.

    Args:
        reads: what each affine map read, (sites, rows, in); changed where a unit is silenced.
        gradients: of the row's loss by what the map gave, (sites, rows, out); changed in place.
        there: which rows are there, bool (sites, rows); the others give nothing.
        clip: L2 bound of a unit's gradient over all maps.
    """
    squares = torch.zeros(there.shape, dtype=torch.float64)
    for read, gradient in zip(reads, gradients, strict=True):
        squares += _squares(gradient).mul_(_squares(read).add_(1.0))
    factors, broken = clip_factors(squares, clip)
    scale = factors.mul_(there)[:, :, None]
    for read, gradient in zip(reads, gradients, strict=True):
        if broken is not None:
            read.masked_fill_(broken[:, :, None], 0.0)
            gradient.masked_fill_(broken[:, :, None], 0.0)
        gradient.mul_(scale)


def _squares(rows: Tensor) -> Tensor:
    """Squared L2 norms of (sites, rows, values); (sites, rows), float64."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=2, dtype=torch.float64)
    return norms.square_()
