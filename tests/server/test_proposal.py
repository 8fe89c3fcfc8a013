"""Laws of the dry run: it refuses what `propose` refuses, all of it at once, and says what would hold instead."""

from typing import Any

import pytest

from jangin.errors import JanginError
from jangin.server.proposal import findings, refusals

OF_SUMS = {"privacy.secure_aggregation": "required", "privacy.nominal_units": 20}
PRIVATE = {"privacy.epsilon": 1.0, "privacy.nominal_units": 20, "privacy.delta": 1e-4, "strategy.batch": 20}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"strategy": {"name": "median", "rounds": 4, "local_steps": 2, "batch": 8, "lr": 0.05}} | OF_SUMS, "021"),
        ({"model_line": "national-bof-blov"}, "003"),
        ({"process": "pipe.tig_weld"}, "003"),
        ({"privacy.c_max": 1} | OF_SUMS, "060"),
    ],
)
def test_what_the_dry_run_refuses_first_is_what_propose_refuses(
    world: Any, plan: Any, changes: dict[str, object], code: str
) -> None:
    made = plan(**changes)
    world.seat(*made.sites.invite)
    first = next(one for one in findings(made, world.members.active()) if one.refused)
    with pytest.raises(JanginError) as refused:
        world.propose(made)
    assert first.code == refused.value.code == f"JG-plan-{code}"
    assert first.message == refused.value.coded.text("what")


def test_a_plan_without_refusals_is_proposed_and_nothing_was_written_before(world: Any, plan: Any) -> None:
    world.seat(*plan().sites.invite)
    assert findings(plan(), world.members.active()) == ()
    assert world.store.campaigns() == []
    assert world.propose(plan()) == plan().hash


def test_all_that_is_wrong_is_said_at_once(plan: Any) -> None:
    made = plan(**{"privacy.c_max": 1, "model_line": "none-such"} | OF_SUMS)
    codes = [error.code for error in refusals(made, active={"site-0"})]
    assert codes == ["JG-plan-060", "JG-plan-003", "JG-server-352"]
    assert [error.code for error in refusals(made, active=None)] == codes[
        :2
    ]  # without a server nobody knows its roster


def test_noise_alone_is_refused_with_the_values_that_would_hold(plan: Any) -> None:
    (found,) = findings(plan(**PRIVATE), None)
    assert (found.code, found.refused) == ("JG-privacy-005", True)
    ways = {way.key: way.least for way in found.works}
    assert set(ways) == {"privacy.epsilon", "sites.invite", "privacy.nominal_units", "strategy.batch"} | {
        "privacy.scaling_share"
    }
    enough = ways["sites.invite"]
    assert enough is not None
    more = plan(**PRIVATE | {"sites.invite": [f"site-{number}" for number in range(int(enough))]})
    assert list(refusals(more, None)) == []


def test_a_floor_of_sums_above_what_the_plan_says_is_a_warning_in_both_languages(plan: Any) -> None:
    sites = {"sites.invite": [f"site-{number}" for number in range(8)], "sites.min_sites": 2}
    made = plan(**sites | OF_SUMS | {"privacy.c_max": 1})
    for lang, word in (("en", "rounds of this plan begin with 4"), ("ko", "필요한 수는 4곳")):
        found = findings(made, None, lang)  # type: ignore[arg-type]
        assert [(one.code, one.refused) for one in found] == [("JG-plan-061", False), ("JG-plan-062", False)]
        assert word in found[0].message
    halved = findings(plan(**sites | OF_SUMS | {"privacy.c_max": 1, "sites.quorum": 0.5}), None)
    assert [one.code for one in halved] == ["JG-plan-061", "JG-plan-063", "JG-plan-062"]
