"""Laws of the line between server and aggregation worker: all goes through unchanged; what is no frame ends a run."""

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import numpy as np
import pytest
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import given
from hypothesis import strategies as st

from jangin.codec import cbor
from jangin.errors import LinkError
from jangin.flower_link.wire import Taken, Wire, pack
from jangin.server import channel
from jangin.server.channel import Channel, RemoteLink, RemoteRun, Runs, attend

BODY = cbor.encode({"a": 1})


def taken(message: str, wire: Wire) -> Taken:
    """A site's reply as the SuperLink keeps it."""
    whole = make_message(Metadata(1, "", 1, 2, "", "", 1.8e9, 60.0, "query"), pack(wire))
    objects = {object_id: one.deflate() for object_id, one in get_all_nested_objects(whole).items()}
    return Taken(message, "site-0", whole.object_id, objects)


class FakeLink:
    """A SuperLink whose runs keep what they are told, and give what a test has them give."""

    def __init__(self) -> None:
        self.runs: list[FakeRun] = []

    def open_run(self, campaign: str) -> "FakeRun":
        self.runs.append(FakeRun(campaign))
        return self.runs[-1]

    def online(self) -> dict[str, int]:
        return {"site-1": 1, "site-0": 0}


class FakeRun:
    def __init__(self, campaign: str) -> None:
        self.campaign = campaign
        self.pushed: list[tuple[str, Wire, float]] = []
        self.come: list[Taken] = []
        self.forgotten: list[str] = []
        self.closed = threading.Event()

    def push(self, site: str, wire: Wire, *, ttl_seconds: float) -> str:
        if site == "stranger":
            raise LinkError("JG-server-203", where=site)
        self.pushed.append((site, wire, ttl_seconds))
        return f"message-{len(self.pushed)}"

    def take(self, messages: Sequence[str]) -> list[Taken]:
        return [one for one in self.come if one.message in messages]

    def forget(self, messages: Sequence[str]) -> None:
        self.forgotten += messages

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def opened(link: FakeLink) -> Iterator[Callable[[str], RemoteRun]]:
    """Runs over a control line, as the worker opens them; all ends by itself."""
    ours, theirs = socket.socketpair()
    with Runs(link, ours) as runs:  # type: ignore[arg-type]
        serving = threading.Thread(target=runs.serve)
        serving.start()
        with theirs:
            yield RemoteLink(theirs).open_run
        serving.join(10)
        assert not serving.is_alive()


