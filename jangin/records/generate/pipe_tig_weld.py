"""TIG welding of pipes by hand, `pipe.tig_weld`: the arc's sound and the pool's pictures beside its meters.

The law: `arc_weld`'s; sound and pictures show the same pass as the meters do, faults at the same moments.

Sources, beside those of `arc_weld`:
    Drouet and Nadeau, Journal of Physics E 15 (1982) 268-269: the sound of an arc is the rate of its power.
    Xiao and den Ouden, Welding Journal 69 (1990) 289s-293s and 72 (1993) 428s-434s: the pool's natural frequency.
    Lighthill, Proceedings of the Royal Society A 211 (1952) 564-587: a jet's intensity goes with its speed's 8th power.
    Heiple and Roper, Welding Journal 61 (1982) 97s-102s: the plate's sulphur shapes the pool.
"""

import numpy as np
import pyarrow as pa
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from jangin.records.card import Stream
from jangin.records.generate.arc_weld import (
    LOT_WIDTH,
    REGIONS,
    STEEL_G_MM3,
    WATCH_S,
    Array,
    Trade,
    Welds,
    arc,
    draw_welds,
    flickering,
    gas_flow,
    melted_plate,
    motion,
    rows,
    streams,
)
from jangin.records.generate.regime import centre
from jangin.records.generate.sensors import Made, sample_times
from jangin.records.media import Counts
from jangin.records.process import Process

__all__ = ["TRADE", "make_site", "pictures", "pool_frequency", "pool_width", "sound"]

TRADE = Trade(
    arc_voltage=(10.0, 0.04, 0.9),
    arc_length=2.5,
    arc_efficiency=0.6,
    melting_efficiency=0.25,
    wire=1.2,
    wire_yield=1.0,
    layer=2.5,
    bevel=30.0,
    cooling=20.0,
    regime={
        "current": (100.0, 150.0, 2),
        "thickness": (4.0, 7.0, 3),
        "gap": (1.6, 2.6, 5),
        "plate_temperature": (20.0, 120.0, 7),
        "gas_flow": (8.0, 14.0, 11),
        "warmth": (0.0, 1.0, 13),
        "damp": (0.0, 1.0, 17),
        "arc_length": (0.9, 1.1, 19),  # as a share of the procedure's
        "tremor": (0.1, 0.3, 23),  # m/s2
        "weave": (0.8, 1.6, 29),  # mm to either side
    },
)
CUES = {"arc": arc, "motion": motion}

SURFACE_TENSION, LIQUID_DENSITY = 1.2, 7000.0  # N/m and kg/m3 of liquid steel, Kou
USUAL_FLOW, USUAL_POWER = 11.0, 1800.0  # L/min, W
HISS, TONE, HUM, CRACKLE, SHOP = 0.12, 0.10, 0.06, 0.8, 0.05  # Pa, chosen
MICROPHONE_GAIN = 0.05  # deviation of a site's gain, chosen
PIXEL_MM = 0.6  # chosen
CAMERA_NOISE = 0.03  # of full scale, chosen


def pool_width(welds: Welds) -> Array:
    """Width in mm of a pool whose cross-section, a half circle, is what melts on each mm of the way; by the lot."""
    metal = melted_plate(welds.trade, welds.state.power) + welds.values["wire_feed"] * welds.trade.gram_per_metre
    area = metal / (STEEL_G_MM3 * welds.values["travel"])
    width: Array = np.sqrt(8 * area / np.pi) * LOT_WIDTH[welds.values["base_lot"].astype(int)]
    return width


def pool_frequency(width: Array) -> Array:
    """Hz of a pool of `width` mm that has not gone through: 5.84 sqrt(gamma / (rho D^3)) (Xiao and den Ouden)."""
    return 5.84 * np.sqrt(SURFACE_TENSION / (LIQUID_DENSITY * (width / 1000) ** 3))


