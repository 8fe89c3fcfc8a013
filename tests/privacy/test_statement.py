"""Laws of the privacy statement: its figures come from its events; a recount by other code finds any that do not."""

import json
import re
import runpy
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from math import exp
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import norm

from jangin.errors import PrivacyError
from jangin.privacy import accounting
from jangin.privacy.accounting import epsilon_pld
from jangin.privacy.page import best_guess, page, percent_at_most
from jangin.privacy.recount import Verdict, confirm, recount
from jangin.privacy.releases import (
    Charge,
    GaussianRelease,
    Guarantee,
    LocalDpSgd,
    MasterSum,
    Reading,
    Relation,
    SharedSum,
    Unit,
)
from jangin.privacy.statement import Deployment, Statement, Status, promise_of, read_statement, state, wording

FOLDER = Path(__file__).parents[1] / "vectors" / "statement"
GOLDEN = (FOLDER / "statement.json").read_bytes()


@pytest.fixture(scope="module")
def made() -> Statement:
    """The statement that the golden one was written from."""
    statement: Statement = runpy.run_path(str(FOLDER / "make_statement.py"))["made"]()
    return statement


def deployment(**changes: Any) -> Deployment:
    values: dict[str, Any] = {
        "kind": "simulation",
        "name": "simulation",
        "plan_hash": "0f" * 32,
        "model_line": None,
        "process": None,
        "sites": 3,
        "rounds_planned": 4,
        "rounds_done": 4,
        "rounds_charged": 4,
    }
    return Deployment(**{**values, **changes})


def m1(steps: GaussianRelease, scaling: GaussianRelease | None = None, unit: Unit = Unit.EPISODE) -> LocalDpSgd:
    return LocalDpSgd(unit, 1.0, steps, 10.0, 4, scaling, Guarantee(unit, Relation.ADD_OR_REMOVE, 1.0, 1e-5))


@pytest.fixture
def changed() -> Callable[..., bytes]:
    """The golden statement with one value changed, by its path below `privacy_loss.readings`, or from the top."""

    def change(path: str, to: Callable[[Any], Any], content: bytes = GOLDEN) -> bytes:
        tree = json.loads(content)
        *way, last = path.split("/")
        place = tree
        for step in way:
            place = place[int(step) if isinstance(place, list) else step]
        key: Any = int(last) if isinstance(place, list) else last
        place[key] = to(place[key])
        return json.dumps(tree).encode()

    return change


SUM, SHARED = "privacy_loss/readings/secure_sum", "privacy_loss/mechanism"


def numbers(value: Any) -> Any:
    """The same tree with its floats ready to be compared."""
    if isinstance(value, dict):
        return {key: numbers(one) for key, one in value.items() if key != "accountant"}
    if isinstance(value, list):
        return [numbers(one) for one in value]
    return pytest.approx(value, rel=1e-6) if isinstance(value, float) else value


def test_the_golden_statement_is_what_its_script_makes(made: Statement) -> None:
    assert json.loads(made.as_json())["deployment"] == json.loads(GOLDEN)["deployment"]
    assert numbers(json.loads(GOLDEN)["privacy_loss"]) == {
        key: value for key, value in json.loads(made.as_json())["privacy_loss"].items() if key != "accountant"
    }


def test_what_is_read_is_what_was_written(made: Statement) -> None:
    assert read_statement(made.as_json(), "statement.json") == made


