"""What a campaign will cost its sites and its server before anything runs: privacy, bytes and hours.

The law: pure, from a plan and from seconds that were measured to a frozen value; every figure says its unit and what it
does not cover. Bytes are those of a cohort of all that the plan invites, in which every attempt is the first.

| figure | what it is | what is not in it |
|---|---|---|
| epsilon | what a site's ledger charges one unit, as its filter counts it | budgets other than those of a new site |
| bytes | messages and commitments, HTTP's heads with them | TLS, polls (`waiting`), attempts that fail |
| hours | seconds of orders that were measured, as often as the plan asks them | waits before a round for absent sites |
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, log2
from statistics import median
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from jangin.codec.document import Document
from jangin.flower_link.weight import BEAT, COMMITMENT, PACE, POLL, Traffic, answered, asked
from jangin.plan.messages import Kind, Order, Reply, Said, order_body, reply_body, said_body, step_body
from jangin.plan.terms import terms_of_cells
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.accounts import UP, charge_of
from jangin.privacy.releases import NO_DIFFERENTIAL_PRIVACY, Charge, GaussianRelease, Mechanism, Reading, Unit
from jangin.privacy.renyi import epsilon_at, filter_budget, filter_order, renyi
from jangin.privacy.secure_sum.dealing import PARCEL_BYTES, SHARE_BYTES
from jangin.privacy.secure_sum.messages import (
    SIGNATURE_BYTES,
    Advert,
    Dealing,
    Dealt,
    Shown,
    write_adverts,
    write_certificates,
    write_dealt,
    write_survivors,
)
from jangin.privacy.secure_sum.policy import threshold
from jangin.privacy.secure_sum.table import Step
from jangin.privacy.secure_sum.transcript import DIGEST_BYTES, Manifest
from jangin.privacy.statement import BUDGETS
from jangin.server.conductor import MOST_ATTEMPTS
from jangin.server.post import MOST_TOGETHER_BYTES
from jangin.server.proposal import fewest_opened, least_sites
from jangin.server.sums import waits
from jangin.strategies import build
from jangin.training.recipe import Recipe

__all__ = [
    "Basis",
    "Bytes",
    "Charged",
    "CohortForecast",
    "Epsilon",
    "Forecast",
    "Hours",
    "Measured",
    "Waiting",
    "forecast",
    "public_pace",
    "sum_messages",
]

_EXCHANGES: Final = 5
_HOUR: Final = 3600.0
_BEATS_AN_HOUR: Final = 240


class Basis(StrEnum):
    """Where the seconds of an estimate come from."""

    ROUNDS = "rounds"
    """Rounds of a campaign like this one, in this server's database."""
    REHEARSAL = "rehearsal"
    """The second, warm asking of this plan's last rehearsal, and `PACE` for the exchanges that it has not."""
    PACE = "pace"
    """A public pace of messages alone: no training is in it, so that it is the least."""


@dataclass(frozen=True)
class Measured:
    """Seconds that orders took.

    Attributes:
        basis: where.
        of: hash of the campaign, or "" for the public pace.
        training: of rounds.
        scaling: of what comes before the first; none: as a round.
        evaluation: of evaluations; none: as a round.
    """

    basis: Basis
    of: str
    training: Sequence[float]
    scaling: Sequence[float] = ()
    evaluation: Sequence[float] = ()


class CohortForecast(Document):
    """Who takes part.

    Attributes:
        invited: sites of the plan.
        begin: fewest with which a round begins.
        quorum: fewest that have to answer where all invited are asked.
        opened: of secure sums: fewest whose sum is opened where all invited begin it; None without.
    """

    invited: int
    begin: int
    quorum: int
    opened: int | None


class Charged(Document):
    """What a site's ledger charges one unit towards one observer.

    Attributes:
        unit: whose budget.
        reading: towards whom.
        planned: epsilon where no attempt fails, as the filter counts it.
        most: of all that is reserved, spare rounds with it; equals `planned` where there are none.
        share: of a new site's budget, that `most` takes; above 1 it is not granted.
        budget: epsilon of such a budget.
    """

    unit: Unit
    reading: Reading
    planned: float
    most: float
    share: float
    budget: float


