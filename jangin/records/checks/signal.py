"""Level 2, signal: what is wrong with the samples themselves.

    time        runs backwards, has gaps, goes at another rate than the card says
    values      stand still, stick at full scale, leave the public range, are missing, are of another unit
    sound       clipped, silent
    pictures    all the same, frames missing
    episode     rows or media that do not cover it, or are not there

The law: every bound below is a public constant of this file, and nothing is learnt from the records. What stays within
a range by chance is not seen: 40 Cel that should be 313 K in a channel from 0 to 400 K passes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jangin.records.card import Card, Channel, Field, Stream
from jangin.records.checks.findings import Finding, Severity
from jangin.records.contents import runs
from jangin.records.dataset import EPISODES_FILE
from jangin.records.media import Values

__all__ = ["Rows", "Span", "check_coverage", "check_fields", "check_media", "check_signal"]

RATE_SHARE: Final = 0.01
"""How far the measured rate may lie from the card's."""
GAP_STEPS: Final = 1.5
"""A longer step, in usual steps, is a gap: something is missing, and not only late."""
DEAD_SAMPLES: Final = 10
"""Fewer equal samples may be chance."""
CLIPPED_ROWS: Final = 1e-3
"""Share of an episode's samples at full scale above which a channel is clipped; at least three of them."""
CLIPPED_SOUND: Final = 1e-4
"""The same for sound, whose peaks are rarer."""
MISSING_SHARE: Final = 0.05
"""Share of an episode's samples that may lack."""
SILENT: Final = 4 / 2**15
"""A microphone that never shows more of its full scale gives nothing but the converter's last bits: -78 dB."""
COVERED_SHARE: Final = 0.02
"""How far a stream's end may lie from the episode's, as a share of its duration; two samples always may. It is more
than `RATE_SHARE`, so that a clock that is slow is told of once."""

_PASCAL: Final[Mapping[str, float]] = {"Pa": 1.0, "mbar": 1e2, "kPa": 1e3, "bar": 1e5, "MPa": 1e6}
_ZERO_CELSIUS: Final = 273.15

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Span = tuple[float, float]
"""From when to when a stream covers an episode, in s from its start."""


@dataclass(frozen=True)
class Rows:
    """The rows of one part file by episode, side by side.

    Attributes:
        table: columns of `stream_schema`, without nulls in episode_id and t.
        ids: each episode's, in the order of its rows.
        starts: the first row of each, (episodes,).
        stops: behind the last row of each.
    """

    table: pa.Table
    ids: Sequence[str]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    @classmethod
    def of(cls, table: pa.Table) -> "Rows":
        """The rows of a table; where those of an episode lie apart they are moved together, their order kept."""
        found = list(runs(table["episode_id"]))
        if len({one[0] for one in found}) < len(found):
            codes = np.unique(table["episode_id"].to_numpy().astype(str), return_inverse=True)[1]
            table = table.take(pa.array(np.argsort(codes, kind="stable")))
            found = list(runs(table["episode_id"]))
        ids, starts, stops = zip(*found, strict=True)
        return cls(table, ids, np.array(starts), np.array(stops))

    @property
    def times(self) -> Floats:
        """Of every row, in s."""
        times: Floats = self.table["t"].to_numpy()
        return times

    @property
    def steps(self) -> Floats:
        """From each row to the next one of its episode, in s; NaN at its last row."""
        steps = np.diff(self.times, append=np.nan)
        steps[self.stops - 1] = np.nan
        return steps

    def in_order(self) -> pa.Table:
        """The table with each episode's rows in order of t."""
        if not np.any(self.steps < 0):
            return self.table
        episode = np.repeat(np.arange(len(self.ids)), self.stops - self.starts)
        return self.table.take(pa.array(np.lexsort((self.times, episode))))

    def spans(self, rate_hz: float) -> dict[str, Span]:
        """What they cover of each episode: to one sample behind the last."""
        first, last = (limit.reduceat(self.times, self.starts) for limit in (np.minimum, np.maximum))
        covered = zip(self.ids, first.tolist(), (last + 1 / rate_hz).tolist(), strict=True)
        return {episode: (start, stop) for episode, start, stop in covered}


def check_signal(rows: Rows, stream: Stream, file: str) -> Iterator[Finding]:
    """What is wrong with the rows of one part file.

    Args:
        rows: of the file, whose schema has passed.
        stream: what the card says of it.
        file: its name in the folder.
    """
    yield from _check_times(rows, stream, file)
    for channel in stream.channels:
        if channel.name in rows.table.column_names:
            yield from _check_channel(rows, stream, channel, file)


