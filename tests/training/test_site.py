"""A site: what it answers, what it keeps, and what one unit can change of what leaves."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from jangin.errors import PrivacyError
from jangin.models.flat import FlatModel
from jangin.models.networks import build
from jangin.models.spec import LinearSpec
from jangin.models.tasks import Task
from jangin.plan.blocks import FedAvgBlock
from jangin.plan.messages import Kind, Order, Reply
from jangin.privacy.moments import moment_clip
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import LocalDpSgd
from jangin.privacy.sampling import Draw, UnitIndex
from jangin.records.examples import Examples
from jangin.strategies import LocalRule
from jangin.strategies.fedprox import FedProx
from jangin.strategies.finetune import FineTune
from jangin.strategies.mrmtl import MrMtl
from jangin.training import loop
from jangin.training.loop import Learner
from jangin.training.scaling import Scaling
from jangin.training.site import Site

BLOCK = FedAvgBlock(name="fedavg", rounds=3, local_steps=4, batch=5, lr=0.1)
NO_RULE = LocalRule()
Make = Callable[..., Learner]
Data = Callable[..., Examples]


def site(learner: Learner, train: Examples, name: str = "site-0", seed: int = 7, private: bool = False) -> Site:
    return Site(name, train, Scaling.public(train, Task.REGRESSION, None, None, private), learner, seed)


def order(learner: Learner, number: int = 1) -> Order:
    shared = np.random.default_rng(5).normal(size=len(learner.model.layout.shared)).astype(np.float32)
    return Order(Kind.TRAIN, number, shared)


def update(trained: Site, asked: Order, rule: LocalRule = NO_RULE) -> np.ndarray:
    reply = trained.answer(asked, BLOCK, rule)
    assert reply.vector is not None
    return reply.vector


def test_an_update_is_a_function_of_seed_site_and_round(learner: Make, examples: Data) -> None:
    def of(name: str = "site-0", seed: int = 7, number: int = 1) -> np.ndarray:
        made = learner()
        return update(site(made, examples(), name, seed), order(made, number))

    np.testing.assert_array_equal(of(), of())
    for other in (of("site-1"), of(seed=8), of(number=2)):
        assert (other != of()).any()


def test_sites_that_share_a_learner_answer_as_if_alone(learner: Make, examples: Data) -> None:
    shared, alone = learner(), learner()
    sites = [site(shared, examples(seed=s), f"site-{s}") for s in range(2)]
    together = [update(one, order(shared)) for one in sites]
    np.testing.assert_array_equal(together[1], update(site(alone, examples(seed=1), "site-1"), order(alone)))


def test_an_update_is_where_training_went_from_the_order(learner: Make, examples: Data) -> None:
    made = learner()
    trained, asked = site(made, examples()), order(made)
    found = update(trained, asked)
    np.testing.assert_allclose(asked.vector + found, made.model.read(), atol=1e-6)
    assert found.dtype == np.float32
    assert found.shape == (made.model.layout.size,)


def test_with_privacy_two_runs_never_share_noise(learner: Make, examples: Data, private: LocalDpSgd) -> None:
    def run() -> np.ndarray:
        made = learner(private)
        return update(site(made, examples(), private=True), order(made))

    assert (run() != run()).all()
    made = learner(private)
    trained = site(made, examples(), private=True)
    assert (update(trained, order(made)) != update(trained, order(made))).all()


def test_two_sites_with_different_numbers_of_units_run_the_same_mechanism(
    learner: Make, examples: Data, private: LocalDpSgd, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[float, int]] = []

    def draw(self: UnitIndex, probability: float, windows: int, random: SecureRandom) -> Draw:
        drawn.append((probability, windows))
        return Draw(np.empty(0, np.intp), np.empty(0, np.intp), 0)

    monkeypatch.setattr(UnitIndex, "draw", draw)
    # Nobody drawn: what is left of an update is its noise, and it may not tell how many units there are.
    made = learner(private)
    spread = []
    for units in (2, 60):
        trained = site(made, examples(units), private=True)
        spread.append(np.std([update(trained, order(made)) for _ in range(300)]))
    assert set(drawn) == {(private.steps.sampling_probability, private.windows)}
    expected = BLOCK.lr * np.sqrt(BLOCK.local_steps) * 2.0 * 0.5 / private.divisor
    assert spread == pytest.approx([expected] * 2, rel=0.05)


def test_one_unit_moves_a_whole_update_by_at_most_its_steps(
    private: LocalDpSgd, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A loss whose gradient does not depend on the parameters: every step clips the same vectors, so the released
    # vector of K steps is bounded by K single ones. Where parameters matter, noise hides each step by itself.
    monkeypatch.setattr(loop, "row_losses", lambda task, outputs, targets: (outputs * targets).sum(dim=1))
    monkeypatch.setattr(SecureRandom, "fill_gaussian", lambda self, values, deviation: values.fill(0.0))
    everybody = replace(private, steps=replace(private.steps, sampling_probability=1.0))
    rng, bound, most = np.random.default_rng(0), BLOCK.lr * BLOCK.local_steps * private.clip / private.divisor, 0.0
    for extreme in (0.0, 1e-3, 1.0, 1e6, 1e15, np.inf, np.nan):
        units = np.repeat(np.arange(6), [3, 1, 2, 4, 1, 2])
        inputs, targets = (rng.normal(size=(len(units), n)).astype(np.float32) for n in (3, 1))
        inputs[units == 3] *= extreme
        train = Examples(inputs, targets, units)
        updates = []
        for rows in (train, train[units != 3]):
            made = Learner(FlatModel(build(LinearSpec(name="linear"), (3,), 1, 0)), Task.REGRESSION, everybody)
            # From zero: the rounding of float32 parameters (docs/sharp-edges.md) is not what is tested.
            updates.append(update(site(made, rows), Order(Kind.TRAIN, 1, np.zeros(4, np.float32))).astype(float))
        moved = float(np.linalg.norm(updates[0] - updates[1]))
        assert moved <= bound * (1 + 1e-5)
        most = max(most, moved)
    assert most == pytest.approx(bound, rel=1e-5)


def test_personal_parameters_stay_and_are_kept_between_rounds(learner: Make, examples: Data) -> None:
    made = learner(personal=("head",))
    layout = made.model.layout
    personal = np.setdiff1d(np.arange(layout.size), layout.shared)
    initial = made.model.read()
    trained = site(made, examples())
    found = update(trained, order(made))
    assert found.shape == layout.shared.shape == (layout.size - len(personal),)
    kept = trained.model(order(made).vector)
    np.testing.assert_array_equal(kept[layout.shared], order(made).vector)
    assert (kept[personal] != initial[personal]).any()
    update(trained, order(made, 2))
    assert (trained.model(order(made).vector)[personal] != kept[personal]).any()


def test_a_site_made_later_starts_with_the_campaigns_personal_parameters(learner: Make, examples: Data) -> None:
    made = learner(personal=("head",))
    initial = made.model.read()
    first, second = site(made, examples()), site(made, examples(), "site-1")
    update(first, order(made))
    personal = np.setdiff1d(np.arange(made.model.layout.size), made.model.layout.shared)
    np.testing.assert_array_equal(second.model(order(made).vector)[personal], initial[personal])


def test_finetuning_fits_the_site_and_changes_nothing_it_keeps(learner: Make, examples: Data) -> None:
    made = learner(personal=("head",))
    trained = site(made, examples())
    update(trained, order(made))
    shared, rows = order(made).vector, examples()
    data = torch.from_numpy(rows.inputs), torch.from_numpy(np.asarray(rows.targets))
    before = trained.model(shared)
    tuned = trained.finetuned(shared, FineTune(steps=50, lr=0.05, batch=5))
    np.testing.assert_array_equal(trained.model(shared), before)
    losses = []
    for vector in (before, tuned):
        made.model.load(vector)
        losses.append(made.loss(*data))
    assert losses[1] < losses[0]
    np.testing.assert_array_equal(tuned, trained.finetuned(shared, FineTune(steps=50, lr=0.05, batch=5)))


def test_fedprox_holds_a_site_near_the_rounds_start(learner: Make, examples: Data) -> None:
    norms = []
    for mu in (0.0, 2.0):
        made = learner()
        norms.append(np.linalg.norm(update(site(made, examples()), order(made), FedProx(1.0, mu).local)))
    made = learner()
    assert norms[0] == np.linalg.norm(update(site(made, examples()), order(made)))
    assert norms[1] < norms[0]


@pytest.mark.parametrize("personal", [(), ("head",)])
def test_mrmtl_goes_on_from_its_own_model_and_sends_how_far_that_is_from_the_mean(
    learner: Make, examples: Data, personal: tuple[str, ...]
) -> None:
    made, rule = learner(personal=personal), MrMtl(0.1).local
    trained, shared, first = site(made, examples()), made.model.layout.shared, order(made)
    np.testing.assert_array_equal(trained.begin(first.vector, rule), trained.model(first.vector))
    update(trained, first, rule)
    own = trained.kept()
    assert own is not None
    second = Order(Kind.TRAIN, 2, first.vector + 1)
    np.testing.assert_array_equal(trained.begin(second.vector, rule), own)
    sent = update(trained, second, rule)
    own = trained.kept()
    assert own is not None
    np.testing.assert_array_equal(sent, own[shared] - second.vector)


def test_without_a_pull_no_order_moves_what_an_mrmtl_site_learns(learner: Make, examples: Data) -> None:
    ends = []
    for away in (0.0, 5.0):
        made = learner()
        trained = site(made, examples())
        first = order(made)
        for asked in (first, Order(Kind.TRAIN, 2, first.vector + np.float32(away))):
            update(trained, asked, MrMtl(0.0).local)
        ends.append(trained.kept())
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("rule", [NO_RULE, MrMtl(0.1).local], ids=["fedavg", "mrmtl"])
def test_a_site_that_takes_back_what_it_kept_goes_on_as_if_it_had_never_ended(
    learner: Make, examples: Data, rule: LocalRule
) -> None:
    steady, ended = (site(learner(personal=("head",)), examples()) for _ in range(2))
    made = learner(personal=("head",))
    assert steady.kept() is None
    first, second = order(made), order(made, 2)
    for one in (steady, ended):
        update(one, first, rule)
    kept = ended.kept()
    assert kept is not None
    resumed = site(made, examples())
    lost = update(site(learner(personal=("head",)), examples()), second, rule)
    resumed.keep(kept)
    kept[:] = 0  # what was handed over is the site's own
    expected = update(steady, second, rule)
    np.testing.assert_array_equal(update(resumed, second, rule), expected)
    assert (lost != expected).any()
    with pytest.raises(ValueError, match="Expected a vector of"):
        resumed.keep(kept[1:])


@pytest.mark.parametrize("kind", [Kind.SCALE, Kind.TRAIN])
@pytest.mark.parametrize("dp", [False, True])
def test_an_answer_carries_a_vector_and_nothing_else(
    learner: Make, examples: Data, private: LocalDpSgd, kind: Kind, dp: bool
) -> None:
    made = learner(private if dp else None)
    shapes = []
    for units in (3, 40):
        reply = site(made, examples(units), private=dp).answer(replace(order(made), kind=kind), BLOCK, NO_RULE)
        assert isinstance(reply, Reply)
        assert [field.name for field in fields(reply)] == ["site", "vector", "abstained"]
        assert (reply.site, reply.abstained) == ("site-0", None)
        assert reply.vector is not None
        shapes.append((reply.vector.shape, reply.vector.dtype))
    assert shapes[0] == shapes[1]


def test_scaling_moments_are_noised_when_privacy_is_on(learner: Make, examples: Data, private: LocalDpSgd) -> None:
    asked = Order(Kind.SCALE, 0, np.empty(0, np.float32))
    made = learner(private)
    trained = site(made, examples(), private=True)
    replies = np.stack([trained.answer(asked, BLOCK, NO_RULE).vector for _ in range(400)])
    assert replies.std(axis=0) == pytest.approx(np.full(9, moment_clip(4)), rel=0.2)
    plain = site(learner(), examples()).answer(asked, BLOCK, NO_RULE).vector
    assert plain is not None
    assert plain[0] == 12


def test_a_private_site_without_a_release_for_moments_gives_none(
    learner: Make, examples: Data, private: LocalDpSgd
) -> None:
    trained = site(learner(replace(private, scaling=None)), examples(), private=True)
    with pytest.raises(PrivacyError, match="JG-privacy-007"):
        trained.answer(Order(Kind.SCALE, 0, np.empty(0, np.float32)), BLOCK, NO_RULE)


def test_what_is_no_order_is_refused(learner: Make, examples: Data) -> None:
    made = learner()
    with pytest.raises(ValueError, match="order"):
        site(made, examples()).answer(replace(order(made), kind="evaluate"), BLOCK, NO_RULE)  # type: ignore[arg-type]
