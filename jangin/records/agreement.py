"""How far masters who judged the same episodes agree.

    two judges, words      Cohen's kappa
    more judges, words     Fleiss' kappa
    any judges, numbers    ICC(2,1), the intraclass correlation of single judgements, absolute agreement

1 is full agreement, 0 no more than chance; below 0, less than chance. The law: only what several judges said of the
same episode counts, and where it decides nothing (all said one word, nobody spoke twice) there is no figure.

Sources:
    Cohen, Educational and Psychological Measurement 20 (1960) 37-46.
    Fleiss, Psychological Bulletin 76 (1971) 378-382, equations (1) to (7).
    Shrout and Fleiss, Psychological Bulletin 86 (1979) 420-428, case 2.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["WEAK_BELOW", "Agreement", "Statistic", "cohen_kappa", "fleiss_kappa", "icc", "of_numbers", "of_words"]

Statistic = Literal["Cohen's kappa", "Fleiss' kappa", "ICC(2,1)"]

WEAK_BELOW = 0.4
"""Below it agreement is poor (Fleiss, Statistical Methods for Rates and Proportions, 2nd ed., 1981, p. 218)."""


@dataclass(frozen=True)
class Agreement:
    """How far the judges of one judgement agree.

    Attributes:
        judgement: its name.
        statistic: which figure it is.
        value: at most 1; None where what was said decides nothing.
        judges: how many spoke.
        episodes: of how many episodes it is made.
    """

    judgement: str
    statistic: Statistic
    value: float | None
    judges: int
    episodes: int

    @property
    def weak(self) -> bool:
        """Whether a model would learn whom it asked rather than what was there."""
        return self.value is not None and self.value < WEAK_BELOW


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """(p_o - p_e) / (1 - p_e) of two judges' words on the same episodes, in the same order."""
    if not first:
        return None
    words = sorted({*first, *second})
    ours, theirs = (np.array([[said == word for word in words] for said in one]) for one in (first, second))
    observed = float((ours & theirs).any(axis=1).mean())
    expected = float(ours.mean(axis=0) @ theirs.mean(axis=0))
    return _beyond(observed, expected)


def fleiss_kappa(counts: NDArray[np.int64]) -> float | None:
    """(P - P_e) / (1 - P_e) of counts (episodes, words): how many judges said each word of each episode.

    The paper has equally many judges on each episode. Where they are not, each episode's share of agreeing pairs still
    has weight 1, and a word's share is of all that was said. Episodes with one judge do not count.
    """
    counts = counts[counts.sum(axis=1) > 1]
    if not len(counts):
        return None
    said = counts.sum(axis=1)
    observed = float(((counts * (counts - 1)).sum(axis=1) / (said * (said - 1))).mean())
    shares = counts.sum(axis=0) / counts.sum()
    return _beyond(observed, float(shares @ shares))


def icc(scores: NDArray[np.float64]) -> float | None:
    """ICC(2,1) of scores (episodes, judges) without gaps.

    (BMS - EMS) / (BMS + (k - 1) EMS + k (JMS - EMS) / n), with the mean squares between n episodes, between k judges
    and of the rest.
    """
    n, k = scores.shape
    if n < 2 or k < 2:
        return None
    mean, of_episodes, of_judges = scores.mean(), scores.mean(axis=1), scores.mean(axis=0)
    bms = k * ((of_episodes - mean) ** 2).sum() / (n - 1)
    jms = n * ((of_judges - mean) ** 2).sum() / (k - 1)
    rest = scores - of_episodes[:, None] - of_judges[None, :] + mean
    ems = (rest**2).sum() / ((n - 1) * (k - 1))
    whole = bms + (k - 1) * ems + k * (jms - ems) / n
    return float((bms - ems) / whole) if whole > 0 else None


def of_words(judgement: str, said: Iterable[tuple[str, str, str]]) -> Agreement:
    """Agreement of words: (episode, judge, word), each judge once an episode."""
    by_episode: dict[str, dict[str, str]] = defaultdict(dict)
    for episode, judge, word in said:
        by_episode[episode][judge] = word
    several = [one for one in by_episode.values() if len(one) > 1]
    judges = sorted({judge for one in by_episode.values() for judge in one})
    if len(judges) == 2:
        first, second = ([one[judge] for one in several] for judge in judges)
        return Agreement(judgement, "Cohen's kappa", cohen_kappa(first, second), 2, len(several))
    words = sorted({word for one in several for word in one.values()})
    counts = np.array([[list(one.values()).count(word) for word in words] for one in several], np.int64)
    value = fleiss_kappa(counts.reshape(len(several), len(words)))
    return Agreement(judgement, "Fleiss' kappa", value, len(judges), len(several))


def of_numbers(judgement: str, said: Iterable[tuple[str, str, float]]) -> Agreement:
    """Agreement of numbers: (episode, judge, number); episodes that every judge judged count."""
    by_episode: dict[str, dict[str, float]] = defaultdict(dict)
    for episode, judge, number in said:
        by_episode[episode][judge] = number
    judges = sorted({judge for one in by_episode.values() for judge in one})
    whole = [[one[judge] for judge in judges] for one in by_episode.values() if len(one) == len(judges)]
    scores = np.array(whole, np.float64).reshape(len(whole), len(judges))
    return Agreement(judgement, "ICC(2,1)", icc(scores), len(judges), len(whole))


def _beyond(observed: float, expected: float) -> float | None:
    """What is agreed beyond chance, of what could be; None where chance alone agrees fully."""
    return (observed - expected) / (1 - expected) if expected < 1 else None
