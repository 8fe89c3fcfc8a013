"""The `strategy:` and `privacy:` blocks, the same in a training plan and in a simulation.

The law: every constant of the private step is public and stands here; nothing is read off anybody's records.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from jangin.codec.document import Document
from jangin.errors import PlanError
from jangin.privacy.releases import Unit

__all__ = [
    "FLOWER_RULES",
    "FedAdamBlock",
    "FedAvgBlock",
    "FedAvgMBlock",
    "FedBnBlock",
    "FedProxBlock",
    "FedYogiBlock",
    "FlowerBlock",
    "LocalSteps",
    "MedianBlock",
    "MrMtlBlock",
    "PrivacyBlock",
    "ScaffoldBlock",
    "StrategyBlock",
    "check_delta",
]

Share = Annotated[float, Field(ge=0, lt=1)]
Epsilon = Annotated[float, Field(ge=1e-3, le=100)]

FLOWER_RULES: Final[Mapping[str, tuple[str, ...]]] = {
    "FedAvg": (),
    "FedAvgM": ("server_learning_rate", "server_momentum"),
    "FedAdagrad": ("eta", "tau"),
    "FedAdam": ("eta", "beta_1", "beta_2", "tau"),
    "FedYogi": ("eta", "beta_1", "beta_2", "tau"),
}
"""Flower's rules that need no more than the mean update, and what may be set of each."""


class LocalSteps(Document):
    """What every strategy has: how long and how fast sites train.

    Attributes:
        rounds: exchanges between server and sites.
        local_steps: gradient steps of a site in a round.
        batch: privacy units a step draws on average with differential privacy, examples a step without.
        lr: learning rate of the site's gradient descent.
        finetune_steps: steps each site goes on by itself after the last round, for the personalised model.
        finetune_lr: their learning rate; `lr` where it is not given.
    """

    rounds: PositiveInt
    local_steps: PositiveInt
    batch: PositiveInt
    lr: PositiveFloat
    finetune_steps: PositiveInt = 100
    finetune_lr: PositiveFloat | None = None


class FedAvgBlock(LocalSteps):
    """Settings of strategies/fedavg.py."""

    name: Literal["fedavg"]
    server_lr: PositiveFloat = 1.0


class FedAvgMBlock(LocalSteps):
    """Settings of strategies/fedavgm.py, with the paper's letter beta."""

    name: Literal["fedavgm"]
    server_lr: PositiveFloat = 1.0
    beta: Share = 0.9


class FedAdamBlock(LocalSteps):
    """Settings of strategies/fedadam.py, with the paper's letters beta1, beta2, tau."""

    name: Literal["fedadam"]
    server_lr: PositiveFloat = 0.01
    beta1: Share = 0.9
    beta2: Share = 0.99
    tau: PositiveFloat = 1e-3


class FedYogiBlock(LocalSteps):
    """Settings of strategies/fedyogi.py, with the paper's letters beta1, beta2, tau."""

    name: Literal["fedyogi"]
    server_lr: PositiveFloat = 0.01
    beta1: Share = 0.9
    beta2: Share = 0.99
    tau: PositiveFloat = 1e-3


class FedProxBlock(LocalSteps):
    """Settings of strategies/fedprox.py, with the paper's letter mu."""

    name: Literal["fedprox"]
    server_lr: PositiveFloat = 1.0
    mu: NonNegativeFloat = 0.01


class MedianBlock(LocalSteps):
    """Settings of strategies/median.py."""

    name: Literal["median"]
    server_lr: PositiveFloat = 1.0


class MrMtlBlock(LocalSteps):
    """Settings of strategies/mrmtl.py.

    Attributes:
        lam: the paper's lambda, how strongly a site's model is held near the mean of all; lr * lam is at most 1.
    """

    name: Literal["mrmtl"]
    lam: NonNegativeFloat = 0.1


class ScaffoldBlock(LocalSteps):
    """Settings of strategies/scaffold.py; server_lr is the paper's eta_g."""

    name: Literal["scaffold"]
    server_lr: PositiveFloat = 1.0