def test_an_honest_statement_holds_to_a_millionth_in_the_filter_and_one_percent_in_epsilon() -> None:
    found = recount(GOLDEN)
    assert (found.verdict, found.failed) == (Verdict.HOLDS, ())
    assert {figure.reading for figure in found.figures} == set(Reading)
    by_name = {(figure.name, figure.reading): figure for figure in found.figures}
    for reading in Reading:
        divergence, prv = by_name["filter: Renyi divergence", reading], by_name["epsilon, PRV", reading]
        assert divergence.recounted == pytest.approx(divergence.stated, rel=1e-6)
        assert prv.recounted == pytest.approx(prv.stated, rel=0.01)
        below = by_name["epsilon, PRV from below", reading]
        assert below.recounted is not None
        assert 0.99 * below.stated < below.recounted <= below.stated
    assert len(found.figures) == 2 * (6 + 10) + 3
    shares = {figure.name: (figure.stated, figure.recounted) for figure in found.figures if "shares" in figure.name}
    assert shares["honest shares"] == (4, 4)
    assert shares["noise of the honest shares, each_round"] == (2.0, pytest.approx(2.0))


def test_the_recount_uses_nothing_of_our_own_accounting(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*arguments: object) -> None:
        raise AssertionError("Our own accounting was asked.")

    from jangin.privacy import renyi, statement

    ours = {accounting: ["epsilon_curve", "epsilon_rdp"], renyi: ["renyi", "epsilon_at", "filter_order"]}
    for module, names in ours.items():
        for name in names:
            monkeypatch.setattr(module, name, gone)
            monkeypatch.setattr(statement, name, gone)
    assert recount(GOLDEN).verdict is Verdict.HOLDS


@pytest.mark.parametrize(
    ("path", "to", "fails"),
    [
        (f"{SUM}/events/1/noise_multiplier", lambda noise: 0.999 * noise, "filter: Renyi divergence"),
        (f"{SUM}/events/0/noise_multiplier", lambda noise: 1.02 * noise, "filter: Renyi divergence"),
        (f"{SUM}/events/1/sampling_probability", lambda q: 1.1 * q, "epsilon, PRV from below"),
        (f"{SUM}/events/1/count", lambda count: count + 1, "epsilon, PRV"),
        ("deployment/rounds_charged", lambda rounds: rounds - 1, "epsilon, PRV"),
        (f"{SUM}/epsilon", lambda epsilon: 0.995 * epsilon, "epsilon, PRV from below"),
        (f"{SUM}/epsilon", lambda epsilon: 1.02 * epsilon, "epsilon, PLD"),
        (f"{SUM}/epsilon", lambda epsilon: 0.0, "epsilon, PLD"),
        (f"{SUM}/delta", lambda delta: delta / 2, "epsilon, PRV from below"),
        (f"{SUM}/filter/renyi_divergence", lambda divergence: divergence * (1 - 2e-6), "filter: Renyi divergence"),
        (f"{SUM}/filter/epsilon", lambda epsilon: epsilon * (1 - 2e-6), "filter: epsilon"),
        (f"{SUM}/filter/order", lambda order: order + 1, "filter: Renyi divergence"),
        (f"{SUM}/curve/3/epsilon", lambda epsilon: 0.98 * epsilon, "curve at 1e-07, PLD"),
        (f"{SHARED}/honest_shares", lambda honest: honest + 1, "honest shares"),
        (f"{SHARED}/honest_shares", lambda honest: honest - 1, "noise of the honest shares, opening"),
        (f"{SHARED}/n_plan", lambda n_plan: n_plan + 3, "honest shares"),
        (f"{SHARED}/c_max", lambda c_max: c_max + 1, "honest shares"),
        (f"{SHARED}/n_min_final", lambda least: least + 1, "honest shares"),
        (f"{SHARED}/n_plan", lambda n_plan: None, "honest shares"),
    ],
)
def test_one_changed_value_flips_the_verdict(
    changed: Callable[..., bytes], path: str, to: Callable[[Any], Any], fails: str
) -> None:
    found = recount(changed(path, to))
    assert found.verdict is Verdict.DOES_NOT_HOLD
    assert fails in {figure.name for figure in found.failed}


