"""Laws of a campaign that evaluates: it stops and goes back by its own figures, and shows none of a small group."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from jangin.plan.messages import Kind, Order, Reply
from jangin.server import campaigns
from jangin.server.checkpoints import Checkpoints
from jangin.server.conductor import MOST_ATTEMPTS, Conductor
from jangin.server.life import State
from jangin.server.selection import best_round, stopped
from jangin.server.store import EvaluationEntry, plan_of
from jangin.training.mechanism import mechanism
from jangin.trust.envelope import Kind as Envelope
from jangin.trust.envelope import peek

SITES = tuple(f"site-{number}" for number in range(6))
EVALUATE = {"metrics": ["mae", "mse"], "bound": [0, 2], "every": 2}
BASE = {"sites.invite": list(SITES), "strategy.rounds": 8, "evaluate": EVALUATE}
Odd = Callable[[Order, str], Any]


class Killed(BaseException):
    """What nobody catches."""


class Field:
    """Sites that add one to every parameter in every round, and whose hold-outs say what was scripted, by round."""

    def __init__(self, script: dict[int, float], odd: Odd, units: float) -> None:
        self.script, self.odd, self.units = script, odd, units
        self.asked: list[tuple[str, int]] = []
        self.judged: dict[int, np.ndarray] = {}

    def assemble(self, size: int) -> Any:
        field = self

        class Exchange:
            sites = SITES

            def __init__(self) -> None:
                self.refused: dict[str, str] = {}

            def push(self, order: Order, cohort: Sequence[str]) -> None:
                self.order = order
                field.asked.append((order.kind.value, order.round))

            def pull(self) -> Iterator[Reply]:
                for site in SITES:
                    odd = field.odd(self.order, site)
                    if odd is not None:
                        if not isinstance(odd, str):
                            raise odd
                        if odd != "missing":
                            yield Reply(site, None, odd)
                    elif self.order.kind is Kind.SCALE:
                        yield Reply(site, np.linspace(1, 2, size))
                    elif self.order.kind is Kind.TRAIN:
                        yield Reply(site, np.ones_like(self.order.vector))
                    else:
                        assert self.order.scaling is not None
                        field.judged[self.order.round] = self.order.vector
                        loss = field.script[self.order.round]
                        yield Reply(site, field.units * np.array([1.0, loss / 2, loss**2 / 4]))

        return Exchange()


@pytest.fixture
def conduct(world: Any, plan: Any) -> Callable[..., tuple[Field, Any]]:
    """A campaign led to its end, or until it is killed: its field and its plan."""

    def lead(
        name: str,
        script: dict[int, float],
        odd: Odd = lambda order, site: None,
        units: float = 10.0,
        **changes: Any,
    ) -> tuple[Field, Any]:
        made, field = plan(campaign=name, **{**BASE, **changes}), Field(script, odd, units)
        if made.hash not in {row.hash for row in world.store.campaigns()}:
            world.propose(made)
        folder = Checkpoints(world.state.checkpoints(made.hash))
        Conductor(made, world.store, folder, field.assemble, clock=lambda: 0.0, pause=lambda: None).run()
        return field, made

    return lead


def final(world: Any, made: Any) -> Any:
    return load_file(world.state.checkpoints(made.hash) / "final.safetensors")["parameters"]


def evaluated(field: Field) -> list[int]:
    return [number for kind, number in field.asked if kind == "evaluate"]


def test_models_are_judged_after_their_rounds_and_the_best_is_the_final_one(world: Any, conduct: Any) -> None:
    field, made = conduct("best", {2: 1.0, 4: 0.5, 6: 0.75, 8: 0.6})
    assert field.asked[:4] == [("scale", 0), ("train", 1), ("train", 2), ("evaluate", 2)]
    assert evaluated(field) == [2, 4, 6, 8]
    np.testing.assert_array_equal(final(world, made), field.judged[4])
    shown = campaigns.status(world.store, made.hash)
    assert [one.round for one in shown.evaluations] == [2, 4, 6, 8]
    assert shown.evaluations[1].figures == {"mae": [pytest.approx(0.5), 0.0], "mse": [pytest.approx(0.25), 0.0]}
    assert (shown.chosen, shown.stopped, shown.round) == (4, "", 8)
    folder = world.state.checkpoints(made.hash)
    assert {file.name for file in folder.glob("*.safetensors")} == {
        "4.safetensors",
        "8.safetensors",
        "final.safetensors",
    }
    assert json.loads((folder / "statement.json").read_bytes())["deployment"]["rounds_done"] == 4


def test_training_stops_where_nothing_was_gained_for_so_many_rounds(world: Any, conduct: Any) -> None:
    rule = {"metric": "mse", "no_gain_rounds": 3}
    field, made = conduct("stop", {2: 1.0, 4: 1.5, 6: 1.2}, evaluate={**EVALUATE, "stop_if": rule})
    assert evaluated(field) == [2, 4, 6]
    assert field.asked[-1] == ("evaluate", 6)
    np.testing.assert_array_equal(final(world, made), field.judged[2])
    shown = campaigns.status(world.store, made.hash)
    assert (shown.chosen, shown.stopped) == (2, "no gain of mse from round 2 to round 6")
    deployment = json.loads((world.state.checkpoints(made.hash) / "statement.json").read_bytes())["deployment"]
    rounds = {key: value for key, value in deployment.items() if key.startswith("rounds")}
    assert rounds == {"rounds_planned": 8, "rounds_done": 2, "rounds_charged": 7}


def test_figures_of_fewer_than_five_sites_are_shown_to_nobody_and_the_campaign_goes_on(
    world: Any, conduct: Any
) -> None:
    def two_missing(order: Order, site: str) -> Any:
        return "local" if order.kind is Kind.EVALUATE and order.round == 4 and site in SITES[:2] else None

    field, made = conduct("few", {2: 1.0, 4: 0.1, 6: 0.75, 8: 0.6}, two_missing, **{"sites.quorum": 0.1})
    assert evaluated(field) == [2, *[4] * MOST_ATTEMPTS, 6, 8]
    entry = world.store.evaluations(made.hash)[1]
    assert (dict(entry.figures), entry.abstained) == ({}, {"site-0": "local", "site-1": "local"})
    assert entry.reason.startswith("JG-server-355 round 4: 4 sites")
    np.testing.assert_array_equal(final(world, made), field.judged[8])


def test_a_sum_of_nobody_is_no_figure(world: Any, conduct: Any) -> None:
    """Noise may make it so: a mean over nobody would be the best of all."""
    field, made = conduct("empty", {2: 0.0}, **{"strategy.rounds": 2, "seed": 5}, units=0.1)
    (entry,) = world.store.evaluations(made.hash)
    assert dict(entry.figures) == {}
    assert entry.reason.startswith("JG-server-356 round 2")
    np.testing.assert_array_equal(final(world, made), field.judged[2])


@pytest.mark.parametrize(("kind", "number"), [("train", 3), ("evaluate", 4), ("train", 5), ("evaluate", 8)])
def test_a_server_killed_anywhere_ends_with_the_same_model_and_asks_no_evaluation_twice(
    world: Any, conduct: Any, kind: str, number: int
) -> None:
    script = {2: 1.0, 4: 0.5, 6: 0.75, 8: 0.6}

    def killed(order: Order, site: str) -> Any:
        return Killed() if (order.kind, order.round, site) == (kind, number, "site-3") else None

    with pytest.raises(Killed):
        conduct("killed", script, killed)
    rest, made = conduct("killed", script)
    assert rest.asked[0] == (kind, number)
    _, whole = conduct("whole", script)
    np.testing.assert_array_equal(final(world, made), final(world, whole))
    assert [one.figures for one in world.store.evaluations(made.hash)] == [
        one.figures for one in world.store.evaluations(whole.hash)
    ]


def test_the_statement_of_a_private_campaign_charges_its_evaluations(world: Any, plan: Any, conduct: Any) -> None:
    private = {"epsilon": 20, "delta": 1e-4, "nominal_units": 1000, "scaling_share": 0.2}
    changes = {"privacy": private, "evaluate": {**EVALUATE, "epsilon_share": 0.2}, "strategy.rounds": 4}
    changes |= {"strategy.batch": 1000}  # nobody is drawn: quickly composed
    _, made = conduct("private", {2: 1.0, 4: 0.5}, **changes)
    tree = json.loads((world.state.checkpoints(made.hash) / "statement.json").read_bytes())
    promise = mechanism(made.privacy, made.strategy, 1000, made.evaluate)
    assert promise is not None
    assert promise.evaluation is not None
    for figures in tree["privacy_loss"]["readings"].values():
        assert figures["epsilon"] == pytest.approx(promise.guarantee.epsilon, rel=1e-6)
        (event,) = (event for event in figures["events"] if event["when"] == "evaluations")
        assert (event["count"], event["noise_multiplier"]) == (2, promise.evaluation.noise_multiplier)
    (_, noise) = world.store.evaluations(made.hash)[0].figures["mae"]
    assert noise > 0


def entry(number: int, value: float | None) -> EvaluationEntry:
    figures = {} if value is None else {"mae": [value, 0.1], "mse": [value**2, 0.1]}
    return EvaluationEntry(number, figures, list(SITES), {}, {}, [], 0.0, "" if figures else "JG-server-355")


@pytest.mark.parametrize(
    ("values", "best", "stops"),
    [
        ([], None, False),
        ([None, None], None, False),
        ([1.0], 2, False),
        ([1.0, 1.0], 2, False),
        ([1.0, 1.0, 1.0], 2, True),
        ([1.0, None, 2.0], 2, True),
        ([1.0, 2.0, None], 2, False),
        ([1.0, 2.0, 0.5], 6, False),
        ([1.0, 2.0, 3.0, 4.0], 2, False),  # it was over anyway
    ],
)
def test_what_is_chosen_follows_from_the_figures_alone(
    plan: Any, values: list[float | None], best: int | None, stops: bool
) -> None:
    wanted = plan(**BASE, **{"evaluate.stop_if": {"metric": "mae", "no_gain_rounds": 4}})
    entries = [entry(2 * number + 2, value) for number, value in enumerate(values)]
    assert best_round(wanted, entries) == best
    assert bool(stopped(wanted, entries)) == stops


def test_of_accuracies_the_highest_is_chosen(plan: Any) -> None:
    wanted = plan(**BASE | {"evaluate": {"metrics": ["accuracy"], "bound": [0, 1], "every": 2}})
    entries = [replace(entry(2 * one, 0.0), figures={"accuracy": [one / 5, 0.0]}) for one in (1, 3, 2)]
    assert best_round(wanted, entries) == 6


def test_a_plan_that_evaluates_is_proposed_whole(world: Any, plan: Any) -> None:
    proposed = world.propose(plan(**BASE))
    row = world.store.campaign(proposed)
    assert row.state is State.PROPOSED
    assert peek(row.envelope, Envelope.PLAN)
    assert plan_of(row).evaluated_rounds == (2, 4, 6, 8)