class FedBnBlock(LocalSteps):
    """Settings of strategies/fedbn.py."""

    name: Literal["fedbn"]
    server_lr: PositiveFloat = 1.0


class FlowerBlock(LocalSteps):
    """A rule of `flwr.serverapp.strategy` that takes the mean update (strategies/flower.py).

    Attributes:
        rule: its class, one of `FLOWER_RULES`.
        server_learning_rate, server_momentum, eta, beta_1, beta_2, tau: by Flower's names, and Flower's defaults where
            not given; `FLOWER_RULES` says which rule has which.
    """

    name: Literal["flower"]
    rule: str
    server_learning_rate: PositiveFloat | None = None
    server_momentum: Share | None = None
    eta: PositiveFloat | None = None
    beta_1: Share | None = None
    beta_2: Share | None = None
    tau: PositiveFloat | None = None

    @property
    def options(self) -> dict[str, float]:
        """What is set of the rule."""
        names = dict.fromkeys(name for options in FLOWER_RULES.values() for name in options)
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _of_the_mean(self) -> Self:
        if self.rule not in FLOWER_RULES:
            raise PlanError("JG-plan-046", where="strategy.rule", rule=self.rule, rules=", ".join(FLOWER_RULES))
        known = FLOWER_RULES[self.rule]
        for option in self.options:
            if option not in known:
                options = ", ".join(known) or "none"
                raise PlanError(
                    "JG-plan-047", where=f"strategy.{option}", option=option, rule=self.rule, options=options
                )
        return self


StrategyBlock = Annotated[
    FedAvgBlock
    | FedAvgMBlock
    | FedAdamBlock
    | FedYogiBlock
    | FedProxBlock
    | MedianBlock
    | MrMtlBlock
    | ScaffoldBlock
    | FedBnBlock
    | FlowerBlock,
    Field(discriminator="name"),
]


