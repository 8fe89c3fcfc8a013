"""Laws of a SuperLink that was started again: it knows no run of before, and says so to a site that answers one."""

from typing import Any

import pytest

from jangin.errors import LinkError
from jangin.flower_link.link import EmbeddedLink
from jangin.flower_link.site import SiteLink
from jangin.flower_link.wire import Wire

ORDER = Wire("train", "c", 1)


def test_a_reply_to_a_run_of_before_a_restart_is_over_and_the_next_order_comes(keys: Any, new_key: Any) -> None:
    key, roots = new_key(), keys.roots.read_bytes()
    with EmbeddedLink(keys.certificate, keys.key) as before:
        before.register("site-0", key.public_key())
        with SiteLink(f"localhost:{before.port}", key, roots, retries=0) as site:
            before.open_run("c").push("site-0", ORDER)
            incoming = site.receive()
            assert incoming is not None
    with EmbeddedLink(keys.certificate, keys.key) as after:
        after.register("site-0", key.public_key())
        with SiteLink(f"localhost:{after.port}", key, roots, retries=0) as site:
            with pytest.raises(LinkError, match="JG-site-208"):
                site.reply(incoming, ORDER)
            run = after.open_run("c")
            asked = run.push("site-0", ORDER)
            again = site.receive()
            assert again is not None
            site.reply(again, ORDER)
            assert [answer.site for answer in run.pull([asked])] == ["site-0"]
