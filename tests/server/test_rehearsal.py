"""Laws of a rehearsal at the server: every invited site is named once, nothing that comes is used, and it survives."""

import json
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from jangin.errors import LinkError, ServerError
from jangin.plan.messages import Kind, Order, Reply
from jangin.server import campaigns, rehearsal
from jangin.server.life import Act
from jangin.server.rehearsal import Rehearsal
from jangin.server.store import RehearsalEntry

SITES = [f"site-{number}" for number in range(5)]
UPDATE = np.ones(4, np.float32)
Says = Callable[[int, str], Reply | str | None]


@dataclass
class Asked:
    """An exchange whose sites say what `says` tells: a reply, the server's code for it, or nothing."""

    says: Says
    orders: list[tuple[Order, tuple[str, ...]]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    sites: Sequence[str] = ()
    ends: bool = False

    def __call__(self, some: Sequence[str], size: int) -> "Asked":
        self.refused = {}
        return self

    def push(self, order: Order, cohort: Sequence[str]) -> None:
        self.orders.append((order, tuple(cohort)))

    def pull(self) -> Iterator[Reply]:
        if self.ends:
            raise LinkError("JG-server-204", where="x")
        order, cohort = self.orders[-1]
        for site in cohort:
            said = self.says(order.round, site)
            if isinstance(said, Reply):
                yield said
            elif said is not None:
                self.refused[site] = said


@pytest.fixture
def rehearse(world: Any, plan: Any) -> Callable[..., RehearsalEntry]:
    """One rehearsal of a campaign of five sites; what the database says of it then."""
    made = plan(**{"sites.invite": SITES})
    campaign = world.propose(made)

    def rehearse(asked: Asked, approved: Sequence[str] = SITES, online: Sequence[str] = SITES) -> RehearsalEntry:
        number, ticks = world.store.ask_rehearsal(campaign), iter(range(9))
        Rehearsal(made, number, world.store, clock=lambda: float(next(ticks))).run(approved, online, asked)
        return world.store.rehearsals(campaign)[number - 1]

    return rehearse


def command_line() -> Callable[..., Any]:
    """`jangin ARGUMENTS... --format json --lang en`, in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # typer imports names that click is about to rename
        from typer.testing import CliRunner

        from jangin.cli.app import app

    def run(*arguments: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return CliRunner().invoke(app, [*arguments, "--format", "json", "--lang", "en"])

    return run


def ready(site: str) -> Reply:
    return Reply(site, UPDATE)


def test_each_invited_site_is_named_once_with_what_became_of_it(rehearse: Callable[..., RehearsalEntry]) -> None:
    says = {"site-0": ready("site-0"), "site-1": Reply("site-1", None, "local"), "site-2": "JG-server-340"}
    asked = Asked(lambda number, site: says.get(site))
    entry = rehearse(asked, approved=SITES[:4], online=SITES[:3])
    assert (entry.done, entry.ready, entry.abstained) == (True, ["site-0"], {"site-1": "local"})
    assert (entry.refused, entry.missing, entry.unapproved) == ({"site-2": "JG-server-340"}, ["site-3"], ["site-4"])
    assert [(order.round, cohort) for order, cohort in asked.orders] == [(0, tuple(SITES[:3])), (1, ("site-0",))]


def test_all_are_asked_the_parameters_of_the_plan_and_no_scaling(rehearse: Callable[..., RehearsalEntry]) -> None:
    asked = Asked(lambda number, site: ready(site))
    entry = rehearse(asked)
    assert (sorted(entry.ready), entry.seconds) == (SITES, 1.0)
    for order, _ in asked.orders:
        assert (order.kind, order.scaling, order.manifest, order.hold) == (Kind.REHEARSE, None, None, False)
        assert order.vector.size > 0


def test_who_does_not_answer_the_second_time_is_not_ready(rehearse: Callable[..., RehearsalEntry]) -> None:
    second = {"site-0": None, "site-1": Reply("site-1", None, "JG-site-312"), "site-2": "JG-server-340"}
    entry = rehearse(Asked(lambda number, site: second.get(site, ready(site)) if number else ready(site)))
    assert sorted(entry.ready) == SITES[3:]
    assert (entry.missing, entry.abstained) == (["site-0"], {"site-1": "JG-site-312"})
    assert entry.refused == {"site-2": "JG-server-340"}


def test_a_second_answer_and_one_of_a_stranger_do_not_count(rehearse: Callable[..., RehearsalEntry]) -> None:
    class Twice(Asked):
        def pull(self) -> Iterator[Reply]:
            yield from (Reply("site-0", None, "local"), ready("site-0"), ready("stranger"))

    entry = rehearse(Twice(lambda number, site: None), online=SITES[:1])
    assert (entry.ready, entry.abstained) == ([], {"site-0": "local"})
    assert entry.seconds == 0.0


def test_vectors_that_are_large_together_are_asked_for_a_few_at_a_time(
    rehearse: Callable[..., RehearsalEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(lambda number, site: ready(site))
    monkeypatch.setattr(rehearsal, "MOST_TOGETHER_BYTES", 0)
    assert sorted(rehearse(asked).ready) == SITES
    assert [cohort for _, cohort in asked.orders] == 2 * [(site,) for site in SITES]


def test_one_that_a_server_did_not_end_is_open_and_gone_on_with_under_its_number(
    rehearse: Callable[..., RehearsalEntry], world: Any
) -> None:
    with pytest.raises(LinkError):
        rehearse(Asked(ready, ends=True))  # type: ignore[arg-type]
    ((campaign, number),) = world.store.open_rehearsals()
    assert (number, world.store.ask_rehearsal(campaign)) == (1, 1)
    assert rehearse(Asked(lambda number, site: ready(site))).number == 1
    assert world.store.open_rehearsals() == []
    over = world.store.rehearsals(campaign)
    world.store.record_rehearsal(campaign, RehearsalEntry(1, missing=SITES))
    assert world.store.rehearsals(campaign) == over  # what is over stays as it is
    assert world.store.ask_rehearsal(campaign) == 2


def test_a_rehearsal_makes_no_round_and_its_sites_poll_as_in_a_campaign(
    rehearse: Callable[..., RehearsalEntry], world: Any, plan: Any
) -> None:
    campaign = plan(**{"sites.invite": SITES}).hash
    site = world.site("site-0")
    world.store.approve(campaign, "site-0", site.approval(campaign, world.now))
    assert world.store.active() == set()
    world.store.ask_rehearsal(campaign)
    assert world.store.active() == {"site-0"}
    rehearse(Asked(lambda number, site: ready(site)))
    assert world.store.active() == set()
    assert (world.store.rounds(campaign), world.store.evaluations(campaign)) == ([], [])
    assert not world.state.checkpoints(campaign).exists()


def test_only_an_approved_campaign_that_a_site_has_approved_is_rehearsed(world: Any, plan: Any) -> None:
    (site,) = world.sites(1)
    campaign = world.propose(plan())
    with pytest.raises(ServerError, match=r"JG-server-470 .* is proposed"):
        campaigns.rehearse(world.store, campaign)
    world.store.move(campaign, Act.APPROVE)
    with pytest.raises(ServerError, match="JG-server-471"):
        campaigns.rehearse(world.store, campaign)
    world.store.approve(campaign, site.name, site.approval(campaign, world.now))
    assert campaigns.rehearse(world.store, campaign) == 1
    with pytest.raises(ServerError, match="JG-server-330"):
        campaigns.rehearse(world.store, "0" * 64)


def test_the_command_asks_the_running_server_and_says_what_came_of_it(world: Any, plan: Any, eventually: Any) -> None:
    app, (site,) = command_line(), world.sites(1)
    campaign = world.propose(plan())
    world.store.move(campaign, Act.APPROVE)
    world.store.approve(campaign, site.name, site.approval(campaign, world.now))
    asked = ("campaign", "rehearse", str(world.state.path), campaign[:8])
    without = app(*asked)
    assert (without.exit_code, json.loads(without.stdout)["done"]) == (0, False)
    assert "JG-server-472" in without.stderr
    world.state.address.write_text("127.0.0.1:1\n")
    ended = RehearsalEntry(1, True, ["site-0"], ["site-2"], {}, {}, ["site-1"], seconds=2.0)
    world.store.record_rehearsal(campaign, ended)

    def end_the_next() -> None:
        eventually(world.store.open_rehearsals)
        world.store.record_rehearsal(campaign, replace(ended, number=2))

    server = threading.Thread(target=end_the_next)
    server.start()
    said = app(*asked)
    server.join()
    line = json.loads(said.stdout)
    assert (said.exit_code, line["ok"], line["rehearsal"]) == (1, False, 2)
    assert (line["ready"], line["missing"], line["unapproved"]) == (["site-0"], ["site-1"], ["site-2"])
    assert said.stderr.startswith("0 ready")
    assert app(*asked, "--no-wait").exit_code == 0
