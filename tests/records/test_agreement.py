"""Laws of agreement: the papers' worked examples, and each figure derived a second way."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from jangin.records.agreement import cohen_kappa, fleiss_kappa, icc, of_numbers, of_words

# Fleiss 1971, table 1: 30 patients, six psychiatrists, five diagnoses.
DIAGNOSES = np.array(
    [
        [0, 0, 0, 6, 0],
        [0, 3, 0, 0, 3],
        [0, 1, 4, 0, 1],
        [0, 0, 0, 0, 6],
        [0, 3, 0, 3, 0],
        [2, 0, 4, 0, 0],
        [0, 0, 4, 0, 2],
        [2, 0, 3, 1, 0],
        [2, 0, 0, 4, 0],
        [0, 0, 0, 0, 6],
        [1, 0, 0, 5, 0],
        [1, 1, 0, 4, 0],
        [0, 3, 3, 0, 0],
        [1, 0, 0, 5, 0],
        [0, 2, 0, 3, 1],
        [0, 0, 5, 0, 1],
        [3, 0, 0, 1, 2],
        [5, 1, 0, 0, 0],
        [0, 2, 0, 4, 0],
        [1, 0, 2, 0, 3],
        [0, 0, 0, 0, 6],
        [0, 1, 0, 5, 0],
        [0, 2, 0, 1, 3],
        [2, 0, 0, 4, 0],
        [1, 0, 0, 4, 1],
        [0, 5, 0, 1, 0],
        [4, 0, 0, 0, 2],
        [0, 2, 0, 4, 0],
        [1, 0, 5, 0, 0],
        [0, 0, 0, 0, 6],
    ]
)

# Shrout and Fleiss 1979, table 2: six targets, four judges.
RATINGS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=np.float64
)

WORDS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30)


def test_the_example_of_fleiss() -> None:
    assert fleiss_kappa(DIAGNOSES) == pytest.approx(0.430, abs=5e-4)


def test_the_example_of_shrout_and_fleiss() -> None:
    assert icc(RATINGS) == pytest.approx(0.290, abs=5e-4)


def pairs_kappa(counts: NDArray[np.int64]) -> float:
    """Fleiss' kappa by drawing pairs: two of one episode's judgements against two of all judgements, with return."""
    said = [[word for word, times in enumerate(row) for _ in range(times)] for row in counts]
    same = [np.mean([a == b for a, b in combinations(row, 2)]) for row in said]
    everything = np.concatenate(said)
    chance = float(np.mean(everything[:, None] == everything[None, :]))
    return (float(np.mean(same)) - chance) / (1 - chance)


def test_fleiss_kappa_is_what_pairs_of_judgements_say() -> None:
    counts = default_rng(0).multinomial(5, [0.5, 0.3, 0.2], size=40)
    assert fleiss_kappa(counts) == pytest.approx(pairs_kappa(counts), abs=1e-12)


def components_icc(scores: NDArray[np.float64]) -> float:
    """ICC(2,1) as a share of variance: components by least squares on indicators and the expected mean squares."""
    n, k = scores.shape
    one, episode, judge = (
        np.ones((n * k, 1)),
        np.kron(np.eye(n), np.ones((k, 1))),
        np.kron(np.ones((n, 1)), np.eye(k)),
    )

    def left(*columns: NDArray[np.float64]) -> float:
        design = np.hstack(columns)
        return float(((scores.ravel() - design @ np.linalg.lstsq(design, scores.ravel(), rcond=None)[0]) ** 2).sum())

    both = left(one, episode, judge)
    error = both / ((n - 1) * (k - 1))
    of_episodes = ((left(one, judge) - both) / (n - 1) - error) / k
    of_judges = ((left(one, episode) - both) / (k - 1) - error) / n
    return of_episodes / (of_episodes + of_judges + error)


@pytest.mark.parametrize("scores", [RATINGS, default_rng(1).normal(size=(12, 3)) + np.arange(12)[:, None]])
def test_icc_is_the_share_of_variance_that_is_the_episodes(scores: NDArray[np.float64]) -> None:
    assert icc(scores) == pytest.approx(components_icc(scores), abs=1e-9)


@given(WORDS)
def test_cohen_kappa_is_what_another_library_says(said: list[tuple[str, str]]) -> None:
    first, second = ([one[side] for one in said] for side in (0, 1))
    ours = cohen_kappa(first, second)
    if ours is not None:
        assert ours == pytest.approx(cohen_kappa_score(first, second), abs=1e-9)
    else:
        assert len({*first, *second}) == 1


@given(st.lists(st.sampled_from("ab"), min_size=2, max_size=20))
def test_who_agrees_always_has_one(words: list[str]) -> None:
    for judges in (2, 3):
        said = [(f"e{i}", f"j{judge}", word) for i, word in enumerate(words) for judge in range(judges)]
        agreement = of_words("grade", said)
        assert agreement.value == (None if len(set(words)) == 1 else pytest.approx(1))
        assert (agreement.judges, agreement.episodes) == (judges, len(words))


def test_the_statistic_fits_the_judges() -> None:
    words = [("e0", "a", "x"), ("e0", "b", "x"), ("e1", "a", "y"), ("e1", "b", "x")]
    assert of_words("grade", words).statistic == "Cohen's kappa"
    assert of_words("grade", [*words, ("e0", "c", "x")]).statistic == "Fleiss' kappa"
    table = [(f"e{i}", f"j{j}", score) for i, row in enumerate(RATINGS) for j, score in enumerate(row)]
    known = of_numbers("clarity", table)
    assert (known.statistic, known.judges, known.episodes, known.weak) == ("ICC(2,1)", 4, 6, True)
    assert known.value == icc(RATINGS)


def test_what_decides_nothing_has_no_figure() -> None:
    assert cohen_kappa([], []) is None
    assert fleiss_kappa(np.array([[1, 0]])) is None
    assert icc(RATINGS[:1]) is None
    assert icc(np.zeros((3, 2))) is None
    alone = of_words("grade", [("e0", "a", "x")])
    assert (alone.value, alone.weak, alone.episodes) == (None, False, 0)
    assert of_numbers("clarity", [("e0", "a", 1.0)]).value is None


def test_an_episode_that_one_judge_left_out_does_not_count_for_numbers() -> None:
    said = [("e0", "a", 1.0), ("e0", "b", 2.0), ("e1", "a", 3.0), ("e1", "b", 4.0), ("e2", "a", 9.0)]
    assert of_numbers("clarity", said) == of_numbers("clarity", said[:4])
