"""Laws of the importers: what a history says is what `ingest` reads, at its own times, and nothing else is guessed."""

import io
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jangin.codec.document import parse
from jangin.errors import DataError
from jangin.records.intake import drop as drops
from jangin.records.intake.importers.history import History, Imported
from jangin.records.intake.importers.mcap import import_mcap
from jangin.records.intake.importers.mqtt import import_mqtt, import_mqtt_recording
from jangin.records.intake.importers.opcua import import_opcua
from jangin.records.intake.sheets import Moments, moments, numbers, read_sheet
from jangin.records.process import Process

START = datetime(2026, 11, 21, 6, 5, 7, 250_000, UTC)
PROCESS = {
    "process": "test.tags",
    "industry": "test",
    "title": {"en": "Tags", "ko": "태그"},
    "streams": [
        {
            "name": "arc",
            "kind": "telemetry",
            "rate_hz": 10,
            "channels": [
                {"name": "current", "unit": "A", "range": [0, 400]},
                {"name": "voltage", "unit": "V", "range": [0, 40]},
            ],
        },
        {
            "name": "gas",
            "kind": "telemetry",
            "rate_hz": 1,
            "channels": [{"name": "flow", "unit": "L/min", "range": [0, 9]}],
        },
    ],
}


@pytest.fixture
def drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = parse(PROCESS, Process, "process")
    monkeypatch.setattr(drops, "read_process", lambda name: made)
    return drops.init_drop(tmp_path / "drop", "test.tags", "site")


def mapped(drop: Path, **tags: str) -> None:
    (drop / "mapping.local.yaml").write_text(json.dumps({"process": "p", "site": "s", "tags": tags}))


def table(path: Path) -> dict[str, list[object]]:
    """A written table: seconds from START, and each channel's values."""
    sheet = read_sheet(path, path.name)
    told = moments(sheet, 0)
    assert isinstance(told, Moments)
    columns, found = numbers(sheet, range(1, len(sheet.header)))
    assert not found
    since = (told.microseconds - int(START.timestamp() * 1e6)) / 1e6
    return {"t": since.tolist(), **{sheet.header[place]: column.to_pylist() for place, column in columns.items()}}


def nanoseconds(seconds: float) -> int:
    return (int(START.timestamp() * 1e6) + round(seconds * 1e6)) * 1000


def json_recording(to: io.BytesIO) -> None:
    from mcap.writer import Writer

    writer = Writer(to)
    writer.start()
    schema = writer.register_schema("arc", "jsonschema", b"{}")
    topics = {topic: writer.register_channel(topic, "json", schema) for topic in ("arc", "/gas", "/note")}
    for topic, seconds, told in (
        ("arc", 0.0, {"current": 100.5, "voltage": 12}),
        ("arc", 0.5, {"current": 101}),
        ("/gas", 0.25, {"rate": [6.5, 7]}),
        ("/note", 0.3, {"text": "시작"}),
    ):
        writer.add_message(topics[topic], nanoseconds(seconds), json.dumps(told).encode(), nanoseconds(seconds))
    writer.finish()


def test_an_mcap_recording_of_json_becomes_tables(drop: Path, tmp_path: Path) -> None:
    mapped(drop, **{"/gas.rate.1": "gas.flow", "/gas.rate.0": "-"})
    content = io.BytesIO()
    json_recording(content)
    (tmp_path / "run7.mcap").write_bytes(content.getvalue())
    done = import_mcap(tmp_path / "run7.mcap", drop)
    assert done == Imported(drop / "run7", ("arc.csv", "gas.csv"), 4, ("/note.text",))
    assert table(drop / "run7" / "arc.csv") == {
        "t": [0.0, 0.5],
        "arc.current": [100.5, 101.0],
        "arc.voltage": [12.0, None],
    }
    assert table(drop / "run7" / "gas.csv") == {"t": [0.25], "gas.flow": [7.0]}
    with pytest.raises(DataError, match="JG-data-002"):
        import_mcap(tmp_path / "run7.mcap", drop)


def test_an_mcap_recording_of_ros_becomes_tables(drop: Path, tmp_path: Path) -> None:
    from mcap_ros2.writer import Writer

    mapped(drop, **{"/plc.data": "gas.flow"})
    with (tmp_path / "run.mcap").open("wb") as file:
        writer = Writer(file)
        schema = writer.register_msgdef("std_msgs/msg/Float64", "float64 data")
        for seconds, value in ((0.0, 5.5), (1.0, 6.25)):
            at = nanoseconds(seconds)
            writer.write_message("/plc", schema, {"data": value}, log_time=at, publish_time=at)
        writer.finish()
    assert import_mcap(tmp_path / "run.mcap", drop, "w1").folder == drop / "w1"
    assert table(drop / "w1" / "gas.csv") == {"t": [0.0, 1.0], "gas.flow": [5.5, 6.25]}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.soak
