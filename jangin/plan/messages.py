"""What server and sites say to each other in a round, as values. The wire form comes with the transport.

The law: an order carries only what every site gets alike; a reply carries one vector or a code, and no count, no
loss, no name of a person.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kind", "Order", "Reply"]


class Kind(StrEnum):
    """What is asked of a site."""

    SCALE = "scale"
    TRAIN = "train"


@dataclass(frozen=True)
class Order:
    """One request to a cohort.

    Attributes:
        kind: what to do.
        round: from 1; 0 for what comes before training.
        vector: TRAIN: the shared parameters, shape (shared values,), float32. SCALE: empty.
    """

    kind: Kind
    round: int
    vector: NDArray[np.float32]


@dataclass(frozen=True)
class Reply:
    """One site's answer.

    Attributes:
        site: its name.
        vector: TRAIN: the update, shape (shared values,), float32. SCALE: moments, float64. None when abstaining.
        abstained: the code of a polite refusal, or None.
    """

    site: str
    vector: NDArray[np.float32] | NDArray[np.float64] | None
    abstained: str | None = None
