"""The sites of a simulation, from any of the three forms of data; what cannot be used is refused here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from jangin.errors import CodedText, DataError, PlanError, PrivacyError
from jangin.models.lines import check_parts, input_range, outputs, read_line, target_range
from jangin.models.tasks import Task
from jangin.plan.blocks import PrivacyBlock
from jangin.records.examples import Examples, PublicRange
from jangin.records.npz import read_npz
from jangin.records.process import read_process
from jangin.simulation.experiment import Experiment, NpzData, ProcessData, RecordsData
from jangin.simulation.partition import SiloPartition, partitioned

__all__ = ["Advance", "Federation", "Silo", "load"]

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Silo:
    """One site's data: what it trains on, its hold-out, and the file or folder they come from."""

    name: str
    train: Examples
    test: Examples
    where: str


@dataclass(frozen=True)
class Federation:
    """All sites, and the public facts about their data.

    Attributes:
        silos: in site order.
        task: what is predicted.
        outputs: of the model: targets of a regression, 1 logit, or classes.
        inputs: public range of the input columns, or None.
        targets: public range of a regression's targets, or None.
        warnings: what was assumed.
    """

    silos: tuple[Silo, ...]
    task: Task
    outputs: int
    inputs: PublicRange | None
    targets: PublicRange | None
    warnings: tuple[CodedText, ...] = ()

    @property
    def most_units(self) -> int:
        """The largest number of training units of any site."""
        return max(len(np.unique(silo.train.units)) for silo in self.silos)


def load(experiment: Experiment, folder: Path, progress: Advance) -> Federation:
    """The sites of an experiment; `folder` takes the records that a generator makes.

    Raises:
        DataError: JG-data-*, a set or records that cannot be used; JG-data-080, a site with one class; JG-data-081,
            class numbers that are not 0, 1, ...; JG-data-082, several targets without ranges; JG-data-083, a
            hold-out drawn by episode where the unit is master; JG-data-084, a partition of what is in folders;
            JG-data-085 and -086, one that leaves a site without rows or a class without a site.
        PlanError: JG-plan-003, ranges or a model line that do not fit the data; JG-plan-065, a model of other parts.
        PrivacyError: JG-privacy-006, a regression in private or in sums without a public range of its targets.
    """
    if not isinstance(experiment.data, NpzData) and not isinstance(experiment.partition, SiloPartition):
        raise DataError("JG-data-084", where="partition.by", by=experiment.partition.by)
    match experiment.data:
        case NpzData() as data:
            federation = _from_npz(experiment, data)
        case ProcessData() as data:
            from jangin.records.checks import validate  # they load pyarrow, which an npz set does without
            from jangin.records.generate import generate

            made = generate(
                data.process,
                folder,
                sites=data.sites,
                masters=data.masters,
                episodes=data.episodes,
                seed=experiment.seed,
                progress=lambda done, total: progress("generate", done, total),
            )
            for number, site in enumerate(made, 1):
                seeded = np.random.default_rng([experiment.seed, number]).bytes  # made records, so no secret
                validate(site, level=1, unit=_split_unit(experiment.privacy), random_bytes=seeded).require(site)
                progress("validate", number, len(made))
            federation = _from_records(made, data.model_line, experiment, progress)
        case RecordsData() as data:
            federation = _from_records(list(data.records), data.model_line, experiment, progress)
        case _:
            raise TypeError(f"Expected a data block: {experiment.data!r}.")
    if experiment.data.one_class_sites == "refuse":
        _refuse_one_class(federation)
    bounded = experiment.privacy.epsilon != "none" or experiment.privacy.sums_only
    if bounded and federation.task is Task.REGRESSION and federation.targets is None:
        raise PrivacyError("JG-privacy-006", where="data.y_range")
    return federation