def test_the_history_of_an_opcua_server_becomes_tables(drop: Path) -> None:
    from asyncua import ua
    from asyncua.sync import Server

    server, url = Server(), f"opc.tcp://127.0.0.1:{free_port()}/plant"
    server.set_endpoint(url)
    space = server.register_namespace("urn:plant")
    node = server.nodes.objects.add_variable(ua.NodeId("PLC.AI_03", space), "AI_03", 0.0)
    server.start()
    try:
        server.tloop.post(server.aio_obj.historize_node_data_change(node.aio_obj, period=None, count=100))
        for second, value, code in (
            (0, 101.5, 0),
            (1, 102.5, 0),
            (2, -1.0, ua.StatusCodes.BadSensorFailure),
            (3, 104.5, 0),
        ):
            moment = START + timedelta(seconds=second)
            node.write_value(ua.DataValue(ua.Variant(value), ua.StatusCode(code), moment))
        mapped(drop, **{f"ns={space};s=PLC.AI_03": "arc.current", "PLC_04": "arc.voltage"})
        done = import_opcua(url, drop, START - timedelta(seconds=1), START + timedelta(seconds=2.5))
        assert (done.folder.name, done.samples) == ("20261121-060506", 2)
        assert table(done.folder / "arc.csv") == {"t": [0.0, 1.0], "arc.current": [101.5, 102.5]}
        with pytest.raises(DataError, match="JG-data-128"):
            import_opcua(url, drop, START + timedelta(days=1), START + timedelta(days=2))
    finally:
        server.stop()
    with pytest.raises(DataError, match="JG-data-128"):
        import_opcua(url, drop, START, START + timedelta(seconds=1), "w2")


def test_a_recording_of_mosquitto_becomes_tables(drop: Path, tmp_path: Path) -> None:
    mapped(drop, **{"plant/AI_03": "arc.current", "plant/all.u": "arc.voltage"})
    lines = [
        {"tst": "2026-11-21T15:05:07.250000Z+0900", "topic": "plant/AI_03", "payload": "101.5"},
        {"tst": "2026-11-21T06:05:07.750000Z", "topic": "plant/all", "payload": '{"u": 12.5, "who": "kim"}'},
        {"tst": "2026-11-21T15:05:08.250000", "topic": "plant/AI_03", "payload": 102},
        {"tst": "2026-11-21T15:05:09.250000+0900", "topic": "plant/AI_03", "payload": "on"},
        {"tst": "2026-11-21T15:05:09.750000+0900", "topic": "plant/AI_03", "payload": "9", "retain": 1},
    ]
    (tmp_path / "shift.json").write_text("\n".join(map(json.dumps, lines)) + "\n")
    done = import_mqtt_recording(tmp_path / "shift.json", drop)
    assert done.unread == ("plant/AI_03", "plant/all.who")
    assert table(drop / "shift" / "arc.csv") == {
        "t": [0.0, 0.5, 1.0],
        "arc.current": [101.5, None, 102.0],
        "arc.voltage": [None, 12.5, None],
    }


@contextmanager
def broker(messages: list[tuple[str, bytes]]) -> Iterator[str]:
    """An MQTT 3.1.1 broker for one listener: it answers CONNECT and SUBSCRIBE, sends its messages, and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as stream:
            stream.read(stream.read(2)[1])  # CONNECT
            connection.sendall(b"\x20\x02\x00\x00")
            subscribe = stream.read(stream.read(2)[1])
            connection.sendall(b"\x90\x03" + subscribe[:2] + b"\x00")
            for topic, payload in messages:
                body = len(topic).to_bytes(2, "big") + topic.encode() + payload
                connection.sendall(b"\x30" + bytes([len(body)]) + body)
            stream.read()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        thread.join(5)
        listener.close()


def test_what_a_broker_sends_becomes_tables(drop: Path) -> None:
    mapped(drop, **{"plant/AI_03": "arc.current"})
    with broker([("plant/AI_03", b"101.5"), ("plant/AI_04", b"7"), ("plant/AI_03", b"102.5")]) as host:
        done = import_mqtt(f"mqtt://{host}/plant/#", drop, 0.5, "w1")
    assert (done.samples, done.unread) == (2, ("plant/AI_04",))
    assert table(drop / "w1" / "arc.csv")["arc.current"] == [101.5, 102.5]


@pytest.mark.parametrize(
    "read",
    [
        lambda at, drop: import_mcap(at, drop),
        lambda at, drop: import_mqtt_recording(at, drop),
        lambda at, drop: import_mqtt("mqtt://127.0.0.1:1/plant", drop, 0.1),
        lambda at, drop: import_mqtt("mqtt://127.0.0.1:1883", drop, 0.1),
        lambda at, drop: import_opcua("opc.tcp://127.0.0.1:1/x", drop, START, START),
        lambda at, drop: History(drop).write("w1", "x"),
    ],
)
def test_a_history_that_cannot_be_read_leaves_nothing(
    drop: Path, tmp_path: Path, read: Callable[[Path, Path], object]
) -> None:
    (tmp_path / "x").write_bytes(b"\x89MCAP0\r\n?")
    before = sorted(drop.rglob("*"))
    with pytest.raises(DataError, match="JG-data-128"):
        read(tmp_path / "x", drop)
    assert sorted(drop.rglob("*")) == before


def test_a_library_that_lacks_is_named_with_its_extra(drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mcap.reader", "asyncua", "paho.mqtt.client"):
        monkeypatch.setitem(sys.modules, name, None)
    for name, read in (
        ("mcap", lambda: import_mcap(drop / "x", drop)),
        ("opcua", lambda: import_opcua("opc.tcp://127.0.0.1:1", drop, START, START)),
        ("mqtt", lambda: import_mqtt("mqtt://127.0.0.1:1/x", drop, 1)),
    ):
        with pytest.raises(DataError, match=rf"JG-data-129 .*jangin\[{name}\]"):
            read()
