"""Laws of servers beside one another: one database, one staff and log; each leads its industry's campaigns."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from jangin.errors import ServerError
from jangin.records.process import read_process
from jangin.server import campaigns, shards
from jangin.server.api import SiteApi
from jangin.server.audit import exported, verify
from jangin.server.registry import Registry
from jangin.server.settings import StateFolder
from jangin.server.shards import led_by


@pytest.fixture
def two_industries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second industry, whose only process has no campaign."""
    real = read_process("steel.bof_blow")
    other = real.model_copy(update={"process": "pipe.tig_weld", "industry": "pipe"})
    monkeypatch.setattr(shards, "process_names", lambda: ["pipe.tig_weld", "steel.bof_blow"])
    monkeypatch.setattr(shards, "read_process", lambda name: other if name.startswith("pipe") else real)


@pytest.mark.parametrize("world", ["postgresql"], indirect=True)
@pytest.mark.usefixtures("two_industries")
def test_two_servers_share_one_database_and_each_has_its_industry(world: Any, plan: Any, tmp_path: Path) -> None:
    names = ["127.0.0.1"]
    beside = StateFolder.make_beside(tmp_path / "beside", world.state, "127.0.0.1", 0, names, world.now)
    assert beside.authority.read_bytes() != world.state.authority.read_bytes()
    (site, *_) = world.sites(3)
    campaign = world.propose(plan())
    campaigns.approve(world.store, world.members, campaign, world.keys["approver"], world.now)
    store = beside.store()
    # 1. What one server does, the other knows, and both write one log with one key.
    assert [row.hash for row in store.campaigns()] == [campaign]
    assert (store.roster(), store.staff(), beside.root) == (world.store.roster(), world.store.staff(), world.state.root)
    store.invite("site-8", "99" * 32, world.now)
    world.store.invite("site-9", "88" * 32, world.now)
    key = world.state.audit_key
    database = world.store.database
    assert verify(exported(database.audit(), *database.audit_head(), world.now, key), beside.audit_key.public).entries
    # 2. Each tells its sites of its own campaigns, and leads them.
    for shard, told in (("steel", [campaign]), ("pipe", [])):
        leads = led_by(shard)
        registry = Registry(store, beside)
        api = SiteApi(store, world.members, registry, idle_poll_s=1.0, clock=lambda: world.now, leads=leads)
        status, answer = type(world.api())(api, world).ask(site, "campaigns")
        assert (status, len(answer["campaigns"])) == (200, len(told))
        assert [row.hash for row in store.campaigns() if leads(row)] == told
    assert [row.hash for row in store.campaigns() if led_by(None)(row)] == [campaign]
    # 3. Of two that would lead one, one does.
    with world.store.database.leading(campaign) as first, store.database.leading(campaign) as second:
        assert (first, second) == (True, False)
        with store.database.leading("00" * 32) as other:
            assert other
    with store.database.leading(campaign) as after:
        assert after
    with ExitStack() as many:  # more than a pool has
        assert all(many.enter_context(store.database.leading(f"{number:016x}")) for number in range(16, 36))
        assert store.campaigns()
    store.close()


def test_an_industry_that_is_not_there_is_named(world: Any) -> None:
    with pytest.raises(ServerError, match=r"JG-server-465 rocketry.*"):
        led_by("rocketry")
    with pytest.raises(ServerError, match="JG-server-466"):
        StateFolder.make_beside(world.folder / "new", world.state, "127.0.0.1", 0, ["localhost"], world.now)