@pytest.mark.parametrize(
    "mechanism",
    [
        m1(GaussianRelease(3.0, 1.0, 8)),
        m1(GaussianRelease(1.0, 0.05, 40), GaussianRelease(20.0, 1.0, 1)),
        m1(GaussianRelease(60.0, 1.0, 4)),
        m1(GaussianRelease(0.7, 1.0, 4), unit=Unit.MASTER),
    ],
    ids=["all drawn", "with an opening", "next to nothing", "little noise"],
)
@pytest.mark.no_cover
def test_what_a_mechanism_states_holds(mechanism: LocalDpSgd) -> None:
    stated = state(deployment(), promise_of(mechanism, 4))
    found = recount(stated.as_json())
    assert (found.verdict, found.failed) == (Verdict.HOLDS, ())
    releases = [mechanism.steps, *([mechanism.scaling] if mechanism.scaling else [])]
    loss = json.loads(stated.as_json())["privacy_loss"]
    for figures in loss["readings"].values():
        assert figures["epsilon"] == pytest.approx(epsilon_pld(releases, 1e-5), rel=1e-6)
        epsilons = [point["epsilon"] for point in figures["curve"]]
        assert epsilons == sorted(epsilons, reverse=True)
    assert loss["privacy_unit"] == mechanism.unit


@pytest.mark.parametrize("kind", [SharedSum, MasterSum])
@pytest.mark.no_cover
def test_what_is_stated_of_shared_noise_holds_in_both_readings_and_names_the_shares(
    kind: type[SharedSum | MasterSum],
) -> None:
    unit, q = (Unit.EPISODE, 0.2) if kind is SharedSum else (Unit.MASTER, 1.0)
    promise = Guarantee(unit, Relation.ADD_OR_REMOVE, 1.0, 1e-5)
    common: dict[str, Any] = {
        "clip": 1.0,
        "share": GaussianRelease(1.5, q, 4),
        "sites": 20,
        "c_max": 3,
        "n_min_final": 15,
        "scaling": GaussianRelease(4.0, 1.0, 1),
        "guarantee": promise,
        "coalition": promise,
    }
    mechanism = SharedSum(**common, divisor=10.0, windows=4) if kind is SharedSum else MasterSum(**common, masters=6)
    stated = state(deployment(), promise_of(mechanism, 4))
    found = recount(stated.as_json())
    assert (found.verdict, found.failed) == (Verdict.HOLDS, ())
    loss = json.loads(stated.as_json())["privacy_loss"]
    constants = {key: loss["mechanism"][key] for key in ("name", "c_max", "n_plan", "n_min_final", "honest_shares")}
    name = "M2" if kind is SharedSum else "M3"
    assert constants == {"name": name, "c_max": 3, "n_plan": 20, "n_min_final": 15, "honest_shares": 12}
    for reading, shares in (("secure_sum", 12), ("coalition", 1)):
        releases = [GaussianRelease(1.5 * shares**0.5, q, 4), GaussianRelease(4.0 * shares**0.5, 1.0, 1)]
        assert loss["readings"][reading]["epsilon"] == pytest.approx(epsilon_pld(releases, 1e-5), rel=1e-6)
    assert loss["sampling"]["secret"] == (kind is SharedSum)


def test_a_campaign_that_ended_early_is_charged_for_the_rounds_that_began() -> None:
    mechanism = m1(GaussianRelease(2.0, 0.2, 40), GaussianRelease(9.0, 1.0, 1))
    early = state(deployment(rounds_done=1, rounds_charged=2), promise_of(mechanism, 4))
    spent = epsilon_pld([GaussianRelease(2.0, 0.2, 20), GaussianRelease(9.0, 1.0, 1)], 1e-5)
    loss = json.loads(early.as_json())["privacy_loss"]
    assert loss["readings"]["secure_sum"]["epsilon"] == pytest.approx(spent, rel=1e-6)
    opened = state(deployment(rounds_done=0, rounds_charged=0), promise_of(mechanism, 4))
    assert recount(opened.as_json()).verdict is Verdict.HOLDS
    with pytest.raises(ValueError, match="release"):
        state(deployment(rounds_done=0, rounds_charged=0), promise_of(m1(GaussianRelease(2.0, 0.2, 40)), 4))


