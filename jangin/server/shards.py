"""Which campaigns a server leads, where several share a database: those of one industry's processes."""

from collections.abc import Callable

from jangin.errors import ServerError
from jangin.records.process import process_names, read_process
from jangin.server.store import CampaignRow, plan_of

__all__ = ["led_by"]


def led_by(shard: str | None) -> Callable[[CampaignRow], bool]:
    """Which campaigns a server leads, and tells its sites of: those of an industry's processes; None: all.

    Raises:
        ServerError: JG-server-465, no process has this industry.
    """
    if shard is None:
        return lambda row: True
    industries = {name: read_process(name).industry for name in process_names()}
    if shard not in industries.values():
        raise ServerError("JG-server-465", where=shard, known=", ".join(sorted(set(industries.values()))))
    return lambda row: industries.get(plan_of(row).process) == shard
