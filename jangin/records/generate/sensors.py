"""What a site's sensors make of the truth: gain and offset of the site, offset of the episode, noise, full scale.

The law: a sensor's errors are shares of its channel's public range, the same at every site.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.random import Generator
from numpy.typing import NDArray

from jangin.records.card import Stream
from jangin.records.media import Counts

__all__ = ["Made", "measured", "sample_times"]

Array = NDArray[np.float64]

# As shares of a channel's full scale, the width of its public range (chosen).
SITE_OFFSET, SITE_GAIN, EPISODE_OFFSET, SAMPLE_NOISE = 0.01, 0.02, 0.015, 0.02
ANALYSER_OFF = 0.02  # share of episodes in which an optional channel has no reading, chosen


class Made(NamedTuple):
    """One site's records in the form of `write_records`.

    Attributes:
        episodes: one row an episode.
        streams: by name, samples of the streams that are rows.
        media: by name and episode id, counts of the streams that are media.
    """

    episodes: pa.Table
    streams: dict[str, pa.Table]
    media: dict[str, dict[str, Counts]]


def sample_times(stream: Stream, seconds: float) -> Array:
    """When a stream is sampled, in s from the start of an episode of `seconds`, shape (samples,)."""
    return np.arange(round(seconds * stream.rate_hz)) / stream.rate_hz


def measured(
    rng: Generator, stream: Stream, cues: Mapping[str, Array], times: Array, episode_ids: pa.Array
) -> pa.Table:
    """A stream's rows as its sensors show them.

    Args:
        rng: of the errors.
        stream: its channels and their full scales.
        cues: the truth by channel, (episodes, samples) or (episodes, 1).
        times: of the samples, s, (samples,).
        episode_ids: (episodes,).
    """
    episodes, samples = len(episode_ids), len(times)
    rows = np.repeat(np.arange(episodes), samples)
    columns = {"episode_id": episode_ids.take(pa.array(rows)), "t": pa.array(np.tile(times, episodes))}
    for channel in stream.channels:
        low, high = channel.range
        gain, offset = 1 + SITE_GAIN * rng.standard_normal(), SITE_OFFSET * rng.standard_normal()
        error = offset + EPISODE_OFFSET * rng.standard_normal((episodes, 1))
        noise = SAMPLE_NOISE * rng.standard_normal((episodes, samples), dtype=np.float32)
        middle = (low + high) / 2
        shown = middle + gain * (cues[channel.name] - middle) + (high - low) * (error + noise)
        shown = np.clip(shown, low, high).astype(np.float32)
        if channel.optional:
            shown[rng.random(episodes) < ANALYSER_OFF] = np.nan
        columns[channel.name] = pa.array(shown.ravel(), from_pandas=True)
    return pa.table(columns)