def test_a_run_without_privacy_says_so_and_has_no_figure() -> None:
    stated = state(deployment(), None)
    tree = json.loads(stated.as_json())
    assert tree["privacy_loss"] == "NO DIFFERENTIAL PRIVACY"
    assert (tree["privacy_hazards"], tree["evidence"]) == ([], [])
    assert "epsilon" not in stated.as_json().decode()
    assert recount(stated.as_json()).verdict is Verdict.NO_DIFFERENTIAL_PRIVACY
    shown = page(stated)
    assert shown.count("<strong>NO DIFFERENTIAL PRIVACY</strong>") == 2
    assert not re.search(r"ε =|<svg|class=\"covered", shown)


def test_an_event_without_a_known_price_is_refused(changed: Callable[..., bytes]) -> None:
    with pytest.raises(PrivacyError, match=r"JG-privacy-040 .*'laplace'"):
        recount(changed(f"{SUM}/events/1/event", lambda event: "laplace"))


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("schema_version", lambda version: "jangin-privacy-statement-2"),
        ("privacy_loss", lambda loss: "some differential privacy"),
        ("privacy_loss/readings", lambda readings: {"secure_sum": readings["secure_sum"]}),
        (f"{SUM}/events", lambda events: []),
        (f"{SUM}/events/1/noise_multiplier", lambda noise: 0.0),
        (f"{SUM}/events/1/noise_multiplier", lambda noise: float("nan")),
        (f"{SUM}/events/1/sampling_probability", lambda q: 1.5),
        (f"{SUM}/epsilon", lambda epsilon: -1.0),
        (f"{SUM}/delta", lambda delta: 1.0),
        ("deployment/rounds_charged", lambda rounds: -1),
        ("deployment", lambda values: {**values, "note": "as agreed"}),
        ("composition", lambda values: {}),
    ],
)
def test_what_is_no_statement_is_refused(changed: Callable[..., bytes], path: str, to: Callable[[Any], Any]) -> None:
    with pytest.raises(PrivacyError, match=r"JG-privacy-041 s\.json"):
        recount(changed(path, to), "s.json")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{"])
def test_what_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(PrivacyError, match="JG-privacy-041"):
        recount(content)


class Page(HTMLParser):
    """Tags that stay open, attributes that reach out, and the text of each language."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.reaching: list[str] = []
        self.text = {"ko": "", "en": ""}
        self.language = ""
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.reaching += [name for name, _ in attributes if name in ("src", "href", "action") or name[:2] == "on"]
        if tag == "article":
            self.language = str(dict(attributes)["lang"])
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.language = "" if tag == "article" else self.language

    def handle_data(self, data: str) -> None:
        if self.language:
            self.text[self.language] += data


def test_the_page_is_whole_and_says_every_sentence_in_both_languages(made: Statement) -> None:
    shown = Page(page(made))
    assert (shown.open, shown.reaching, "script" in shown.tags) == ([], [], False)
    assert shown.tags.count("polyline") == 2 * len(Reading)  # two curves in each of two languages
    for sentence in (made.trust_model, *made.privacy_hazards, *made.evidence, *made.not_promised):
        assert sentence.ko in shown.text["ko"]
        assert sentence.en in shown.text["en"]
    for text in shown.text.values():
        assert "c_max = 3" in text
        assert "kr-0421" in text
        assert made.deployment.plan_hash in text


def test_the_page_begins_with_one_sentence_on_the_best_guess(made: Statement) -> None:
    loss = json.loads(GOLDEN)["privacy_loss"]["readings"]
    first = page(made).split('class="first">')
    for part in first[1:]:
        sentence = part.split("</p>")[0]
        for figures in loss.values():
            assert percent_at_most(figures["epsilon"], figures["delta"]) in sentence


def test_what_stands_in_a_statement_cannot_become_part_of_the_page() -> None:
    hostile = state(deployment(name="<script>alert(1)</script>", process='"><img src=x onerror=y>'), None)
    shown = Page(page(hostile))
    assert not {"script", "img"} & set(shown.tags)
    assert shown.reaching == []
    assert "<script>alert(1)</script>" in shown.text["ko"]


@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0, 8.0])
def test_nobody_guesses_better_than_is_said(noise: float, epsilon: float) -> None:
    """Of one Gaussian at its exact delta; the best guess is whether the value is beyond half a clip."""
    left, right = 1 / (2 * noise), epsilon * noise
    delta = norm.cdf(left - right) - exp(epsilon) * norm.cdf(-left - right)
    assert norm.cdf(left) <= best_guess(epsilon, delta) + 1e-12
    assert float(percent_at_most(epsilon, delta)) >= 100 * best_guess(epsilon, delta) - 1e-3


def test_the_best_guess_is_a_coin_where_nothing_is_lost_and_is_reached_by_randomised_response() -> None:
    assert best_guess(0.0, 0.0) == 0.5
    assert best_guess(1.5, 0.0) == pytest.approx(exp(1.5) / (1 + exp(1.5)))
    assert (percent_at_most(8.0, 1e-5), percent_at_most(800.0, 1e-5)) == ("99.97", "100")


def test_every_word_is_there_in_both_languages() -> None:
    def walk(value: dict[str, Any]) -> None:
        if "en" in value:
            assert value["ko"]
            assert re.search(r"[가-힣]", value["ko"]) or not re.search(r"[a-z]{4}", value["en"])
            assert sorted(re.findall(r"{\w+}", value["ko"])) == sorted(re.findall(r"{\w+}", value["en"]))
        else:
            for one in value.values():
                walk(one)

    walk(dict(wording()))


def test_every_hazard_has_one_known_treatment_and_what_is_not_known_is_not_covered(made: Statement) -> None:
    mechanism = m1(GaussianRelease(3.0, 1.0, 8))
    for kind in ("campaign", "simulation"):
        hazards = state(deployment(kind=kind), promise_of(mechanism, 4)).privacy_hazards
        assert [hazard.name for hazard in hazards] == list(wording()["hazards"])
        status = {hazard.name: hazard.status for hazard in hazards}
        assert status["scaling"] is Status.COVERED
        assert status["evaluation"] is (Status.COVERED if kind == "campaign" else Status.NOT_COVERED)
    named = {hazard.name: hazard.status for hazard in made.privacy_hazards}
    assert named["scaling"] is Status.CHARGED
    assert named["floating_point"] is Status.NOT_COVERED  # of M2 nothing is said


def test_a_statement_is_of_the_releases_that_a_ledger_reserved() -> None:
    tree = json.loads(GOLDEN)
    loss = tree["privacy_loss"]

    def released(reading: str, when: str) -> tuple[GaussianRelease, ...]:
        return tuple(
            GaussianRelease(one["noise_multiplier"], one["sampling_probability"], one["count"])
            for one in loss["readings"][reading]["events"]
            if one["when"] == when
        )

    cost = {
        reading: Charge(
            Unit(loss["privacy_unit"]),
            tree["deployment"]["rounds_planned"],
            released(reading.value, "opening"),
            released(reading.value, "each_round"),
        )
        for reading in Reading
    }
    confirm(GOLDEN, cost)
    first = cost[Reading.SECURE_SUM]
    (least, *others) = first.each_round
    more = replace(first, each_round=(replace(least, noise_multiplier=0.99 * least.noise_multiplier), *others))
    for changed in (None, cost | {Reading.SECURE_SUM: more}, cost | {Reading.SECURE_SUM: replace(first, opening=())}):
        with pytest.raises(PrivacyError, match=r"JG-privacy-044 .*secure_sum"):
            confirm(GOLDEN, changed)
