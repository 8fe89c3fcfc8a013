"""Histories of OPC UA servers, read raw (OPC 10000-11, HistoryRead): a tag is a node's id, e.g. `ns=2;s=PLC.AI_03`.

Only nodes that `tags` of mapping.local.yaml names are read. A value stands at its source's time; one whose status is
bad is left away. The connection is anonymous and not encrypted: meant for a server in the plant's own net.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from jangin.errors import DataError, one_line
from jangin.records.intake.importers.history import History, Imported, extra

__all__ = ["import_opcua"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def import_opcua(url: str, drop: Path, start: datetime, end: datetime, episode: str | None = None) -> Imported:
    """Write the tables of one episode from a server's history.

    Args:
        url: `opc.tcp://host:port/path`.
        drop: the drop folder.
        start: with a zone.
        end: with a zone.
        episode: its folder's name; default: the start in UTC, `20261121-060507`.

    Raises:
        DataError: JG-data-129 the extra `opcua` is not installed; 128 the server cannot be reached, a node has no
            history, or nothing is in it; 100, 002, 019 as `History` says.
    """
    history = History(drop)
    with extra("opcua", url):
        from asyncua import ua
        from asyncua.sync import Client
        from asyncua.ua.uaerrors import UaError
    nodes = {}
    for tag in history.tags:
        try:
            nodes[tag] = ua.NodeId.from_string(tag)
        except UaError:  # a column's or file's name
            continue
    try:
        with Client(url) as client:
            for tag, node in nodes.items():
                values = client.get_node(node).read_raw_history(start.astimezone(UTC), end.astimezone(UTC))
                for value in values:
                    moment = value.SourceTimestamp or value.ServerTimestamp
                    if moment is not None and value.StatusCode.is_good():
                        at = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
                        history.add(tag, (at - _EPOCH) // _MICROSECOND, value.Value.Value)
    except (OSError, TimeoutError, UaError, ValueError) as error:
        problem = one_line(error) or type(error).__name__
        raise DataError("JG-data-128", where=url, problem=problem) from None
    return history.write(episode or f"{start.astimezone(UTC):%Y%m%d-%H%M%S}", url)