def sound(rng: Generator, stream: Stream, welds: Welds) -> NDArray[np.int16]:
    """What a microphone beside the torch hears, counts of shape (passes, samples).

    The gas jet's hiss, its pressure going with the 4th power of the flow (Lighthill); the pool's swing and the
    mains' ripple, by the rate of the arc's power (Drouet and Nadeau); a crackle at each break of the arc; the
    workshop's hum.
    """
    times, coarse = sample_times(stream, WATCH_S).astype(np.float32), np.arange(0, WATCH_S, 0.05)
    passes, samples = len(welds.fault), len(times)
    phase = rng.uniform(0, 2 * np.pi, (3, passes)).astype(np.float32)
    flow, hertz = np.minimum(gas_flow(welds, coarse) / USUAL_FLOW, 1.3), pool_frequency(pool_width(welds))
    power = welds.values["power"] / USUAL_POWER
    ring = np.arange(round(0.01 * stream.rate_hz)) / stream.rate_hz
    crackle = (CRACKLE * np.exp(-ring / 0.002) * np.sin(2 * np.pi * 1800 * ring)).astype(np.float32)
    full = (1 + MICROPHONE_GAIN * rng.standard_normal()) * 2**15 / stream.channels[0].range[1]
    counts = np.empty((passes, samples), np.int16)

    def swing(pascal: float, hertz: float, phase: float) -> NDArray[np.float32]:
        wave: NDArray[np.float32] = np.float32(pascal) * np.sin(np.float32(2 * np.pi * hertz) * times + phase)
        return wave

    for i in range(passes):
        hiss = np.diff(rng.standard_normal(samples + 1, dtype=np.float32)) / np.float32(np.sqrt(2))
        heard = HISS * hiss * np.interp(times, coarse, flow[i]).astype(np.float32) ** 4
        heard += swing(TONE * power[i], hertz[i], phase[0, i]) + swing(HUM * power[i], 120, phase[1, i])
        heard += swing(SHOP, 47, phase[2, i])
        for at in (welds.flicker[i][np.isfinite(welds.flicker[i])] * stream.rate_hz).astype(int):
            heard[at : at + len(crackle)] += crackle[: samples - at]
        counts[i] = np.clip(np.round(heard * np.float32(full)), -(2**15), 2**15 - 1)
    return counts


def pictures(rng: Generator, stream: Stream, welds: Welds) -> NDArray[np.uint8]:
    """What a camera over the torch sees, counts of shape (passes, frames, height, width).

    Travel goes to the left. A bright pool, half a circle before the arc and half an ellipse behind it, under the
    arc's glare; oxide darkens it where the gas has failed; an undercut is two dark furrows along its flanks; a
    broken arc glares less.

    Raises:
        ValueError: a stream without a frame.
    """
    if stream.frame is None:
        raise ValueError(f"Expected a stream of pictures: {stream.name!r}.")
    high, wide, times = stream.frame.height, stream.frame.width, sample_times(stream, WATCH_S)
    shape = (len(welds.fault), len(times), 1, 1)
    y = (np.arange(high) - (high - 1) / 2)[:, None] * PIXEL_MM
    x = (np.arange(wide) - 0.35 * wide) * PIXEL_MM
    half = pool_width(welds)[:, None, None, None] / 2
    sway = (welds["weave"] * np.sin(2 * np.pi * welds["weave_hz"] * times)).reshape(shape) / 2
    behind = np.where(x > 0, 1.8, 1.0)
    edge = np.sqrt(((y - sway) / half) ** 2 + (x / (behind * half)) ** 2)
    pool = 0.55 / (1 + np.exp((edge - 1) / 0.1))
    lost = (1 - gas_flow(welds, times) / welds["gas_flow"]).reshape(shape)
    islands = rng.random((shape[0], 1, high, wide)) < 0.4
    pool *= 1 - 0.6 * lost * islands
    broken = np.minimum(flickering(welds, times, 0.1), 1.0).reshape(shape)
    glare = 0.4 * (1 - 0.8 * broken) * np.exp(-((y - sway) ** 2 + x**2) / (2 * 1.2**2))
    furrow = np.exp(-((np.abs(y - sway) - half) ** 2) / (2 * 0.5**2)) * (x > 0)
    cut = 0.12 * welds.of("undercut")[:, None, None, None] * (times > welds["fault_s"]).reshape(shape) * furrow
    seen = 0.15 + pool + glare - cut + CAMERA_NOISE * rng.standard_normal((*shape[:2], high, wide), dtype=np.float32)
    counts: NDArray[np.uint8] = np.clip(np.round(255 * seen), 0, 255).astype(np.uint8)
    return counts


def make_site(process: Process, site: int, masters: int, episodes: int, seed: int) -> Made:
    """One pipe shop's passes.

    Args:
        process: names streams, channels and their public ranges.
        site: which place among the regimes; regions come in turn.
        masters: they take the passes in turn.
        episodes: passes.
        seed: the world's.
    """
    rng = default_rng(SeedSequence(seed, spawn_key=(site,)))
    region = list(REGIONS.values())[site % len(REGIONS)]
    welds = draw_welds(rng, TRADE, centre(TRADE.regime, site, seed), region, masters, episodes)
    table = rows(rng, process, site, welds, masters)
    ids = table["episode_id"].combine_chunks()
    shown = streams(rng, process, welds, ids, CUES)
    return Made(table, shown, media(rng, process, welds, ids))


def media(rng: Generator, process: Process, welds: Welds, ids: pa.Array) -> dict[str, dict[str, Counts]]:
    """Sound and pictures by stream and episode id, in the form of `write_records`: one channel each."""
    named = {stream.name: stream for stream in process.streams}
    heard, seen = sound(rng, named["sound"], welds), pictures(rng, named["pool"], welds)
    names = ids.to_pylist()
    return {
        "sound": {name: counts[None] for name, counts in zip(names, heard, strict=True)},
        "pool": {name: counts[None] for name, counts in zip(names, seen, strict=True)},
    }
