"""Model lines: which inputs a model of one process sees, what it learns, and how records become examples.

The law: names and ranges of features follow from the line and the process alone, so that every site builds
the same columns in the same order without asking another; no statistic of records enters them. Torch-free;
pyarrow is imported when records are cut.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, PositiveFloat, Tag, model_validator
from pydantic import Field as Key

from jangin.codec.document import Document, nearest, read
from jangin.errors import DataError, PlanError
from jangin.models.spec import ModelSpec
from jangin.records.card import Channel, Field, Range, Stream
from jangin.records.catalogue import catalogue_names, read_entry
from jangin.records.examples import Examples, PublicRange
from jangin.records.process import Process

if TYPE_CHECKING:
    import pyarrow as pa

    from jangin.records.dataset import EpisodeView

__all__ = [
    "ModelLine",
    "ReducedInput",
    "Reduction",
    "StreamInput",
    "Target",
    "Task",
    "columns_read",
    "cut",
    "input_names",
    "input_range",
    "input_shape",
    "line_names",
    "outputs",
    "read_line",
    "target_range",
]

Reduction = Literal["mean", "std", "last", "slope", "max"]
Task = Literal["regression", "binary", "multiclass", "anomaly"]
Array = NDArray[np.float64]


class ReducedInput(Document):
    """Channels, each reduced to a few numbers an episode.

    Attributes:
        channel: `stream.channel`, or a pattern such as `flame.*`.
        reduce: over the samples (t, x) that an episode has: `mean`; `std`, the root of the mean square about
            the mean; `last`; `max`; `slope`, sum((t - mean t)(x - mean x)) / sum((t - mean t)^2), per second.
        window_s: only the last seconds of an episode count; all of it where absent. A slope needs it: its
            public range is one full scale in a window, up or down.
    """

    channel: str
    reduce: Annotated[tuple[Reduction, ...], Key(min_length=1)]
    window_s: PositiveFloat | None = None

    @model_validator(mode="after")
    def _slope_has_window(self) -> Self:
        if "slope" in self.reduce and self.window_s is None:
            raise ValueError("a slope needs window_s; its public range is one full scale in that time")
        return self


class StreamInput(Document):
    """All channels of one stream, in windows over time.

    Attributes:
        stream: its name.
        rate_hz: samples a second after linear interpolation.
        window_s: length of a window.
        hop_s: from the start of one window to that of the next; the first starts with the episode.
    """

    stream: str
    rate_hz: PositiveFloat
    window_s: PositiveFloat
    hop_s: PositiveFloat

    @property
    def length(self) -> int:
        """Samples in a window."""
        return max(1, round(self.window_s * self.rate_hz))


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


def _kind(entry: Any) -> str:
    """Which of the two inputs is meant, so that messages speak of that one."""
    streams = isinstance(entry, StreamInput) or (isinstance(entry, dict) and "stream" in entry)
    return "StreamInput" if streams else "ReducedInput"


Input = Annotated[
    Annotated[ReducedInput, Tag("ReducedInput")] | Annotated[StreamInput, Tag("StreamInput")],
    Discriminator(_kind),
]


class ModelLine(Document):
    """One file of configs/lines.

    Attributes:
        line: its name.
        process: the process whose records it reads.
        model: what is trained.
        inputs: reduced channels, or one stream in windows.
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


def line_names() -> list[str]:
    """The lines of the catalogue, in alphabetical order.

    Raises:
        DataError: JG-data-200 and 201, a folder of one's own that does not fit.
    """
    return catalogue_names("lines")


def read_line(name: str) -> ModelLine:
    """The line of that name in the catalogue, or of a file that is named by its path, `*.yaml`.

    Raises:
        DataError: JG-data-062 no such line; JG-data-063 inputs of both kinds; JG-data-200..202 a folder of one's own
            that does not fit.
        PlanError: JG-plan-001..006 the file does not hold a line.
    """
    if name.endswith(".yaml"):
        line = read(Path(name), ModelLine)
    elif name in (known := line_names()):
        line = read_entry("lines", name, ModelLine)
    else:
        raise DataError("JG-data-062", where=name, nearest=nearest(name, known))
    _windows(line)
    return line


