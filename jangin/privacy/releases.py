"""Releases: what is promised about one unit, as frozen values. Running them and pricing them are other places.

A release is a sum that a unit can change by at most its clip, plus Gaussian noise of `noise_multiplier` clips.
Its meaning never changes; `accounting` prices it, `step` and `moments` carry it out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import sqrt
from typing import Final

from jangin.errors import PrivacyError
from jangin.privacy.secure_sum.policy import threshold

__all__ = [
    "NO_DIFFERENTIAL_PRIVACY",
    "Charge",
    "Cost",
    "GaussianRelease",
    "Guarantee",
    "LocalDpSgd",
    "MasterSum",
    "Mechanism",
    "Reading",
    "Relation",
    "SharedNoise",
    "SharedSum",
    "Unit",
    "honest_shares",
    "together",
]

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


class Reading(StrEnum):
    """Towards whom a promise is read."""

    SECURE_SUM = "secure_sum"
    """A server that sees what it is meant to see."""
    COALITION = "coalition"
    """That server and every other site together."""


@dataclass(frozen=True)
class Charge:
    """What a campaign asks of one unit of a site, in one reading.

    Attributes:
        unit: whose budget it is.
        rounds: of the campaign, >= 1.
        opening: what is released once, before the first round.
        each_round: what is released in every round.
        evaluations: what is released on hold-outs in the whole campaign; it is paid in full with the opening.
    """

    unit: Unit
    rounds: int
    opening: tuple[GaussianRelease, ...]
    each_round: tuple[GaussianRelease, ...]
    evaluations: tuple[GaussianRelease, ...] = ()

    def releases(self, rounds: int | None = None, *, opened: bool = True) -> tuple[GaussianRelease, ...]:
        """Those of so many rounds, of all where None; `opened`: with what is paid before the first."""
        count = self.rounds if rounds is None else rounds
        trained = (replace(one, count=one.count * count) for one in self.each_round) if count else ()
        return (*(self.paid_first if opened else ()), *trained)

    @property
    def paid_first(self) -> tuple[GaussianRelease, ...]:
        """What is paid in full before the first round, all evaluations with it."""
        return (*self.opening, *self.evaluations)

    def for_episodes(self) -> "Charge":
        """What one episode pays in a campaign whose unit is its master.

        Adding or removing the episode changes the master's clipped contribution by at most twice the clip, so a draw
        that takes him is a Gaussian release of half the noise multiplier; one that does not is the same in both
        worlds, and a mixture diverges no more than its worst part (van Erven and Harremoes 2014, arXiv 1206.2459,
        Theorem 13): the price is that of q = 1.
        """
        if self.unit is Unit.EPISODE:
            return self

        def halved(releases: tuple[GaussianRelease, ...]) -> tuple[GaussianRelease, ...]:
            return tuple(GaussianRelease(one.noise_multiplier / 2, 1.0, one.count) for one in releases)

        parts = (halved(part) for part in (self.opening, self.each_round, self.evaluations))
        return Charge(Unit.EPISODE, self.rounds, *parts)


Cost = Mapping[Reading, Charge]
"""A campaign's charge in each reading."""


