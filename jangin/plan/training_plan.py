"""The training plan: one YAML document, frozen, whose hash is the campaign's identity everywhere."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from jangin.codec.document import Document, read
from jangin.errors import PlanError
from jangin.models.spec import ModelSpec
from jangin.plan.blocks import PrivacyBlock, StrategyBlock, check_delta
from jangin.records.purposes import NEVER, Purpose

__all__ = ["FEWEST_EVALUATING", "Evaluation", "TrainingPlan", "read_plan"]

FEWEST_EVALUATING: Final = 5
"""A figure over fewer sites is shown to nobody."""

_MEANS: Final = ("mae", "mse", "rmse", "accuracy")

Metric = Literal["rmse", "mae", "mse", "accuracy", "macro_f1", "average_precision", "auc"]
Duration = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}(s|m|h|d)$")]  # no longer than a clock can wait
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class InvitedSites(Document):
    """Who may take part, and how many must.

    Attributes:
        invite: site ids of the roster.
        quorum: share of the cohort that must answer before the deadline.
        min_sites: fewest sites of a round.
        round_deadline: longest wait of a round, e.g. `2h`.
    """

    invite: Annotated[tuple[str, ...], Field(min_length=1)]
    quorum: Annotated[float, Field(gt=0, le=1)] = 0.7
    min_sites: PositiveInt
    round_deadline: Duration = "2h"

    @property
    def deadline_s(self) -> float:
        """The longest wait of a round, in seconds."""
        return int(self.round_deadline[:-1]) * _SECONDS[self.round_deadline[-1]]

    @model_validator(mode="after")
    def _enough_invited(self) -> "InvitedSites":
        if len(set(self.invite)) != len(self.invite):
            raise ValueError("a site is invited twice")
        if self.min_sites > len(self.invite):
            raise ValueError(f"min_sites {self.min_sites} is more than the {len(self.invite)} invited")
        return self


class StopRule(Document):
    """Stop when a metric has not gained for some rounds."""

    metric: Metric
    no_gain_rounds: PositiveInt


class Evaluation(Document):
    """What is measured on the sites' hold-outs; a release of its own, paid by `epsilon_share`.

    Attributes:
        metrics: means over units, each unit counting the same: `mae`, `mse`, `rmse` (the root of the mean square) in
            the units of the targets, several targets in parts of their public ranges; or `accuracy`.
        bound: lowest and highest error of one unit, in the units of `mae`; `mse` and `rmse` take its square. Beyond it
            is clipped. [0, 1] for `accuracy`.
        every: rounds from one evaluation to the next; the last round is always evaluated.
        epsilon_share: part of epsilon and delta that all evaluations together may spend.
        stop_if: early stopping, by one of `metrics`.
    """

    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)]
    bound: tuple[NonNegativeFloat, NonNegativeFloat]
    every: PositiveInt = 5
    epsilon_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    stop_if: StopRule | None = None

    @model_validator(mode="after")
    def _can_be_carried_out(self) -> "Evaluation":
        if not self.bound[0] < self.bound[1]:
            raise ValueError(f"bound expects low < high: {list(self.bound)}")
        if len(set(self.metrics)) != len(self.metrics):
            raise ValueError("a metric is named twice")
        if self.stop_if is not None and self.stop_if.metric not in self.metrics:
            raise ValueError(f"stop_if waits for {self.stop_if.metric}, which is not among the metrics")
        for metric in self.metrics:
            if metric not in _MEANS:
                raise PlanError("JG-plan-040", where="evaluate.metrics", metric=metric, means=", ".join(_MEANS))
        if "accuracy" in self.metrics and self.bound != (0.0, 1.0):
            raise ValueError(f"the bound of accuracy is [0, 1]: {list(self.bound)}")
        return self

    @property
    def decisive(self) -> Metric:
        """The metric by which rounds are compared: that of `stop_if`, else the first."""
        return self.metrics[0] if self.stop_if is None else self.stop_if.metric

    def rounds(self, last: int) -> tuple[int, ...]:
        """The rounds of a campaign of `last` rounds after which its model is evaluated, ascending."""
        return (*range(self.every, last, self.every), last)


class ReleaseRule(Document):
    """Who may receive the model, and where it may go."""

    recipients: Literal["contributors", "roster", "public"]
    export: Literal["domestic_only", "unrestricted"]


class Governance(Document):
    """What the model is for, and what it is never for.

    Attributes:
        purposes: all of them have to be in a master's consent.
        prohibited: uses by name; those of `NEVER` are always among them.
        release: who gets the model.
    """

    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1)]
    prohibited: tuple[str, ...]
    release: ReleaseRule

    @model_validator(mode="after")
    def _never_a_yardstick(self) -> "Governance":
        lacking = sorted(NEVER - set(self.prohibited))
        if lacking:
            raise PlanError("JG-plan-055", where="governance.prohibited", uses=lacking)
        return self


class Kpi(Document):
    """The factory figure the campaign hopes to move."""

    name: str
    baseline: float


class TrainingPlan(Document):
    """One campaign. Its hash is over the canonical CBOR of the whole document, defaults written out.

    Attributes:
        campaign: its name, lower-case letters, digits and hyphens, 3 to 63 of them.
        process: whose records it learns from.
        model_line: which inputs and targets.
        seed: of the initial weights; with differential privacy of nothing else.
    """

    campaign: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{2,62}$")]
    process: str
    model_line: str
    sites: InvitedSites
    model: ModelSpec
    strategy: StrategyBlock
    privacy: PrivacyBlock
    evaluate: Evaluation | None = None
    governance: Governance
    kpi: Kpi | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _keeps_sums_secret(self) -> "TrainingPlan":
        n_plan, invited = self.privacy.n_plan, len(self.sites.invite)
        if self.privacy.shares_noise:
            if not self.privacy.sums_only:
                raise PlanError("JG-plan-032", where="privacy.secure_aggregation", mechanism=self.privacy.mechanism)
            if n_plan is None:
                raise ValueError(
                    "privacy.n_plan is needed where sites share noise: it is public and sizes their shares"
                )
        together = self.privacy.smallest_cell(invited)
        if n_plan is not None and n_plan > together:
            raise PlanError("JG-plan-034", where="privacy.n_plan", n_plan=n_plan, sites=together)
        if self.privacy.cells > 1 and self.privacy.fewest > together:
            raise PlanError("JG-plan-034", where="privacy.cells", n_plan=self.privacy.fewest, sites=together)
        return self

    @model_validator(mode="after")
    def _shows_no_small_group(self) -> "TrainingPlan":
        invited = len(self.sites.invite)
        if self.evaluate is not None and invited < FEWEST_EVALUATING:
            raise PlanError("JG-plan-041", where="sites.invite", sites=invited, least=FEWEST_EVALUATING)
        return self

    @model_validator(mode="after")
    def _public_constants(self) -> "TrainingPlan":
        shares = self.privacy.scaling_share + (self.evaluate.epsilon_share if self.evaluate else 0.0)
        if shares >= 1.0:
            raise ValueError(f"scaling_share and epsilon_share add up to {shares:g}: nothing is left for training")
        if self.privacy.nominal_units is None and (self.privacy.epsilon != "none" or self.privacy.sums_only):
            raise ValueError(
                "privacy.nominal_units is needed with an epsilon or with secure_aggregation: required: it is public "
                "and nobody else's to guess"
            )
        if self.privacy.epsilon != "none" and self.privacy.nominal_units is not None:
            check_delta(self.privacy.delta, self.privacy.sharing_sites * self.privacy.nominal_units)
        return self

    @property
    def charged_rounds(self) -> int:
        """The most rounds that are charged: those of the strategy, and spare ones."""
        return self.privacy.charged_rounds(self.strategy.rounds)

    @property
    def evaluated_rounds(self) -> tuple[int, ...]:
        """The rounds after which the model is evaluated, ascending; none without `evaluate`."""
        return () if self.evaluate is None else self.evaluate.rounds(self.strategy.rounds)

    @property
    def hash(self) -> str:
        """SHA-256 of the plan, 64 hex digits."""
        return self.digest("plan")


def read_plan(path: Path) -> TrainingPlan:
    """Read and check a training plan.

    Raises:
        PlanError: JG-plan-001..006 for the document, JG-plan-020 for a delta that protects nobody; JG-plan-032 for
            shares of noise without secure aggregation, JG-plan-034 for more sites than are invited to a sum;
            JG-plan-040 for a metric that is no mean over units, JG-plan-041 for an evaluation of too few sites;
            JG-plan-055 for a use that has to be prohibited and is not.
    """
    return read(path, TrainingPlan)