class Epsilon(Document):
    """The price in privacy.

    Attributes:
        unit: whose presence is hidden.
        delta: of the plan, at which every epsilon here is.
        promise: the tight epsilon of all releases of one site, towards the server.
        coalition: the same against the server and all other sites together.
        rounds: that are charged at most.
        charged: by each site's ledger.
    """

    unit: Unit
    delta: float
    promise: float
    coalition: float
    rounds: int
    charged: tuple[Charged, ...]


class Part(Document):
    """Bytes of one kind of order over the whole campaign, for one site."""

    orders: int
    up: int
    down: int


class Waiting(Document):
    """Bytes an hour of a site that asks whether there is work, at the pace that the server sets; at most."""

    poll_seconds: float
    up_an_hour: int
    down_an_hour: int


class Bytes(Document):
    """What passes a site's connection and the server's, over the whole campaign.

    Attributes:
        site_up, site_down: of one site, from it and to it.
        server_in, server_out: of all that are invited.
        parts: of one site, by what is asked.
        waiting: beside it.
    """

    site_up: int
    site_down: int
    server_in: int
    server_out: int
    parts: dict[str, Part]
    waiting: Waiting


class Hours(Document):
    """How long it takes.

    Attributes:
        estimate: from what was measured.
        basis: where the seconds come from.
        of: the campaign that was measured; empty for the public pace.
        seconds_a_round: median.
        deadlines: every order answered at its very deadline, each at the first attempt.
        most: beyond it the campaign has ended: each order waited for sites, was answered late and tried again.
    """

    estimate: float
    basis: Basis
    of: str
    seconds_a_round: float
    deadlines: float
    most: float


class Forecast(Document):
    """A campaign's price."""

    campaign: str
    cohort: CohortForecast
    epsilon: Epsilon | Literal["NO DIFFERENTIAL PRIVACY"]
    bytes: Bytes
    hours: Hours


def forecast(plan: TrainingPlan, measured: Measured | None = None) -> Forecast:
    """The price of a plan that can run.

    Args:
        plan: one that `proposal.refusals` lets pass.
        measured: what hours are estimated from; None: the public pace.

    Raises:
        JanginError: as `proposal.refusals`.
    """
    recipe = Recipe.of(plan)
    return Forecast(
        campaign=plan.hash,
        cohort=_cohort(plan),
        epsilon=_epsilon(plan, recipe.mechanism),
        bytes=_bytes(plan, recipe),
        hours=_hours(plan, recipe, measured or public_pace(plan)),
    )


def public_pace(plan: TrainingPlan) -> Measured:
    """Seconds of an exchange without training: a poll's wait, and 0.03 s of the server for each site, a round figure.

    A round of two sites took 0.29 to 0.35 s over loopback on two cores, where this says 0.26. A secure sum has five.
    """
    sites = len(plan.sites.invite)
    one = _poll_seconds(sites) + 0.03 * sites
    return Measured(Basis.PACE, "", [one * (_EXCHANGES if plan.privacy.sums_only else 1)])


def _cohort(plan: TrainingPlan) -> CohortForecast:
    invited = len(plan.sites.invite)
    return CohortForecast(
        invited=invited,
        begin=least_sites(plan),
        quorum=max(plan.sites.min_sites, ceil(plan.sites.quorum * invited)),
        opened=fewest_opened(plan) if plan.privacy.sums_only else None,
    )


