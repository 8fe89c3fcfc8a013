"""Model lines: which inputs a model of one process sees, and what it learns.

The law: names, ranges and places of inputs follow from the line and the process alone, so that every site builds
the same columns in the same order without asking another; no statistic of records enters them. Torch-free, and free
of pyarrow: records become examples in `cut`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field as Key
from pydantic import model_validator

from jangin.codec.document import Document, nearest, read
from jangin.errors import DataError, PlanError
from jangin.models.inputs import Input, ReducedInput, Reduction, WindowInput, refuse_media
from jangin.models.spec import FusionSpec, ModelSpec
from jangin.records.card import Channel, Field, Range, Stream
from jangin.records.catalogue import catalogue_names, read_entry
from jangin.records.examples import PublicRange
from jangin.records.process import Process

__all__ = [
    "Column",
    "ModelLine",
    "Source",
    "Target",
    "Task",
    "check_parts",
    "columns_read",
    "input_columns",
    "input_names",
    "input_parts",
    "input_range",
    "input_shape",
    "input_sources",
    "line_names",
    "outputs",
    "read_line",
    "target_field",
    "target_range",
]

Task = Literal["regression", "binary", "multiclass", "anomaly"]


class Target(Document):
    """What is learned: exactly one of action, judgement and outcome.

    Attributes:
        action: a decision of the master.
        judgement: what a master said.
        outcome: what came of it.
        range: public (low, high) in its unit. Classes are whole numbers counted from `low`; those of a choice
            are places in the process' list, counted from 0.
    """

    action: str | None = None
    judgement: str | None = None
    outcome: str | None = None
    range: Range

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if len(self._columns()) != 1:
            raise ValueError("a target names exactly one of action, judgement and outcome")
        return self

    @property
    def column(self) -> str:
        """Its column in the episodes, e.g. `action.oxygen_volume`."""
        return self._columns()[0]

    def _columns(self) -> list[str]:
        names = {"action": self.action, "judgement": self.judgement, "outcome": self.outcome}
        return [f"{group}.{name}" for group, name in names.items() if name is not None]


class ModelLine(Document):
    """One file of configs/lines.

    Attributes:
        line: its name.
        process: the process whose records it reads.
        model: what is trained.
        inputs: reduced channels, streams in windows of one length, or both.
        context: names of the process' context fields.
        targets: one for classes, any number for regression.
        task: what kind of prediction.
    """

    line: str
    process: str
    model: ModelSpec
    inputs: Annotated[tuple[Input, ...], Key(min_length=1)]
    context: tuple[str, ...] = ()
    targets: Annotated[tuple[Target, ...], Key(min_length=1)]
    task: Task

    @model_validator(mode="after")
    def _one_class(self) -> Self:
        if self.task != "regression" and len(self.targets) != 1:
            raise ValueError(f"{self.task} has exactly one target")
        return self

    @property
    def windows(self) -> tuple[WindowInput, ...]:
        """Its inputs in windows."""
        return tuple(entry for entry in self.inputs if not isinstance(entry, ReducedInput))

    @property
    def mixed(self) -> bool:
        """Whether there are windows and something beside them, so that an example is one flat row."""
        return bool(self.windows) and len(self.inputs) > 1


def line_names() -> list[str]:
    """The lines of the catalogue, in alphabetical order.

    Raises:
        DataError: JG-data-200 and 201, a folder of one's own that does not fit.
    """
    return catalogue_names("lines")


def read_line(name: str) -> ModelLine:
    """The line of that name in the catalogue, or of a file that is named by its path, `*.yaml`.

    Raises:
        DataError: JG-data-062 no such line; JG-data-063, 210 and 211, windows that do not fit each other;
            JG-data-200..202 a folder of one's own that does not fit.
        PlanError: JG-plan-001..006 the file does not hold a line.
    """
    if name.endswith(".yaml"):
        line = read(Path(name), ModelLine)
    elif name in (known := line_names()):
        line = read_entry("lines", name, ModelLine)
    else:
        raise DataError("JG-data-062", where=name, nearest=nearest(name, known))
    _check_windows(line)
    return line


def columns_read(line: ModelLine, process: Process) -> tuple[str, ...]:
    """What a line reads of an episode: `stream.channel` and `<group>.<field>`, targets among them, each once.

    Raises:
        DataError: JG-data-063..065, 071 and 210..214, the line does not fit the process.
    """
    targets = [target.column for target in line.targets]
    for column in targets:
        _field(line, column, process)
    return tuple(dict.fromkeys([*(source.column for source in input_sources(line, process)), *targets]))


def input_columns(line: ModelLine, process: Process) -> tuple["Column", ...]:
    """What stands in an example, in order.

    A line of one window input alone, or of reduced channels: the channels in the line's order, then the context. A
    line that mixes them: the windows of its streams first, one part after another (`input_parts`), then what is
    reduced, then the context. Indicators of what the process calls optional stand behind what they speak of, or
    behind all parts.

    Raises:
        DataError: JG-data-063..065, 071 and 210..214, the line does not fit the process.
    """
    sources = input_sources(line, process)
    windows = {column.name: column for source in sources for column in source.columns if column.window}
    parts = [
        windows[f"{window.stream}.{channel.name}"]
        for window in line.windows
        if line.mixed
        for channel in next(s for s in process.streams if s.name == window.stream).channels
    ]
    rest = [column for source in sources for column in (*source.columns, *source.indicator) if column not in parts]
    return tuple({column.name: column for column in (*parts, *rest)}.values())


def input_names(line: ModelLine, process: Process) -> tuple[str, ...]:
    """Names of the inputs, in the order of the second axis of `Examples.inputs`, where each has its places.

    `flame.height.mean` or, over a window, `flame.height.slope_30s` for a reduction; `flame.height` for a
    channel in windows; `context.humidity` for a number; `context.lot=A` for each value of a choice; then
    `flame.height.missing` or `context.lot.missing` for whatever the process calls optional.

    Raises:
        DataError: JG-data-063..065, 071 and 210..214, the line does not fit the process.
    """
    return tuple(column.name for column in input_columns(line, process))


def input_range(line: ModelLine, process: Process) -> PublicRange:
    """Public range of each input and its places, in the order of `input_names`.

    A mean, a last value, a maximum, a sample and a pixel have their channel's range [low, high]; a standard deviation
    has [0, (high - low) / 2], the most that values in a range can show (Popoviciu, Mathematica 9 (1935)
    129-145); a slope has +-(high - low) / window_s, one full scale in a window; a level has [floor_db, 0] dB; choices
    and indicators have [0, 1].

    Raises:
        DataError: JG-data-063..065, 071 and 210..214, the line does not fit the process.
    """
    columns = input_columns(line, process)
    limits, places = _public([column.range for column in columns]), [column.places(line) for column in columns]
    return limits if set(places) == {1} else PublicRange(limits.low, limits.high, np.array(places))


def input_parts(line: ModelLine, process: Process) -> dict[str, tuple[int, ...]]:
    """Shapes, by stream, of the windows with which an example of a line that mixes inputs begins; none of others.

    Raises:
        DataError: JG-data-063..065, 071 and 210..214, the line does not fit the process.
    """
    if not line.mixed:
        return {}
    channels = Counter(source.stream.name for source in input_sources(line, process) if source.stream)
    steps = {window.stream: window.of_channel for window in line.windows}
    return {stream: (channels[stream] * first, *others) for stream, (first, *others) in steps.items()}


def check_parts(model: ModelSpec, line: ModelLine, process: Process) -> None:
    """Refuse a fusion whose branches would read one stream of the line as if it were another.

    Raises:
        PlanError: JG-plan-065, its parts are not the line's.
    """
    if not isinstance(model, FusionSpec):
        return
    given, wanted = [(part.name, part.shape) for part in model.parts], list(input_parts(line, process).items())
    if given != wanted:
        found, expected = (", ".join(f"{name} {list(shape)}" for name, shape in some) for some in (given, wanted))
        raise PlanError("JG-plan-065", where="model.parts", found=found, expected=expected or "-")


def input_shape(line: ModelLine, process: Process) -> tuple[int, ...]:
    """Shape of one example's inputs: (features,), or that of the windows where the line has one input and it is these.

    Windows are (channels, length), (channels, bands, frames) or (channels * frames, height, width); context then stands
    in further channels.

    Raises:
        DataError: JG-data-063..065, 071 and 210..214, the line does not fit the process.
    """
    columns = sum(column.places(line) for column in input_columns(line, process))
    return (columns,) if line.mixed or not line.windows else (columns, *line.windows[0].of_channel[1:])


def outputs(line: ModelLine) -> int:
    """Outputs of a model of this line: its targets, 1 logit, or the classes low ... high of its target.

    Raises:
        PlanError: JG-plan-003, a task that no model learns yet, or a binary target without exactly two classes.
    """
    low, high = line.targets[0].range
    match line.task:
        case "regression":
            return len(line.targets)
        case "binary" if high - low == 1:
            return 1
        case "multiclass":
            return int(high - low) + 1
        case "binary":
            problem = "binary has two classes, low and low + 1"
            raise PlanError("JG-plan-003", where=f"{line.line}: targets.0.range", value=[low, high], problem=problem)
        case _:
            problem = "no model learns it yet; there are regression, binary and multiclass"
            raise PlanError("JG-plan-003", where=f"{line.line}: task", value=line.task, problem=problem)


def target_range(line: ModelLine) -> PublicRange:
    """Public range of each target, in the line's order."""
    return _public([target.range for target in line.targets])


