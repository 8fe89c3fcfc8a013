"""Laws of a plan that is altered after a site has approved it: the site trains nothing of it, and says why by code."""

from typing import Any

import numpy as np
import pytest

from jangin.client import desk
from jangin.client.state import SiteFolder
from jangin.flower_link.link import Run
from jangin.flower_link.wire import Wire
from jangin.plan.messages import Kind, Order, order_body
from jangin.training.price import price


@pytest.fixture
def abstained(enrolled: SiteFolder, server: Any, light_daemons: Any, wait: Any, gather: Any) -> Any:
    """Ask the site's daemon for the moments of a campaign; the code with which it abstains."""
    light_daemons(enrolled)
    wait(server.link.online)

    def abstained(campaign: str) -> str:
        run: Run = server.link.open_run(campaign)
        order = Order(Kind.SCALE, 0, np.empty(0, np.float32))
        asked = run.push("site-0", Wire("scale", campaign, 0, order_body(order, 60.0)))
        content = gather(run, asked).content
        assert content.vector is None
        (code,) = [code for code in CODES if code.encode() in content.body]
        run.close()
        return code

    return abstained


CODES = [f"JG-site-{number}" for number in (*range(110, 120), 307, 311)]


def test_no_altered_plan_is_trained_for_whatever_was_altered(
    enrolled: SiteFolder, server: Any, ministry: Any, plan: Any, abstained: Any
) -> None:
    made = plan()
    server.plans.append(ministry.signed(made))
    assert desk.approve(enrolled.path, made.hash, price) is not None
    whole = server.plans.pop()
    with enrolled.journal() as journal:
        # 1. One byte of what is kept, anywhere in it.
        for place in np.linspace(0, len(whole) - 1, 9).astype(int):
            journal.keep_plan(made.hash, whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            assert abstained(made.hash).startswith("JG-site-11")
        # 2. Another plan, rightly signed, in its place; and under its own hash, which nobody here approved.
        longer = plan(strategy={"rounds": 400})
        journal.keep_plan(made.hash, ministry.signed(longer))
        assert abstained(made.hash) == "JG-site-307"
        server.plans.append(ministry.signed(longer))
        assert abstained(longer.hash) == "JG-site-311"
        # 3. The server's own altered copy is never even kept.
        server.plans[:] = [whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]]
        journal.keep_plan(made.hash, whole)
        assert desk.campaigns(enrolled.path) == []
        assert journal.plan(made.hash) == whole
        assert {move.state.value for move in journal.moves(100)} == {"abstained"}
