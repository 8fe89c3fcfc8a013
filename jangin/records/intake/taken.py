"""Sound and pictures as devices write them, made the media of an episode.

The law: integer sound becomes FLAC and stills become a film of PNG, both without loss; what is kept as it came is of
the process' form; another rate or size is refused with its way out, never converted in silence.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from jangin.errors import DataError
from jangin.records.card import Stream
from jangin.records.media import Counts, write_media

__all__ = ["PICTURES", "SOUND", "Pictures", "take_media"]

Pictures = Literal["kept", "png"]

SOUND: Final = frozenset({".wav", ".flac"})
"""Suffixes of sound."""
_VIDEO: Final = frozenset({".avi", ".mp4"})
PICTURES: Final = _VIDEO | {".png"}
"""Suffixes of pictures."""

_PCM: Final = {"PCM_16": "int16", "PCM_U8": "int16", "PCM_S8": "int16", "PCM_24": "int32"}
_RATE_TOLERANCE: Final = 0.01


def take_media(paths: Sequence[Path], stream: Stream, target: Path, pictures: Pictures) -> float:
    """Write what an episode has of a stream of sound or pictures; how long it lasts, in s.

    Integer PCM becomes FLAC, stills one film of PNG; other sound and video stay as they came, or video becomes PNG.

    Args:
        paths: one file of sound, one video, or stills in their order.
        stream: what the process says of it.
        target: where `write_media` puts it; what stays as it came keeps its own suffix.
        pictures: `kept` as they came, or made `png` of the process' size and rate.

    Raises:
        DataError: JG-data-032 a file cannot be read; 123 or 124, another form than the process'.
    """
    first = paths[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    if stream.media == "sound":
        return _sound(first, stream, target)
    if first.suffix.lower() in _VIDEO and pictures == "kept":
        frames = _check_video(first, stream)
        shutil.copyfile(first, target.with_name(target.stem + first.suffix.lower()))
        return frames / stream.rate_hz
    if first.suffix.lower() in _VIDEO:
        film = _decoded(first, stream)
    else:
        film = np.concatenate([_stills(path, stream, pictures) for path in paths], axis=1)
    write_media(target, stream, film)
    return float(film.shape[1] / stream.rate_hz)


def _sound(path: Path, stream: Stream, target: Path) -> float:
    import soundfile

    try:
        about = soundfile.info(path)
        samples, _ = soundfile.read(path, dtype=_PCM.get(about.subtype, "float32"), always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise _unreadable(path, error) from None
    rate = round(stream.rate_hz)
    _require("JG-data-123", path, "rate_hz", about.samplerate, rate)
    _require("JG-data-123", path, "channels", about.channels, len(stream.channels))
    if not len(samples) or not np.isfinite(samples).all():
        raise _unreadable(path, "no samples, or some that are no numbers")
    if path.suffix.lower() == ".wav" and about.subtype in _PCM:
        write_media(target, stream, samples.T >> 8 if samples.dtype == np.int32 else samples.T)
    else:
        shutil.copyfile(path, target.with_name(target.stem + path.suffix.lower()))
    return len(samples) / rate


def _stills(path: Path, stream: Stream, pictures: Pictures) -> Counts:
    """The frames of a PNG, (channels, frames, height, width): several one below another, or one of any size."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            film = np.asarray(image)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from None
    if film.dtype not in (np.uint8, np.uint16):
        raise _unreadable(path, f"pixels of {film.dtype}")
    height, width, channels = (*film.shape, 1)[:3]
    _require("JG-data-123", path, "channels", channels, len(stream.channels))
    frame = stream.frame
    if frame is None:
        raise ValueError(f"Expected pictures: {stream.name!r}.")
    if pictures == "png" and (width != frame.width or height % frame.height):
        film, height = _scaled(film, frame.width, frame.height), frame.height
    elif width != frame.width or height % frame.height:
        _require("JG-data-124", path, "frame", f"{width}x{height}", f"{frame.width}x{frame.height}")
    return np.moveaxis(film.reshape(height // frame.height, frame.height, frame.width, channels), -1, 0)


def _scaled(picture: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    import av

    form = "rgb24" if picture.ndim == 3 else "gray" if picture.dtype == np.uint8 else "gray16le"
    shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=form)
    return shown.reformat(width=width, height=height).to_ndarray()


@contextmanager
def _video(path: Path) -> "Iterator[tuple[Any, Any]]":
    """A video opened: the container and its first stream of pictures.

    Raises:
        DataError: JG-data-032, it cannot be read.
    """
    import av

    try:
        with av.open(str(path)) as container:
            pictures = next(iter(container.streams.video), None)
            if getattr(pictures, "format", None) is None:  # no pictures, or of a codec that nobody here reads
                raise _unreadable(path, "no pictures")
            yield container, pictures
    except (av.error.FFmpegError, ValueError, IndexError) as error:
        raise _unreadable(path, error) from None


def _check_video(path: Path, stream: Stream) -> int:
    """How many frames a video has that is kept as it came.

    Raises:
        DataError: JG-data-032 it cannot be read; 124 another size or rate than the process', or more than 8 bits.
    """
    with _video(path) as (container, pictures):
        frame, rate = stream.frame, float(pictures.average_rate or 0)
        size = f"{frame.width}x{frame.height}" if frame else ""
        _require("JG-data-124", path, "frame", f"{pictures.width}x{pictures.height}", size)
        if abs(rate - stream.rate_hz) > _RATE_TOLERANCE * stream.rate_hz:
            _require("JG-data-124", path, "rate_hz", f"{rate:g}", f"{stream.rate_hz:g}")
        _require("JG-data-124", path, "bits", _bits(pictures), 8)
        return sum(1 for _ in container.decode(pictures))


def _decoded(path: Path, stream: Stream) -> Counts:
    """The frames of a video in the process' size and rate, (channels, frames, height, width).

    Frame i is the last one that was shown at i / rate_hz.

    Raises:
        DataError: JG-data-032 it cannot be read; 124 it has fewer frames a second than the process.
    """
    frame, shown = stream.frame, list[NDArray[Any]]()
    if frame is None:
        raise ValueError(f"Expected pictures: {stream.name!r}.")
    with _video(path) as (container, pictures):
        rate = float(pictures.average_rate or 0)
        if rate < stream.rate_hz * (1 - _RATE_TOLERANCE):
            _require("JG-data-124", path, "rate_hz", f"{rate:g}", f"{stream.rate_hz:g}")
        grey = "gray16le" if _bits(pictures) > 8 else "gray"
        form = grey if len(stream.channels) == 1 else "rgb24"
        step = 1.0 if abs(rate - stream.rate_hz) <= _RATE_TOLERANCE * stream.rate_hz else rate / stream.rate_hz
        for number, picture in enumerate(container.decode(pictures)):
            if number == int(len(shown) * step):
                shown.append(picture.reformat(width=frame.width, height=frame.height, format=form).to_ndarray())
    if not shown:
        raise _unreadable(path, "no frames")
    film = np.stack(shown).reshape(len(shown), frame.height, frame.width, -1)
    return np.moveaxis(film, -1, 0)


def _bits(pictures: Any) -> int:
    """Bits of the widest component of a pixel."""
    return max(int(component.bits) for component in pictures.format.components)


def _require(code: str, path: Path, key: str, found: object, expected: object) -> None:
    if found != expected:
        raise DataError(code, where=_name(path), key=key, found=found, expected=expected)


def _unreadable(path: Path, problem: object) -> DataError:
    return DataError("JG-data-032", where=_name(path), problem=" ".join(str(problem).split()))


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
