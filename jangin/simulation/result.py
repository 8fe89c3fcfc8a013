"""What a simulation says: figures over seeds, who is better off, the promise, the rounds, the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jangin.errors import CodedText, Language
from jangin.models.layout import ParameterLayout, Vector
from jangin.privacy.releases import (
    NO_DIFFERENTIAL_PRIVACY,
    LocalDpSgd,
    MasterSum,
    Mechanism,
    SharedNoise,
    SharedSum,
    together,
)
from jangin.training.metrics import Metric
from jangin.training.scaling import Scaling

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["COMPARED", "Figures", "Result", "Scores", "better_off", "defined", "gains", "promise"]

_ALONE = ("local", "local_trees")
COMPARED = ("local", "local_trees", "federated", "personalised", "pooled", "constant")


@dataclass(frozen=True)
class Scores:
    """One model's figures in one seed.

    Attributes:
        total: over all hold-out records, each site's by the model it would use; or the mean of sites.
        sites: each site's on its own hold-out, in site order; NaN where undefined.
        union: where every site has its own model: the mean over these of their figure on the union of all
            hold-outs, NaN where that was not asked for; for one common model the same as over all records.
    """

    total: float
    sites: tuple[float, ...]
    union: float


@dataclass(frozen=True)
class Figures:
    """What the outcome of `simulate` is compared by; a run folder holds it too.

    Attributes:
        metric: name, higher_is_better, and a figure for each of `COMPARED` (None where not asked for); with
            differential privacy also `local_private`, the site alone at the federation's own (epsilon, delta).
        std: their standard deviations over seeds (0 with one seed).
        better_off: shares of sites whose federated and personalised model beats their own best local one, and
            `sites_worse`, those for which neither does.
        privacy: unit, epsilon, delta and noise multiplier of one site's releases, or NO DIFFERENTIAL PRIVACY.
        sites: names in site order.
        per_site: each model's figure at each site, mean over seeds.
        rounds: one row a round and seed: seed, round, value of the metric (NaN where nobody judged), seconds.
        seconds: of everything.
    """

    metric: Mapping[str, Any]
    std: Mapping[str, float | None]
    better_off: Mapping[str, Any]
    privacy: Mapping[str, Any] | str
    sites: tuple[str, ...]
    per_site: Mapping[str, tuple[float, ...]]
    rounds: tuple[Mapping[str, float], ...]
    seconds: float


@dataclass(frozen=True)
class Result(Figures):
    """The outcome of `simulate`.

    Attributes:
        union: each model's figure on the union of hold-outs, mean over seeds.
        parameters: final shared parameters of the first seed, (d,), float32.
        layout: how the whole model is laid out.
        scaling: how inputs and outputs of that model are scaled.
        client_rounds_per_second: sites times rounds over the seconds of the rounds alone.
        peak_rss_mb: the most memory the process has had; None where the system does not say.
        warnings: what was assumed.
    """

    union: Mapping[str, float]
    parameters: Vector
    layout: ParameterLayout
    scaling: Scaling
    client_rounds_per_second: float
    peak_rss_mb: float | None
    warnings: tuple[CodedText, ...]

    @property
    def history(self) -> "pa.Table":
        """The rounds as a pyarrow Table with columns seed, round, federated, seconds."""
        import pyarrow as pa

        return pa.Table.from_pylist([dict(row) for row in self.rounds])

    def as_dict(self, lang: Language = "en") -> dict[str, Any]:
        """The last stdout line of `jangin simulate --format json`; warnings in `lang`."""
        return {
            "metric": defined(self.metric),
            "std": defined(self.std),
            "better_off": dict(self.better_off),
            "privacy": self.privacy if isinstance(self.privacy, str) else dict(self.privacy),
            "client_rounds_per_second": round(self.client_rounds_per_second, 1),
            "seconds": round(self.seconds, 2),
            "peak_rss_mb": None if self.peak_rss_mb is None else round(self.peak_rss_mb, 1),
            "warnings": [warning.as_dict(lang) for warning in self.warnings],
        }


def defined(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures with None for those that are undefined: JSON has no NaN."""
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value for name, value in figures.items()
    }


def promise(mechanism: Mechanism | None, runs: int) -> Mapping[str, Any] | str:
    """What a run may say of its privacy.

    Returns:
        unit, epsilon, delta, noise_multiplier (noise over clip), mechanism and relation of one site's releases in
        one of the `runs` (every seed is a run of its own). Under M2 and M3 they are towards a server that sees
        sums only, and beside them stand c_max, n_plan, honest_shares (H) and epsilon_coalition, against it and every
        other site together. Without a mechanism
        NO DIFFERENTIAL PRIVACY.
    """
    beside: dict[str, Any] = {}
    match mechanism:
        case None:
            return NO_DIFFERENTIAL_PRIVACY
        case LocalDpSgd():
            name, noise = "M1", mechanism.steps
        case SharedSum():
            name, noise = "M2", together(mechanism.share, mechanism.honest)
        case MasterSum():
            name, noise = "M3", together(mechanism.share, mechanism.honest)
        case _:
            raise TypeError(f"Expected a mechanism: {mechanism!r}.")
    if isinstance(mechanism, SharedNoise):
        beside = {
            "epsilon_coalition": mechanism.coalition.epsilon,
            "c_max": mechanism.c_max,
            "n_plan": mechanism.sites,
            "honest_shares": mechanism.honest,
        }
    guarantee = mechanism.guarantee
    return {
        "unit": guarantee.unit.value,
        "epsilon": guarantee.epsilon,
        "delta": guarantee.delta,
        "noise_multiplier": noise.noise_multiplier,
        "mechanism": name,
        "relation": guarantee.relation.value,
        "runs": runs,
        **beside,
    }


def gains(per_site: Mapping[str, Sequence[float]], *, higher_is_better: bool) -> dict[str, NDArray[np.float64]]:
    """By how much `federated` and, where it is there, `personalised` beat each site's own best local model.

    Returns:
        shape (sites,), in the units of the metric, positive where a site gains and NaN where a figure is undefined;
        nothing without a local baseline.
    """
    alone = [per_site[name] for name in _ALONE if name in per_site]
    if not alone:
        return {}
    sign = 1 if higher_is_better else -1
    best = np.max(sign * np.array(alone), axis=0)
    shared = [name for name in ("federated", "personalised") if name in per_site]
    return {name: sign * np.array(per_site[name]) - best for name in shared}


def better_off(per_site: Mapping[str, Sequence[float]], sites: Sequence[str], metric: Metric) -> dict[str, Any]:
    """Shares of sites whose federated and personalised model strictly beats their own best local model.

    Sites where a figure is undefined are left out of the shares. Shares are None without a local baseline.

    Args:
        per_site: each model's figure at each site, in the order of `sites`.
        sites: their names.
        metric: says which figure is better.

    Returns:
        `federated` and `personalised`, shares in [0, 1] or None; `sites_worse`, names of the sites for which
        neither of the two is better.
    """
    gained = gains(per_site, higher_is_better=metric.higher_is_better)
    if not gained:
        return {"federated": None, "personalised": None, "sites_worse": []}
    known = np.isfinite([per_site[name] for name in _ALONE if name in per_site]).all(axis=0)
    wins = {name: gain > 0 for name, gain in gained.items()}
    worse = known & ~np.logical_or.reduce(list(wins.values()))
    return {
        "federated": float(wins["federated"][known].mean()) if known.any() else None,
        "personalised": float(wins["personalised"][known].mean()) if "personalised" in wins and known.any() else None,
        "sites_worse": [site for site, is_worse in zip(sites, worse, strict=True) if is_worse],
    }