def columns_read(line: ModelLine, process: Process) -> tuple[str, ...]:
    """What a line reads of an episode: `stream.channel` and `<group>.<field>`, targets among them, each once.

    Raises:
        DataError: JG-data-063..065 and 071, the line does not fit the process.
    """
    targets = [target.column for target in line.targets]
    for column in targets:
        _field(line, column, process)
    return tuple(dict.fromkeys([*(source.column for source in _sources(line, process)), *targets]))


def input_names(line: ModelLine, process: Process) -> tuple[str, ...]:
    """Names of the inputs, in the order of the second axis of `Examples.inputs`.

    `flame.height.mean` or, over a window, `flame.height.slope_30s` for a reduction; `flame.height` for a
    channel in windows; `context.humidity` for a number; `context.lot=A` for each value of a choice; then
    `flame.height.missing` or `context.lot.missing` for whatever the process calls optional.

    Raises:
        DataError: JG-data-063..065 and 071, the line does not fit the process.
    """
    return tuple(_ranges(_sources(line, process)))


def input_range(line: ModelLine, process: Process) -> PublicRange:
    """Public range of each input, in the order of `input_names`.

    A mean, a last value, a maximum and a sample have their channel's range [low, high]; a standard deviation
    has [0, (high - low) / 2], the most that values in a range can show (Popoviciu, Mathematica 9 (1935)
    129-145); a slope has +-(high - low) / window_s, one full scale in a window; choices and indicators have
    [0, 1].

    Raises:
        DataError: JG-data-063..065 and 071, the line does not fit the process.
    """
    return _public(list(_ranges(_sources(line, process)).values()))


def input_shape(line: ModelLine, process: Process) -> tuple[int, ...]:
    """Shape of one example's inputs: (features,), or (channels, length) for windows of a stream.

    Raises:
        DataError: JG-data-063..065 and 071, the line does not fit the process.
    """
    columns, windows = len(input_names(line, process)), _windows(line)
    return (columns,) if windows is None else (columns, windows.length)


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


def cut(line: ModelLine, view: "EpisodeView", process: Process, unit: Literal["episode", "master"]) -> Examples:
    """Examples of one side of a site's split.

    Reduced channels give one example an episode, inputs of shape (episodes, features). A stream gives every
    whole window of an episode, inputs of shape (windows, channels, length), with context as constant
    channels; all windows of an episode share its unit and targets. Beyond a channel's first and last sample
    its value is held. Units are numbered in the order of their ids.

    A missing value of something optional becomes the middle of its public range and sets its indicator.

    Args:
        line: what to cut.
        view: a site's training or hold-out episodes.
        process: the line's process.
        unit: what the privacy unit is.

    Raises:
        DataError: JG-data-063..065, 068 and 071, the line does not fit the process; JG-data-066 a required
            value is missing; JG-data-067 a target is missing; JG-data-069 an episode is shorter than a
            window; JG-data-070 a class outside the target's range; the errors of `EpisodeView`.
    """
    sources, windows, episodes = _sources(line, process), _windows(line), view.episodes
    targets = _targets(line, process, episodes)
    if windows is None:
        place, grid, values = np.arange(len(episodes)), None, _reduced(sources, view)
    else:
        place, grid = _grid(windows, episodes)
        values = _windowed(sources, view, place, grid)
    for source in sources:
        if isinstance(source.named, Field):
            for feature, column in zip(source.features, _context(episodes, source), strict=True):
                given = column[place]
                values[feature.name] = given if grid is None else np.broadcast_to(given[:, None], grid.shape)
    columns = [column for source in sources for column in _filled(source, values, episodes, place)]
    ids = episodes["episode_id" if unit == "episode" else "master"].to_pylist()
    units = np.unique(np.array(ids, dtype=str), return_inverse=True)[1].astype(np.int64)
    return Examples(np.stack(columns, axis=1).astype(np.float32), targets[place], units[place])


