"""What a model line may read: channels that are reduced, and streams in windows.

The law: an input says by itself, of a process' stream, which shape and which public range its values have.
"""

from math import floor
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import Discriminator, NegativeFloat, PositiveFloat, PositiveInt, Tag, model_validator
from pydantic import Field as Key

from jangin.codec.document import Document
from jangin.errors import DataError
from jangin.records.card import Channel, Range, Stream

__all__ = [
    "Input",
    "PictureInput",
    "ReducedInput",
    "Reduction",
    "SpectrumInput",
    "StreamInput",
    "WindowInput",
    "refuse_media",
]

Reduction = Literal["mean", "std", "last", "slope", "max"]


class ReducedInput(Document):
    """Channels, each reduced to a few numbers an example.

    Attributes:
        channel: `stream.channel`, or a pattern such as `flame.*`.
        reduce: over the samples (t, x) that an example has: `mean`; `std`, the root of the mean square about
            the mean; `last`; `max`; `slope`, sum((t - mean t)(x - mean x)) / sum((t - mean t)^2), per second.
        window_s: only the last seconds of an episode count, or of a window where the line has windows; all of it
            where absent. A slope needs it: its public range is one full scale in that time, up or down.
    """

    channel: str
    reduce: Annotated[tuple[Reduction, ...], Key(min_length=1)]
    window_s: PositiveFloat | None = None

    @model_validator(mode="after")
    def _slope_has_window(self) -> Self:
        if "slope" in self.reduce and self.window_s is None:
            raise ValueError("a slope needs window_s; its public range is one full scale in that time")
        return self


class _Windows(Document):
    """All channels of one stream, in windows over time.

    Attributes:
        stream: its name.
        window_s: length of a window.
        hop_s: from the start of one window to that of the next; the first starts with the episode.
    """

    stream: str
    window_s: PositiveFloat
    hop_s: PositiveFloat


class StreamInput(_Windows):
    """The samples of a stream's rows.

    Attributes:
        rate_hz: samples a second after linear interpolation.
    """

    rate_hz: PositiveFloat

    @property
    def length(self) -> int:
        """Samples in a window."""
        return max(1, round(self.window_s * self.rate_hz))

    @property
    def of_channel(self) -> tuple[int, ...]:
        """Shape of one channel's window, the first axis in steps of the part's own."""
        return 1, self.length

    def limits(self, channel: Channel) -> Range:
        """Public range of its values."""
        return channel.range

    def check(self, line: str, stream: Stream) -> None:
        """Refuse a stream that has no rows.

        Raises:
            DataError: JG-data-212.
        """
        refuse_media(line, stream)


class SpectrumInput(_Windows):
    """How loud a sound or a vibration is in bands of frequency over time: `models.spectra.band_levels`.

    Attributes:
        bands: each as much wider than the one below it, from `low_hz` to `high_hz`.
        frames: steps of time in a window, which overlap by half.
        low_hz: above 0.
        high_hz: at most half the stream's rate.
        floor_db: what is fainter counts as that; 0 dB is a sine of full scale.
    """

    bands: PositiveInt
    frames: PositiveInt
    low_hz: PositiveFloat
    high_hz: PositiveFloat
    floor_db: NegativeFloat = -100.0

    @property
    def of_channel(self) -> tuple[int, ...]:
        """As of `StreamInput`."""
        return 1, self.bands, self.frames

    def limits(self, channel: Channel) -> Range:
        """Public range of its values, dB of full scale."""
        return self.floor_db, 0.0

    def check(self, line: str, stream: Stream) -> None:
        """Refuse a stream without frequencies, and bands or frames that it cannot show.

        Raises:
            DataError: JG-data-212, JG-data-213.
        """
        if stream.media != "sound" and (stream.media is not None or stream.kind != "vibration"):
            _refuse_stream(line, stream, "bands")
        samples = floor(2 * self.window_s * stream.rate_hz / (self.frames + 1))
        if not (self.low_hz < self.high_hz <= stream.rate_hz / 2 and samples >= _FEWEST_SAMPLES):
            raise DataError(
                "JG-data-213",
                where=line,
                stream=stream.name,
                low=self.low_hz,
                high=self.high_hz,
                half=stream.rate_hz / 2,
                samples=samples,
                fewest=_FEWEST_SAMPLES,
            )


class PictureInput(_Windows):
    """Pictures, evenly spaced over a window and averaged down: `models.spectra.averaged_down`.

    Attributes:
        frames: pictures in a window.
        height: px, at most that of the stream's.
        width: px, at most that of the stream's.
    """

    frames: PositiveInt
    height: PositiveInt
    width: PositiveInt

    @property
    def of_channel(self) -> tuple[int, ...]:
        """As of `StreamInput`."""
        return self.frames, self.height, self.width

    def limits(self, channel: Channel) -> Range:
        """Public range of its values."""
        return channel.range

    def check(self, line: str, stream: Stream) -> None:
        """Refuse a stream without pictures, and pictures larger than its own.

        Raises:
            DataError: JG-data-212, JG-data-214.
        """
        if stream.frame is None:
            _refuse_stream(line, stream, "pictures")
        if self.height > stream.frame.height or self.width > stream.frame.width:
            wanted, found = (f"{frame.width} x {frame.height}" for frame in (self, stream.frame))
            raise DataError("JG-data-214", where=line, stream=stream.name, wanted=wanted, found=found)


_FEWEST_SAMPLES = 8  # of a step of time: fewer tell low from high, and no more
WindowInput = StreamInput | SpectrumInput | PictureInput
"""What is read in windows."""


def _refuse_stream(line: str, stream: Stream, wanted: str) -> NoReturn:
    raise DataError("JG-data-212", where=line, stream=stream.name, wanted=wanted, found=stream.media or stream.kind)


def refuse_media(line: str, stream: Stream) -> None:
    """Refuse a stream that has no rows.

    Raises:
        DataError: JG-data-212.
    """
    if stream.media is not None:
        _refuse_stream(line, stream, "rows")


_TELLING: dict[str, set[str]] = {
    "SpectrumInput": {"bands", "low_hz", "high_hz", "floor_db"},
    "PictureInput": {"height", "width"},
    "StreamInput": {"stream"},
}
"""Keys by which an input is known, the first that has one."""


def _kind(entry: Any) -> str:
    """Which of the inputs is meant, so that messages speak of that one."""
    if isinstance(entry, Document):
        return type(entry).__name__
    keys = set(entry) if isinstance(entry, dict) else set()
    return next((kind for kind, telling in _TELLING.items() if telling & keys), "ReducedInput")


Input = Annotated[
    Annotated[ReducedInput, Tag("ReducedInput")]
    | Annotated[StreamInput, Tag("StreamInput")]
    | Annotated[SpectrumInput, Tag("SpectrumInput")]
    | Annotated[PictureInput, Tag("PictureInput")],
    Discriminator(_kind),
]
