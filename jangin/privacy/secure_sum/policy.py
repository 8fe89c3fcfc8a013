"""With whom, and with how many, a site adds up: what a plan says in public, and what no server can talk a site out of.

The law: T and every bound are computed here from counts, never taken from a message.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from jangin.errors import SumError
from jangin.privacy.secure_sum.table import Step

__all__ = ["FEWEST", "Policy", "Terms", "threshold"]

FEWEST: Final = 5
"""Least `n_min` and `n_min_final` of a site that is no demonstration."""


def threshold(sites: int) -> int:
    """T = floor(2 n / 3) + 1: two certificates over different survivors need 2 T - n > n / 3 who sign twice."""
    return 2 * sites // 3 + 1


@dataclass(frozen=True)
class Terms:
    """What a plan fixes for all its sums; public.

    Attributes:
        invited: the sites that may take part.
        n_plan: fewest that begin a sum.
        n_min_final: fewest that are in one.
        c_max: most of a cohort that may tell the server what they know.
        attempts: most sums that are begun for one round.
    """

    invited: frozenset[str] = field(repr=False)
    n_plan: int
    n_min_final: int
    c_max: int
    attempts: int

    @property
    def least(self) -> int:
        """Fewest that begin a sum, n_plan and more than three times those who may collude."""
        return max(self.n_plan, 3 * self.c_max + 1)

    def least_final(self, began: int) -> int:
        """Fewest vectors of a sum that so many began."""
        return max(threshold(began), self.n_min_final)


@dataclass(frozen=True)
class Policy:
    """What one site demands of every sum; the server cannot change it.

    Attributes:
        n_min: fewest sites that begin a sum.
        n_min_final: fewest that are in it.
        n_honest_min: fewest of those that may be taken for honest, all but c_max.
        c_max: colluders that a plan has to be safe against, in a cohort.
        attempts: most sums that are begun for one round.
        known: sites that were compared by telephone, with the 32 bytes of their identities.
        k_known: how many of these have to be in a sum.
        demo: whether it may go below `FEWEST`; nobody is protected by such a policy.

    Raises:
        SumError: JG-sum-020, bounds below those of a site that is no demonstration, or that contradict each other.
    """

    n_min: int = 10
    n_min_final: int = 7
    n_honest_min: int = 5
    c_max: int = 3
    attempts: int = 3
    known: Mapping[str, bytes] = field(default_factory=dict)
    k_known: int = 0
    demo: bool = False

    def __post_init__(self) -> None:
        fewest = 3 if self.demo else FEWEST
        for name, value, least in (
            ("n_min", self.n_min, fewest),
            ("n_min_final", self.n_min_final, fewest),
            ("n_honest_min", self.n_honest_min, 1),
            ("c_max", self.c_max, 1),
            ("attempts", self.attempts, 1),
            ("k_known", self.k_known, 0),
            ("known", len(self.known), self.k_known),
        ):
            if value < least:
                raise SumError("JG-sum-020", where=name, value=value, least=least)

    def accept(self, terms: Terms, attempt: int) -> None:
        """Agree to begin a sum.

        Raises:
            SumError: JG-sum-015, a plan that is safe against fewer colluders; JG-sum-005, one attempt too many.
        """
        if terms.c_max < self.c_max:
            raise SumError("JG-sum-015", c_max=terms.c_max, least=self.c_max)
        most = min(self.attempts, terms.attempts)
        if attempt > most:
            raise SumError("JG-sum-005", attempt=attempt, most=most)

    def accept_cohort(self, terms: Terms, cohort: Mapping[str, bytes]) -> None:
        """Agree to U1, given with the identities of its sites.

        Raises:
            SumError: JG-sum-006, too few; JG-sum-007, a site that the plan does not invite; JG-sum-012, too few of the
                known ones.
        """
        least = max(self.n_min, terms.least)
        if len(cohort) < least:
            raise SumError("JG-sum-006", where=Step.SHARE.value, found=len(cohort), least=least)
        if strangers := sorted(cohort.keys() - terms.invited):
            raise SumError("JG-sum-007", sites=strangers)
        self._require_known(cohort)

    def accept_survivors(
        self, terms: Terms, began: int, survivors: Mapping[str, bytes], step: Step = Step.CERTIFY
    ) -> None:
        """Agree to U2 or U3 of a sum that so many began, given with the identities of its sites.

        What is asked of U3 is asked of U2 already: of fewer nothing can be opened, and after it the vector has left.

        Raises:
            SumError: JG-sum-006, too few, also of those that may be taken for honest; JG-sum-012, too few known ones.
        """
        least = self.least_final(terms, began)
        if len(survivors) < least:
            raise SumError("JG-sum-006", where=step.value, found=len(survivors), least=least)
        self._require_known(survivors)

    def least_final(self, terms: Terms, began: int) -> int:
        """Fewest vectors of a sum that so many began, as this site wants it."""
        return max(self.n_min_final, terms.least_final(began), self.n_honest_min + terms.c_max)

    def _require_known(self, sites: Mapping[str, bytes]) -> None:
        """A name counts only with the identity that was compared."""
        found = len(sites.items() & self.known.items())
        if found < self.k_known:
            raise SumError("JG-sum-012", found=found, least=self.k_known)