@dataclass(frozen=True)
class _Feature:
    """One number or window of an example; `reduction` and `window_s` only where a channel is reduced."""

    name: str
    range: Range
    reduction: Reduction = "last"
    window_s: float | None = None


@dataclass(frozen=True)
class _Source:
    """One channel or context field and the features made of it; `stream` only for a channel."""

    column: str
    named: Channel | Field
    features: tuple[_Feature, ...]
    stream: Stream | None = None

    def ranges(self) -> dict[str, Range]:
        """Names and public ranges of all its inputs, the indicator last."""
        indicator = {f"{self.column}.missing": (0.0, 1.0)} if self.named.optional else {}
        return {feature.name: feature.range for feature in self.features} | indicator


def _windows(line: ModelLine) -> StreamInput | None:
    """The stream input, or None where channels are reduced."""
    streams = [entry for entry in line.inputs if isinstance(entry, StreamInput)]
    if streams and len(line.inputs) > 1:
        raise DataError("JG-data-063", where=line.line, streams=len(streams), inputs=len(line.inputs))
    return streams[0] if streams else None


def _sources(line: ModelLine, process: Process) -> list[_Source]:
    """Channels in the order of the line's inputs, each once with all that is made of it; then the context."""
    if line.process != process.process:
        raise DataError("JG-data-071", where=line.line, wanted=line.process, found=process.process)
    _windows(line)
    channels = {f"{s.name}.{c.name}": (s, c) for s in process.streams for c in s.channels}
    features: dict[str, dict[str, _Feature]] = {}
    for entry in line.inputs:
        pattern = f"{entry.stream}.*" if isinstance(entry, StreamInput) else entry.channel
        matching = [column for column in channels if fnmatchcase(column, pattern)]
        if not matching:
            raise DataError("JG-data-064", where=line.line, channel=pattern, nearest=nearest(pattern, channels))
        for column in matching:
            made = _channel_features(entry, column, channels[column][1])
            features.setdefault(column, {}).update({feature.name: feature for feature in made})
    return [
        *(
            _Source(column, channels[column][1], tuple(made.values()), channels[column][0])
            for column, made in features.items()
        ),
        *(_context_source(line, name, process) for name in line.context),
    ]


