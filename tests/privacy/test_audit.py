"""The audit against exact counts, against promises that hold, and against noise that is too small."""

from math import comb, exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from jangin.privacy.accounting import calibrate
from jangin.privacy.audit import Guesses, guess, proven_epsilon, refutation

DELTA = 1e-5


def test_without_delta_it_is_the_tail_of_a_binomial() -> None:
    q = exp(1.5) / (1 + exp(1.5))
    tail = sum(comb(20, k) * q**k * (1 - q) ** (20 - k) for k in range(18, 21))
    assert refutation(Guesses(1000, 20, 18), 1.5, 0.0) == pytest.approx(tail, rel=1e-12)


@pytest.mark.parametrize(("m", "r", "v"), [(10, 8, 7), (100, 40, 33), (1000, 100, 60)])
def test_delta_adds_what_the_theorem_says(m: int, r: int, v: int) -> None:
    """Theorem 5.2 summed term by term."""
    q = exp(0.7) / (1 + exp(0.7))
    mass = [comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    alpha = max(sum(mass[v - i : v]) / i for i in range(1, v + 1))
    assert refutation(Guesses(m, r, v), 0.7, 1e-3) == pytest.approx(sum(mass[v:]) + 2 * m * 1e-3 * alpha, rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(r=st.integers(1, 300), share=st.floats(0, 1), epsilon=st.floats(0, 8))
def test_better_guesses_prove_more_and_larger_promises_are_harder_to_refute(
    r: int, share: float, epsilon: float
) -> None:
    v = int(share * (r - 1))
    one, better = (refutation(Guesses(500, r, correct), epsilon, DELTA) for correct in (v, v + 1))
    assert 0 <= better <= one + 1e-12 <= 1 + 1e-12
    assert refutation(Guesses(500, r, v), epsilon + 0.5, DELTA) >= one - 1e-12
    assert proven_epsilon(Guesses(500, r, v + 1), DELTA) >= proven_epsilon(Guesses(500, r, v), DELTA) - 2e-3


def test_what_is_proven_is_refuted_and_a_little_more_is_not() -> None:
    guesses = Guesses(1000, 200, 170)
    proven = proven_epsilon(guesses, DELTA)
    assert refutation(guesses, proven, DELTA) <= 0.05 < refutation(guesses, proven + 0.01, DELTA)


def test_luck_proves_nothing() -> None:
    assert proven_epsilon(Guesses(1000, 100, 50), DELTA) == 0.0
    assert proven_epsilon(Guesses(1000, 100, 0), DELTA) == 0.0


def test_the_surest_are_guessed_and_counted() -> None:
    scores = np.array([0.0, 5.0, -3.0, 4.0, 1.0])
    included = np.array([True, True, False, False, True])
    assert guess(scores, included, 2) == Guesses(5, 2, 2)
    assert guess(scores, included, 4) == Guesses(5, 4, 2)


@pytest.mark.parametrize("guessed", [0, 3, 6, -2])
def test_a_number_of_guesses_that_cannot_be_made_is_refused(guessed: int) -> None:
    with pytest.raises(ValueError, match="even number"):
        guess(np.zeros(5), np.zeros(5, bool), guessed)


@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_a_promise_that_holds_is_refuted_as_seldom_as_it_may_be(epsilon: float) -> None:
    """One Gaussian release of each canary's own coordinate, by noise that just keeps the promise: 400 runs."""
    noise, rng = calibrate(epsilon, DELTA, 1.0, 1).noise_multiplier, np.random.default_rng(1)
    refuted = 0
    for _ in range(400):
        included = rng.random(1000) < 0.5
        scores = included + rng.normal(0.0, noise, 1000)
        refuted += proven_epsilon(guess(scores, included, 100), DELTA) > epsilon
    assert refuted <= 0.05 * 400 + 3 * (400 * 0.05 * 0.95) ** 0.5


def test_noise_a_tenth_as_large_is_caught() -> None:
    noise, rng = 0.1 * calibrate(4.0, DELTA, 1.0, 1).noise_multiplier, np.random.default_rng(2)
    included = rng.random(1000) < 0.5
    scores = included + rng.normal(0.0, noise, 1000)
    assert norm.cdf(-0.5 / noise) < 0.01
    assert proven_epsilon(guess(scores, included, 500), DELTA) > 4.0
