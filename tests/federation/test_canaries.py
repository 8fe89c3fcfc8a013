"""The law of a whole campaign: nothing of a record leaves its site, nor its master's name, nor what files are called.

Canaries are planted in the records of real sites that add up in secret at a real server, and looked for, in many forms,
in whatever the sites sent, in the clear between two ends of TLS, and in whatever the server and all processes wrote.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from canaries import found

pytestmark = pytest.mark.slow

SUMS = {
    "sites.min_sites": 4,
    "sites.round_deadline": "5m",
    "strategy.rounds": 1,
    "privacy": {
        "epsilon": "none",
        "nominal_units": 20,
        "secure_aggregation": "required",
        "c_max": 1,
        "n_plan": 4,
        "n_min_final": 3,
    },
}


def contents(folder: Path) -> list[bytes]:
    """Every file below a folder."""
    return [file.read_bytes() for file in folder.rglob("*") if file.is_file()]


def tables(database: Path, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Every cell of every table, as bytes, by table."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: b"\0".join(
                cell if isinstance(cell, bytes) else str(cell).encode()
                for row in connection.execute(f'SELECT * FROM "{name}"')
                for cell in row
            )
            for name in names
            if name not in without
        }


@pytest.mark.soak
def test_canaries_in_records_are_in_no_byte_that_leaves_and_nowhere_at_the_server(overheard: Any, plan: Any) -> None:
    federation, canaries = overheard.federation, overheard.canaries
    sites = list(federation.records)
    made = plan("overheard", **SUMS, **{"sites.invite": sites})
    for name in sites:
        federation.daemon(name)
    status = federation.ended(federation.start(federation.agree(made)))
    assert (status.state, sorted(status.attempts[-1].reported)) == ("candidate", sites), federation.server.said
    # An error on top: the card of one site is no longer what was validated.
    card = federation.records[sites[0]] / "card.yaml"
    broken = plan("broken", **SUMS, **{"sites.invite": sites})
    campaign = federation.agree(broken)
    card.write_text(f"{card.read_text()}# {canaries[0]}\n")
    ended = federation.ended(federation.start(campaign))
    assert {entry.abstained.get(sites[0]) for entry in ended.attempts} == {"local"}
    logs = [running.said.encode() for running in (*federation.daemons.values(), federation.server)]
    assert b"JG-site-320" in b"".join(logs)
    for running in (*federation.daemons.values(), federation.server):
        assert running.end() == 0

    # What is looked with finds what is there: at home, where it belongs.
    at_home = [data for name in sites for data in contents(federation.site(name).path / "consent")]
    assert len(found(canaries, b"".join(at_home))) >= 2 * len(sites)
    assert made.hash.encode() in b"".join(overheard.relay.sent)
    assert len(b"".join(overheard.relay.sent)) > 10_000

    assert found(canaries, *overheard.relay.sent) == set()
    assert found(canaries, *logs) == set()
    assert found(canaries, *contents(federation.state.path)) == set()
    for database in federation.state.path.rglob("*.sqlite"):
        for table, cells in tables(database).items():
            assert found(canaries, cells) == set(), table
    assert found(canaries, *contents(overheard.home)) == set()
    assert contents(overheard.temporary) == []
    for name in sites:  # of what was done here the masters' own part, and whose consent holds, stays here
        journal = tables(federation.site(name).database_file, without=("parts",))
        assert found(canaries, *journal.values()) == set()
        assert [file.name for file in federation.site(name).path.rglob(".*")] == []