def target_field(line: ModelLine, target: Target, process: Process) -> Field:
    """What the process says of a target.

    Raises:
        DataError: JG-data-065, the process has no such field.
    """
    return _field(line, target.column, process)


@dataclass(frozen=True)
class Column:
    """One input: a number, or a window of one channel; `reduction` and `window_s` only where a channel is reduced."""

    name: str
    range: Range
    reduction: Reduction | None = None
    window_s: float | None = None
    window: WindowInput | None = None

    def places(self, line: ModelLine) -> int:
        """How many it takes on the second axis of examples of the line."""
        if self.window is None:
            return 1
        return prod(self.window.of_channel) if line.mixed else self.window.of_channel[0]


@dataclass(frozen=True)
class Source:
    """One channel or context field and the columns made of it; `stream` only for a channel."""

    column: str
    named: Channel | Field
    columns: tuple[Column, ...]
    stream: Stream | None = None

    @property
    def indicator(self) -> tuple[Column, ...]:
        """The column that says whether it is missing, where it may be."""
        return (Column(f"{self.column}.missing", (0.0, 1.0)),) if self.named.optional else ()


def _check_windows(line: ModelLine) -> None:
    """Refuse windows of several lengths or hops, two of one stream, and reductions over more than a window."""
    windows = line.windows
    if len({(window.window_s, window.hop_s) for window in windows}) > 1:
        spans = ", ".join(f"{window.stream} {window.window_s:g}/{window.hop_s:g} s" for window in windows)
        raise DataError("JG-data-063", where=line.line, spans=spans)
    twice = [stream for stream, times in Counter(window.stream for window in windows).items() if times > 1]
    if twice:
        raise DataError("JG-data-210", where=line.line, stream=twice[0])
    for entry in line.inputs:
        if isinstance(entry, ReducedInput) and windows and (entry.window_s or 0) > windows[0].window_s:
            seconds, window = entry.window_s, windows[0].window_s
            raise DataError("JG-data-211", where=line.line, channel=entry.channel, seconds=seconds, window=window)


