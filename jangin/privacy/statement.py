"""The privacy statement of a model: what was promised, to whom, at which price, and what is not promised.

Field names follow NIST SP 800-226 (privacy unit, neighbouring relation, trust model, hazards) and the schema of the
differential privacy deployments registry (arXiv 2509.13509). The laws: the events are the source of truth, and every
figure can be computed from them anew (`recount`); a run without privacy has no figure at all, only the words
NO DIFFERENTIAL PRIVACY.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from math import isfinite
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from jangin.codec.document import Document
from jangin.errors import PrivacyError
from jangin.privacy.accounting import epsilon_curve, epsilon_rdp
from jangin.privacy.releases import (
    NO_DIFFERENTIAL_PRIVACY,
    Charge,
    Cost,
    GaussianRelease,
    Guarantee,
    LocalDpSgd,
    MasterSum,
    Reading,
    Relation,
    SharedNoise,
    SharedSum,
    Unit,
)
from jangin.privacy.renyi import epsilon_at, filter_order, renyi

__all__ = [
    "BUDGETS",
    "SAMPLED_GAUSSIAN",
    "CurvePoint",
    "Deployment",
    "Event",
    "FilterFigure",
    "Hazard",
    "Mechanism",
    "PrivacyLoss",
    "Promise",
    "ReadingFigures",
    "ShownTotal",
    "Statement",
    "Status",
    "promise_of",
    "read_statement",
    "state",
    "wording",
]

BUDGETS: Final[Mapping[Reading, float]] = {Reading.SECURE_SUM: 8.0, Reading.COALITION: 50.0}
"""The epsilon of the budgets at whose orders the filter figures are given."""

SAMPLED_GAUSSIAN: Final = "sampled_gaussian"
"""The one kind of event there is."""

_CURVE_HALF_DECADES = range(-7, 3)
_GRID = 1e-4
_LEAST = 1e-3  # epsilon below which the grid gets no finer; where next to nothing is lost, the bound is 0

Delta = Annotated[float, Field(gt=0, lt=1)]
Epsilon = Annotated[float, Field(ge=0)]


class Status(StrEnum):
    """What is done about a hazard."""

    COVERED = "covered"
    NOT_COVERED = "not_covered"
    CHARGED = "charged"


class Deployment(Document):
    """What was run.

    Attributes:
        kind: in the field, or a simulation of it.
        name: of the campaign, or `simulation`.
        plan_hash: SHA-256 of the plan or of the simulation's file, 64 hex digits.
        model_line: which inputs and targets; None where a simulation has none.
        process: whose records; None where a simulation has none.
        sites: how many gave something.
        rounds_planned: of the plan.
        rounds_done: whose sum was used.
        rounds_charged: that may have begun: what a site gave in a round that failed is spent.
    """

    kind: Literal["campaign", "simulation"]
    name: str
    plan_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    model_line: str | None
    process: str | None
    sites: NonNegativeInt
    rounds_planned: PositiveInt
    rounds_done: NonNegativeInt
    rounds_charged: NonNegativeInt


class Event(Document):
    """Releases of one kind, as often as one site makes them.

    Attributes:
        event: `sampled_gaussian`; what else stands here has no known price.
        when: `opening`, once before the first round; `evaluations`, on hold-outs, in the whole campaign, paid with it;
            or `each_round`.
        noise_multiplier: standard deviation of the noise over the clip.
        sampling_probability: with which a unit takes part in each.
        count: in the opening, in the whole campaign, or in one round.
    """

    event: str
    when: Literal["opening", "evaluations", "each_round"]
    noise_multiplier: PositiveFloat
    sampling_probability: Annotated[float, Field(gt=0, le=1)]
    count: PositiveInt


class FilterFigure(Document):
    """What a privacy filter adds up: the Renyi divergence at one order, and its epsilon at the statement's delta.

    The order is that of a budget of `budget_epsilon` (`accounting.filter_order`).
    """

    budget_epsilon: PositiveFloat
    order: Annotated[int, Field(ge=2)]
    renyi_divergence: Annotated[float, Field(ge=0)]
    epsilon: Epsilon


class CurvePoint(Document):
    """At this delta, this epsilon."""

    delta: Delta
    epsilon: Epsilon


class ReadingFigures(Document):
    """The promise towards one observer.

    Attributes:
        epsilon, delta: by privacy loss distributions, an upper bound.
        filter: the looser figure that budgets are kept by.
        curve: delta rising, epsilon falling.
        events: what all of this is computed from.
    """

    epsilon: Epsilon
    delta: Delta
    filter: FilterFigure
    curve: tuple[CurvePoint, ...]
    events: Annotated[tuple[Event, ...], Field(min_length=1)]


class Accountant(Document):
    """Who computed epsilon."""

    name: str
    version: str


class Sampling(Document):
    """How units are drawn, what amplification rests on: secretly by the site, or not at all."""

    method: Literal["poisson", "everybody"]
    drawn_by: Literal["site", "nobody"]
    secret: bool


class Mechanism(Document):
    """How noise is added, and its public constants.

    Attributes:
        name: of docs/privacy.md, e.g. M1.
        clip: L2 bound of one unit's contribution to a sum.
        divisor: public number by which a noised sum is divided, in units.
        windows_per_unit: most examples of one unit in one draw; None where a unit trains by itself.
        c_max: most sites that may conspire with the server where noise is shared; None where it is not.
        n_plan: sites without which no such sum begins.
        n_min_final: fewest sites whose sum is opened.
        honest_shares: shares of noise that the promise towards the server counts on, H.
    """

    name: str
    clip: PositiveFloat
    divisor: PositiveFloat
    windows_per_unit: PositiveInt | None = None
    c_max: PositiveInt | None = None
    n_plan: PositiveInt | None = None
    n_min_final: PositiveInt | None = None
    honest_shares: PositiveInt | None = None


class PrivacyLoss(Document):
    """The promise of one site's releases for one unit, in each reading."""

    dp_flavor: Literal["approximate_dp"]
    privacy_unit: Unit
    neighboring_relation: Relation
    readings: Mapping[Reading, ReadingFigures]
    accountant: Accountant
    sampling: Sampling
    mechanism: Mechanism