def _epsilon(plan: TrainingPlan, mechanism: Mechanism | None) -> Epsilon | Literal["NO DIFFERENTIAL PRIVACY"]:
    if mechanism is None:
        return NO_DIFFERENTIAL_PRIVACY
    cost, guarantee = mechanism.cost(plan.charged_rounds), mechanism.guarantee
    coalition = getattr(mechanism, "coalition", guarantee)
    units = dict.fromkeys((guarantee.unit, Unit.EPISODE))
    charged = []
    for unit in units:
        for reading, budget in BUDGETS.items():
            charge = charge_of(cost, unit, reading)
            if charge is not None:
                charged.append(_charged(charge, reading, budget, plan))
    return Epsilon(
        unit=guarantee.unit,
        delta=guarantee.delta,
        promise=guarantee.epsilon,
        coalition=coalition.epsilon,
        rounds=plan.charged_rounds,
        charged=tuple(charged),
    )


def _charged(charge: Charge, reading: Reading, budget: float, plan: TrainingPlan) -> Charged:
    delta = plan.privacy.delta
    order = filter_order(budget, delta)

    def spent(releases: Iterable[GaussianRelease]) -> float:
        return renyi(tuple(releases), order) * UP

    most, planned = spent(charge.releases()), spent(charge.releases(plan.strategy.rounds))
    return Charged(
        unit=charge.unit,
        reading=reading,
        planned=epsilon_at(order, planned, delta),
        most=epsilon_at(order, most, delta),
        share=most / filter_budget(order, budget, delta),
        budget=budget,
    )


def _bytes(plan: TrainingPlan, recipe: Recipe) -> Bytes:
    parts: dict[str, Part] = {}
    for kind, count, each in _orders(plan, recipe):
        whole = each.times(count)
        parts[kind.value] = Part(orders=count, up=whole.up, down=whole.down)
    # A charge is committed before what it pays for leaves: a round each, and all evaluations with the opening.
    charges = plan.strategy.rounds + (recipe.learns_scaling or plan.evaluate is not None)
    commitments = COMMITMENT.times(charges)
    parts["commit"] = Part(orders=charges, up=commitments.up, down=commitments.down)
    up, down = (sum(getattr(part, way) for part in parts.values()) for way in ("up", "down"))
    sites = len(plan.sites.invite)
    return Bytes(
        site_up=up,
        site_down=down,
        server_in=up * sites,
        server_out=down * sites,
        parts=parts,
        waiting=_waiting(sites),
    )


def _waiting(sites: int) -> Waiting:
    seconds = _poll_seconds(sites)
    hour = Traffic.together(
        POLL.times(round(_HOUR / seconds)), PACE.times(round(_HOUR / max(seconds, 2.0))), BEAT.times(_BEATS_AN_HOUR)
    )
    return Waiting(poll_seconds=seconds, up_an_hour=hour.up, down_an_hour=hour.down)


def _poll_seconds(sites: int) -> float:
    """The pace of a campaign's sites (api.py): about sixty polls a second in all."""
    return min(max(sites / 60, 0.2), 30.0)


def _orders(plan: TrainingPlan, recipe: Recipe) -> Iterator[tuple[Kind, int, Traffic]]:
    """What is asked of a site, how often, and what one asking weighs."""
    model, strategy = recipe.initial(), build(plan.strategy)
    start = model.read()[model.layout.shared]
    columns = len(recipe.public_scaling().center)
    learnt = (np.zeros(columns), np.ones(columns)) if recipe.learns_scaling else None
    if recipe.learns_scaling:
        moments = np.zeros(1 + 2 * columns)
        yield Kind.SCALE, 1, _asking(plan, Order(Kind.SCALE, 0, np.empty(0, np.float32)), moments)
    carried = strategy.local.carried(start, strategy.init(start))
    last = plan.strategy.rounds
    yield Kind.TRAIN, last, _asking(plan, Order(Kind.TRAIN, last, carried, learnt), np.zeros(start.size, np.float32))
    if plan.evaluate is not None:
        losses = np.zeros(1 + len(plan.evaluate.metrics))
        order = Order(Kind.EVALUATE, last, start, learnt)
        yield Kind.EVALUATE, len(plan.evaluated_rounds), _asking(plan, order, losses)