def check_fields(table: pa.Table, fields: Mapping[str, Field]) -> Iterator[Finding]:
    """Numbers of episodes.parquet that lie outside their public range, or are of another unit.

    Args:
        table: of episodes, whose schema has passed.
        fields: its columns; actions outside their range are errors of level 1.
    """
    ids = table["episode_id"].to_pylist()
    for name, field in fields.items():
        if field.range is None or name.startswith("action.") or name not in table.column_names:
            continue
        values = table[name].to_numpy().astype(np.float64)
        there = np.flatnonzero(~np.isnan(values))
        if len(there):
            given = [ids[row] for row in there]
            yield from _check_limits(field, values[there], values[there], name, given, EPISODES_FILE)


def check_media(values: Values, stream: Stream, episode: str, file: str) -> Iterator[Finding]:
    """What is wrong with the sound or the pictures of one episode.

    Args:
        values: (channels, samples) or (channels, frames, height, width) in the channels' units.
        stream: what the card says of it.
        episode: its id.
        file: its name in the folder.
    """
    if stream.media == "sound":
        for channel, samples in zip(stream.channels, values, strict=True):
            place, shares = f"{stream.name}.{channel.name}", np.abs(samples) / np.float32(channel.range[1])
            clipped = np.array([_stuck(np.count_nonzero(shares >= 1 - 2**-15), samples.size, CLIPPED_SOUND)])
            yield from _report(
                "warning", "JG-data-140", place, clipped, [episode], file, share=_percent(shares >= 1 - 2**-15)
            )
            silent = np.array([not samples.size or shares.max() <= SILENT])
            yield from _report("warning", "JG-data-141", place, silent, [episode], file)
    elif values.shape[1] > 1:
        same = np.array([bool((values == values[:, :1]).all())])
        yield from _report("warning", "JG-data-142", stream.name, same, [episode], file, frames=values.shape[1])


def check_coverage(card: Card, table: pa.Table, spans: Mapping[str, Mapping[str, Span]]) -> Iterator[Finding]:
    """Whether every stream covers every episode; events need not.

    Args:
        card: what the folder holds.
        table: of episodes, whose schema has passed.
        spans: by stream and episode id, what is covered.
    """
    ids, durations = table["episode_id"].to_pylist(), table["duration_s"].to_numpy().astype(np.float64)
    for stream in card.streams:
        covered = spans.get(stream.name, {})
        if stream.kind == "event" or not covered:
            continue
        there = np.array([episode in covered for episode in ids])
        yield from _report("warning", "JG-data-138", stream.name, ~there, ids, EPISODES_FILE)
        starts, stops = np.array([covered.get(one, (np.nan, np.nan)) for one in ids]).T
        slack = np.maximum(2 / stream.rate_hz, COVERED_SHARE * durations)
        short, long = stops < durations - slack, (stops > durations + slack) | (np.abs(starts) > slack)
        frames = stream.media == "pictures"
        if frames:
            wanted, found = np.round(durations * stream.rate_hz), np.round(stops * stream.rate_hz)
            yield from _report(
                "warning", "JG-data-143", stream.name, short, ids, EPISODES_FILE, wanted=wanted, found=found
            )
        yield from _report(
            "warning",
            "JG-data-137",
            stream.name,
            long if frames else short | long,
            ids,
            EPISODES_FILE,
            start=starts,
            stop=stops,
            duration=durations,
        )


def _check_times(rows: Rows, stream: Stream, file: str) -> Iterator[Finding]:
    """Time that runs backwards, another rate, gaps; of events only that they are not more than there can be."""
    events, steps, times = stream.kind == "event", rows.steps, rows.times
    counts, taken = rows.stops - rows.starts, times[rows.stops - 1] - times[rows.starts]
    least, most = (limit.reduceat(steps, rows.starts) for limit in (np.fmin, np.fmax))
    backwards = least < 0 if events else least <= 0
    yield from _report("error", "JG-data-130", stream.name, backwards, rows.ids, file)
    timed = ~backwards & (counts > 2) & (taken > 0)
    rates = np.divide(counts - 1, taken, out=np.full(len(taken), stream.rate_hz), where=timed)
    gaps = np.zeros(len(counts), np.int64)
    if not events:
        even = (np.abs(rates / stream.rate_hz - 1) <= RATE_SHARE) & (most <= GAP_STEPS / stream.rate_hz)
        for place in np.flatnonzero(timed & ~even):
            own = steps[rows.starts[place] : rows.stops[place] - 1]
            usual = own[own <= GAP_STEPS * np.median(own)].mean()
            rates[place], gaps[place] = 1 / usual, np.count_nonzero(own > GAP_STEPS * usual)
    off = rates / stream.rate_hz - 1
    wrong = off > RATE_SHARE if events else np.abs(off) > RATE_SHARE
    yield from _report(
        "warning", "JG-data-132", stream.name, wrong, rows.ids, file, found=rates, expected=stream.rate_hz
    )
    yield from _report("warning", "JG-data-131", stream.name, gaps > 0, rows.ids, file, gaps=gaps, longest=most)