class ShownTotal(Document):
    """What a site showed of its ledger: the most that any unit of its has spent over all campaigns."""

    site: str
    privacy_unit: Unit
    reading: Reading
    campaigns: NonNegativeInt
    epsilon: Epsilon | Literal["NO DIFFERENTIAL PRIVACY"]
    delta: Delta


class Composition(Document):
    """Over what the figures run, and over what they do not.

    Attributes:
        runs_on_these_records: the figures are for one of them; runs on the same records add up.
        shown_totals: over campaigns, from the ledgers of sites that chose to show them; None where none did.
    """

    figures_are_for: Literal["one_run"]
    runs_on_these_records: PositiveInt
    shown_totals: tuple[ShownTotal, ...] | None


class Sentence(Document):
    """A plain sentence in both languages."""

    name: str
    en: str
    ko: str


class Hazard(Sentence):
    """A known way to lose what was promised, and what is done about it."""

    status: Status


class Statement(Document):
    """All that is said of the privacy of one model."""

    schema_version: Literal["jangin-privacy-statement-1"]
    deployment: Deployment
    privacy_loss: PrivacyLoss | Literal["NO DIFFERENTIAL PRIVACY"]
    trust_model: Sentence
    composition: Composition
    privacy_hazards: tuple[Hazard, ...]
    evidence: tuple[Sentence, ...]
    not_promised: tuple[Sentence, ...]

    def as_json(self) -> bytes:
        """The document, UTF-8, indented."""
        return (self.model_dump_json(indent=2) + "\n").encode()


@dataclass(frozen=True)
class Promise:
    """What a statement is made from.

    Attributes:
        cost: of the whole campaign, in each reading.
        guarantee: unit, relation and delta; its epsilon is that of the whole campaign.
        mechanism: its name and constants.
        trust: the name of the trust model, `local` or `secure_sum`.
    """

    cost: Cost
    guarantee: Guarantee
    mechanism: Mechanism
    trust: str


def promise_of(mechanism: LocalDpSgd | SharedNoise, rounds: int) -> Promise:
    """What a mechanism promises over so many rounds.

    Raises:
        TypeError: none of those that are known.
    """
    cost, guarantee, clip = mechanism.cost(rounds), mechanism.guarantee, mechanism.clip
    match mechanism:
        case LocalDpSgd(divisor=divisor, windows=windows):
            constants = Mechanism(name="M1", clip=clip, divisor=divisor, windows_per_unit=windows)
            return Promise(cost, guarantee, constants, "local")
        case SharedSum(divisor=divisor, windows=windows):
            constants = Mechanism(name="M2", clip=clip, divisor=divisor, windows_per_unit=windows, **_shares(mechanism))
            return Promise(cost, guarantee, constants, "secure_sum")
        case MasterSum(masters=masters):
            constants = Mechanism(name="M3", clip=clip, divisor=masters, **_shares(mechanism))
            return Promise(cost, guarantee, constants, "secure_sum")
        case _:
            raise TypeError(f"Expected a mechanism: {mechanism!r}.")


def _shares(mechanism: SharedNoise) -> dict[str, int]:
    return {
        "c_max": mechanism.c_max,
        "n_plan": mechanism.sites,
        "n_min_final": mechanism.n_min_final,
        "honest_shares": mechanism.honest,
    }


def state(
    deployment: Deployment,
    promise: Promise | None,
    *,
    runs: int = 1,
    shown_totals: tuple[ShownTotal, ...] | None = None,
) -> Statement:
    """The statement of what was run.

    Args:
        deployment: what; only the rounds that were charged are counted.
        promise: of its mechanism; None for NO DIFFERENTIAL PRIVACY.
        runs: on these records.
        shown_totals: of sites' ledgers, where they showed any.

    Raises:
        PrivacyError: JG-privacy-008, a release whose price is not known. ValueError: nothing was released.
    """
    words = wording()
    loss = None if promise is None else _loss(promise, deployment.rounds_charged)
    return Statement(
        schema_version="jangin-privacy-statement-1",
        deployment=deployment,
        privacy_loss=loss or NO_DIFFERENTIAL_PRIVACY,
        trust_model=_sentence("none" if promise is None else promise.trust, words["trust"]),
        composition=Composition(figures_are_for="one_run", runs_on_these_records=runs, shown_totals=shown_totals),
        privacy_hazards=() if loss is None else tuple(_hazards(loss, deployment)),
        evidence=() if loss is None else tuple(_sentence(name, words["evidence"]) for name in words["evidence"]),
        not_promised=tuple(_sentence(name, words["not_promised"]) for name in words["not_promised"]),
    )


