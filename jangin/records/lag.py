"""Lags between what different recorders wrote of the same episodes, by cross-correlation.

The law: one lag is told for all episodes, and only where its peak stands out from what unrelated signals of the same
smoothness would show, and from every other peak; else it is refused. Nothing is moved without being asked.

Signals are brought to one grid: rows of a channel by linear interpolation, sound by its root mean square in bins of
5 ms, pictures by their mean brightness. Of each episode r(k) is the cross-correlation of the two less their means over
the root of their energies; the episodes' r are averaged by their lengths. Were the signals unrelated, r would have the
variance sum_k rho_x(k) rho_y(k) / n (Bartlett, J. Roy. Stat. Soc. 98 (1935) 536-543), which is taken for the normal
deviate of the peak. Between samples the peak is the vertex of the parabola through three points.
"""

import difflib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jangin.codec.document import nearest
from jangin.errors import DataError
from jangin.records.as_is import made_of
from jangin.records.card import Card, Channel, Stream
from jangin.records.dataset import CARD_FILE, EpisodeView, stream_parts

__all__ = ["Lag", "Signal", "lag_between", "lag_of", "moved"]

Array = NDArray[np.float64]

_BIN_S: Final = 0.005
"""Width of a bin of sound: short beside what masters do, long beside the sound's own oscillation."""
_LEAST: Final = 16
"""Samples of an episode below which it tells nothing of a lag."""
_CHANCE: Final = 0.01
"""How often unrelated signals may show such a peak at any of the lags that were looked at (Bonferroni)."""
_APART: Final = 3.0
"""Standard deviations by which the highest peak exceeds every other one."""


@dataclass(frozen=True)
class Signal:
    """One quantity of one episode.

    Attributes:
        t: s since the episode's start, shape (samples,), ascending.
        x: its values, shape (samples,), all finite.
    """

    t: Array
    x: Array


@dataclass(frozen=True)
class Lag:
    """One lag for all episodes.

    Attributes:
        seconds: by how much the moved signal is late; what it shows at t belongs to t - seconds.
        correlation: the peak, in [-1, 1].
        deviate: the peak in standard deviations of unrelated signals.
        grid_s: distance of two points of the grid.
        episodes: in how many episodes both have enough samples.
        agree: of those, how many have their own highest peak within the width of the common one.
    """

    seconds: float
    correlation: float
    deviate: float
    grid_s: float
    episodes: int
    agree: int


def lag_of(view: EpisodeView, reference: str, moved: str) -> Lag:
    """The lag of one stream behind another.

    Args:
        view: the episodes.
        reference: `stream.channel`, or a stream of one channel, whose clock counts.
        moved: the same of the other stream.

    Raises:
        DataError: JG-data-008 or -183, no such stream or channel, or both are one stream; JG-data-180, 181; the errors
            of reading.
    """
    streams = [_named(view.card, name) for name in (reference, moved)]
    if streams[0][0].name == streams[1][0].name:
        raise DataError("JG-data-183", where=moved, stream=streams[0][0].name)
    rate = max(1 / _BIN_S if stream.media == "sound" else stream.rate_hz for stream, _ in streams)
    first, second = (_signals(view, stream, channel) for stream, channel in streams)
    pairs = ((first(episode), second(episode)) for episode in view.episodes["episode_id"].to_pylist())
    return lag_between(pairs, rate, f"{reference}, {moved}")


