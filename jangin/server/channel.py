"""The line between the server and its aggregation worker: frames over unix sockets, and a campaign's run at either end.

The worker opens a run by a byte on its control line, which carries one end of a socket of that run's own. The first
frame on it is {campaign}; from then on the worker asks and the server answers, one question at a time:

| do | with | answer |
|---|---|---|
| push | site, ttl_s, wire: {kind, round, type} with body and vector, or None: the one before | message |
| pull | messages | answers: [{message, site, reply, objects} with the objects, or {message, site, error}] |
| forget | messages | - |
| online | - | sites |

A frame is eight bytes, the lengths of a head and of all that follows it; the head, canonical CBOR {says, parts}; and
the parts, bytes as they are, `parts` long. What a site sent is not read here: it goes through as it came, and is taken
apart by the worker. The law: a run lives as long as both ends of its socket; what is no frame, no question or no answer
ends its run and no other, under one code (JG-server-480); nobody waits for the rest of a frame for more than 30 s.
"""

import errno
import logging
import socket
import struct
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from jangin.codec import cbor
from jangin.errors import LinkError
from jangin.flower_link.wire import MOST_BYTES, Answer, Taken, Wire, read

if TYPE_CHECKING:  # the worker has neither SuperLink nor web server
    from jangin.flower_link.link import EmbeddedLink, Run

__all__ = ["BROKEN", "MOST_FRAME_BYTES", "Channel", "RemoteLink", "RemoteRun", "Runs", "attend"]

BROKEN: Final = "JG-server-480"
MOST_FRAME_BYTES: Final = MOST_BYTES + 2**27
"""Of one frame: the longest message, after as much as one look takes beside it."""

_MOST_HEAD_BYTES: Final = 2**24
_STALL_SECONDS = 30.0
_PIECE_BYTES: Final = 2**26
_LENGTHS: Final = struct.Struct(">II")
_CALL: Final = b"\0"
_FORMS: Final[Mapping[str, str]] = {"float32": "<f4", "uint32": "<u4"}
_OVER: Final = "JG-server-204"

_log = logging.getLogger(__name__)

Part = bytes | memoryview
"""What a frame carries as it is."""


