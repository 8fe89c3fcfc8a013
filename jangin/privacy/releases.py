"""Releases: what is promised about one unit, as frozen values. Running them and pricing them are other places.

A release is a sum that a unit can change by at most its clip, plus Gaussian noise of `noise_multiplier` clips.
Its meaning never changes; `accounting` prices it, `step` and `moments` carry it out.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from jangin.errors import PrivacyError

__all__ = ["NO_DIFFERENTIAL_PRIVACY", "GaussianRelease", "Guarantee", "LocalDpSgd", "Relation", "Unit"]

NO_DIFFERENTIAL_PRIVACY: Final = "NO DIFFERENTIAL PRIVACY"


class Unit(StrEnum):
    """Whose presence is hidden: everything that carries one number of this kind."""

    EPISODE = "episode"
    MASTER = "master"
    SITE = "site"


class Relation(StrEnum):
    """Which two data sets must look alike."""

    ADD_OR_REMOVE = "add_or_remove_one"


@dataclass(frozen=True)
class GaussianRelease:
    """`count` releases of a clipped sum with noise, each over a fresh secret Poisson draw of the units.

    Guarantee: the sampled Gaussian mechanism (Abadi et al. 2016, arXiv 1607.00133; Mironov et al. 2019,
    arXiv 1908.10530), adding or removing one unit.

    Attributes:
        noise_multiplier: standard deviation of the noise over the clip, > 0.
        sampling_probability: with which each unit takes part in each release, 0 < q <= 1.
        count: number of releases, >= 1.

    Raises:
        PrivacyError: JG-privacy-001, a value outside these bounds.
    """

    noise_multiplier: float
    sampling_probability: float
    count: int

    def __post_init__(self) -> None:
        bounds = {
            "noise_multiplier > 0": self.noise_multiplier > 0,
            "0 < sampling_probability <= 1": 0 < self.sampling_probability <= 1,
            "count >= 1": self.count >= 1,
        }
        for bound, holds in bounds.items():
            if not holds:
                raise PrivacyError("JG-privacy-001", where="release", bound=bound, release=repr(self))


@dataclass(frozen=True)
class Guarantee:
    """(epsilon, delta)-differential privacy of one site's releases for one unit."""

    unit: Unit
    relation: Relation
    epsilon: float
    delta: float


@dataclass(frozen=True)
class LocalDpSgd:
    """Mechanism M1: DP-SGD inside the site, full noise in every step; nobody outside is trusted.

    Abadi et al. 2016 (arXiv 1607.00133), Algorithm 1, with public constants only: the sampling probability
    q = min(1, batch / nominal_units), the divisor q * nominal_units and the steps come from the plan, never from
    how many units a site has. A drawn unit gives the mean gradient of at most `windows` of its examples, clipped
    once. The site's update is post-processing of the noised sums, so local steps cost nothing more.

    Not covered: that a site takes part, and when; timing; floating-point noise.

    Attributes:
        unit: what is drawn, clipped and hidden.
        clip: L2 bound of one unit's gradient.
        steps: the noised gradient sums of the whole campaign.
        divisor: public number by which a noised sum is divided, in units.
        windows: most examples of one unit in one draw.
        scaling: the release of moments before training, if any.
        guarantee: what all releases together promise.
    """

    unit: Unit
    clip: float
    steps: GaussianRelease
    divisor: float
    windows: int
    scaling: GaussianRelease | None
    guarantee: Guarantee
