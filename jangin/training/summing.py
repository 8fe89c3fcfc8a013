"""Sums in the integer ring: how a campaign's vectors become whole steps modulo 2**32, and what their total says.

The law: each constant is public and the same at every site, so that all round to one grid; the noise of a mechanism
whose sites share it is added in steps, after rounding; and the total of what sites contribute is a sum of updates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jangin.plan.blocks import PrivacyBlock
from jangin.plan.messages import Kind
from jangin.privacy.losses import loss_clip
from jangin.privacy.moments import moment_clip
from jangin.privacy.releases import GaussianRelease, LocalDpSgd, MasterSum, Mechanism, SharedNoise, SharedSum
from jangin.privacy.ring import Grid

__all__ = ["Encoding", "Summing"]

_TAIL = 7.0  # standard deviations of the noise in a site's moments that still fit


@dataclass(frozen=True)
class Encoding:
    """One kind of vector in the ring.

    Attributes:
        grid: on which sites round, with the noise of one of them.
        factor: from a sum of vectors to one of what strategies call updates, or of moments.
    """

    grid: Grid
    factor: float

    def total(self, steps: NDArray[np.int32]) -> NDArray[np.float64]:
        """The sum of updates, or of moments, (d,), from the ring's sum read as signed steps, (d,)."""
        return self.grid.value(steps.astype(np.int64)) * self.factor


@dataclass(frozen=True)
class Summing:
    """How the vectors of a campaign are added up in the ring.

    Attributes:
        sites: most that add to one sum.
        update_clip: L2 bound of an update that carries no share of noise.
        nominal_units: public number of units of a site; the box of its moments and losses holds twice as many.
    """

    sites: int
    update_clip: float
    nominal_units: int

    @classmethod
    def of(cls, privacy: PrivacyBlock, sites: int, nominal_units: int) -> "Summing | None":
        """That of a campaign of so many sites; None where its vectors may be seen one by one."""
        if not (privacy.sums_only or (privacy.shares_noise and privacy.epsilon != "none")):
            return None
        return cls(sites, privacy.update_clip, nominal_units)

    def encoding(self, kind: Kind, mechanism: Mechanism | None, lr: float, size: int) -> Encoding:
        """Of the vectors of `size` values that answer orders of a kind; lr: of the sites' descent.

        M2's box holds twice the lot, M3's all masters that are public, that of moments and losses twice the nominal
        units. An update of M1, or without privacy, and M1's moments and losses come with their noise or without any:
        nothing is added to them here.

        Raises:
            PrivacyError: JG-privacy-017, more sites or values than a grid that is fine enough holds.
        """
        if kind is Kind.SCALE:
            release = mechanism.scaling if mechanism else None
            return self._moments(mechanism, release, moment_clip((size - 1) // 2), size)
        if kind is Kind.EVALUATE:
            return self._moments(mechanism, mechanism.evaluation if mechanism else None, loss_clip(size - 1), size)
        match mechanism:
            case SharedSum(clip=clip, divisor=lot, share=share):
                return Encoding(self._grid(clip, 2 * lot * clip, share.noise_multiplier, size), -lr / lot)
            case MasterSum(clip=clip, masters=masters, share=share):
                return Encoding(self._grid(clip, masters * clip, share.noise_multiplier, size), 1 / masters)
            case LocalDpSgd() | None:
                return Encoding(self._grid(self.update_clip, self.update_clip, 0.0, size), 1.0)
            case _:
                raise TypeError(f"Expected a mechanism: {mechanism!r}.")

    def _moments(
        self, mechanism: Mechanism | None, release: GaussianRelease | None, clip: float, size: int
    ) -> Encoding:
        box, noise = 2.0 * self.nominal_units, release.noise_multiplier if release else 0.0
        if isinstance(mechanism, SharedNoise):
            return Encoding(self._grid(clip, box, noise, size), 1.0)
        return Encoding(self._grid(clip, box + _TAIL * noise * clip, 0.0, size), 1.0)

    def _grid(self, clip: float, box: float, noise_multiplier: float, size: int) -> Grid:
        return Grid.fitting(clip, box, noise_multiplier, size, self.sites)
