"""The field of 65537 elements, as float64 products of matrices and as logarithms of what is public.

65537 = 2**16 + 1 is the smallest prime above every 16-bit limb, and 3 is a generator: each element but zero is 3**k for
one k below 65536. The law: whatever a product sums is below 2**53, so that float64 adds it exactly in any order. There
are at most 65536 holders, hence at most 2**16 terms of at most 2**16 x 2**16: below 2**48 in all, with no blocks.
Tables of logarithms are read at public places only, never at a share, a coefficient or a limb.
Not covered: the time of a remainder may depend on its operand.
"""

import numpy as np
from numpy.typing import NDArray

from jangin.privacy.randomness import SecureRandom

__all__ = ["ORDER", "Elements", "powers", "product", "uniform", "weights_at_zero"]

ORDER = 65537

Elements = NDArray[np.int64]
"""Elements of the field, each from 0 to 65536."""

_GENERATOR = 3
_UNITS = ORDER - 1  # elements that have a logarithm, hence also what logarithms are counted modulo
_UNEVEN = np.uint64(2**64 - 1)  # 65537 divides 2**64 - 1: without this last word every remainder is as likely


def product(left: Elements, right: Elements) -> Elements:
    """The product of two matrices, (n, k) and (k, m) give (n, m), by float64 BLAS.

    Raises:
        ValueError: more than 65536 terms in a sum, which would need an argument of its own.
    """
    if left.shape[1] > _UNITS:
        raise ValueError(f"Expected {left.shape[1]=} <= {_UNITS}.")
    remainders: Elements = (left.astype(np.float64) @ right.astype(np.float64)).astype(np.int64) % ORDER
    return remainders


def powers(points: Elements, count: int) -> Elements:
    """Each point, (n,), none of them zero, to the powers 0 to count - 1: (n, count)."""
    raised: Elements = _EXPONENTIALS[_LOGARITHMS[points][:, None] * np.arange(count) % _UNITS]
    return raised


def weights_at_zero(points: Elements) -> Elements:
    """Lagrange's weights (t,) by which values at t points, distinct and none zero, give the polynomial's value at zero.

    The weight of x_i is the product over j of x_j, over x_i times the product over j != i of (x_j - x_i): sums and
    differences of logarithms.
    """
    differences = (points[None, :] - points[:, None]) % ORDER
    np.fill_diagonal(differences, points)
    weights: Elements = _EXPONENTIALS[(_LOGARITHMS[points].sum() - _LOGARITHMS[differences].sum(axis=1)) % _UNITS]
    return weights


def uniform(count: int, random: SecureRandom) -> Elements:
    """So many elements, each exactly as likely as any other, shape (count,)."""
    words = random.bits(count)
    while (uneven := words == _UNEVEN).any():
        words[uneven] = random.bits(int(uneven.sum()))
    return (words % np.uint64(ORDER)).astype(np.int64)


def _tables() -> tuple[Elements, Elements]:
    """Powers of the generator by exponent, (65536,), and exponents by power, (65537,); that of zero is never read."""
    exponentials = np.ones(1, np.int64)
    while len(exponentials) < _UNITS:
        exponentials = np.concatenate([exponentials, exponentials * pow(_GENERATOR, len(exponentials), ORDER) % ORDER])
    logarithms = np.zeros(ORDER, np.int64)
    logarithms[exponentials] = np.arange(_UNITS)
    return exponentials, logarithms


_EXPONENTIALS, _LOGARITHMS = _tables()
