"""What a ministry answers with for a campaign: who did what, who took part, what came of it, and what it is worth.

The law: it says what the database, the audit log and the signed documents say, and nothing else; of sites it counts
what they did in rounds, of workers it knows nothing; a figure stands with the deviation of its noise, and a model
without differential privacy says so.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from jangin.codec.document import Document
from jangin.plan.training_plan import Kpi, TrainingPlan
from jangin.privacy.releases import NO_DIFFERENTIAL_PRIVACY
from jangin.privacy.statement import Statement, read_statement
from jangin.server.kpi import measurements
from jangin.server.life import Act, State
from jangin.server.registry import Registered, Registry
from jangin.server.settings import StateFolder
from jangin.server.store import EvaluationEntry, Outcome, RoundEntry, Store, plan_of

__all__ = ["CampaignReport", "Step", "report"]


class Step(Document):
    """One move of the campaign's life, from the audit log."""

    act: Act
    actor: str
    moment: datetime


class SiteRecord(Document):
    """What one site did in all rounds.

    Attributes:
        reported: rounds that its answer is in.
        abstained: how often it refused politely, by code.
        refused: how often its answer was left aside, by code.
        missing: how often it did not answer.
    """

    site: str
    approved: bool
    reported: int
    abstained: dict[str, int]
    refused: dict[str, int]
    missing: int


class RoundRow(Document):
    """One attempt at a round; 0 is the scaling before the first."""

    round: int
    attempt: int
    outcome: Outcome
    seconds: float
    reported: int
    abstained: int
    refused: int
    missing: int
    reason: str


class Evaluated(Document):
    """The figures of one round's model on the sites' hold-outs, each with the standard deviation of its noise."""

    round: int
    figures: dict[str, tuple[float, float]]
    sites: int
    reason: str


class ModelRow(Document):
    """The version that came of it."""

    name: str
    state: State
    aliases: tuple[str, ...]
    contributors: int
    parameters: int
    privacy: str
    released: bool


class Figure(Document):
    """A factory figure that was measured afterwards."""

    value: float
    note: str
    person: str
    moment: datetime


class CampaignReport(Document):
    """All of it.

    Attributes:
        made: when the report was.
        campaign, hash, state, reason: which campaign, and where it is.
        plan: its plan in short, by the keys of the plan.
        life: the moves, in order.
        sites: those that were invited, in the plan's order.
        rounds: every attempt.
        evaluations: every evaluation.
        model: the version; None before there is one.
        statement: the privacy statement; None before there is one.
        kpi: what the plan hopes to move; None where it names nothing.
        measured: that figure afterwards.
    """

    form: Literal["jangin-campaign-report-1"] = "jangin-campaign-report-1"
    made: datetime
    campaign: str
    hash: str
    state: State
    reason: str
    plan: Mapping[str, str | int | float | list[str] | None]
    life: tuple[Step, ...]
    sites: tuple[SiteRecord, ...]
    rounds: tuple[RoundRow, ...]
    evaluations: tuple[Evaluated, ...]
    model: ModelRow | None
    statement: Statement | None
    kpi: Kpi | None
    measured: tuple[Figure, ...]


def report(state: StateFolder, store: Store, campaign: str, now: datetime) -> CampaignReport:
    """The report of a campaign, whatever state it is in.

    Raises:
        ServerError: JG-server-330, no such campaign. PrivacyError: JG-privacy-041, its statement cannot be read.
    """
    row = store.campaign(campaign)
    plan, entries = plan_of(row), store.rounds(campaign)
    file = state.checkpoints(campaign) / "statement.json"
    version = next((one for one in Registry(store, state).versions() if one.manifest.campaign == campaign), None)
    return CampaignReport(
        made=now.replace(microsecond=0),
        campaign=row.name,
        hash=campaign,
        state=row.state,
        reason=row.reason,
        plan=_short(plan),
        life=tuple(_life(store, campaign)),
        sites=tuple(_sites(plan, set(store.approvals(campaign)), entries)),
        rounds=tuple(map(_round, entries)),
        evaluations=tuple(map(_evaluated, store.evaluations(campaign))),
        model=None if version is None else _model(version),
        statement=read_statement(file.read_bytes(), file.name) if file.is_file() else None,
        kpi=plan.kpi,
        measured=tuple(
            Figure(
                value=one.measurement.value,
                note=one.measurement.note,
                person=one.person,
                moment=one.measurement.issued,
            )
            for one in measurements(store, campaign)
        ),
    )


def _short(plan: TrainingPlan) -> dict[str, str | int | float | list[str] | None]:
    """A plan in a few lines, by its own keys."""
    private = plan.privacy.epsilon != "none"
    return {
        "process": plan.process,
        "model_line": plan.model_line,
        "model": plan.model.name,
        "strategy": plan.strategy.name,
        "rounds": plan.strategy.rounds,
        "min_sites": plan.sites.min_sites,
        "unit": str(plan.privacy.unit),
        "epsilon": plan.privacy.epsilon if private else NO_DIFFERENTIAL_PRIVACY,
        "delta": plan.privacy.delta if private else None,
        "secure_aggregation": str(plan.privacy.secure_aggregation),
        "purposes": [str(purpose) for purpose in plan.governance.purposes],
        "prohibited": list(plan.governance.prohibited),
        "recipients": plan.governance.release.recipients,
        "export": plan.governance.release.export,
    }


def _life(store: Store, campaign: str) -> Iterable[Step]:
    acts = set(Act)
    for one in store.database.audit():
        if (one.entry.what, one.entry.subject) == ("campaign", campaign) and one.entry.act in acts:
            yield Step(act=Act(one.entry.act), actor=one.entry.actor, moment=one.entry.moment)


def _sites(plan: TrainingPlan, approved: set[str], entries: list[RoundEntry]) -> Iterable[SiteRecord]:
    for site in plan.sites.invite:
        yield SiteRecord(
            site=site,
            approved=site in approved,
            reported=sum(site in one.reported for one in entries if one.outcome is Outcome.FINISHED),
            abstained=Counter(one.abstained[site] for one in entries if site in one.abstained),
            refused=Counter(one.refused[site] for one in entries if site in one.refused),
            missing=sum(site in one.missing for one in entries),
        )


def _round(entry: RoundEntry) -> RoundRow:
    return RoundRow(
        round=entry.round,
        attempt=entry.attempt,
        outcome=entry.outcome,
        seconds=round(entry.seconds, 3),
        reported=len(entry.reported),
        abstained=len(entry.abstained),
        refused=len(entry.refused),
        missing=len(entry.missing),
        reason=entry.reason,
    )


def _evaluated(entry: EvaluationEntry) -> Evaluated:
    figures = {name: (float(value), float(noise)) for name, (value, noise) in entry.figures.items()}
    return Evaluated(round=entry.round, figures=figures, sites=len(entry.reported), reason=entry.reason)


def _model(one: Registered) -> ModelRow:
    return ModelRow(
        name=one.manifest.name,
        state=one.state,
        aliases=tuple(map(str, one.aliases)),
        contributors=len(one.manifest.contributors),
        parameters=one.manifest.parameters,
        privacy=one.manifest.privacy,
        released=one.release is not None,
    )
