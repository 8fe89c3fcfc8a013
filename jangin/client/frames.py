"""Frames between the light process and its worker: eight bytes of length, big-endian, then canonical CBOR.

The law: a frame is read whole or not at all, and none is longer than `MOST_BYTES`.
"""

from typing import IO, Any, Final

from jangin.codec import cbor

__all__ = ["MOST_BYTES", "read_frame", "write_frame"]

MOST_BYTES: Final = 2**31

_LENGTH_BYTES = 8


def write_frame(pipe: IO[bytes], value: object) -> None:
    """Send one value of the codec's data model.

    Raises:
        ValueError: outside the data model, or longer than `MOST_BYTES`.
        OSError: the other side is gone.
    """
    content = cbor.encode(value)
    if len(content) > MOST_BYTES:
        raise ValueError(f"Expected at most {MOST_BYTES} bytes: {len(content)}.")
    pipe.write(len(content).to_bytes(_LENGTH_BYTES))
    pipe.write(content)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> Any:
    """Wait for one value.

    Raises:
        EOFError: the other side is gone, between two frames or within one.
        ValueError: longer than `MOST_BYTES`, or not canonical CBOR.
    """
    length = int.from_bytes(_exactly(pipe, _LENGTH_BYTES))
    if length > MOST_BYTES:
        raise ValueError(f"Expected at most {MOST_BYTES} bytes: {length}.")
    return cbor.decode(_exactly(pipe, length))


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    content = pipe.read(count)
    if len(content) < count:
        raise EOFError("Expected a whole frame.")
    return content
