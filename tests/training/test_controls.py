"""Laws of control variates (SCAFFOLD): what goes up is enough, what stays sums up, what is lost leaves no trace."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from jangin.models.tasks import Task, row_losses
from jangin.plan.blocks import ScaffoldBlock
from jangin.plan.messages import Kind, Order
from jangin.privacy.releases import LocalDpSgd
from jangin.records.examples import Examples
from jangin.strategies import LocalRule, build
from jangin.strategies.scaffold import ScaffoldState
from jangin.training.draws import seeded_batches
from jangin.training.loop import Learner
from jangin.training.scaling import Scaling
from jangin.training.site import Site

Make = Callable[..., Learner]
Data = Callable[..., Examples]

SITES, ROUNDS = 3, 4
BLOCK = ScaffoldBlock(name="scaffold", rounds=ROUNDS, local_steps=5, batch=6, lr=0.05, server_lr=0.7)
STRATEGY = build(BLOCK)
PATH = BLOCK.local_steps * BLOCK.lr


def sites(learner: Learner, examples: Data, count: int = SITES) -> list[Site]:
    made = []
    for number in range(count):
        train = examples(seed=number)
        scaling = Scaling.public(train, Task.REGRESSION, None, None, learner.mechanism is not None)
        made.append(Site(f"site-{number}", train, scaling, learner, 7))
    return made


def begun(learner: Learner) -> ScaffoldState:
    return STRATEGY.init(learner.initial[learner.model.layout.shared])  # type: ignore[no-any-return]


def order(state: ScaffoldState, number: int) -> Order:
    return Order(Kind.TRAIN, number, STRATEGY.local.carried(state.parameters, state))


def update(site: Site, state: ScaffoldState, number: int) -> np.ndarray:
    vector = site.answer(order(state, number), BLOCK, STRATEGY.local).vector
    assert vector is not None
    return vector


def after(state: ScaffoldState, updates: list[np.ndarray]) -> ScaffoldState:
    return STRATEGY.update(state, np.sum(updates, axis=0, dtype=np.float64), len(updates))[1]  # type: ignore[no-any-return]


def control(site: Site) -> np.ndarray:
    """The site's own c_i, (d,): what it keeps after its parameters."""
    kept = site.kept()
    assert kept is not None
    return kept[len(site.learner.initial) :]


def written_out(learner: Learner, members: list[Site]) -> tuple[np.ndarray, np.ndarray]:
    """x and c after all rounds by Algorithm 1, Option II of arXiv 1910.06378, which sends y_i - x and c_i apart."""
    x = learner.initial.astype(np.float64)
    c, own = np.zeros_like(x), np.zeros((len(members), len(x)))
    for number in range(1, ROUNDS + 1):
        moved, changed = np.zeros_like(own), np.zeros_like(own)
        for i, site in enumerate(members):
            inputs, targets = site.examples(order(begun(learner), number))
            y = x.copy()
            for rows in seeded_batches(len(inputs), BLOCK.batch, BLOCK.local_steps, 7, site.name, number):
                learner.model.load(y.astype(np.float32))
                loss = row_losses(learner.task, learner.model.module(inputs[rows]), targets[rows]).mean()
                gradient = torch.autograd.grad(loss, list(learner.model.module.parameters()))
                g = np.concatenate([part.numpy().reshape(-1) for part in gradient]).astype(np.float64)
                y = y - BLOCK.lr * (g - own[i] + c)
            moved[i], changed[i] = y - x, (x - y) / PATH - c
        x, c, own = x + BLOCK.server_lr * moved.mean(axis=0), c + changed.mean(axis=0), own + changed
    return x, c


def test_one_vector_a_site_gives_what_the_paper_gets_of_two(learner: Make, examples: Data) -> None:
    made = learner()
    members, state = sites(made, examples), begun(made)
    for number in range(1, ROUNDS + 1):
        state = after(state, [update(site, state, number) for site in members])
    x, c = written_out(made, members)
    np.testing.assert_allclose(state.parameters, x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state.control, c, rtol=1e-3, atol=1e-4)


def test_the_servers_control_is_the_mean_of_the_sites_own(learner: Make, examples: Data) -> None:
    made = learner()
    members, state = sites(made, examples), begun(made)
    for number in range(1, ROUNDS + 1):
        state = after(state, [update(site, state, number) for site in members])
        mean = np.mean([control(site) for site in members], axis=0)
        np.testing.assert_allclose(state.control, mean, rtol=1e-4, atol=1e-5)
        assert all(np.abs(control(site) - mean).max() > 0.01 for site in members)


def test_one_site_alone_trains_as_without_controls(learner: Make, examples: Data) -> None:
    made = learner()
    (alone,), (plain,) = sites(made, examples, 1), sites(made, examples, 1)
    state = begun(made)
    for number in (1, 2):
        expected = plain.answer(Order(Kind.TRAIN, number, state.parameters), BLOCK, LocalRule())
        found = update(alone, state, number)
        np.testing.assert_allclose(found, expected.vector, rtol=1e-3, atol=1e-5)
        state = after(state, [found])


def test_a_lost_update_leaves_no_trace_in_the_control_of_later_rounds(learner: Make, examples: Data) -> None:
    made = learner()
    members, state = sites(made, examples), begun(made)
    state = after(state, [update(site, state, 1) for site in members])
    state = after(state, [update(site, state, 2) for site in members][1:])  # the first one's is lost
    assert np.abs(state.control - np.mean([control(site) for site in members], axis=0)).max() > 0.01
    state = after(state, [update(site, state, 3) for site in members])
    mean = np.mean([control(site) for site in members], axis=0)
    np.testing.assert_allclose(state.control, mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("personal", [(), ("head",)])
def test_what_a_site_keeps_goes_on_elsewhere_to_the_bit(
    learner: Make, examples: Data, personal: tuple[str, ...]
) -> None:
    here, there = learner(personal=personal), learner(personal=personal)
    (steady,), (resumed,) = sites(here, examples, 1), sites(there, examples, 1)
    state = begun(here)
    update(steady, state, 1)
    state = replace(state, control=np.full_like(state.control, 0.3))
    kept = steady.kept()
    assert kept is not None
    assert kept.shape == (len(here.initial) + len(here.model.layout.shared),)
    resumed.keep(kept)
    kept[:] = 0  # what was handed over is the site's own
    np.testing.assert_array_equal(update(resumed, state, 2), update(steady, state, 2))


def test_under_m1_an_update_is_noised_gradients_and_nothing_else(
    learner: Make, examples: Data, private: LocalDpSgd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What leaves, and what stays, are functions of the gradients as the mechanism gave them."""
    made = learner(private)
    (site,), state, seen = sites(made, examples, 1), begun(made), list[np.ndarray]()
    given = Learner.private_gradients

    def noted(*arguments: object) -> object:
        for gradient in given(*arguments):  # type: ignore[arg-type]
            seen.append(gradient.numpy().copy())
            yield gradient

    monkeypatch.setattr(Learner, "private_gradients", noted)
    for number in (1, 2):
        state = replace(state, control=np.full_like(state.control, 2.0 * number))
        seen.clear()
        found = update(site, state, number)
        np.testing.assert_allclose(found, -BLOCK.lr * np.sum(seen, axis=0), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(control(site), np.mean(seen, axis=0), rtol=1e-3, atol=1e-3)
