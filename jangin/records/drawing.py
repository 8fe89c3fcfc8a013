"""Small pictures of records, as text of a page: curves and bars as SVG, spectrograms and frames as PNG in the page.

The law: a picture needs nothing from elsewhere, and no sample is lost by drawing fewer points than there are: each
column of pixels spans from the lowest to the highest sample in it.
"""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLOURS", "bars", "contact_sheet", "curves", "envelope", "spectrogram"]

Array = NDArray[np.float64]

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73")
"""Of the first, second and third curve: Okabe and Ito's, told apart by colour-blind people too."""

_WIDTH, _HEIGHT = 280, 70
_FRAMES = 12
_FLOOR_DB = 60.0
_HEAT: Final = np.array([(4, 4, 20), (70, 20, 110), (200, 60, 70), (250, 170, 50), (255, 250, 200)], np.float64)


def envelope(t: Array, x: Array, start: float, stop: float, columns: int) -> tuple[Array, Array]:
    """Lowest and highest sample of each equal part of [start, stop], two of shape (columns,); NaN where there is none.

    Args:
        t: times, shape (samples,).
        x: values, NaN where one is missing, shape (samples,).
        start: the one end; samples before it count in the first part.
        stop: the other; samples after it count in the last part.
        columns: at least one.
    """
    low, high = np.full(columns, np.nan), np.full(columns, np.nan)
    there = ~np.isnan(x)
    place = ((t[there] - start) / max(stop - start, 1e-12) * columns).clip(0, columns - 1).astype(np.int64)
    np.fmin.at(low, place, x[there])
    np.fmax.at(high, place, x[there])
    return low, high


def curves(
    signals: Sequence[tuple[Array, Array]], limits: tuple[float, float], colours: Sequence[str] = COLOURS
) -> str:
    """SVG of up to three signals over one axis of time; where they leave the public limits there is a red line.

    Args:
        signals: (times in s, values), each of shape (samples,).
        limits: public (low, high); the picture's own height is that of the values.
        colours: of the signals.
    """
    given = [(t, x) for t, x in signals if len(t) and not np.isnan(x).all()]
    if not given:
        return ""
    start, stop = min(float(t.min()) for t, _ in given), max(float(t.max()) for t, _ in given)
    low, high = min(float(np.nanmin(x)) for _, x in given), max(float(np.nanmax(x)) for _, x in given)
    margin = (high - low) * 0.05 or max(abs(high), 1.0) * 0.05
    bottom, top = low - margin, high + margin

    def y(values: Array) -> Array:
        return np.round((top - values) / (top - bottom) * _HEIGHT, 1)

    drawn = [
        f'<path d="{_path(t, x, start, stop, y)}" stroke="{colour}"/>'
        for (t, x), colour in zip(given, colours, strict=False)
    ]
    crossed = [f"M0 {y(np.array([limit]))[0]:g}H{_WIDTH}" for limit in limits if bottom < limit < top]
    over = [f'<path d="{"".join(crossed)}" class="limit"/>'] if crossed else []
    ends = [f'<text x="2" y="{place}">{value:.4g}</text>' for place, value in ((9, high), (_HEIGHT - 3, low))]
    until = f'<text x="{_WIDTH - 2}" y="{_HEIGHT - 3}" text-anchor="end">{stop:.3g} s</text>'
    return _svg("".join([*drawn, *over, *ends, until]), f"{start:.3g} s ... {stop:.3g} s, {low:.4g} ... {high:.4g}")


