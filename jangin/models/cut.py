"""Records to examples: what a model line reads of each episode, and what it learns of it.

The law: an example holds what `lines.input_columns` says and nothing else, each in its place; all windows of an episode
share its unit and its targets; what is missing and may be is the middle of its public range and says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jangin.errors import DataError
from jangin.models.inputs import PictureInput, Reduction, SpectrumInput, StreamInput, WindowInput
from jangin.models.lines import ModelLine, Source, Target, input_columns, input_shape, input_sources, target_field
from jangin.models.spectra import averaged_down, band_levels
from jangin.records.card import Channel, Field, Stream
from jangin.records.dataset import EpisodeView
from jangin.records.examples import Examples
from jangin.records.process import Process

__all__ = ["cut"]

Array = NDArray[np.float64]
Places = NDArray[np.int64]


def cut(line: ModelLine, view: EpisodeView, process: Process, unit: Literal["episode", "master"]) -> Examples:
    """Examples of one side of a site's split.

    Reduced channels alone give one example an episode. Streams in windows give every whole window of an episode, and
    what is reduced beside them is reduced over the window; context is the episode's. Shapes and order are those of
    `input_shape` and `input_columns`. Beyond a channel's first and last sample its value is held; beyond the end of a
    sound there is silence. Units are numbered in the order of their ids.

    A missing value of something optional becomes the middle of its public range and sets its indicator.

    Args:
        line: what to cut.
        view: a site's training or hold-out episodes.
        process: the line's process.
        unit: what the privacy unit is.

    Raises:
        DataError: JG-data-063..065, 068, 071 and 210..214, the line does not fit the process; JG-data-066 a required
            value is missing; JG-data-067 a target is missing; JG-data-069 an episode is shorter than a
            window; JG-data-070 a class outside the target's range; the errors of `EpisodeView`.
    """
    sources, episodes, shape = input_sources(line, process), view.episodes, input_shape(line, process)
    targets = _targets(line, process, episodes)
    spans = _Spans.of(line, episodes)
    samples = _samples(sources, view)
    # 1. By column, its values at each example, (examples, ...).
    values: dict[str, NDArray[Any]] = {}
    for window in line.windows:
        stream = next(stream for stream in process.streams if stream.name == window.stream)
        made = (
            _of_rows(window, stream, view, spans, samples[stream.name])
            if stream.media is None
            else _of_media(window, stream, view, spans)
        )
        values |= {f"{stream.name}.{channel}": given for channel, given in made.items()}
    for source in sources:
        if source.stream is None:
            values |= {name: column[spans.place] for name, column in _context(episodes, source).items()}
        for column in source.columns:
            if source.stream is not None and column.reduction is not None:
                seen = samples[source.stream.name].within(source.named.name, spans, column.window_s)
                values[column.name] = _REDUCERS[column.reduction](*seen, len(spans.place))
    # 2. What is missing.
    for source in sources:
        values |= _filled(source, values, episodes, spans.place)
    # 3. Each in its place.
    inputs = np.empty((len(spans.place), *shape), np.float32)
    first = 0
    for column in input_columns(line, process):
        given, places = values[column.name], column.places(line)
        axes = (places,) if inputs.ndim == 2 else (*given.shape[1:], *(1,) * (inputs.ndim - given.ndim))
        inputs[:, first : first + places] = given.reshape(len(inputs), *axes)
        first += places
    ids = episodes["episode_id" if unit == "episode" else "master"].to_pylist()
    units = np.unique(np.array(ids, dtype=str), return_inverse=True)[1].astype(np.int64)
    return Examples(inputs, targets[spans.place], units[spans.place])


@dataclass(frozen=True)
class _Spans:
    """What of an episode each example sees.

    Attributes:
        place: of its episode, shape (examples,), ascending.
        start: s since the episode's start, (examples,).
        seconds: length of each; None where an example is an episode.
        end: s since the episode's start, (examples,).
        episodes: how many there are.
    """

    place: Places
    start: Array
    end: Array
    seconds: float | None
    episodes: int

    @classmethod
    def of(cls, line: ModelLine, episodes: pa.Table) -> "_Spans":
        """Every whole window of each episode, or each episode where the line has no windows."""
        duration = episodes["duration_s"].to_numpy()
        if not line.windows:
            return cls(np.arange(len(duration)), np.zeros(len(duration)), duration, None, len(duration))
        window_s, hop_s = line.windows[0].window_s, line.windows[0].hop_s
        number = np.floor((duration - window_s) / hop_s + 1e-9).astype(np.int64) + 1
        if (number < 1).any():
            short = int(np.argmax(number < 1))
            episode = episodes["episode_id"][short].as_py()
            raise DataError("JG-data-069", where=episode, seconds=float(duration[short]), window=window_s)
        place = np.repeat(np.arange(len(number)), number)
        start = hop_s * (np.arange(len(place)) - np.repeat(np.cumsum(number) - number, number))
        return cls(place, start, start + window_s, window_s, len(number))

    def by_episode(self) -> list[slice]:
        """The examples of each episode."""
        return _slices(self.place, self.episodes)


@dataclass(frozen=True)
class _Samples:
    """A stream's rows in the order of their episodes.

    Attributes:
        episode: place of the row's episode, shape (rows,), ascending.
        t: s since the episode's start, shape (rows,).
        table: the channels' columns.
    """

    episode: Places
    t: Array
    table: pa.Table

    @classmethod
    def read(cls, view: EpisodeView, stream: Stream) -> "_Samples":
        """Rows of `stream`; none where the site lacks it and may."""
        try:
            table = view.stream(stream.name)
        except DataError as error:
            if not (stream.optional and error.code in _LACKING):
                raise
            table = pa.table({"episode_id": pa.array([], pa.string()), "t": pa.array([], pa.float64())})
        ids = view.episodes["episode_id"].combine_chunks()
        episode = pc.index_in(table["episode_id"], value_set=ids).to_numpy().astype(np.int64)
        return cls(episode, table["t"].to_numpy(), table)

    def of(self, channel: str) -> tuple[Places, Array, Array]:
        """Episode, t and value of the samples that a channel has."""
        if channel not in self.table.column_names:
            return self.episode[:0], self.t[:0], self.t[:0]
        x = self.table[channel].to_numpy().astype(np.float64)
        there = ~np.isnan(x)
        return self.episode[there], self.t[there], x[there]

    def within(self, channel: str, spans: _Spans, last_s: float | None) -> tuple[Places, Array, Array]:
        """Example, t and value of the samples that a channel has in each example, or in the last seconds of it.

        An episode's last sample may stand at its end; a window ends before the next sample.
        """
        episode, t, x = self.of(channel)
        if spans.seconds is None:
            there = np.full(len(t), True) if last_s is None else spans.end[episode] - t <= last_s + 1e-9
            return episode[there], t[there], x[there]
        since = spans.start if last_s is None else spans.end - last_s
        first, past = np.zeros((2, len(spans.place)), np.int64)
        for row, own in zip(_slices(episode, spans.episodes), spans.by_episode(), strict=True):
            first[own] = row.start + np.searchsorted(t[row], since[own] - 1e-9)
            past[own] = row.start + np.searchsorted(t[row], spans.end[own] - 1e-9)
        count = past - first
        example = np.repeat(np.arange(len(count)), count)
        chosen = np.arange(len(example)) - np.repeat(np.cumsum(count) - count - first, count)
        return example, t[chosen], x[chosen]

    def interpolated(self, channel: str, spans: _Spans, length: int, rate_hz: float) -> Array:
        """So many values from the start of each example on, (examples, length); NaN where the episode has no sample."""
        episode, t, x = self.of(channel)
        grid = spans.start[:, None] + np.arange(length) / rate_hz
        shown = np.full(grid.shape, np.nan)
        for row, own in zip(_slices(episode, spans.episodes), spans.by_episode(), strict=True):
            if row.start < row.stop:
                shown[own] = np.interp(grid[own], t[row], x[row])
        return shown


_LACKING = {"JG-data-008", "JG-data-016"}


def _slices(episode: Places, episodes: int) -> list[slice]:
    """Where each episode stands in ascending places."""
    return [slice(*ends) for ends in pairwise(np.searchsorted(episode, np.arange(episodes + 1)))]


def _samples(sources: Sequence[Source], view: EpisodeView) -> dict[str, _Samples]:
    """By name, the streams that have rows."""
    streams = {source.stream.name: source.stream for source in sources if source.stream}
    return {name: _Samples.read(view, stream) for name, stream in streams.items() if stream.media is None}


def _of_rows(
    window: WindowInput, stream: Stream, view: EpisodeView, spans: _Spans, samples: _Samples
) -> dict[str, NDArray[Any]]:
    """By channel, its windows of rows, (examples, *of_channel); NaN where the episode has none."""
    if isinstance(window, StreamInput):
        return {
            channel.name: samples.interpolated(channel.name, spans, window.length, window.rate_hz)[:, None]
            for channel in stream.channels
        }
    rate = (view.card.stream(stream.name) or stream).rate_hz
    length = round(window.window_s * rate)
    return {
        channel.name: _levels(window, samples.interpolated(channel.name, spans, length, rate), rate, channel)
        for channel in stream.channels
    }


def _of_media(window: WindowInput, stream: Stream, view: EpisodeView, spans: _Spans) -> dict[str, NDArray[Any]]:
    """By channel, its windows of media, (examples, *of_channel); NaN where the episode has none and may."""
    made: dict[str, NDArray[Any]] = {
        channel.name: np.full((len(spans.place), *window.of_channel), np.nan, np.float32) for channel in stream.channels
    }
    own, channels = view.card.stream(stream.name) or stream, {channel.name: channel for channel in stream.channels}
    for episode, examples in zip(view.episodes["episode_id"].to_pylist(), spans.by_episode(), strict=True):
        try:
            media = view.media(stream.name, episode)
        except DataError as error:
            if not (stream.optional and error.code in _LACKING):
                raise
            continue
        for name, given in zip((channel.name for channel in own.channels), media, strict=True):
            if name in made:
                made[name][examples] = _seen(window, given, spans.start[examples], own.rate_hz, channels[name])
    return made


def _seen(
    window: WindowInput, media: NDArray[np.float32], start: Array, rate_hz: float, channel: Channel
) -> NDArray[Any]:
    """From each start on, (windows, *of_channel).

    Of a film (frames, h, w), what is to be seen in the middle of each step of time; of a sound (samples,), its levels.
    """
    if isinstance(window, PictureInput):
        moments = start[:, None] + (np.arange(window.frames) + 0.5) * (window.window_s / window.frames)
        frames = np.floor(moments * rate_hz + 1e-9).astype(np.int64).clip(max=len(media) - 1)
        shown: NDArray[Any] = averaged_down(media, window.height, window.width)[frames]
        return shown
    first, length = np.round(start * rate_hz).astype(np.int64), round(window.window_s * rate_hz)
    heard = np.pad(media, (0, max(0, int(first.max(initial=0)) + length - len(media))))
    return _levels(window, heard[first[:, None] + np.arange(length)], rate_hz, channel)


def _levels(window: WindowInput, heard: NDArray[Any], rate_hz: float, channel: Channel) -> Array:
    """Levels of (windows, samples) by the channel's public full scale, (windows, *of_channel)."""
    if not isinstance(window, SpectrumInput):
        raise TypeError(f"Expected bands of frequency: {window!r}.")
    limits = window.low_hz, window.high_hz, window.floor_db
    return band_levels(heard / channel.range[1], rate_hz, window.bands, window.frames, *limits)[:, None]


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> Array:
    """Quotients; NaN where `below` is 0."""
    quotient = np.full(len(above), np.nan)
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient


def _mean(episode: Places, t: Array, x: Array, episodes: int) -> Array:
    count = np.bincount(episode, minlength=episodes)
    total = np.bincount(episode, x, minlength=episodes)
    return _ratio(total, count)


def _std(episode: Places, t: Array, x: Array, episodes: int) -> Array:
    beside = x - _mean(episode, t, x, episodes)[episode]
    return np.sqrt(_mean(episode, t, beside**2, episodes))


def _last(episode: Places, t: Array, x: Array, episodes: int) -> Array:
    last = np.full(episodes, np.nan)
    last[episode] = x
    return last


def _max(episode: Places, t: Array, x: Array, episodes: int) -> Array:
    top = np.full(episodes, np.nan)
    np.fmax.at(top, episode, x)
    return top


def _slope(episode: Places, t: Array, x: Array, episodes: int) -> Array:
    since = t - _mean(episode, t, t, episodes)[episode]
    across = np.bincount(episode, since * x, minlength=episodes)
    along = np.bincount(episode, since**2, minlength=episodes)
    return _ratio(across, along)


_REDUCERS: Mapping[Reduction, Callable[[Places, Array, Array, int], Array]] = {
    "mean": _mean,
    "std": _std,
    "last": _last,
    "slope": _slope,
    "max": _max,
}