def _from_npz(experiment: Experiment, data: NpzData) -> Federation:
    table = read_npz(data.npz)
    private = experiment.privacy.epsilon != "none"
    warnings: list[CodedText] = []
    targets, width = table.targets, 1
    target_ranges = None
    if data.task is Task.REGRESSION:
        targets = targets.reshape(len(targets), -1).astype(np.float32)
        width = targets.shape[1]
        target_ranges = _target_ranges(data, width)
    else:
        targets = _class_numbers(data, targets)
        found = int(targets.max()) + 1
        if data.task is Task.MULTICLASS:
            width = max(found, data.classes or 0)
            if private and data.classes is None:
                warnings.append(CodedText("JG-privacy-013", where="data.classes", classes=found))
    unit = np.arange(len(table)) if data.unit == "row" else table.unit
    examples = Examples(table.inputs, targets, unit)
    site = partitioned(experiment.partition, table.silo, unit, table.split, targets, experiment.seed)
    silos = []
    for number in np.unique(site):
        train, test = (examples[(site == number) & (table.split == side)] for side in (0, 1))
        silos.append(Silo(f"site-{number}", train, test, str(data.npz)))
    pairs = np.unique(np.stack([unit, site]), axis=1)[0]
    if private and len(np.unique(pairs)) < len(pairs):
        shared_units = len(pairs) - len(np.unique(pairs))
        warnings.append(CodedText("JG-privacy-015", where=str(data.npz), units=shared_units))
    columns = table.inputs.shape[1]
    ranges = None
    if data.x_range is not None:
        ranges = PublicRange(np.full(columns, data.x_range[0]), np.full(columns, data.x_range[1]))
    elif private:
        warnings.append(CodedText("JG-privacy-011", where="data.x_range"))
    return Federation(tuple(silos), data.task, width, ranges, target_ranges, tuple(warnings))


def _target_ranges(data: NpzData, targets: int) -> PublicRange | None:
    if data.y_range is None:
        if targets > 1:
            raise DataError("JG-data-082", where="data.y_range", file=data.npz, targets=targets)
        return None
    pairs = np.atleast_2d(np.asarray(data.y_range, np.float64))
    if len(pairs) not in (1, targets):
        raise PlanError("JG-plan-003", where="data.y_range", value=data.y_range, problem=f"y has {targets} targets")
    low, high = np.broadcast_to(pairs, (targets, 2)).T
    return PublicRange(low, high)


def _class_numbers(data: NpzData, targets: np.ndarray) -> np.ndarray:
    most = 2 if data.task is Task.BINARY else data.classes or len(targets)
    odd = targets.ndim != 1 or np.flatnonzero((targets != np.floor(targets)) | (targets < 0) | (targets >= most))
    if odd is True or len(odd):
        value = targets.shape if odd is True else targets[odd[0]]
        raise DataError("JG-data-081", where=str(data.npz), value=value, task=data.task, most=most - 1)
    return targets.astype(np.int64)


def _split_unit(privacy: PrivacyBlock) -> Literal["episode", "master"]:
    return "master" if privacy.unit == "master" else "episode"


def _from_records(folders: list[Path], model_line: str, experiment: Experiment, progress: Advance) -> Federation:
    from jangin.models.cut import cut  # loads pyarrow
    from jangin.records.dataset import Records

    line = read_line(model_line)
    process = read_process(line.process)
    silos = []
    width = outputs(line)
    task = Task(line.task)
    unit = _split_unit(experiment.privacy)
    check_parts(experiment.model, line, process)
    for number, folder in enumerate(folders):
        records = Records.open(folder)
        if records.card.process != line.process:
            raise DataError("JG-data-071", where=str(folder), wanted=line.process, found=records.card.process)
        if unit == "master" and records.manifest.unit == "episode":
            raise DataError("JG-data-083", where=str(folder))
        train, test = (cut(line, view, process, unit) for view in (records.train(), records.holdout()))
        silos.append(Silo(f"site-{number}", train, test, str(folder)))
        progress("read", number + 1, len(folders))
    targets = target_range(line) if task is Task.REGRESSION else None
    return Federation(tuple(silos), task, width, input_range(line, process), targets)


def _refuse_one_class(federation: Federation) -> None:
    if federation.task is Task.REGRESSION:
        return
    for silo in federation.silos:
        classes = np.unique(np.concatenate([silo.train.targets, silo.test.targets]))
        if len(classes) == 1:
            raise DataError("JG-data-080", where=silo.where, site=silo.name, label=int(classes[0]))