def _path(t: Array, x: Array, start: float, stop: float, y: Any) -> str:
    """Joined points where there are few, else a stroke a column that meets the one before it."""
    there = ~np.isnan(x)
    if there.sum() <= _WIDTH:
        across = np.round((t[there] - start) / max(stop - start, 1e-12) * _WIDTH, 1)
        points = [f"{one:g} {other:g}" for one, other in zip(across, y(x[there]), strict=True)]
        return "M" + "L".join(points) + ("h.5" if len(points) == 1 else "")
    low, high = envelope(t, x, start, stop, _WIDTH)
    before_low, before_high = np.r_[np.nan, low[:-1]], np.r_[np.nan, high[:-1]]
    low, high = (
        np.fmin(low, np.where(before_high < low, before_high, low)),
        np.fmax(high, np.where(before_low > high, before_low, high)),
    )
    tops, bottoms = y(high), y(low)
    return "".join(
        f"M{place} {tops[place]:g}V{bottoms[place] + 0.5:g}" for place in np.flatnonzero(~np.isnan(low)).tolist()
    )


def bars(counts: Sequence[int], names: Sequence[str], outside: int = 0) -> str:
    """SVG of a histogram; what lies outside the public range is one more bar, in red.

    Args:
        counts: of each bar.
        names: what each bar is, told when it is pointed at.
        outside: how many lie outside.
    """
    shown = [*counts, *([outside] if outside else [])]
    most, width = max([*shown, 1]), _WIDTH / max(len(shown), 1)
    labels = [*names, "outside the public range"]
    drawn = []
    for place, number in enumerate(shown):
        height = number / most * (_HEIGHT - 4)
        colour = "#b3261e" if place == len(counts) else COLOURS[0]
        drawn.append(
            f'<rect x="{place * width + 0.5:.1f}" y="{_HEIGHT - height:.1f}" width="{max(width - 1, 0.5):.1f}" '
            f'height="{height:.1f}" fill="{colour}"><title>{_escaped(labels[place])}: {number}</title></rect>'
        )
    text = f'<text x="{_WIDTH - 2}" y="9" text-anchor="end">{most}</text>' if any(shown) else ""
    return _svg("".join(drawn) + text, f"{sum(shown)}")


def spectrogram(x: Array) -> str:
    """PNG of the power of sound, time to the right and frequency upwards, from its maximum down to 60 dB below it.

    Args:
        x: samples, shape (samples,), at least 64.
    """
    size = min(256, len(x))
    hop = max(size // 2, len(x) // _WIDTH)  # of a long recording one window a column of pixels
    windows = x[np.arange(0, len(x) - size + 1, hop)[:, None] + np.arange(size)] * np.hanning(size)
    power = np.abs(np.fft.rfft(windows, axis=1).T) ** 2
    decibel = 10 * np.log10(power / max(float(power.max()), 1e-30) + 1e-30)
    shade = (1 + decibel / _FLOOR_DB).clip(0, 1)[::-1] * (len(_HEAT) - 1)
    colours = [np.interp(shade, np.arange(len(_HEAT)), _HEAT[:, channel]) for channel in range(3)]
    return _png(np.stack(colours, axis=-1).round().astype(np.uint8))


def contact_sheet(frames: NDArray[np.float32], limits: Sequence[tuple[float, float]]) -> str:
    """PNG of up to twelve frames of a film side by side, from the first to the last.

    Args:
        frames: shape (channels, frames, height, width), in the channels' units; one channel or three.
        limits: public (low, high) of each channel: black and white.
    """
    chosen = np.unique(np.linspace(0, frames.shape[1] - 1, min(_FRAMES, frames.shape[1])).round().astype(np.int64))
    low, high = (np.array(ends)[:, None, None, None] for ends in zip(*limits, strict=True))
    shade = ((frames[:, chosen] - low) / (high - low) * 255).clip(0, 255).round().astype(np.uint8)
    strip = np.concatenate([np.pad(shade[:, place], ((0, 0), (0, 0), (0, 1))) for place in range(len(chosen))], axis=2)
    return _png(np.moveaxis(strip, 0, -1) if len(strip) == 3 else strip[0])


def _svg(inside: str, says: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{_escaped(says)}">{inside}</svg>'


def _png(pixels: NDArray[np.uint8]) -> str:
    """An address that is the picture itself."""
    from PIL import Image

    held = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(held, "PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