def lag_between(pairs: Iterator[tuple[Signal, Signal]], rate_hz: float, where: str = "") -> Lag:
    """The lag of the second signals behind the first.

    Args:
        pairs: of each episode.
        rate_hz: of the grid.
        where: what they are called.

    Raises:
        DataError: JG-data-180, no peak is clear; JG-data-181, no episode has enough samples that change.
    """
    shown = [one for one in (_correlated(first, second, rate_hz) for first, second in pairs) if one is not None]
    if not shown:
        raise DataError("JG-data-181", where=where, least=_LEAST)
    reach = min(one.reach for one in shown)
    lags = np.arange(-reach, reach + 1)
    weights = np.array([one.samples for one in shown], np.float64)
    curves = np.stack([one.at(lags) for one in shown])
    mean = weights @ curves / weights.sum()
    deviation = math.sqrt(float(weights**2 @ np.array([one.variance for one in shown]))) / float(weights.sum())
    peak = int(np.argmax(np.abs(mean)))
    height, (low, high) = abs(float(mean[peak])), _lobe(mean, peak)
    beside = np.concatenate([np.abs(mean[:low]), np.abs(mean[high + 1 :])])
    rival = float(beside.max(initial=0.0))
    chance = len(lags) * math.erfc(height / deviation / math.sqrt(2))
    at_edge = peak in (0, len(lags) - 1)
    if chance > _CHANCE or height - rival < _APART * deviation or at_edge:
        seconds = float(lags[peak] / rate_hz)
        raise DataError(
            "JG-data-180",
            where=where,
            seconds=seconds,
            peak=height,
            rival=rival,
            deviation=deviation,
            number=len(shown),
        )
    signed = curves * np.sign(mean[peak])
    own = np.argmax(signed, axis=1)
    agree = int(np.count_nonzero((own >= low) & (own <= high)))
    seconds = (lags[peak] + _vertex(*np.abs(mean[peak - 1 : peak + 2]))) / rate_hz
    return Lag(float(seconds), float(mean[peak]), height / deviation, 1 / rate_hz, len(shown), agree)