def _channel_features(entry: ReducedInput | StreamInput, column: str, channel: Channel) -> list[_Feature]:
    if isinstance(entry, StreamInput):
        return [_Feature(column, channel.range)]
    window = "" if entry.window_s is None else f"_{entry.window_s:g}s"
    return [
        _Feature(
            f"{column}.{reduction}{window}",
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


def _context_source(line: ModelLine, name: str, process: Process) -> _Source:
    field = _field(line, f"context.{name}", process)
    if field.range is not None:
        features = [_Feature(f"context.{name}", field.range)]
    else:
        features = [_Feature(f"context.{name}={value}", (0.0, 1.0)) for value in field.values or ()]
    return _Source(f"context.{name}", field, tuple(features))


def _field(line: ModelLine, column: str, process: Process) -> Field:
    fields = process.columns()
    if column not in fields:
        raise DataError("JG-data-065", where=line.line, column=column, nearest=nearest(column, fields))
    return fields[column]


def _ranges(sources: Sequence[_Source]) -> dict[str, Range]:
    return {name: limits for source in sources for name, limits in source.ranges().items()}


def _public(ranges: Sequence[Range]) -> PublicRange:
    low, high = np.array(ranges, dtype=np.float64).reshape(-1, 2).T
    return PublicRange(low, high)


@dataclass(frozen=True)
class _Samples:
    """A stream's rows in the order of their episodes.

    Attributes:
        episode: place of the row's episode, shape (rows,), ascending.
        t: s since the episode's start, shape (rows,).
        to_end: s until the episode's end, shape (rows,).
        table: the channels' columns.
    """

    episode: NDArray[np.int64]
    t: Array
    to_end: Array
    table: "pa.Table"

    @classmethod
    def read(cls, view: "EpisodeView", stream: Stream) -> "_Samples":
        """Rows of `stream`; none where the site lacks it and may."""
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            table = view.stream(stream.name)
        except DataError as error:
            if not (stream.optional and error.code in {"JG-data-008", "JG-data-016"}):
                raise
            table = pa.table({"episode_id": pa.array([], pa.string()), "t": pa.array([], pa.float64())})
        ids = view.episodes["episode_id"].combine_chunks()
        episode = pc.index_in(table["episode_id"], value_set=ids).to_numpy().astype(np.int64)
        t = table["t"].to_numpy()
        return cls(episode, t, view.episodes["duration_s"].to_numpy()[episode] - t, table)

    def of(self, channel: str, window_s: float | None = None) -> tuple[NDArray[np.int64], Array, Array]:
        """Episode, t and value of the samples that a channel has, in the last `window_s` of each episode."""
        if channel not in self.table.column_names:
            return self.episode[:0], self.t[:0], self.t[:0]
        x = self.table[channel].to_numpy().astype(np.float64)
        there = ~np.isnan(x) if window_s is None else ~np.isnan(x) & (self.to_end <= window_s + 1e-9)
        return self.episode[there], self.t[there], x[there]


def _reduced(sources: Sequence[_Source], view: "EpisodeView") -> dict[str, Array]:
    """By feature: one value an episode, shape (episodes,); NaN where the episode has too few samples."""
    streams = {source.stream.name: source.stream for source in sources if source.stream}
    samples = {name: _Samples.read(view, stream) for name, stream in streams.items()}
    return {
        feature.name: _REDUCERS[feature.reduction](
            *samples[source.stream.name].of(source.named.name, feature.window_s), len(view.episodes)
        )
        for source in sources
        if source.stream
        for feature in source.features
    }


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> Array:
    """Quotients; NaN where `below` is 0."""
    quotient = np.full(len(above), np.nan)
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient


def _mean(episode: NDArray[np.int64], t: Array, x: Array, episodes: int) -> Array:
    count = np.bincount(episode, minlength=episodes)
    total = np.bincount(episode, x, minlength=episodes)
    return _ratio(total, count)


def _std(episode: NDArray[np.int64], t: Array, x: Array, episodes: int) -> Array:
    beside = x - _mean(episode, t, x, episodes)[episode]
    return np.sqrt(_mean(episode, t, beside**2, episodes))


def _last(episode: NDArray[np.int64], t: Array, x: Array, episodes: int) -> Array:
    last = np.full(episodes, np.nan)
    last[episode] = x
    return last


def _max(episode: NDArray[np.int64], t: Array, x: Array, episodes: int) -> Array:
    top = np.full(episodes, np.nan)
    np.fmax.at(top, episode, x)
    return top


def _slope(episode: NDArray[np.int64], t: Array, x: Array, episodes: int) -> Array:
    since = t - _mean(episode, t, t, episodes)[episode]
    across = np.bincount(episode, since * x, minlength=episodes)
    along = np.bincount(episode, since**2, minlength=episodes)
    return _ratio(across, along)


_REDUCERS: Mapping[Reduction, Callable[[NDArray[np.int64], Array, Array, int], Array]] = {
    "mean": _mean,
    "std": _std,
    "last": _last,
    "slope": _slope,
    "max": _max,
}


def _grid(windows: StreamInput, episodes: "pa.Table") -> tuple[NDArray[np.int64], Array]:
    """Of each window its episode's place, shape (windows,), and its sample times, shape (windows, length)."""
    duration = episodes["duration_s"].to_numpy()
    number = np.floor((duration - windows.window_s) / windows.hop_s + 1e-9).astype(np.int64) + 1
    if (number < 1).any():
        short = int(np.argmax(number < 1))
        episode = episodes["episode_id"][short].as_py()
        raise DataError("JG-data-069", where=episode, seconds=float(duration[short]), window=windows.window_s)
    place = np.repeat(np.arange(len(number)), number)
    order = np.arange(len(place)) - np.repeat(np.cumsum(number) - number, number)
    return place, windows.hop_s * order[:, None] + np.arange(windows.length) / windows.rate_hz


def _windowed(
    sources: Sequence[_Source], view: "EpisodeView", place: NDArray[np.int64], grid: Array
) -> dict[str, Array]:
    """By channel: its windows, shape (windows, length); NaN where the episode has no sample."""
    streams = {source.stream.name: source.stream for source in sources if source.stream}
    samples = {name: _Samples.read(view, stream) for name, stream in streams.items()}
    of_episode = np.searchsorted(place, np.arange(len(view.episodes) + 1))
    values = {}
    for source in sources:
        if source.stream:
            episode, t, x = samples[source.stream.name].of(source.named.name)
            rows = np.searchsorted(episode, np.arange(len(view.episodes) + 1))
            shown = np.full(grid.shape, np.nan)
            for i in np.unique(episode):
                window, row = slice(*of_episode[i : i + 2]), slice(*rows[i : i + 2])
                shown[window] = np.interp(grid[window], t[row], x[row])
            values[source.column] = shown
    return values


def _context(episodes: "pa.Table", source: _Source) -> list[Array]:
    """By feature: one value an episode; NaN where the value is missing."""
    if source.column not in episodes.column_names:
        return [np.full(len(episodes), np.nan) for _ in source.features]
    column, values = episodes[source.column], source.named.values if isinstance(source.named, Field) else None
    if values is None:
        return [column.to_numpy().astype(np.float64)]
    words = column.to_pylist()
    return [np.array([np.nan if word is None else float(word == value) for word in words]) for value in values]


def _filled(
    source: _Source, values: Mapping[str, Array], episodes: "pa.Table", place: NDArray[np.int64]
) -> list[Array]:
    """A source's columns with the middle of the public range where a value is missing, and its indicator."""
    columns = [values[feature.name] for feature in source.features]
    gone = np.any(np.isnan(columns), axis=0)
    if gone.any() and not source.named.optional:
        lacking = np.unique(place[gone.reshape(len(place), -1).any(axis=1)])
        episode = episodes["episode_id"][int(lacking[0])].as_py()
        raise DataError("JG-data-066", where=source.column, episode=episode, number=len(lacking))
    middles = [sum(feature.range) / 2 for feature in source.features]
    filled = [np.where(np.isnan(column), middle, column) for column, middle in zip(columns, middles, strict=True)]
    return [*filled, gone.astype(np.float64)] if source.named.optional else filled


def _targets(line: ModelLine, process: Process, episodes: "pa.Table") -> NDArray[np.float32] | NDArray[np.int64]:
    """Targets of each episode: shape (episodes, targets) for regression, else class numbers (episodes,)."""
    if line.task == "regression":
        columns = [_target(line, target, process, episodes) for target in line.targets]
        return np.stack(columns, axis=1).astype(np.float32)
    target = line.targets[0]
    classes = np.round(_target(line, target, process, episodes) - target.range[0]).astype(np.int64)
    outside = (classes < 0) | (classes > target.range[1] - target.range[0])
    if outside.any():
        first = int(np.argmax(outside))
        episode, value = (episodes[name][first].as_py() for name in ("episode_id", target.column))
        raise DataError("JG-data-070", where=target.column, episode=episode, value=value, range=target.range)
    return classes


def _target(line: ModelLine, target: Target, process: Process, episodes: "pa.Table") -> Array:
    """One target of each episode, a choice as its place in the process' list."""
    field = _field(line, target.column, process)
    if field.values and line.task == "regression":
        raise DataError("JG-data-068", where=line.line, column=target.column, values=", ".join(field.values))
    words = episodes[target.column].to_pylist() if target.column in episodes.column_names else [None] * len(episodes)
    if None in words:
        episode, number = episodes["episode_id"][words.index(None)].as_py(), words.count(None)
        raise DataError("JG-data-067", where=target.column, episode=episode, number=number)
    if field.values:
        words = [field.values.index(word) if word in field.values else -1 for word in words]
    return np.array(words, dtype=np.float64)