class Channel:
    """Frames over one socket; used by one thread."""

    def __init__(self, line: socket.socket) -> None:
        """Take over a connected stream socket."""
        self._line = line
        line.setblocking(True)
        # The kernel's own patience: a timeout of Python's would cut reads in pieces.
        patience = struct.pack("ll", int(_STALL_SECONDS), int(_STALL_SECONDS % 1 * 1e6))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            line.setsockopt(socket.SOL_SOCKET, option, patience)

    def send(self, says: Mapping[str, object], parts: list[Part] | tuple[()] = ()) -> None:
        """Send one frame; `parts` is emptied, each let go of once it is sent.

        Raises:
            LinkError: JG-server-480, the other end is gone, or does not read; ValueError: too long.
        """
        head = cbor.encode({"says": dict(says), "parts": [len(part) for part in parts]})
        length = sum(map(len, parts))
        if len(head) > _MOST_HEAD_BYTES or length > MOST_FRAME_BYTES:
            raise ValueError(f"Expected at most {MOST_FRAME_BYTES} bytes: {length}.")
        try:
            self._line.sendall(_LENGTHS.pack(len(head), length) + head)
            while parts:
                self._line.sendall(parts.pop(0))
        except OSError as error:
            raise _broken(_problem(error)) from None

    def receive(self) -> tuple[Mapping[str, Any], list[bytes]] | None:
        """Wait for one frame; None once the other end is closed between two.

        Raises:
            LinkError: JG-server-480, what comes is none, or does not come whole.
        """
        lengths = self._exactly(_LENGTHS.size, first=True)
        if lengths is None:
            return None
        head_bytes, length = _LENGTHS.unpack(lengths)
        if head_bytes > _MOST_HEAD_BYTES or length > MOST_FRAME_BYTES:
            raise _broken(f"a frame of {head_bytes} and {length} bytes")
        try:
            head = cbor.decode(self._exactly(head_bytes) or b"")
        except ValueError:
            raise _broken("a head that is not canonical CBOR") from None
        match head:
            case {"says": dict(says), "parts": [*counts]} if len(head) == 2 and all(_counts(one) for one in counts):
                if sum(counts) != length:
                    raise _broken("parts of other lengths than the frame")
                return says, [self._exactly(count) or b"" for count in counts]
            case _:
                raise _broken("a head of another form")

    def close(self) -> None:
        """Hang up; whoever waits at either end is told."""
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        self._line.close()

    def _exactly(self, count: int, *, first: bool = False) -> bytes | None:
        """So many bytes, each copied once from the kernel; None where it ends before the first of a frame."""
        pieces: list[bytes] = []
        while count > 0:
            try:
                piece = self._line.recv(min(count, _PIECE_BYTES), socket.MSG_WAITALL)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EINTR) and first and not pieces:
                    continue  # nobody has asked anything yet
                if first and not pieces:  # closed, from this end
                    return None
                raise _broken(_problem(error)) from None
            if not piece:
                if first and not pieces:
                    return None
                raise _broken("it ends within a frame")
            pieces.append(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class RemoteRun:
    """One campaign's messages as the worker has them, the `Messages` of a post; used by one thread."""

    def __init__(self, channel: Channel, campaign: str) -> None:
        """Open the run at the other end."""
        self.campaign = campaign
        self._channel = channel
        self._pushed: Wire | None = None
        self._ask({"campaign": campaign})

    def push(self, site: str, wire: Wire, *, ttl_seconds: float) -> str:
        """As `flower_link.Run.push`; one `wire` for many sites crosses the line once."""
        asked: dict[str, object] = {"do": "push", "site": site, "ttl_s": float(ttl_seconds), "wire": None}
        parts: list[Part] = []
        if wire is not self._pushed:
            kind = None if wire.vector is None else wire.vector.dtype.name
            asked["wire"] = {"kind": wire.kind, "round": wire.round, "type": kind}
            parts = [wire.body] if wire.vector is None else [wire.body, _raw(wire.vector)]
        self._pushed = wire
        match self._ask(asked, parts):
            case {"message": str(message)}, []:
                return message
            case _:
                raise self._ended("an answer of another form")

    def pull(self, messages: Collection[str]) -> list[Answer]:
        """As `flower_link.Run.pull`; what sites sent is read here."""
        self._pushed = None
        says, contents = self._ask({"do": "pull", "messages": list(messages)})
        match says:
            case {"answers": [*answers]} if len(contents) == sum(map(_objects, answers)):
                contents.reverse()  # each is let go of as soon as it is read
                return [read(self._taken(answer, contents)) for answer in answers]
            case _:
                raise self._ended("an answer of another form")

    def forget(self, messages: Collection[str]) -> None:
        """As `flower_link.Run.forget`; where the run has ended there is nothing left to forget."""
        with suppress(LinkError):
            self._ask({"do": "forget", "messages": list(messages)})

    def online(self) -> frozenset[str]:
        """The registered sites that are there now."""
        match self._ask({"do": "online"}):
            case {"sites": [*sites]}, []:
                return frozenset(sites)
            case _:
                raise self._ended("an answer of another form")

    def close(self) -> None:
        """End the run."""
        self._channel.close()

    def _ask(
        self, says: Mapping[str, object], parts: list[Part] | tuple[()] = ()
    ) -> tuple[Mapping[str, Any], list[bytes]]:
        """The answer to one question.

        Raises:
            LinkError: JG-server-204, the line is gone or broken, and the run with it; or what the server refused.
        """
        try:
            self._channel.send(says, parts)
            frame = self._channel.receive()
        except LinkError as error:
            raise self._ended(str(error.coded.values["problem"])) from None
        if frame is None:
            raise LinkError(_OVER, where=self.campaign)
        if "error" in frame[0]:
            raise self._refusal(frame[0]["error"])
        return frame

    def _taken(self, answer: Mapping[str, Any], contents: list[bytes]) -> Taken:
        """One answer, whose objects are the last of the contents, and are taken from there."""
        match answer:
            case {"message": str(message), "site": str(site), "error": error}:
                return Taken(message, site, "", self._refusal(error))
            case {"message": str(message), "site": str(site), "reply": str(reply), "objects": [*objects]} if all(
                isinstance(object_id, str) for object_id in objects
            ):
                return Taken(message, site, reply, {object_id: contents.pop() for object_id in objects})
            case _:
                raise self._ended("an answer of another form")

    def _refusal(self, told: Any) -> LinkError:
        """What the other end could not do, or what befell a message."""
        match told:
            case {"code": str(code), "where": str(where), "values": dict(values)}:
                return LinkError(code, where=where, **values)
            case _:
                return self._ended("an error of another form")

    def _ended(self, problem: str) -> LinkError:
        """Hang up on an end that cannot be understood."""
        _log.error("%s", _broken(problem, self.campaign))
        self.close()
        return LinkError(_OVER, where=self.campaign)


class RemoteLink:
    """The SuperLink as the worker has it: runs, each over a socket of its own; any thread may open one."""

    def __init__(self, control: socket.socket) -> None:
        """Take the control line, which somebody else closes."""
        self._control = control

    def open_run(self, campaign: str) -> RemoteRun:
        """A run for one campaign, until it or the other end is closed.

        Raises:
            LinkError: JG-server-204, there is no server any more.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [_CALL], [theirs.fileno()])
            except OSError:
                ours.close()
                raise LinkError(_OVER, where=campaign) from None
        return RemoteRun(Channel(ours), campaign)


class Runs:
    """The server's end of a worker's control line: a thread for each run that the worker opens; a context manager."""

    def __init__(self, link: "EmbeddedLink", control: socket.socket) -> None:
        """Take the link whose runs they are, and the control line."""
        self._link, self._control = link, control

    def __enter__(self) -> Self:
        """Nothing is waited for yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up; runs end with the worker."""
        self.hang_up()
        self._control.close()

    def serve(self) -> None:
        """Open runs until the worker is gone, or breaks the form."""
        while True:
            try:
                data, lines, _, _ = socket.recv_fds(self._control, 1, 1)
            except OSError:
                return
            if data != _CALL or len(lines) != 1:
                if data:
                    _log.error("%s", _broken("a call without a line", "control"))
                return
            line = socket.socket(fileno=lines[0])
            threading.Thread(target=attend, args=(self._link, line), name="jangin-run", daemon=True).start()

    def hang_up(self) -> None:
        """Tell the worker that it is over; any thread may."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)


def attend(link: "EmbeddedLink", line: socket.socket) -> None:
    """Answer one run's questions until either end is closed; then the run is over, at the SuperLink as well.

    Args:
        link: whose run it is.
        line: the server's end of the run's socket.
    """
    where = "a new run"
    with closing(Channel(line)) as channel:
        try:
            match channel.receive():
                case None:
                    return
                case {"campaign": str(where)}, []:
                    pass
                case _:
                    raise _broken("no campaign comes first")
            with closing(link.open_run(where)) as run:
                channel.send({})
                _answer_all(link, run, channel)
        except LinkError as error:
            if error.code not in (BROKEN, "JG-site-210"):
                raise
            _log.error("%s", _broken(str(error.coded.values["problem"]), where))


def _answer_all(link: "EmbeddedLink", run: "Run", channel: Channel) -> None:
    wire: Wire | None = None
    while (frame := channel.receive()) is not None:
        says, parts = frame
        try:
            match says:
                case {"do": "push", "site": str(site), "ttl_s": float(ttl_s), "wire": carried}:
                    wire = _wire(run.campaign, carried, parts) if wire is None or carried is not None else wire
                    channel.send({"message": run.push(site, wire, ttl_seconds=ttl_s)})
                case {"do": "pull", "messages": [*messages]} if not parts:
                    wire = None
                    _give(run.take(messages), channel)
                case {"do": "forget", "messages": [*messages]} if not parts:
                    run.forget(messages)
                    channel.send({})
                case {"do": "online"} if not parts:
                    channel.send({"sites": sorted(link.online())})
                case _:
                    raise _broken("a question of another form")
        except (KeyError, TypeError, ValueError) as error:
            raise _broken(f"a question of another form, {type(error).__name__}") from None
        except LinkError as error:
            if error.code not in (_OVER, "JG-server-203"):
                raise
            channel.send({"error": _told(error)})


def _give(taken: Sequence[Taken], channel: Channel) -> None:
    """Send what has come, as it came; its contents are emptied on the way."""
    answers: list[dict[str, object]] = []
    parts: list[Part] = []
    for one in taken:
        answer: dict[str, object] = {"message": one.message, "site": one.site}
        if isinstance(one.contents, LinkError):
            answers.append({**answer, "error": _told(one.contents)})
        else:
            answers.append({**answer, "reply": one.reply, "objects": list(one.contents)})
            parts += one.contents.values()
            one.contents.clear()
    channel.send({"answers": answers}, parts)


def _wire(campaign: str, carried: Any, parts: Sequence[bytes]) -> Wire:
    match carried, list(parts):
        case {"kind": kind, "round": number, "type": None}, [body]:
            return Wire(kind, campaign, number, body)
        case {"kind": kind, "round": number, "type": str(name)}, [body, raw]:
            return Wire(kind, campaign, number, body, np.frombuffer(raw, _FORMS[name]))
        case _:
            raise _broken("a wire of another form")


def _raw(vector: NDArray[np.float32] | NDArray[np.uint32]) -> memoryview:
    """A vector's bytes, little-endian, without a copy where it lies so."""
    return np.ascontiguousarray(vector, _FORMS[vector.dtype.name]).view(np.uint8).data


def _objects(answer: Any) -> int:
    match answer:
        case {"objects": [*objects]}:
            return len(objects)
        case _:
            return 0


def _counts(value: object) -> bool:
    return type(value) is int and value >= 0


def _told(error: LinkError) -> dict[str, object]:
    return {"code": error.code, "where": error.coded.where, "values": dict(error.coded.values)}


def _problem(error: OSError) -> str:
    return "it stalls within a frame" if error.errno == errno.EAGAIN else error.strerror or type(error).__name__


def _broken(problem: str, where: str = "line") -> LinkError:
    return LinkError("JG-server-480", where=where, problem=problem)
