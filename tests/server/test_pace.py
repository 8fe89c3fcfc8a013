"""Laws of `next_poll_s`: about sixty polls a second in all, whatever the number of sites, within bounds."""

from datetime import timedelta
from typing import Any

import pytest


def pace(api: Any, site: Any) -> float:
    status, answer = api.ask(site, "ack")
    assert status == 200
    return float(answer["next_poll_s"])


@pytest.mark.parametrize(
    ("active", "seconds"), [(1, 0.2), (12, 0.2), (13, 13 / 60), (60, 1.0), (1799, 1799 / 60), (1800, 30), (9000, 30)]
)
def test_while_a_campaign_of_the_site_runs_it_is_a_sixtieth_of_the_active_sites_between_a_fifth_and_thirty_seconds(
    world: Any, monkeypatch: pytest.MonkeyPatch, active: int, seconds: float
) -> None:
    (site,) = world.sites(1)
    monkeypatch.setattr(world.store, "active", lambda: {f"site-{number}" for number in range(active)})
    assert pace(world.api(), site) == pytest.approx(seconds)


@pytest.mark.parametrize(("polling", "seconds"), [(1, 5.0), (300, 5.0), (301, 301 / 60), (6000, 100.0)])
def test_else_it_is_a_sixtieth_of_the_polling_sites_and_at_least_the_idle_wait(
    world: Any, polling: int, seconds: float
) -> None:
    (site,) = world.sites(1)
    api = world.api(idle_poll_s=5.0)
    api.api._polled = {f"other-{number}": world.now for number in range(polling - 1)}
    assert pace(api, site) == pytest.approx(seconds)


def test_a_site_that_has_not_asked_for_two_minutes_is_no_longer_counted(world: Any) -> None:
    sites, api = world.sites(3), world.api(idle_poll_s=0.001)
    assert [pace(api, site) for site in sites] == pytest.approx([1 / 60, 2 / 60, 3 / 60])
    world.now += timedelta(seconds=119)
    assert pace(api, sites[0]) == pytest.approx(3 / 60)
    world.now += timedelta(seconds=1)
    assert pace(api, sites[0]) == pytest.approx(1 / 60)


def test_sites_of_other_campaigns_count_and_a_site_of_none_waits_idly(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site,) = world.sites(1)
    monkeypatch.setattr(world.store, "active", lambda: {f"other-{number}" for number in range(600)})
    assert pace(world.api(idle_poll_s=5.0), site) == 5.0
    monkeypatch.setattr(world.store, "active", lambda: {"site-0", *(f"other-{number}" for number in range(599))})
    assert pace(world.api(idle_poll_s=5.0), site) == pytest.approx(10.0)
