"""The simulation file: one YAML, read into one frozen model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from jangin.codec.document import Document, assign, parse, read_yaml
from jangin.errors import PlanError
from jangin.models.spec import ModelSpec
from jangin.models.tasks import Task
from jangin.plan.blocks import PrivacyBlock, StrategyBlock
from jangin.training.metrics import METRICS

__all__ = ["Experiment", "NpzData", "ProcessData", "RecordsData", "read_experiment"]

Range = tuple[float, float]
BaselineName = Literal["local", "local_trees", "pooled", "personalised", "constant"]


class NpzData(Document):
    """A research set in one npz file (records/npz.py).

    Attributes:
        npz: path, from the working directory.
        task: what y is.
        x_range: public range of every feature.
        y_range: public range of the target, or one pair a target.
        classes: public number of classes.
        one_class_sites: whether a site whose records are all of one class is refused or kept.
    """

    npz: Path
    task: Task
    x_range: Range | None = None
    y_range: Range | tuple[Range, ...] | None = None
    classes: Annotated[int, Field(ge=2)] | None = None
    one_class_sites: Literal["refuse", "keep"] = "refuse"

    @model_validator(mode="after")
    def _ordered(self) -> "NpzData":
        ranges = [
            self.x_range,
            *([self.y_range] if self.y_range and isinstance(self.y_range[0], float) else self.y_range or []),
        ]
        for low_high in ranges:
            if low_high is not None and not low_high[0] < low_high[1]:
                raise ValueError(f"expected low < high: {list(low_high)}")
        return self


class ProcessData(Document):
    """Master records made by the generator of a reference process."""

    process: str
    model_line: str
    sites: Annotated[int, Field(ge=1, le=500)]
    masters: PositiveInt
    episodes: PositiveInt


class RecordsData(Document):
    """Validated master records on disk, one folder a site; paths from the working directory."""

    records: Annotated[tuple[Path, ...], Field(min_length=1)]
    model_line: str


def _form(data: Any) -> str:
    keys = data if isinstance(data, Mapping) else {}
    return "ProcessData" if "process" in keys else "RecordsData" if "records" in keys else "NpzData"


DataBlock = Annotated[
    Annotated[NpzData, Tag("NpzData")]
    | Annotated[ProcessData, Tag("ProcessData")]
    | Annotated[RecordsData, Tag("RecordsData")],
    Discriminator(_form),
]


class Partition(Document):
    """How records become sites: `silo`, as the set itself says."""

    by: Literal["silo"] = "silo"


class Experiment(Document):
    """One simulation.

    Attributes:
        metric: the figure that is compared; by default rmse for regression, accuracy for classes.
        seeds: number of runs, with seeds `seed`, `seed` + 1, ...; figures are their means.
    """

    data: DataBlock
    partition: Partition = Partition()
    model: ModelSpec
    strategy: StrategyBlock
    privacy: PrivacyBlock = PrivacyBlock()
    baselines: tuple[BaselineName, ...] = ("local", "local_trees", "pooled", "personalised", "constant")
    metric: str | None = None
    seeds: PositiveInt = 1
    seed: int = 0

    @model_validator(mode="after")
    def _known_metric(self) -> "Experiment":
        if self.metric is not None and self.metric not in METRICS:
            raise ValueError(f"metric {self.metric!r} is not one of {', '.join(METRICS)}")
        return self


def read_experiment(file: Path, sets: Mapping[str, object]) -> Experiment:
    """Read a simulation file, with `sets` (dotted key to value) laid over it.

    A text value is read as YAML, so that `--set privacy.epsilon=4` gives a number.

    Raises:
        PlanError: JG-plan-001..006, naming file, key and value.
    """
    tree = read_yaml(file)
    for key, value in sets.items():
        try:
            assign(tree, key, yaml.safe_load(value) if isinstance(value, str) else value)
        except yaml.YAMLError:
            raise PlanError("JG-plan-003", where=key, value=value, problem="not a YAML value") from None
    return parse(tree, Experiment, str(file))
