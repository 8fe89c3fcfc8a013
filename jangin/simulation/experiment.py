"""The simulation file: one YAML, read into one frozen model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, PositiveInt, Tag

from jangin.codec.document import Document, assign, parse, read_value, read_yaml
from jangin.models.spec import ModelSpec
from jangin.models.tasks import Task
from jangin.plan.blocks import PrivacyBlock, StrategyBlock
from jangin.records.card import Range
from jangin.simulation.partition import Partition, SiloPartition
from jangin.training.metrics import METRICS

__all__ = ["Experiment", "NpzData", "ProcessData", "RecordsData", "read_experiment"]


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"it is not one of {', '.join(METRICS)}")
    return name


def _once(folders: tuple[Path, ...]) -> tuple[Path, ...]:
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError("a folder is given twice, and each is one site")
    return folders


def _pairs(ranges: Any) -> str:
    """Whether one pair is meant or several, so that messages speak of that form."""
    nested = isinstance(ranges, list | tuple) and all(isinstance(pair, list | tuple) for pair in ranges)
    return "[pairs]" if nested else "[pair]"


Ranges = Annotated[
    Annotated[Range, Tag("[pair]")] | Annotated[tuple[Range, ...], Field(min_length=1), Tag("[pairs]")],
    Discriminator(_pairs),
]
BaselineName = Literal["local", "local_trees", "pooled", "personalised", "constant"]


class SiteData(Document):
    """What the three forms of data have in common.

    Attributes:
        one_class_sites: whether a site whose records are all of one class is refused or kept.
    """

    one_class_sites: Literal["refuse", "keep"] = "refuse"


class NpzData(SiteData):
    """A research set in one npz file (records/npz.py).

    Attributes:
        npz: path, from the working directory.
        task: what y is.
        x_range: public range of every feature.
        y_range: public range of the target, or one pair a target.
        classes: public number of classes.
        unit: what is one privacy unit: `set`, the rows that the file groups, or each `row` by itself.
    """

    npz: Path
    task: Task
    x_range: Range | None = None
    y_range: Ranges | None = None
    classes: Annotated[int, Field(ge=2)] | None = None
    unit: Literal["set", "row"] = "set"


class ProcessData(SiteData):
    """Master records made by the generator of a reference process.

    Attributes:
        process: whose generator makes them.
        model_line: name or path of the line that cuts examples from them.
        sites, masters, episodes: how many sites, and masters and episodes of each.
    """

    process: str
    model_line: str
    sites: Annotated[int, Field(ge=1, le=500)]
    masters: PositiveInt
    episodes: PositiveInt


class RecordsData(SiteData):
    """Validated master records on disk.

    Attributes:
        records: one folder a site; paths from the working directory.
        model_line: name or path of the line that cuts examples from them.
    """

    records: Annotated[tuple[Path, ...], Field(min_length=1), AfterValidator(_once)]
    model_line: str


def _form(data: Any) -> str:
    """Which of the three forms is meant, when a file is read and when a model is written."""
    if isinstance(data, SiteData):
        return type(data).__name__
    keys = data if isinstance(data, Mapping) else {}
    return "ProcessData" if "process" in keys else "RecordsData" if "records" in keys else "NpzData"


DataBlock = Annotated[
    Annotated[NpzData, Tag("NpzData")]
    | Annotated[ProcessData, Tag("ProcessData")]
    | Annotated[RecordsData, Tag("RecordsData")],
    Discriminator(_form),
]


class Experiment(Document):
    """One simulation.

    Attributes:
        data: the sites' records, in one of three forms.
        partition: how the rows of an npz set become sites (simulation/partition.py).
        model, strategy, privacy: the blocks of a training plan.
        baselines: what the federation is compared with.
        metric: the figure that is compared; by default rmse for regression, accuracy for classes.
        seeds: number of runs, with seeds `seed`, `seed` + 1, ...; figures are their means.
    """

    data: DataBlock
    partition: Partition = SiloPartition()
    model: ModelSpec
    strategy: StrategyBlock
    privacy: PrivacyBlock = PrivacyBlock()
    baselines: tuple[BaselineName, ...] = ("local", "local_trees", "pooled", "personalised", "constant")
    metric: Annotated[str, AfterValidator(_known_metric)] | None = None
    seeds: PositiveInt = 1
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


def read_experiment(file: Path, sets: Mapping[str, object]) -> Experiment:
    """Read a simulation file, with `sets` (dotted key to value) laid over it.

    A text value is read as YAML, so that `--set privacy.epsilon=4` gives a number.

    Raises:
        PlanError: JG-plan-001..006, naming file, key and value.
    """
    tree = read_yaml(file)
    for key, value in sets.items():
        assign(tree, key, read_value(value, key) if isinstance(value, str) else value)
    return parse(tree, Experiment, str(file))
