"""Media of an episode: a file of sound, or of pictures, beside the rows of Parquet.

The law: a file holds counts of full scale, and the card's public range says what full scale is; what is written and
read again is the same to the last count. Sample or frame i stands at t = i / rate_hz.

| media | file | counts |
| sound | .flac, .wav | of 16 or 24 bits; value = count / 2^(bits - 1) * high |
| pictures | .png, the frames one below another | of 8 or 16 bits; value = low + (high - low) * count / (2^bits - 1) |
| pictures | .mp4, .avi, as they came | of 8 bits after decoding, which need not be exact |

Imported lazily: soundfile (libsndfile) for sound, Pillow for PNG, PyAV (FFmpeg) for video.
"""

from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from jangin.errors import DataError, one_line
from jangin.records.card import Stream

__all__ = ["SUFFIXES", "Counts", "Values", "media_name", "read_media", "write_media"]

Counts = NDArray[np.int16] | NDArray[np.int32] | NDArray[np.uint8] | NDArray[np.uint16]
Values = NDArray[np.float32]

_VIDEO: Final = (".mp4", ".avi")
_SUFFIX: Final = {"sound": ".flac", "pictures": ".png"}

SUFFIXES: Final = (".flac", ".wav", ".png", *_VIDEO)
"""Of all media, the lossless ones first."""

_MOST_PIXELS: Final = 2**28


def media_name(stream: Stream, episode: str) -> str:
    """Where `write_records` puts an episode's media, inside the folder.

    Raises:
        DataError: JG-data-034, an id that is no file name.
    """
    if episode in ("", ".", "..") or set(episode) & set('/\\\0:*?"<>|') or episode.startswith("."):
        raise DataError("JG-data-034", where=stream.name, episode=episode)
    return f"media/{stream.name}/{episode}{_SUFFIX[_media(stream)]}"


def write_media(path: Path, stream: Stream, counts: Counts) -> None:
    """Write one episode's media without loss, FLAC or PNG; the folder is made.

    Args:
        path: a new file.
        stream: what the card says of it.
        counts: of sound int16, or int32 that holds 24 bits, (channels, samples); of pictures uint8 or uint16,
            (channels, frames, height, width).

    Raises:
        DataError: JG-data-033, counts of another form than the stream's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if _media(stream) == "sound":
        _write_sound(path, stream, counts)
    else:
        _write_pictures(path, stream, counts)


def read_media(content: bytes, stream: Stream, path: Path) -> Values:
    """Read one episode's media, float32 in the channels' units.

    Args:
        content: of the file.
        stream: what the card says of it.
        path: where it came from; its suffix says what it is.

    Returns:
        Of sound (channels, samples), of pictures (channels, frames, height, width).

    Raises:
        DataError: JG-data-032, it cannot be read; JG-data-033, another form than the stream's.
    """
    if _media(stream) == "sound":
        return _sound(content, stream, path)
    shown = _video(content, stream, path) if path.suffix in _VIDEO else _film(content, stream, path)
    low, high = (np.array(ends, np.float32) for ends in zip(*(one.range for one in stream.channels), strict=True))
    across = (high - low) / np.float32(np.iinfo(shown.dtype).max)
    values: Values = low[:, None, None, None] + across[:, None, None, None] * shown
    return values


def _media(stream: Stream) -> str:
    if stream.media is None:
        raise ValueError(f"Expected a stream with media: {stream.name!r}.")
    return stream.media


def _form(where: Path | str, key: str, found: object, expected: object) -> DataError:
    return DataError("JG-data-033", where=str(where), key=key, found=found, expected=expected)


def _write_sound(path: Path, stream: Stream, counts: Counts) -> None:
    import soundfile

    if counts.dtype not in (np.int16, np.int32) or counts.ndim != 2 or len(counts) != len(stream.channels):
        raise _form(path, "counts", f"{counts.dtype}{counts.shape}", f"int16 or int32, ({len(stream.channels)}, n)")
    wide = counts.dtype == np.int32
    samples = np.left_shift(counts, 8).T if wide else counts.T
    soundfile.write(path, samples, round(stream.rate_hz), subtype="PCM_24" if wide else "PCM_16")


def _sound(content: bytes, stream: Stream, path: Path) -> Values:
    import soundfile

    try:
        samples, rate = soundfile.read(BytesIO(content), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise DataError("JG-data-032", where=str(path), problem=one_line(error)) from None
    for key, found, expected in (
        ("rate_hz", rate, round(stream.rate_hz)),
        ("channels", samples.shape[1], len(stream.channels)),
    ):
        if found != expected:
            raise _form(path, key, found, expected)
    high = np.array([channel.range[1] for channel in stream.channels], np.float32)
    return np.ascontiguousarray((samples * high).T)


def _write_pictures(path: Path, stream: Stream, counts: Counts) -> None:
    from PIL import Image

    frame = stream.frame
    if frame is None or counts.dtype not in (np.uint8, np.uint16) or counts.ndim != 4:
        raise _form(path, "counts", f"{counts.dtype}{counts.shape}", "uint8 or uint16, (channels, frames, h, w)")
    expected = (len(stream.channels), len(counts[0]), frame.height, frame.width)
    if counts.shape != expected or (len(counts) == 3 and counts.dtype != np.uint8):
        raise _form(path, "counts", f"{counts.dtype}{counts.shape}", expected)
    film = np.moveaxis(counts, 0, -1).reshape(-1, frame.width, len(counts))
    Image.fromarray(film[:, :, 0] if len(counts) == 1 else film).save(path)


def _film(content: bytes, stream: Stream, path: Path) -> Counts:
    """Frames one below another, (channels, frames, height, width), counts."""
    from PIL import Image, UnidentifiedImageError

    frame = stream.frame
    try:
        with Image.open(BytesIO(content)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise _form(path, "pixels", image.width * image.height, f"at most {_MOST_PIXELS}")
            film: NDArray[Any] = np.asarray(image)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError("JG-data-032", where=str(path), problem=one_line(error)) from None
    rows, width, channels = (*film.shape, 1)[:3]
    if frame is None or width != frame.width or rows % frame.height or not rows:
        raise _form(path, "frame", f"{width}x{rows}", f"{frame and frame.width} wide, a multiple of the height")
    if channels != len(stream.channels) or film.dtype not in (np.uint8, np.uint16):
        raise _form(path, "channels", f"{channels} of {film.dtype}", len(stream.channels))
    frames: NDArray[Any] = film.reshape(-1, frame.height, frame.width, channels)
    return np.moveaxis(frames, -1, 0)


def _video(content: bytes, stream: Stream, path: Path) -> Counts:
    """Decoded frames, (channels, frames, height, width), uint8."""
    import av

    frame, colours = stream.frame, "gray" if len(stream.channels) == 1 else "rgb24"
    try:
        with av.open(BytesIO(content), "r") as container:
            shown = [picture.to_ndarray(format=colours) for picture in container.decode(video=0)]
    except (av.error.FFmpegError, ValueError, IndexError) as error:
        raise DataError("JG-data-032", where=str(path), problem=one_line(error)) from None
    if not shown:
        raise DataError("JG-data-032", where=str(path), problem="no frames")
    height, width = shown[0].shape[:2]
    if frame is None or (width, height) != (frame.width, frame.height):
        raise _form(path, "frame", f"{width}x{height}", frame and f"{frame.width}x{frame.height}")
    frames: NDArray[Any] = np.stack(shown).reshape(len(shown), height, width, -1)
    return np.moveaxis(frames, -1, 0)