@dataclass(frozen=True)
class Guarantee:
    """(epsilon, delta)-differential privacy of all that one unit of a site went into."""

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
        evaluation: the releases on hold-outs of the whole campaign, if any.
    """

    unit: Unit
    clip: float
    steps: GaussianRelease
    divisor: float
    windows: int
    scaling: GaussianRelease | None
    guarantee: Guarantee
    evaluation: GaussianRelease | None = None

    def cost(self, rounds: int) -> Cost:
        """What it asks of a unit over `rounds` rounds of equally many steps, the same in both readings.

        Raises:
            ValueError: steps that are no multiple of the rounds.
        """
        steps, rest = divmod(self.steps.count, rounds)
        if rest:
            raise ValueError(f"Expected a multiple of {rounds=} steps: {self.steps.count}.")
        each = (replace(self.steps, count=steps),)
        return dict.fromkeys(Reading, Charge(self.unit, rounds, _given(self.scaling), each, _given(self.evaluation)))


@dataclass(frozen=True)
class SharedNoise:
    """What M2 and M3 have in common: a secret sum over sites each of which adds a share of its noise, never all of it.

    Dwork et al. 2006 (EUROCRYPT, "Our Data, Ourselves", Section 1): shares of the `honest` sites alone carry the
    promise, whatever the others add.

    Guarantee: one unit moves its site's vector by at most `clip`. Towards a server that sees sums only, `c_max` sites
    of which tell it what they added, a round is a release with sqrt(honest) shares' noise; against that server and
    every other site together, one with a single share. A round counts as released once the site's vector has left.

    Not covered: a server that sees a site's vector by itself, for which the second reading is what holds; a unit at two
    sites, which is charged at both; that a site takes part, and when; timing.

    Attributes:
        clip: L2 bound of one unit's vector.
        share: one site's noise in the sums of the whole campaign, spare ones with them.
        sites: public number of sites without which no round starts, n_plan.
        c_max: most sites that tell the server what they added.
        n_min_final: fewest sites whose sum is opened.
        scaling: one site's share in the release of moments before training, if any.
        guarantee: towards the server that sees sums only.
        coalition: against it and every other site together.
        evaluation: one site's share in the releases on hold-outs of the whole campaign, if any.
    """

    clip: float
    share: GaussianRelease
    sites: int
    c_max: int
    n_min_final: int
    scaling: GaussianRelease | None
    guarantee: Guarantee
    coalition: Guarantee
    evaluation: GaussianRelease | None = field(default=None, kw_only=True)

    @property
    def honest(self) -> int:
        """The fewest honest shares of a sum, as `honest_shares` counts them."""
        return honest_shares(self.sites, self.c_max, self.n_min_final)

    def cost(self, rounds: int) -> Cost:
        """What it asks of a unit over `rounds` rounds, in each reading.

        Raises:
            ValueError: another number of rounds than that of the noised sums.
        """
        if rounds != self.share.count:
            raise ValueError(f"Expected {self.share.count} rounds: {rounds}.")

        def charge(shares: int) -> Charge:
            opening, evaluations = (
                tuple(together(one, shares) for one in _given(share)) for share in (self.scaling, self.evaluation)
            )
            each = replace(together(self.share, shares), count=1)
            return Charge(self.guarantee.unit, rounds, opening, (each,), evaluations)

        return {Reading.SECURE_SUM: charge(self.honest), Reading.COALITION: charge(1)}


@dataclass(frozen=True)
class SharedSum(SharedNoise):
    """Mechanism M2: in every round one clipped sum of gradients from each site, at the round's public parameters.

    Abadi et al. 2016 (arXiv 1607.00133), Algorithm 1, one step a round: every site draws its episodes in secret with
    the share's sampling probability, clips the mean gradient of each and gives their sum; steps and momentum are the
    server's. After a second local step an episode would have moved everybody's gradients in it: there is none.

    Guarantee: that of `SharedNoise` with sampled Gaussian releases, adding or removing one episode.

    Attributes:
        divisor: public number by which a site's sum is divided, in units: the lot L = q * nominal_units.
        windows: most examples of one episode in one draw.
    """

    divisor: float
    windows: int


@dataclass(frozen=True)
class MasterSum(SharedNoise):
    """Mechanism M3: in every round each enrolled master gives one clipped vector, to a secret sum over all sites.

    McMahan et al. 2018 (arXiv 1710.06963), Algorithm 1, with every master in every round (q = 1), equal weights and a
    public divisor.

    Guarantee: that of `SharedNoise`: everything starts from the public parameters of the round. An episode has half of
    a master's noise (`Charge.for_episodes`). Timing, which is not covered, grows with the number of masters.

    Attributes:
        masters: public number of masters of a site, by which its sum is divided.
    """

    masters: int


Mechanism = LocalDpSgd | SharedSum | MasterSum
"""How a campaign keeps its promise."""


def honest_shares(sites: int, c_max: int, n_min_final: int = 0) -> int:
    """H = max(floor(2 n / 3) + 1, n_min_final) - c_max, and at least 1.

    A sum is opened by more than two thirds of the n sites that began it, and by no fewer than `n_min_final`; at most
    `c_max` of them are not honest. A site that keeps this promise is honest itself, so its own share is always there.
    """
    return max(1, max(threshold(sites), n_min_final) - c_max)


def _given(release: GaussianRelease | None) -> tuple[GaussianRelease, ...]:
    return () if release is None else (release,)


def together(share: GaussianRelease, shares: int) -> GaussianRelease:
    """The release of a sum that holds so many independent shares of noise."""
    return replace(share, noise_multiplier=share.noise_multiplier * sqrt(shares))