def _context(episodes: pa.Table, source: Source) -> dict[str, Array]:
    """By column: one value an episode; NaN where the value is missing."""
    names = [column.name for column in source.columns]
    if source.column not in episodes.column_names:
        return {name: np.full(len(episodes), np.nan) for name in names}
    column, values = episodes[source.column], source.named.values if isinstance(source.named, Field) else None
    if values is None:
        return {names[0]: column.to_numpy().astype(np.float64)}
    words = column.to_pylist()
    chosen = [np.array([np.nan if word is None else float(word == value) for word in words]) for value in values]
    return dict(zip(names, chosen, strict=True))


def _filled(
    source: Source, values: Mapping[str, NDArray[Any]], episodes: pa.Table, place: Places
) -> dict[str, NDArray[Any]]:
    """A source's columns with the middle of the public range where a value is missing, and its indicator."""
    absent = {column.name: np.isnan(values[column.name]) for column in source.columns}
    gone = np.any([one.any(axis=tuple(range(1, one.ndim))) for one in absent.values()], axis=0)
    if gone.any() and not source.named.optional:
        lacking = np.unique(place[gone])
        episode = episodes["episode_id"][int(lacking[0])].as_py()
        raise DataError("JG-data-066", where=source.column, episode=episode, number=len(lacking))
    indicator = {column.name: gone.astype(np.float64) for column in source.indicator}
    if not gone.any():
        return indicator
    filled = {
        column.name: np.where(absent[column.name], sum(column.range) / 2, values[column.name])
        for column in source.columns
    }
    return filled | indicator


def _targets(line: ModelLine, process: Process, episodes: pa.Table) -> NDArray[np.float32] | NDArray[np.int64]:
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


def _target(line: ModelLine, target: Target, process: Process, episodes: pa.Table) -> Array:
    """One target of each episode, a choice as its place in the process' list."""
    field = target_field(line, target, process)
    if field.values and line.task == "regression":
        raise DataError("JG-data-068", where=line.line, column=target.column, values=", ".join(field.values))
    words = episodes[target.column].to_pylist() if target.column in episodes.column_names else [None] * len(episodes)
    if None in words:
        episode, number = episodes["episode_id"][words.index(None)].as_py(), words.count(None)
        raise DataError("JG-data-067", where=target.column, episode=episode, number=number)
    if field.values:
        words = [field.values.index(word) if word in field.values else -1 for word in words]
    return np.array(words, dtype=np.float64)