def test_what_is_pushed_arrives_and_one_wire_for_many_crosses_once(
    link: FakeLink, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    send = Channel.send
    monkeypatch.setattr(
        Channel, "send", lambda self, says, parts=(): (sizes.append(sum(map(len, parts))), send(self, says, parts))[1]
    )
    with closing(opened("c")) as run:
        vector = np.arange(100_000, dtype=np.float32)
        wires = [
            Wire("train", "c", 1, BODY, vector),
            Wire("mask", "c", 2, b"", vector[::2].astype(np.uint32)),
            Wire("scale", "c", 0),
            Wire("train", "c", 3, BODY, vector[:0]),
        ]
        for wire in wires:
            assert [run.push(site, wire, ttl_seconds=5.0) for site in ("site-0", "site-1")]
        assert sum(sizes) == 2 * len(BODY) + 400_000 + 200_000
        (far,) = link.runs
        assert [site for site, _, _ in far.pushed] == ["site-0", "site-1"] * 4
        for (_, come, ttl), sent in zip(far.pushed, [wire for wire in wires for _ in range(2)], strict=True):
            assert (come.kind, come.campaign, come.round, come.body, ttl) == (
                sent.kind,
                "c",
                sent.round,
                sent.body,
                5.0,
            )
            assert (come.vector is None) == (sent.vector is None)
            np.testing.assert_array_equal(come.vector, sent.vector)
        with pytest.raises(LinkError, match="JG-server-203 stranger"):
            run.push("stranger", wires[0], ttl_seconds=5.0)
        run.pull([])
        run.push("site-0", wires[3], ttl_seconds=5.0)  # the other end let go of it


def test_what_sites_sent_is_read_by_the_worker_alone(link: FakeLink, opened: Any) -> None:
    with closing(opened("c")) as run:
        sent = Wire("train", "c", 1, BODY, np.arange(3_000_000, dtype=np.float32))
        gone = LinkError("JG-server-205", where="site-0", campaign="c")
        (far,) = link.runs
        far.come = [
            taken("m1", sent),
            Taken("m2", "site-0", "", gone),
            Taken("m3", "site-0", "no-object", {"no-object": b"garbage"}),
            taken("m4", Wire("scale", "c", 0)),
        ]
        first, second, third, fourth = run.pull(["m1", "m2", "m3", "m4"])
        assert isinstance(first.content, Wire)
        assert (first.message, first.site, first.content.body) == ("m1", "site-0", BODY)
        np.testing.assert_array_equal(first.content.vector, sent.vector)
        assert isinstance(second.content, LinkError)
        assert str(second.content) == str(gone)
        assert (third.content.code if isinstance(third.content, LinkError) else "") == "JG-site-210"
        assert isinstance(fourth.content, Wire)
        assert run.pull(["m5"]) == []
        run.forget(["m1"])
        assert far.forgotten == ["m1"]
        assert run.online() == {"site-0", "site-1"}


def test_a_run_ends_with_either_end_of_its_line_and_no_other_run_with_it(link: FakeLink, opened: Any) -> None:
    one, other = opened("one"), opened("other")
    one.close()
    assert link.runs[0].closed.wait(10)
    assert other.online()
    with pytest.raises(LinkError, match="JG-server-204 one"):
        one.pull([])
    one.forget(["m"])
    other.close()


def attended(data: bytes, link: FakeLink) -> None:
    """Say these bytes to the server's end, which ends by itself."""
    ours, theirs = socket.socketpair()
    attending = threading.Thread(target=attend, args=(link, theirs), daemon=True)
    attending.start()
    with ours, suppress(ConnectionError):  # it may have hung up before all was said
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        while ours.recv(2**16):
            pass
    attending.join(10)
    assert not attending.is_alive()


def frame(says: object, parts: Sequence[bytes] = ()) -> bytes:
    head = cbor.encode({"says": says, "parts": [len(part) for part in parts]})
    lengths = len(head).to_bytes(4) + sum(map(len, parts)).to_bytes(4)
    return b"".join([lengths, head, *parts])


PUSH = {"do": "push", "site": "site-0", "ttl_s": 1.0, "wire": {"kind": "train", "round": 1, "type": "float32"}}
TALK = [
    frame({"campaign": "c"}),
    frame(PUSH, [BODY, bytes(40)]),
    frame({**PUSH, "wire": None}),
    frame({"do": "pull", "messages": ["message-1"]}),
    frame({"do": "forget", "messages": ["message-1"]}),
    frame({"do": "online"}),
]


@pytest.mark.fuzz
@given(st.data())
def test_broken_bytes_end_the_run_with_its_code_and_never_hang(data: st.DataObject) -> None:
    link, whole = FakeLink(), b"".join(TALK)
    at = data.draw(st.integers(0, len(whole) - 1))
    match data.draw(st.sampled_from(["cut", "flip", "put", "random"])):
        case "cut":
            said = whole[:at]
        case "flip":
            said = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
        case "put":
            said = whole[:at] + data.draw(st.binary(min_size=1, max_size=20)) + whole[at:]
        case _:
            said = data.draw(st.binary(max_size=60))
    attended(said, link)
    assert all(run.closed.is_set() for run in link.runs)


@pytest.mark.parametrize(
    "talk",
    [
        [frame({"do": "online"})],
        [TALK[0], frame({"do": "dance"})],
        [TALK[0], frame({"do": "online"}, [b"x"])],
        [TALK[0], frame({**PUSH, "wire": None})],
        [TALK[0], frame(PUSH, [BODY])],
        [TALK[0], frame(PUSH, [BODY, bytes(39)])],
        [TALK[0], frame({**PUSH, "wire": {**PUSH["wire"], "type": "float64"}}, [BODY, bytes(40)])],  # type: ignore[dict-item]
        [TALK[0], frame({**PUSH, "wire": {**PUSH["wire"], "round": -1}}, [BODY, bytes(40)])],  # type: ignore[dict-item]
        [TALK[0], b"\xff" * 8],
        [TALK[0], TALK[5][:-1]],
        [TALK[0], (1).to_bytes(4) + (0).to_bytes(4) + b"\xff"],
    ],
)
def test_what_is_no_question_is_said_under_one_code(
    link: FakeLink, talk: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    attended(b"".join(talk), link)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("JG-server-480")
    assert all(run.closed.is_set() for run in link.runs)


def test_a_frame_that_does_not_come_whole_is_not_waited_for(
    link: FakeLink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(channel, "_STALL_SECONDS", 0.1)
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(TALK[0] + TALK[1][:20])
        attend(link, theirs)  # type: ignore[arg-type]
    (record,) = caplog.records
    assert "it stalls within a frame" in record.getMessage()


@pytest.mark.parametrize(
    "answer", [b"\xff" * 8, frame({"sites": 1}), frame({}, [b"x"]), frame({"error": 1}), frame({"answers": [{}]})]
)
def test_what_is_no_answer_ends_the_run(answer: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(frame({}))
        run = RemoteRun(Channel(ours), "c")
        theirs.sendall(answer)
        with pytest.raises(LinkError, match="JG-server-204"):
            run.pull(["m"])


def test_a_control_line_that_carries_no_line_ends_alone(link: FakeLink) -> None:
    ours, theirs = socket.socketpair()
    with Runs(link, ours) as runs, theirs:  # type: ignore[arg-type]
        theirs.sendall(os.urandom(1))
        runs.serve()
    assert link.runs == []
