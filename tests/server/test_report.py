"""Laws of what is said of a campaign: it is in the records, in both languages, and carries nothing else out."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.errors import JanginError
from jangin.plan.training_plan import TrainingPlan
from jangin.server import kpi
from jangin.server.life import Act, State
from jangin.server.registry import at_least
from jangin.server.report import CampaignReport, report
from jangin.server.report_page import page, words
from jangin.server.store import EvaluationEntry, Outcome, RoundEntry
from jangin.trust.envelope import Kind, seal
from jangin.trust.measurements import Measurement

Plan = Callable[..., TrainingPlan]
KPI = {"kpi": {"name": "reject_rate", "baseline": 0.081}}


def measured(world: Any, campaign: str, value: float, person: str = "evaluator", figure: str = "reject_rate") -> Any:
    document = Measurement(issued=world.now, campaign=campaign, figure=figure, value=value, note="<b>line 2</b>")
    envelope = seal(Kind.MEASUREMENT, document.payload, world.keys[person])
    return kpi.measure(world.store, envelope, world.members.staff(world.now), world.now)


def refused(code: str, act: Callable[[], object]) -> None:
    with pytest.raises(JanginError) as error:
        act()
    assert error.value.code == code


class Reader(HTMLParser):
    """Every tag closed, every address and script."""

    EMPTY = frozenset({"meta", "br", "path", "use", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in self.EMPTY:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#"):
                self.outside.append(f"{tag} {name}={value}")
        assert tag != "script"

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


def test_figures_are_an_evaluators_word_about_the_plans_own_figure(
    world_on: Any, database_url: str, plan: Plan
) -> None:
    world = world_on(database_url)
    campaign, bare = world.propose(plan(**KPI)), world.propose(plan(campaign="bare"))
    assert kpi.measurements(world.store, campaign) == []
    first, second = (measured(world, campaign, value) for value in (0.074, 0.069))
    assert kpi.measurements(world.store, campaign) == [first, second]
    assert (first.measurement.value, first.person) == (0.074, "evaluator")
    refused("JG-server-452", lambda: measured(world, bare, 0.07))
    refused("JG-server-452", lambda: measured(world, campaign, 0.07, figure="scrap"))
    refused("JG-server-330", lambda: measured(world, "ab" * 32, 0.07))
    refused("JG-site-117", lambda: measured(world, campaign, 0.07, "approver"))
    last = world.store.database.audit()[-1].entry
    assert (last.act, last.actor, last.detail["value"]) == ("measure", "evaluator", "0.069")


@pytest.fixture
def told(world: Any, plan: Plan) -> CampaignReport:
    """The report of a campaign in which much happened."""
    made = plan(**KPI, **{"strategy.rounds": 2})
    campaign = world.learnt(made, "site-0", "site-1")
    failed = RoundEntry(
        1, 2, Outcome.FAILED, ["site-0"], {"site-1": "JG-site-381"}, {"site-2": "JG-server-340"}, [], 2.5, "too few"
    )
    world.store.record(campaign, failed)
    world.store.record_evaluation(campaign, EvaluationEntry(2, {"mae": [1.5, 0.25]}, ["site-0"], {}, {}, [], 0.5))
    world.release(world.registry.register(campaign, world.now))
    measured(world, campaign, 0.074)
    return report(world.state, world.store, campaign, world.now)


def test_a_report_says_who_did_what_and_who_took_part(told: CampaignReport) -> None:
    assert [(step.act, step.actor) for step in told.life] == [
        (Act.DRAFT, "operator"), (Act.PROPOSE, "operator"), (Act.APPROVE, "approver"), (Act.CONSULT, "server"),
        (Act.START, "operator"), (Act.EVALUATE, "server"), (Act.REGISTER, "server"), (Act.RELEASE, "approver"),
    ]  # fmt: skip
    assert [(one.site, one.reported, one.abstained, one.refused) for one in told.sites] == [
        ("site-0", 2, {}, {}), ("site-1", 2, {"JG-site-381": 1}, {}), ("site-2", 0, {}, {"JG-server-340": 1})
    ]  # fmt: skip
    assert told.model is not None
    assert (told.state, told.model.name, told.model.aliases) == (State.RELEASED, "national-bof-blow@1", ("national",))
    assert told.plan["epsilon"] == "NO DIFFERENTIAL PRIVACY"
    assert told.kpi is not None
    assert (told.kpi.baseline, [one.value for one in told.measured]) == (0.081, [0.074])
    assert CampaignReport.model_validate(json.loads(told.model_dump_json())) == told


@pytest.mark.parametrize("lang", ["ko", "en"])
def test_the_page_is_whole_says_what_the_report_says_and_asks_nobody(told: CampaignReport, lang: Any) -> None:
    html = page(told, lang)
    reader = Reader()
    reader.feed(html)
    assert (reader.open, reader.outside) == ([], [])
    assert "NO DIFFERENTIAL PRIVACY" in html
    assert "&lt;b&gt;line 2&lt;/b&gt;" in html
    for said in (
        "JG-site-381: 1",
        "1.5 ± 0.25",
        "0.081",
        "0.074",
        "national-bof-blow@1",
        words()["acts"]["release"][lang],
    ):
        assert said in html
    assert html.count("<svg") == 2
    assert page(told, lang) == html
    assert bool(re.search("[가-힣]", html)) == (lang == "ko")


def test_a_report_of_a_campaign_that_has_not_begun_is_one_too(world: Any, plan: Plan) -> None:
    campaign = world.propose(plan())
    told = report(world.state, world.store, campaign, world.now + timedelta(days=1))
    assert (told.state, told.model, told.statement, told.rounds) == (State.PROPOSED, None, None, ())
    assert "<svg" not in page(told, "en")


@given(value=st.floats(1e-9, 1e9))
def test_a_bound_that_is_shown_stays_one(value: float) -> None:
    assert value <= float(at_least(value)) <= value * 1.0011


def test_every_word_of_the_page_is_in_both_languages() -> None:
    def pairs(tree: Mapping[str, Any]) -> list[Mapping[str, str]]:
        return [tree] if "en" in tree else [pair for part in tree.values() for pair in pairs(part)]  # type: ignore[list-item]

    for pair in pairs(words()):
        assert pair.keys() == {"en", "ko"}
        assert all(pair.values())
    assert set(words()["states"]) == set(State)
    assert set(words()["acts"]) == set(Act)
    assert set(words()["outcomes"]) == set(Outcome)