def input_sources(line: ModelLine, process: Process) -> list[Source]:
    """Channels in the order of the line's inputs, each once with all that is made of it; then the context.

    Raises:
        DataError: JG-data-063..065, 071 and 210..214, the line does not fit the process.
    """
    if line.process != process.process:
        raise DataError("JG-data-071", where=line.line, wanted=line.process, found=process.process)
    _check_windows(line)
    channels = {f"{s.name}.{c.name}": (s, c) for s in process.streams for c in s.channels}
    columns: dict[str, dict[str, Column]] = {}
    for entry in line.inputs:
        if isinstance(entry, ReducedInput):
            pattern = entry.channel
            matching = [name for name in channels if fnmatchcase(name, pattern)]
        else:
            pattern = f"{entry.stream}.*"
            matching = [name for name, (stream, _) in channels.items() if stream.name == entry.stream]
        if not matching:
            known = channels if isinstance(entry, ReducedInput) else [f"{stream.name}.*" for stream in process.streams]
            raise DataError("JG-data-064", where=line.line, channel=pattern, nearest=nearest(pattern, known))
        for name in matching:
            stream, channel = channels[name]
            if isinstance(entry, ReducedInput):
                refuse_media(line.line, stream)
                made = _reduced_columns(entry, name, channel)
            else:
                entry.check(line.line, stream)
                made = [Column(name, entry.limits(channel), window=entry)]
            columns.setdefault(name, {}).update({column.name: column for column in made})
    return [
        *(Source(name, channels[name][1], tuple(made.values()), channels[name][0]) for name, made in columns.items()),
        *(_context_source(line, name, process) for name in line.context),
    ]


def _reduced_columns(entry: ReducedInput, name: str, channel: Channel) -> list[Column]:
    window = "" if entry.window_s is None else f"_{entry.window_s:g}s"
    return [
        Column(
            f"{name}.{reduction}{window}",
            _reduced_range(reduction, channel.range, entry.window_s),
            reduction,
            entry.window_s,
        )
        for reduction in entry.reduce
    ]


def _reduced_range(reduction: Reduction, full: Range, window_s: float | None) -> Range:
    low, high = full
    match reduction, window_s:
        case "slope", float(seconds):
            return -(high - low) / seconds, (high - low) / seconds
        case "std", _:
            return 0.0, (high - low) / 2
        case _:
            return full


def _context_source(line: ModelLine, name: str, process: Process) -> Source:
    field = _field(line, f"context.{name}", process)
    if field.range is not None:
        columns = [Column(f"context.{name}", field.range)]
    else:
        columns = [Column(f"context.{name}={value}", (0.0, 1.0)) for value in field.values or ()]
    return Source(f"context.{name}", field, tuple(columns))


def _field(line: ModelLine, column: str, process: Process) -> Field:
    fields = process.columns()
    if column not in fields:
        raise DataError("JG-data-065", where=line.line, column=column, nearest=nearest(column, fields))
    return fields[column]


def _public(ranges: Sequence[Range]) -> PublicRange:
    low, high = np.array(ranges, dtype=np.float64).reshape(-1, 2).T
    return PublicRange(low, high)