class PrivacyBlock(Document):
    """The promise and its public constants.

    Attributes:
        unit: whose presence is hidden.
        epsilon: from 0.001 to 100, for one site's releases together; `none` for NO DIFFERENTIAL PRIVACY.
        delta: at most 1 / (10 * nominal_units); M2, M3: 1 / (10 * n_plan * nominal_units).
        clip: L2 bound of one unit's gradient.
        nominal_units: public number of training units of a site; sets sampling probability and divisor.
        windows_per_episode: most examples that a unit gives to one step.
        scaling_share: part of epsilon and delta for the moments from which features and targets are scaled; 0 scales
            by public ranges alone.
        mechanism: M1, noise in every step inside the site; M2, one clipped sum of gradients a round in a secret sum
            over sites, which share its noise (unit episode, one local step); M3, one clipped vector of every master in
            such a sum (unit master; `batch` then counts a master's examples in one local step).
        secure_aggregation: whether the server may see single updates (`none`) or only sums (`required`).
        c_max: of sums: most sites that may tell the server what they added to one.
        n_plan: of sums: public number of sites without which no round starts; M2, M3: noise is shared among them.
        n_min_final: of sums: fewest sites whose sum is opened; floor(2 n_plan / 3) + 1 where not given.
        coalition_epsilon: M2, M3: from 0.001 to 100, most epsilon against the server and all other sites together; it
            sets the least noise of one site, whatever their number.
        spare_rounds: secure aggregation: rounds that may fail after vectors have left and are charged and done anew.
        update_clip: secure aggregation of updates (M1, or no epsilon): L2 bound of a site's update, no promise.
        cells: secure aggregation: into how many cells the sites are split, each with sums of its own, so that a
            strategy that needs single updates takes the cells' means (`plan/cells.py`); n_plan, n_min_final and c_max
            are then of each cell.
    """

    unit: Unit = Unit.EPISODE
    epsilon: Epsilon | Literal["none"] = "none"
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    clip: Annotated[float, Field(ge=1e-12)] = 1.0
    nominal_units: PositiveInt | None = None
    windows_per_episode: PositiveInt = 4
    scaling_share: Share = 0.1
    mechanism: Literal["M1", "M2", "M3"] = "M1"
    c_max: PositiveInt = 3
    n_plan: PositiveInt | None = None
    n_min_final: PositiveInt | None = None
    coalition_epsilon: Epsilon = 50.0
    spare_rounds: NonNegativeInt = 2
    update_clip: Annotated[float, Field(ge=1e-12)] = 10.0
    cells: PositiveInt = 1
    secure_aggregation: Literal["none", "required"] = "none"

    @property
    def shares_noise(self) -> bool:
        """Whether each site adds only a share of the noise (M2, M3)."""
        return self.mechanism != "M1"

    @property
    def sharing_sites(self) -> int:
        """How many share the noise of a sum; 1 where each site adds its own."""
        return self.n_plan or 1 if self.shares_noise else 1

    @property
    def sums_only(self) -> bool:
        """Whether the server may see sums only."""
        return self.secure_aggregation == "required"

    @property
    def fewest(self) -> int:
        """Fewest sites of a sum: two over different sites take more than a third of those who began, who sign both."""
        return 3 * self.c_max + 1

    def charged_rounds(self, rounds: int) -> int:
        """The most rounds that are charged, of a strategy's `rounds`: the spare ones with them."""
        return rounds + self.spare_rounds if self.sums_only else rounds

    def among(self, sites: int) -> Self:
        """The block of a simulation of so many sites: no sum begins without all of them where it does not say."""
        if self.n_plan is not None or not (self.shares_noise or self.sums_only):
            return self
        return self.model_copy(update={"n_plan": max(self.smallest_cell(sites), 1)})

    def smallest_cell(self, sites: int) -> int:
        """How many of so many sites the smallest cell has: all of them without cells."""
        return sites // self.cells

    def largest_cell(self, sites: int) -> int:
        """How many of so many sites the largest cell has: all of them without cells."""
        return -(-sites // self.cells)

    @property
    def _read(self) -> dict[str, tuple[bool, str]]:
        """The keys that something else has to ask for: whether it does, and what that is."""
        updates = self.sums_only and (self.mechanism == "M1" or self.epsilon == "none")
        summed = self.shares_noise or self.sums_only
        return {
            "c_max": (summed, "mechanism M2 or M3, or secure_aggregation: required"),
            "n_plan": (summed, "mechanism M2 or M3, or secure_aggregation: required"),
            "n_min_final": (summed, "mechanism M2 or M3, or secure_aggregation: required"),
            "coalition_epsilon": (self.shares_noise, "mechanism M2 or M3"),
            "spare_rounds": (self.sums_only, "secure_aggregation: required"),
            "cells": (self.sums_only, "secure_aggregation: required"),
            "update_clip": (updates, "secure_aggregation: required with mechanism M1 or epsilon: none"),
        }

    @model_validator(mode="after")
    def _constants_of_its_own(self) -> Self:
        for key, (read, by) in self._read.items():
            if key in self.model_fields_set and not read:
                raise ValueError(f"{key} belongs to {by}")
        if self.n_plan is not None and self.n_min_final is not None and self.n_min_final > self.n_plan:
            raise ValueError(f"n_min_final {self.n_min_final} is more than the {self.n_plan} of n_plan")
        return self

    @model_serializer(mode="wrap")
    def _written_out(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What nothing reads is no part of a document, nor of its hash; nor is what says no more than its default."""
        keys: dict[str, Any] = written(self)
        silent = {key for key, (read, _) in self._read.items() if not read}
        silent |= {"n_min_final"} if self.n_min_final is None else set()
        silent |= {"cells"} if self.cells == 1 else set()
        return {key: value for key, value in keys.items() if key not in silent}


def check_delta(delta: float, nominal_units: int) -> None:
    """Refuse a delta that would allow a unit to be given away whole.

    Raises:
        PlanError: JG-plan-020, delta > 1 / (10 * nominal_units).
    """
    most = 1 / (10 * nominal_units)
    if delta > most:
        raise PlanError("JG-plan-020", where="privacy.delta", delta=delta, units=nominal_units, most=most)