def moved(folder: Path, new: Path, card: Card, name: str, seconds: float) -> None:
    """Make a folder in which a stream's rows stand `seconds` earlier.

    Media have no times of their own, as their first sample is at the episode's start: the other stream moves then.

    Raises:
        DataError: JG-data-182, a stream with media; the errors of `made_of`.
    """
    stream, _ = _named(card, name)
    if stream.media is not None:
        raise DataError("JG-data-182", where=stream.name, media=stream.media)
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))

    def earlier(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index("t")
        return table.set_column(place, table.schema.field(place), pc.subtract(table["t"], pa.scalar(seconds)))

    made_of(folder, new, dict.fromkeys(stream_parts(files, stream.name), earlier))


@dataclass(frozen=True)
class _Correlation:
    """r of one episode: `curve[i]` at lag `first + i`, in points of the grid."""

    curve: Array
    first: int
    samples: int
    variance: float

    @property
    def reach(self) -> int:
        """Half of the shorter signal: beyond it too little overlaps."""
        return self.samples // 2

    def at(self, lags: NDArray[np.int64]) -> Array:
        place = lags - self.first
        there = (place >= 0) & (place < len(self.curve))
        return np.where(there, self.curve[place.clip(0, len(self.curve) - 1)], 0.0)


def _correlated(first: Signal, second: Signal, rate_hz: float) -> _Correlation | None:
    """The r of one episode, None where one of the two has too few samples or does not change."""
    from scipy.signal import correlate

    grids = [_on_grid(signal, rate_hz) for signal in (first, second)]
    if any(len(x) < _LEAST or not x.any() for _, x in grids):
        return None
    (start, x), (begin, y) = grids
    x, y = x / math.sqrt(float(x @ x)), y / math.sqrt(float(y @ y))
    curve = correlate(y, x, mode="full", method="fft")
    alike = [correlate(one, one, mode="full", method="fft") for one in (x, y)]
    samples = min(len(x), len(y))
    middle = [one[len(one) // 2 - samples + 1 : len(one) // 2 + samples] for one in alike]
    return _Correlation(curve, begin - start - len(x) + 1, samples, max(float(middle[0] @ middle[1]), 1.0) / samples)


def _on_grid(signal: Signal, rate_hz: float) -> tuple[int, Array]:
    """A signal less its mean at whole multiples of 1 / rate_hz within its extent, and the first multiple's number."""
    if len(signal.t) < 2:
        return 0, np.empty(0)
    start, stop = math.ceil(signal.t[0] * rate_hz - 1e-6), math.floor(signal.t[-1] * rate_hz + 1e-6)
    x = np.interp(np.arange(start, stop + 1) / rate_hz, signal.t, signal.x)
    x -= x.mean() if len(x) else 0.0
    return start, np.where(np.abs(x) > 1e-12 * np.abs(signal.x).max(), x, 0.0)


def _lobe(mean: Array, peak: int) -> tuple[int, int]:
    """First and last place around a peak where the curve is above half of it."""
    above = np.sign(mean[peak]) * mean > abs(mean[peak]) / 2
    below = np.flatnonzero(~above)
    before, after = below[below < peak], below[below > peak]
    return int(before[-1]) + 1 if len(before) else 0, int(after[0]) - 1 if len(after) else len(mean) - 1


def _vertex(before: float, at: float, after: float) -> float:
    """Where the parabola through three points has its vertex, from the middle one, in their distance."""
    bend = before - 2 * at + after
    return 0.0 if bend == 0 else float(0.5 * (before - after) / bend)


def _named(card: Card, name: str) -> tuple[Stream, Channel]:
    """A stream and a channel of it, by `stream.channel` or by a stream of one channel; of media the first."""
    of_stream, _, of_channel = name.partition(".")
    stream = card.stream(of_stream)
    if stream is None:
        names = [one.name for one in card.streams]
        raise DataError("JG-data-008", where=CARD_FILE, stream=of_stream, nearest=nearest(of_stream, names) or "-")
    channels = {channel.name: channel for channel in stream.channels}
    if not of_channel and (len(channels) == 1 or stream.media):
        return stream, stream.channels[0]
    if of_channel not in channels:
        near = difflib.get_close_matches(of_channel, channels, 1) or [*channels]
        raise DataError("JG-data-184", where=name, stream=stream.name, nearest=f"{stream.name}.{near[0]}")
    return stream, channels[of_channel]


def _signals(view: EpisodeView, stream: Stream, channel: Channel) -> Callable[[str], Signal]:
    """From an episode's id to what the channel shows in it."""
    nothing = Signal(np.empty(0), np.empty(0))
    if stream.media is None:
        rows = view.stream(stream.name).select(["episode_id", "t", channel.name]).drop_null()
        ids = rows["episode_id"].combine_chunks().dictionary_encode()
        t, x = rows["t"].to_numpy(), rows[channel.name].to_numpy().astype(np.float64)
        edges = np.flatnonzero(np.diff(ids.indices.to_numpy(), prepend=-1, append=-1))
        names = [ids.dictionary[ids.indices[int(edge)].as_py()].as_py() for edge in edges[:-1]]
        spans = {name: slice(edges[place], edges[place + 1]) for place, name in enumerate(names)}
        return lambda episode: Signal(t[spans[episode]], x[spans[episode]]) if episode in spans else nothing

    number = stream.channels.index(channel)

    def heard_or_seen(episode: str) -> Signal:
        try:
            values = view.media(stream.name, episode)
        except DataError as error:
            if error.code != "JG-data-016":
                raise
            return nothing
        if stream.media == "pictures":
            bright: Array = values.mean(axis=(0, 2, 3), dtype=np.float64)
            return Signal(np.arange(len(bright)) / stream.rate_hz, bright)
        size = max(1, round(_BIN_S * stream.rate_hz))
        samples: Array = values[number].astype(np.float64)
        loud: Array = np.sqrt(
            np.square(samples[: len(samples) // size * size].reshape(-1, size)).mean(axis=1, dtype=np.float64)
        )
        middle = ((np.arange(len(loud), dtype=np.float64) + 0.5) * size - 0.5) / stream.rate_hz
        return Signal(middle, loud)

    return heard_or_seen
