"""What a broker sends (MQTT 3.1.1): live for some seconds, or as `mosquitto_sub -F %j` wrote it, a JSON line a message.

A payload is a number, yes or no, or JSON with such values in it; a tag is `topic`, or `topic.field`. A message stands
at the time of its arrival, which is the recorder's `tst`; one that the broker had kept (retained) is of nobody knows
when, and is left away.
"""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from jangin.errors import DataError, one_line
from jangin.records.intake.importers.history import History, Imported, extra, flat
from jangin.records.intake.sheets import KOREA

__all__ = ["import_mqtt", "import_mqtt_recording"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_PATIENCE: Final = 10.0
"""Seconds for a broker to take the connection and the subscription."""
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


def import_mqtt_recording(file: Path, drop: Path, episode: str | None = None) -> Imported:
    """Write the tables of one episode from a recording of `mosquitto_sub -F %j`.

    Args:
        file: a JSON line a message, with `tst`, `topic` and `payload`.
        drop: the drop folder.
        episode: its folder's name; default: the file's without its suffix.

    Raises:
        DataError: JG-data-128 the file cannot be read or holds no channel; 100, 002, 019 as `History` says.
    """
    history, where = History(drop), str(file)
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                where = f"{file}:{number}"
                if line.strip():
                    told = json.loads(line)
                    if told.get("retain"):
                        continue
                    at = datetime.fromisoformat(told["tst"].replace("Z+", "+").replace("Z-", "-"))  # mosquitto: Z+0000
                    at = at if at.tzinfo else at.replace(tzinfo=KOREA)
                    _take(history, told["topic"], (at - _EPOCH) // _MICROSECOND, told["payload"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = one_line(error)
        raise DataError("JG-data-128", where=where, problem=problem) from None
    return history.write(episode or file.stem, str(file))


def import_mqtt(url: str, drop: Path, seconds: float, episode: str | None = None) -> Imported:
    """Write the tables of one episode from what a broker sends from now on.

    Args:
        url: `mqtt://[user:password@]host[:port]/topic/#`, or `mqtts:` for TLS.
        drop: the drop folder.
        seconds: how long to listen.
        episode: its folder's name; default: the start in UTC, `20261121-060507`.

    Raises:
        DataError: JG-data-129 the extra `mqtt` is not installed; 128 the broker cannot be reached, refuses, or sends
            nothing that is a channel; 100, 002, 019 as `History` says.
    """
    history, shown = History(drop), url.rpartition("@")[2]
    with extra("mqtt", shown):
        from paho.mqtt.client import Client, MQTTMessage
        from paho.mqtt.enums import CallbackAPIVersion
    host, _, topic = url.partition("://")[2].partition("/")
    broker = urlsplit(f"{url.partition('://')[0]}://{host}")
    if broker.scheme not in _PORTS or not broker.hostname or not topic:
        raise DataError("JG-data-128", where=shown, problem="expected mqtt://host/topic")
    failed: list[str] = []
    ready = threading.Event()

    def connected(client: Client, data: object, flags: object, reason: Any, properties: object) -> None:
        if reason.is_failure:
            failed.append(str(reason))
            ready.set()
        else:
            client.subscribe(unquote(topic))

    def subscribed(client: Client, data: object, number: int, reasons: list[Any], properties: object) -> None:
        failed.extend(str(reason) for reason in reasons if reason.is_failure)
        ready.set()

    def came(client: Client, data: object, message: MQTTMessage) -> None:
        if not message.retain:
            _take(history, message.topic, time.time_ns() // 1000, message.payload)

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, came
    if broker.username:
        client.username_pw_set(unquote(broker.username), unquote(broker.password or ""))
    if broker.scheme == "mqtts":
        client.tls_set()
    began = datetime.now(UTC)
    try:
        client.connect(broker.hostname, broker.port or _PORTS[broker.scheme])
    except OSError as error:
        raise DataError("JG-data-128", where=shown, problem=one_line(error)) from None
    client.loop_start()
    if not ready.wait(_PATIENCE):
        failed.append("no answer")
    elif not failed:
        time.sleep(seconds)
    client.disconnect()
    client.loop_stop()
    if failed:
        raise DataError("JG-data-128", where=shown, problem=failed[0])
    return history.write(episode or f"{began:%Y%m%d-%H%M%S}", shown)


def _take(history: History, topic: str, at: int, payload: object) -> None:
    """One message; a payload that is no JSON is a tag that nobody reads."""
    for tag, value in _values(topic, payload):
        history.add(tag, at, value)


def _values(topic: str, payload: object) -> Iterator[tuple[str, object]]:
    if isinstance(payload, bytes | str):
        try:
            payload = json.loads(payload)
        except ValueError:
            payload = None
    yield from flat(payload, topic)
