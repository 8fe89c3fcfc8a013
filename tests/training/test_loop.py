"""The local loop: gradients at the parameters of the moment, and steps against them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from jangin.models.tasks import row_losses
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import LocalDpSgd
from jangin.privacy.sampling import UnitIndex
from jangin.records.examples import Examples
from jangin.strategies.base import LocalRule
from jangin.training.draws import seeded_batches
from jangin.training.loop import Learner

Data = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture
def data(examples: Callable[..., Examples]) -> Data:
    rows = examples()
    return torch.from_numpy(rows.inputs), torch.from_numpy(np.asarray(rows.targets))


def test_seeded_descent_is_plain_gradient_descent(learner: Callable[..., Learner], data: Data) -> None:
    ours, reference = learner(), learner().model.module
    ours.descend(ours.seeded_gradients(*data, 5, 7, "key"), lr=0.1)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    for rows in seeded_batches(len(data[0]), 5, 7, "key"):
        optimizer.zero_grad(set_to_none=False)
        row_losses(ours.task, reference(data[0][rows]), data[1][rows]).mean().backward()
        optimizer.step()
    expected = torch.cat([p.detach().flatten() for p in reference.parameters()])
    torch.testing.assert_close(ours.model.vector, expected)


def test_the_proximal_rule_pulls_towards_the_start(learner: Callable[..., Learner], data: Data) -> None:
    moved = {}
    for mu in (0.0, 1.0, 5.0):
        ours = learner()
        start = ours.model.vector.clone()
        rule = LocalRule(lambda w, w_t, mu=mu: mu * (w - w_t))
        ours.descend(ours.seeded_gradients(*data, 5, 40, "key"), 0.05, rule)
        moved[mu] = float((ours.model.vector - start).norm())
    assert moved[5.0] < moved[1.0] < moved[0.0]
    free = learner()
    free.descend(free.seeded_gradients(*data, 5, 40, "key"), 0.05)
    assert moved[0.0] == float((free.model.vector - learner().model.vector).norm())


def test_a_rules_step_is_the_gradient_plus_the_penalty(learner: Callable[..., Learner]) -> None:
    ours = learner()
    start = ours.model.vector.clone()
    gradients = [torch.full_like(start, 2.0), torch.full_like(start, -1.0)]
    ours.descend(iter(gradients), 0.5, LocalRule(lambda w, w_t: 3.0 * (w - w_t)))
    # -0.5 * 2 = -1; then -1 - 0.5 * (-1 + 3 * -1) = 1.
    torch.testing.assert_close(ours.model.vector, start + 1.0)


def test_a_rule_pulls_the_shared_parameters_to_the_anchor_and_leaves_personal_ones(
    learner: Callable[..., Learner],
) -> None:
    ours = learner(personal=("head",))
    start, shared = ours.model.read(), ours.model.layout.shared
    nothing = [torch.zeros(len(start))] * 2
    ours.descend(iter(nothing), 0.25, LocalRule(lambda w, mean: 2.0 * (w - mean)), np.ones(len(shared), np.float32))
    expected = start.copy()
    expected[shared] = 1 + (start[shared] - 1) / 4
    np.testing.assert_allclose(ours.model.read(), expected, rtol=1e-6)


def test_fit_ends_lower_however_large_the_rate(learner: Callable[..., Learner], data: Data) -> None:
    ours = learner()
    start = ours.model.read()
    before = ours.loss(*data)
    ours.fit(start, *data, 5, 30, 40.0, "key")
    assert ours.loss(*data) < before


def test_fit_keeps_the_start_where_no_rate_gains(learner: Callable[..., Learner], data: Data) -> None:
    ours = learner()
    start = ours.model.read()
    ours.fit(start, data[0], data[1] * float("nan"), 5, 3, 0.1, "key")
    np.testing.assert_array_equal(ours.model.read(), start)


def test_predictions_of_many_rows_are_those_of_each(learner: Callable[..., Learner], data: Data) -> None:
    ours = learner()
    many = data[0].repeat(400, 1)
    assert len(many) > 8192
    np.testing.assert_allclose(ours.predict(many)[: len(data[0])], ours.predict(data[0]), rtol=1e-5)
    assert ours.predict(data[0][:0]).shape == (0, 1)


def test_private_gradients_need_a_mechanism(learner: Callable[..., Learner], data: Data) -> None:
    with pytest.raises(ValueError, match="mechanism"):
        next(learner().private_gradients(*data, UnitIndex(np.arange(len(data[0]))), 1, SecureRandom()))


def test_an_empty_draw_still_steps_with_noise(learner: Callable[..., Learner], data: Data, private: LocalDpSgd) -> None:
    nobody = replace(private, steps=replace(private.steps, sampling_probability=1e-12))
    ours = learner(nobody)
    units = UnitIndex(np.arange(len(data[0])))
    found = torch.cat(list(ours.private_gradients(*data, units, 300, SecureRandom())))
    assert float(found.std()) == pytest.approx(2.0 * 0.5 / 8.0, rel=5 / (2 * len(found)) ** 0.5)


def test_without_noise_private_gradients_are_the_clipped_mean(
    learner: Callable[..., Learner], data: Data, private: LocalDpSgd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SecureRandom, "fill_gaussian", lambda self, values, deviation: values.fill(0.0))
    everybody = replace(
        private, clip=1e6, divisor=float(len(data[0])), steps=replace(private.steps, sampling_probability=1.0)
    )
    ours, plain = learner(everybody), learner()
    units = UnitIndex(np.arange(len(data[0])))
    (found,) = ours.private_gradients(*data, units, 1, SecureRandom())
    (expected,) = plain.seeded_gradients(*data, len(data[0]), 1, "all")
    torch.testing.assert_close(found, expected)


def test_no_seed_reaches_private_training(learner: Callable[..., Learner], data: Data, private: LocalDpSgd) -> None:
    def trained() -> np.ndarray:
        torch.manual_seed(1)
        ours = learner(private)
        units = UnitIndex(np.arange(len(data[0])))
        ours.descend(ours.private_gradients(*data, units, 1, SecureRandom()), 0.1)
        return ours.model.read()

    assert (trained() != trained()).all()
