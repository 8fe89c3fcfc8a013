"""The `strategy:` and `privacy:` blocks, the same in a training plan and in a simulation.

The law: every constant of the private step is public and stands here; nothing is read off anybody's records.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
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
    "FedAdamBlock",
    "FedAvgBlock",
    "FedProxBlock",
    "LocalSteps",
    "MedianBlock",
    "MrMtlBlock",
    "PrivacyBlock",
    "StrategyBlock",
    "check_delta",
]

Share = Annotated[float, Field(ge=0, lt=1)]
Epsilon = Annotated[float, Field(ge=1e-3, le=100)]

_OF_M3 = {"c_max", "n_plan", "coalition_epsilon"}


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


class FedAdamBlock(LocalSteps):
    """Settings of strategies/fedadam.py, with the paper's letters beta1, beta2, tau."""

    name: Literal["fedadam"]
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


StrategyBlock = Annotated[
    FedAvgBlock | FedAdamBlock | FedProxBlock | MedianBlock | MrMtlBlock, Field(discriminator="name")
]


class PrivacyBlock(Document):
    """The promise and its public constants.

    Attributes:
        unit: whose presence is hidden.
        epsilon: from 0.001 to 100, for one site's releases together; `none` for NO DIFFERENTIAL PRIVACY.
        delta: at most 1 / (10 * nominal_units); M3: 1 / (10 * n_plan * nominal_units).
        clip: L2 bound of one unit's gradient.
        nominal_units: public number of training units of a site; sets sampling probability and divisor.
        windows_per_episode: most examples that a unit gives to one step.
        scaling_share: part of epsilon and delta for the moments from which features and targets are scaled; 0 scales
            by public ranges alone.
        mechanism: M1, noise in every step inside the site; M3, one clipped vector of every master in a secret sum over
            sites, which share its noise (unit master; `batch` then counts a master's examples in one local step).
        c_max: M3: most sites that may tell the server what they added to a sum.
        n_plan: M3: public number of sites without which no round starts; noise is shared among them.
        coalition_epsilon: M3: from 0.001 to 100, most epsilon against the server and all other sites together; it
            sets the least noise of one site, whatever their number.
        secure_aggregation: whether the server may see single updates (`none`) or only sums (`required`).
    """

    unit: Unit = Unit.EPISODE
    epsilon: Epsilon | Literal["none"] = "none"
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    clip: Annotated[float, Field(ge=1e-12)] = 1.0
    nominal_units: PositiveInt | None = None
    windows_per_episode: PositiveInt = 4
    scaling_share: Share = 0.1
    mechanism: Literal["M1", "M3"] = "M1"
    c_max: PositiveInt = 3
    n_plan: PositiveInt | None = None
    coalition_epsilon: Epsilon = 50.0
    secure_aggregation: Literal["none", "required"] = "none"

    @model_validator(mode="after")
    def _constants_of_its_own(self) -> Self:
        foreign = sorted(_OF_M3 & self.model_fields_set)
        if self.mechanism != "M3" and foreign:
            raise ValueError(f"{', '.join(foreign)} belong to mechanism M3")
        return self

    @model_serializer(mode="wrap")
    def _written_out(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What M3 alone has is no part of other documents, nor of their hash."""
        keys: dict[str, Any] = written(self)
        return {key: value for key, value in keys.items() if self.mechanism == "M3" or key not in _OF_M3}


def check_delta(delta: float, nominal_units: int) -> None:
    """Refuse a delta that would allow a unit to be given away whole.

    Raises:
        PlanError: JG-plan-020, delta > 1 / (10 * nominal_units).
    """
    most = 1 / (10 * nominal_units)
    if delta > most:
        raise PlanError("JG-plan-020", where="privacy.delta", delta=delta, units=nominal_units, most=most)