def read_statement(content: bytes, where: str) -> Statement:
    """A statement from its JSON; `where` names its source in messages.

    Raises:
        PrivacyError: JG-privacy-041, no statement of this version.
    """
    try:
        return Statement.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = f"{'.'.join(map(str, first['loc'])) or 'document'}: {first['msg']}"
        raise PrivacyError("JG-privacy-041", where=where, problem=problem) from None


@cache
def wording() -> Mapping[str, Any]:
    """The words of statement, page and explanation: `{section: {name: {"en", "ko", ...}}}`."""
    text = files("jangin.configs").joinpath("statement", "words.yaml").read_text(encoding="utf-8")
    words: Mapping[str, Any] = yaml.safe_load(text)
    return words


def _loss(promise: Promise, rounds: int) -> PrivacyLoss:
    guarantee = promise.guarantee
    charges = {reading: promise.cost[reading] for reading in Reading}
    return PrivacyLoss(
        dp_flavor="approximate_dp",
        privacy_unit=guarantee.unit,
        neighboring_relation=guarantee.relation,
        readings={reading: _figures(reading, charge, rounds, guarantee.delta) for reading, charge in charges.items()},
        accountant=Accountant(name="dp-accounting, PLDAccountant", version=version("dp-accounting")),
        sampling=_sampling(charges.values()),
        mechanism=promise.mechanism,
    )


def _sampling(charges: Iterable[Charge]) -> Sampling:
    if all(one.sampling_probability == 1.0 for charge in charges for one in charge.each_round):
        return Sampling(method="everybody", drawn_by="nobody", secret=False)
    return Sampling(method="poisson", drawn_by="site", secret=True)


def _figures(reading: Reading, charge: Charge, rounds: int, delta: float) -> ReadingFigures:
    releases = charge.releases(rounds)
    if not releases:
        raise ValueError("Expected at least one release.")
    order = filter_order(BUDGETS[reading], delta)
    divergence = renyi(releases, order)
    curve = dict(_curve(releases, delta))
    parts = {"opening": charge.opening, "evaluations": charge.evaluations, "each_round": charge.each_round}
    events = [(when, one) for when, releases in parts.items() for one in releases]
    return ReadingFigures(
        epsilon=curve[delta],
        delta=delta,
        filter=FilterFigure(
            budget_epsilon=BUDGETS[reading],
            order=order,
            renyi_divergence=divergence,
            epsilon=epsilon_at(order, divergence, delta),
        ),
        curve=tuple(CurvePoint(delta=at, epsilon=epsilon) for at, epsilon in curve.items() if isfinite(epsilon)),
        events=tuple(
            Event(
                event=SAMPLED_GAUSSIAN,
                when=when,
                noise_multiplier=one.noise_multiplier,
                sampling_probability=one.sampling_probability,
                count=one.count,
            )
            for when, one in events
        ),
    )


@cache
def _curve(releases: tuple[GaussianRelease, ...], delta: float) -> tuple[tuple[float, float], ...]:
    """(delta, epsilon) at ten deltas, half a decade from one to the next, `delta` among them."""
    deltas = [delta * 10 ** (step / 2) for step in _CURVE_HALF_DECADES if delta * 10 ** (step / 2) < 1]
    interval = _GRID * min(1.0, max(epsilon_rdp(releases, delta), _LEAST))
    return tuple(zip(deltas, epsilon_curve(releases, deltas, interval), strict=True))


def _hazards(loss: PrivacyLoss, deployment: Deployment) -> list[Hazard]:
    """Every known hazard; one whose treatment is not known for this mechanism and kind of run is not covered."""
    when = {event.when for figures in loss.readings.values() for event in figures.events}
    known = {loss.mechanism.name, deployment.kind, "charged_opening" if "opening" in when else "no_opening"}
    known |= {"charged_evaluations"} if "evaluations" in when else set()
    hazards = []
    for name, entry in wording()["hazards"].items():
        by_case = entry["status"] if isinstance(entry["status"], dict) else dict.fromkeys(known, entry["status"])
        found = [Status(status) for case, status in by_case.items() if case in known]
        hazards.append(
            Hazard(name=name, status=found[0] if found else Status.NOT_COVERED, en=entry["en"], ko=entry["ko"])
        )
    return hazards


def _sentence(name: str, section: Mapping[str, Mapping[str, str]]) -> Sentence:
    return Sentence(name=name, en=section[name]["en"], ko=section[name]["ko"])