def _asking(plan: TrainingPlan, order: Order, given: NDArray[np.float32] | NDArray[np.float64]) -> Traffic:
    """One order of a site and its answer, of as many values as `given`."""
    if plan.privacy.sums_only:
        return _summed(plan, order, given.size)
    sites, deadline_s = len(plan.sites.invite), plan.sites.deadline_s
    values = order.vector.size or None
    if given.dtype == np.float32 and 4 * given.size * sites > MOST_TOGETHER_BYTES:  # held, and collected
        held = Order(order.kind, order.round, order.vector, order.scaling, hold=True)
        collect = order_body(Order(Kind.COLLECT, order.round, np.empty(0, np.float32)), deadline_s)
        waiting = reply_body(Reply("", None))
        update = reply_body(Reply("", np.zeros(1, np.float32)))
        return Traffic.together(
            asked(len(order_body(held, deadline_s)), values),
            answered(len(waiting)),
            asked(len(collect)),
            answered(len(update), given.size),
        )
    body = reply_body(Reply("", given))
    beside = given.size if given.dtype == np.float32 else None
    return asked(len(order_body(order, deadline_s)), values) + answered(len(body), beside)


def _summed(plan: TrainingPlan, order: Order, size: int) -> Traffic:
    """One secure sum: five askings of a site of the largest cell, in a cohort of all that are invited."""
    sites = max((sorted(cell.invited) for cell in terms_of_cells(plan)), key=len)
    deadline_s, digest = plan.sites.deadline_s, bytes(DIGEST_BYTES)
    manifest = Manifest(plan.hash, order.round, 1, digest, digest, size, waits(deadline_s), digest).encode()
    total = Traffic()
    for step, (request, answer) in sum_messages(sites, manifest).items():
        if step is Step.ADVERTISE:
            body = order_body(Order(order.kind, order.round, order.vector, order.scaling, manifest=request), deadline_s)
            total += asked(len(body), order.vector.size or None) + answered(_said(answer))
        else:
            beside = size if step is Step.MASK else None
            total += asked(len(step_body(request, deadline_s))) + answered(_said(answer), beside)
    return total


def sum_messages(sites: Sequence[str], manifest: bytes) -> Mapping[Step, tuple[bytes, bytes]]:
    """What each step of a secure sum of these sites sends to one of them, and its answer: zeros of the right length."""
    count, digest, signature = len(sites), bytes(DIGEST_BYTES), bytes(SIGNATURE_BYTES)
    advert = Advert(digest, digest, signature)
    path = bytes(DIGEST_BYTES * ceil(log2(count)))
    dealt = Dealt(bytes(PARCEL_BYTES), path, digest, digest, signature)
    dealing = Dealing(bytes(PARCEL_BYTES * count), digest, signature)
    shown = Shown(bytes((SHARE_BYTES + DIGEST_BYTES) * count), signature)
    return {
        Step.ADVERTISE: (manifest, advert.encode()),
        Step.SHARE: (write_adverts(dict.fromkeys(sites, advert)), dealing.encode()),
        Step.MASK: (write_dealt(dict.fromkeys(sites, dealt)), b""),
        Step.CERTIFY: (write_survivors(frozenset(sites)), signature),
        Step.UNMASK: (write_certificates(dict.fromkeys(sites[: threshold(count)], signature)), shown.encode()),
    }


def _said(message: bytes) -> int:
    return len(said_body(Said("", message)))


def _hours(plan: TrainingPlan, recipe: Recipe, measured: Measured) -> Hours:
    rounds, evaluations = plan.strategy.rounds, len(plan.evaluated_rounds)
    scalings = 1 if recipe.learns_scaling else 0
    one = median(measured.training)
    seconds = (
        rounds * one + scalings * median(measured.scaling or [one]) + evaluations * median(measured.evaluation or [one])
    )
    orders, deadline = rounds + scalings + evaluations, plan.sites.deadline_s
    return Hours(
        estimate=seconds / _HOUR,
        basis=measured.basis,
        of=measured.of,
        seconds_a_round=one,
        deadlines=orders * deadline / _HOUR,
        most=orders * MOST_ATTEMPTS * 3 * deadline / _HOUR,
    )