def _check_channel(rows: Rows, stream: Stream, channel: Channel, file: str) -> Iterator[Finding]:
    """Values of one channel that lack, stand still, stick at full scale, lie beyond it, or are of another unit."""
    place, column = f"{stream.name}.{channel.name}", rows.table[channel.name]
    values, counts = column.to_numpy(), rows.stops - rows.starts
    there = counts
    if column.null_count:
        lacking = np.add.reduceat(np.isnan(values), rows.starts, dtype=np.int64)
        there = counts - lacking
        given = there > 0 if channel.optional else counts > 0  # what may lack may lack for a whole episode
        shares = lacking / counts
        wrong = given & (shares > MISSING_SHARE)
        yield from _report("warning", "JG-data-136", place, wrong, rows.ids, file, share=np.round(100 * shares, 1))
    least, most = (limit.reduceat(values, rows.starts) for limit in (np.fmin, np.fmax))
    still = (least == most) & (there >= DEAD_SAMPLES) & (stream.kind != "event")
    yield from _report("warning", "JG-data-133", place, still, rows.ids, file, value=least)
    low, high = np.float32(channel.range[0]), np.float32(channel.range[1])
    for end in _full_scale(channel):
        if (most >= high if end == channel.range[1] else least <= low).any():
            number = np.add.reduceat(values == np.float32(end), rows.starts, dtype=np.int64)
            stuck = _stuck(number, there, CLIPPED_ROWS)
            shares = np.round(100 * number / counts, 1)
            yield from _report("warning", "JG-data-134", place, stuck, rows.ids, file, share=shares, value=end)
    yield from _check_limits(channel, least, most, place, rows.ids, file)


def _check_limits(
    named: Channel | Field, least: Floats, most: Floats, place: str, ids: Sequence[str], file: str
) -> Iterator[Finding]:
    """Episodes whose values, from `least` to `most`, lie outside the public range, or in it by another unit."""
    low, high = named.range or (-np.inf, np.inf)
    outside = (least < np.float32(low)) | (most > np.float32(high))
    if not outside.any():
        return
    swapped, units = np.zeros(len(outside), bool), set()
    for number in np.flatnonzero(outside):
        likely = _other_units(named.unit, (low, high), float(least[number]), float(most[number]))
        swapped[number] = bool(likely)
        units |= {*likely}
    yield from _report(
        "error", "JG-data-139", place, swapped, ids, file, unit=named.unit, likely=", ".join(sorted(units)), value=most
    )
    beyond = np.where(most > high, most, least)
    wrong = outside & ~swapped
    yield from _report(
        "warning", "JG-data-135", place, wrong, ids, file, low=low, high=high, unit=named.unit, value=beyond
    )


def _other_units(unit: str, limits: Span, least: float, most: float) -> list[str]:
    """The units in which values that lie wholly outside a range would lie wholly in it.

    Of pressures the values must lie nearer to where the other unit puts the range than to the range, by ratio: else
    any value too high for a range from 0 would fit in it by some smaller unit.
    """
    low, high = limits
    if low <= most and least <= high:
        return []
    if unit in ("Cel", "K"):
        shift = -_ZERO_CELSIUS if unit == "Cel" else _ZERO_CELSIUS
        return ["K" if unit == "Cel" else "Cel"] if low <= least + shift and most + shift <= high else []
    likely = []
    for other, pascal in _PASCAL.items() if unit in _PASCAL else ():
        factor = pascal / _PASCAL[unit]
        near = least > high / factor**0.5 if factor < 1 else most < low / factor**0.5
        if other != unit and near and low <= least * factor and most * factor <= high:
            likely.append(other)
    return likely


def _full_scale(channel: Channel) -> list[float]:
    """The ends of a range where a sensor sticks: 0 is nothing, and all of 1 or of 100 % is everything."""
    low, high = channel.range
    whole = {"1": 1.0, "%": 100.0}.get(channel.unit)
    return [end for end in (low, high) if end != 0 and end != whole]


def _stuck(number: Any, of: Any, share: float) -> Any:
    """Whether so many samples at full scale are more than a peak."""
    return (number >= 3) & (number > share * of)


def _percent(these: Bools) -> float:
    return round(100 * float(these.mean()), 2) if these.size else 0.0


def _report(
    severity: Severity, code: str, where: str, wrong: Any, ids: Sequence[str], file: str, **values: object
) -> Iterator[Finding]:
    """One finding for the episodes that are `wrong`: how many, the first one, and its part of what is an array."""
    places = np.flatnonzero(wrong)
    if len(places):
        first = int(places[0])
        said = {name: _said(one[first] if isinstance(one, np.ndarray) else one) for name, one in values.items()}
        yield Finding(severity, code, where=where, number=len(places), episode=ids[first], file=file, **said)


def _said(value: Any) -> Any:
    """A number as people read it: four digits, and no point where nothing follows."""
    if isinstance(value, np.floating | float):
        value = float(f"{value:.4g}")
        return int(value) if value.is_integer() else value
    return int(value) if isinstance(value, np.integer) else value
