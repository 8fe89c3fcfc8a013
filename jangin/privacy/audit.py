"""A one-run audit: how large an epsilon the outcome of a single run proves, at least.

Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846): canaries are each put among the records or left out by a fair
coin; after one run somebody guesses, from what was released, which were in. Under (epsilon, delta) guessing can only
be so good, so that good guesses refute a promise. The law: an audit can show that a promise is broken, never that it
is kept; what it would have missed stands beside its figure (docs/evidence.md).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Guesses", "guess", "proven_epsilon", "refutation"]

_MOST_EPSILON = 64.0
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Guesses:
    """How well it was guessed which canaries were in.

    Attributes:
        canaries: tossed for, m.
        guessed: for how many a guess was made, r <= m.
        correct: of these, v <= r.
    """

    canaries: int
    guessed: int
    correct: int


def guess(scores: NDArray[np.float64], included: NDArray[np.bool_], guessed: int) -> Guesses:
    """Guess `in` for the canaries with the highest scores and `out` for as many with the lowest.

    Args:
        scores: one a canary, shape (canaries,), higher where its record seems to have been used.
        included: what the coins said, shape (canaries,).
        guessed: number of guesses, even, at most the number of canaries.

    Raises:
        ValueError: a number of guesses that cannot be made.
    """
    if guessed % 2 or not 0 < guessed <= len(scores):
        raise ValueError(f"Expected an even number of guesses up to {len(scores)}: {guessed}.")
    order, half = np.argsort(scores), guessed // 2
    correct = int(included[order[-half:]].sum() + (~included[order[:half]]).sum())
    return Guesses(len(scores), guessed, correct)


def refutation(guesses: Guesses, epsilon: float, delta: float) -> float:
    """The probability, at most, of guessing so well under (epsilon, delta): theorem 5.2, a p-value.

    beta + 2 m delta alpha, where under epsilon alone the number of correct guesses W is no larger than a binomial of
    r draws with probability e^epsilon / (1 + e^epsilon), beta = P(W >= v), and delta may move that by
    alpha = max over i = 1..v of P(v - i <= W < v) / i.
    """
    from scipy.stats import binom

    correct, guessed = guesses.correct, guesses.guessed
    success = 1.0 / (1.0 + np.exp(-epsilon))
    beta = binom.sf(correct - 1, guessed, success)
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guessed, success))
    alpha = (below / np.arange(1, correct + 1)).max(initial=0.0)
    return float(min(1.0, beta + 2.0 * guesses.canaries * delta * alpha))


def proven_epsilon(guesses: Guesses, delta: float, confidence: float = 0.95) -> float:
    """The largest epsilon that the guesses refute at this confidence; 0 where they refute none.

    Args:
        guesses: of one run.
        delta: of the promise.
        confidence: that a promise which holds is not refuted, in (0, 1).

    Returns:
        To 1e-3, at most 64.
    """
    low, high = 0.0, _MOST_EPSILON
    while high - low > _TOLERANCE:
        middle = (low + high) / 2.0
        low, high = (middle, high) if refutation(guesses, middle, delta) <= 1.0 - confidence else (low, middle)
    return low
