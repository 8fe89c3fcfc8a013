"""Laws of strategies. The contract at the top holds for every one; below is what each adds."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jangin.codec.document import parse
from jangin.plan.blocks import (
    FedAdamBlock,
    FedAvgBlock,
    FedAvgMBlock,
    FedBnBlock,
    FedProxBlock,
    FedYogiBlock,
    FlowerBlock,
    LocalSteps,
    MedianBlock,
    MrMtlBlock,
    ScaffoldBlock,
)
from jangin.strategies import build
from jangin.strategies.base import Gathered, LocalRule, Strategy, Vector
from jangin.strategies.fedadam import FedAdam
from jangin.strategies.fedavg import FedAvg
from jangin.strategies.fedavgm import FedAvgM
from jangin.strategies.fedyogi import FedYogi
from jangin.strategies.finetune import FineTune
from jangin.strategies.flower import Flower
from jangin.strategies.median import Median
from jangin.strategies.scaffold import Scaffold

SIZE = 7
PLAIN = (FedAvgBlock, FedAvgMBlock, FedAdamBlock, FedYogiBlock)
"""Blocks whose sites do nothing beyond plain training."""
CASES = pytest.mark.parametrize(("seed", "cohort"), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 9)])
SEEDS = st.integers(0, 2**32 - 1)


def block(kind: type[LocalSteps], **settings: object) -> Any:
    name = kind.model_fields["name"].annotation.__args__[0]  # type: ignore[union-attr]
    return parse({"name": name, "rounds": 3, "local_steps": 2, "batch": 8, "lr": 0.1, **settings}, kind, "plan.yaml")


def parameters(seed: int) -> Vector:
    return np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)


def updates(seed: int, cohort: int) -> Gathered:
    """One row a site, as float32 values, (cohort, SIZE)."""
    return np.random.default_rng([seed, 1]).normal(size=(cohort, SIZE)).astype(np.float32).astype(np.float64)


def gathered(strategy: Strategy[Any], rows: Gathered) -> Gathered:
    return rows if strategy.consumes == "updates" else rows.sum(axis=0)


class Contract:
    """What every strategy keeps; a subclass gives its block."""

    block: Any

    @CASES
    def test_the_same_input_gives_the_same_output(self, seed: int, cohort: int) -> None:
        strategy = build(self.block)
        state, rows = strategy.init(parameters(seed)), updates(seed, cohort)
        once = strategy.update(state, gathered(strategy, rows), cohort)
        twice = strategy.update(state, gathered(strategy, rows), cohort)
        assert np.array_equal(once[0], twice[0])
        assert np.array_equal(*(strategy.update(s, gathered(strategy, rows), cohort)[0] for _, s in (once, twice)))

    @CASES
    def test_nothing_given_is_changed(self, seed: int, cohort: int) -> None:
        strategy = build(self.block)
        start, rows = parameters(seed), gathered(strategy, updates(seed, cohort))
        start.flags.writeable = rows.flags.writeable = False
        new, state = strategy.update(strategy.init(start), rows, cohort)
        new.flags.writeable = False
        strategy.update(state, rows, cohort)

    @CASES
    def test_parameters_come_out_as_a_float32_vector(self, seed: int, cohort: int) -> None:
        strategy = build(self.block)
        new, _ = strategy.update(strategy.init(parameters(seed)), gathered(strategy, updates(seed, cohort)), cohort)
        assert (new.dtype, new.shape) == (np.float32, (SIZE,))

    @CASES
    def test_the_order_of_sites_does_not_matter(self, seed: int, cohort: int) -> None:
        strategy, rows = build(self.block), updates(seed, cohort)
        state = strategy.init(parameters(seed))
        there, _ = strategy.update(state, gathered(strategy, rows), cohort)
        back, _ = strategy.update(state, gathered(strategy, rows[::-1]), cohort)
        assert np.allclose(there, back, rtol=1e-6, atol=1e-7)

    @CASES
    def test_sites_that_agree_count_as_one(self, seed: int, cohort: int) -> None:
        """The step depends on the mean or median update, not on how many sites there are."""
        strategy, row = build(self.block), updates(seed, 1)
        state = strategy.init(parameters(seed))
        one, _ = strategy.update(state, gathered(strategy, row), 1)
        many, _ = strategy.update(state, gathered(strategy, row.repeat(cohort, axis=0)), cohort)
        assert np.allclose(one, many, rtol=1e-6, atol=1e-7)

    @CASES
    def test_without_a_change_at_the_sites_the_model_stays(self, seed: int, cohort: int) -> None:
        strategy = build(self.block)
        new, _ = strategy.update(strategy.init(parameters(seed)), gathered(strategy, np.zeros((cohort, SIZE))), cohort)
        assert np.array_equal(new, parameters(seed))


class Averaging(Contract):
    """What a strategy keeps whose step is an average update."""

    @CASES
    def test_one_site_at_server_lr_one_gives_its_own_parameters(self, seed: int, cohort: int) -> None:
        strategy, start, new = build(self.block), parameters(seed), parameters(seed + cohort)
        row = new.astype(np.float64) - start
        assert np.array_equal(strategy.update(strategy.init(start), gathered(strategy, row[None]), 1)[0], new)

    @CASES
    def test_half_the_server_lr_is_half_the_step(self, seed: int, cohort: int) -> None:
        steps = []
        for server_lr in (1.0, 0.5):
            strategy = build(self.block.model_copy(update={"server_lr": server_lr}))
            state = strategy.init(np.zeros(SIZE, np.float32))
            steps.append(strategy.update(state, gathered(strategy, updates(seed, cohort)), cohort)[0])
        assert np.allclose(steps[0], 2 * steps[1], rtol=1e-6)


class TestFedAvg(Averaging):
    block = block(FedAvgBlock)

    def test_the_step_is_the_plain_mean(self) -> None:
        rows = updates(3, 4)
        new, _ = FedAvg().update(parameters(3), rows.sum(axis=0), 4)
        assert np.allclose(new, parameters(3) + rows.mean(axis=0), rtol=1e-6)

    @pytest.mark.parametrize("kind", PLAIN)
    def test_sites_add_nothing(self, kind: type[LocalSteps]) -> None:
        assert build(block(kind)).local == LocalRule()


class TestFedProx(Averaging):
    block = block(FedProxBlock, mu=0.3)

    @given(seed=SEEDS)
    def test_the_penalty_gradient_is_that_of_half_mu_times_the_squared_distance(self, seed: int) -> None:
        penalty = build(self.block).local.penalty_gradient
        w = torch.from_numpy(parameters(seed)).requires_grad_()
        w_t = torch.from_numpy(parameters(seed + 1))
        (expected,) = torch.autograd.grad(0.3 / 2 * (w - w_t).square().sum(), w)
        assert penalty is not None
        assert torch.allclose(penalty(w.detach(), w_t), expected, rtol=1e-6)

    def test_at_the_start_of_a_round_nothing_pulls(self) -> None:
        penalty = build(self.block).local.penalty_gradient
        w = torch.from_numpy(parameters(5))
        assert penalty is not None
        assert not penalty(w, w).any()

    def test_the_server_does_what_fedavg_does(self) -> None:
        total = updates(3, 4).sum(axis=0)
        prox, _ = build(self.block).update(parameters(3), total, 4)
        assert np.array_equal(prox, FedAvg().update(parameters(3), total, 4)[0])


class TestMrMtl(Contract):
    block = block(MrMtlBlock, lam=0.3)

    @given(seed=SEEDS)
    def test_the_penalty_gradient_is_that_of_half_lambda_times_the_squared_distance_to_the_mean(
        self, seed: int
    ) -> None:
        penalty = build(self.block).local.penalty_gradient
        w_k = torch.from_numpy(parameters(seed)).requires_grad_()
        w = torch.from_numpy(parameters(seed + 1))
        (expected,) = torch.autograd.grad(0.3 / 2 * (w_k - w).square().sum(), w_k)
        assert penalty is not None
        assert torch.allclose(penalty(w_k.detach(), w), expected, rtol=1e-6)

    @CASES
    def test_the_shared_model_becomes_the_mean_of_the_sites_own(self, seed: int, cohort: int) -> None:
        strategy, w = build(self.block), parameters(seed)
        own = updates(seed, cohort)
        new, _ = strategy.update(strategy.init(w), (own - w).sum(axis=0), cohort)
        assert np.allclose(new, own.mean(axis=0), rtol=1e-5, atol=1e-6)

    def test_it_alone_keeps_a_sites_parameters(self) -> None:
        kinds = (*PLAIN, FedProxBlock, MedianBlock, MrMtlBlock, ScaffoldBlock, FedBnBlock)
        assert [kind for kind in kinds if build(block(kind)).local.keeps] == [MrMtlBlock]


class TestFedAvgM(Averaging):
    block = block(FedAvgMBlock)

    def test_three_steps_are_the_papers_written_out(self) -> None:
        """Section 4.3 of arXiv 1909.06335: the momentum is the discounted sum of all mean updates."""
        strategy, start = FedAvgM(0.5, 0.8), parameters(1)
        state, means = strategy.init(start), [updates(seed, 3).mean(axis=0) for seed in range(3)]
        for mean in means:
            new, state = strategy.update(state, 3 * mean, 3)
        factors = (1 + 0.8 + 0.8**2, 1 + 0.8, 1)
        expected = start + 0.5 * sum(factor * mean for factor, mean in zip(factors, means, strict=True))
        assert new == pytest.approx(expected, rel=1e-5)

    @CASES
    def test_without_momentum_it_is_fedavg(self, seed: int, cohort: int) -> None:
        plain, heavy = FedAvg(0.7), FedAvgM(0.7, 0.0)
        states = [strategy.init(parameters(seed)) for strategy in (plain, heavy)]
        for number in range(3):
            total = updates(seed + number, cohort).sum(axis=0)
            one, states[0] = plain.update(states[0], total, cohort)  # type: ignore[arg-type]
            other, states[1] = heavy.update(states[1], total, cohort)  # type: ignore[arg-type]
            assert np.array_equal(one, other)


class TestScaffold(Averaging):
    block = block(ScaffoldBlock)

    @CASES
    def test_the_parameters_are_fedavgs_and_the_control_is_the_mean_gradient(self, seed: int, cohort: int) -> None:
        """A site's update is -K eta_l times the mean of its gradients."""
        strategy, steps, lr = build(self.block), 2, 0.1
        gradients = updates(seed, cohort)
        total = (-steps * lr * gradients).sum(axis=0)
        for state in (strategy.init(parameters(seed)), strategy.update(strategy.init(parameters(seed)), total, 1)[1]):
            new, after = strategy.update(state, total, cohort)
            assert np.array_equal(new, FedAvg().update(state.parameters, total, cohort)[0])
            np.testing.assert_allclose(after.control, gradients.mean(axis=0), rtol=1e-5, atol=1e-7)

    def test_an_order_carries_parameters_and_control_and_comes_apart_again(self) -> None:
        strategy = build(self.block)
        _, state = strategy.update(strategy.init(parameters(1)), updates(1, 1)[0], 1)
        carried = strategy.local.carried(state.parameters, state)
        assert (carried.dtype, carried.shape) == (np.float32, (2 * SIZE,))
        for part, whole in zip(strategy.local.parts(carried), (state.parameters, state.control), strict=True):
            np.testing.assert_array_equal(part, whole)


class TestFedBn(Averaging):
    block = block(FedBnBlock)


class TestFlower(Contract):
    block = block(FlowerBlock, rule="FedAdagrad")


class TestFedAdam(Contract):
    block = block(FedAdamBlock, server_lr=0.1)

    def test_three_steps_are_the_papers_written_out(self) -> None:
        """Algorithm 2 of arXiv 2003.00295, coordinate by coordinate in Python floats."""
        eta, beta1, beta2, tau = 0.05, 0.8, 0.95, 1e-2
        strategy = FedAdam(eta, beta1, beta2, tau)
        state, rounds = strategy.init(parameters(1)), [updates(seed, 3) for seed in range(3)]
        x = [float(value) for value in parameters(1)]
        m, v = [0.0] * SIZE, [tau**2] * SIZE
        for rows in rounds:
            new, state = strategy.update(state, rows.sum(axis=0), 3)
            for i in range(SIZE):
                delta = sum(float(row[i]) for row in rows) / 3
                m[i] = beta1 * m[i] + (1 - beta1) * delta
                v[i] = beta2 * v[i] + (1 - beta2) * delta * delta
                x[i] += eta * m[i] / (v[i] ** 0.5 + tau)
            assert new == pytest.approx(x, rel=1e-5)

    def test_the_first_step_is_near_eta_whatever_the_size_of_the_update(self) -> None:
        """With tau far below it: (1 - beta1) / sqrt(1 - beta2) * eta = eta at 0.9 and 0.99."""
        for size in (1e-2, 1.0, 1e3):
            strategy = FedAdam(0.1, 0.9, 0.99, 1e-9)
            new, _ = strategy.update(strategy.init(np.zeros(1, np.float32)), np.array([size]), 1)
            assert new == pytest.approx([0.1], rel=1e-4)


class TestFedYogi(Contract):
    block = block(FedYogiBlock, server_lr=0.1)

    def test_three_steps_are_the_papers_written_out(self) -> None:
        """Algorithm 2 of arXiv 2003.00295, coordinate by coordinate; a small update after large ones among them."""
        eta, beta1, beta2, tau = 0.05, 0.8, 0.95, 1e-2
        strategy = FedYogi(eta, beta1, beta2, tau)
        state = strategy.init(parameters(1))
        x = [float(value) for value in parameters(1)]
        m, v = [0.0] * SIZE, [tau**2] * SIZE
        for rows in (updates(0, 3), updates(1, 3), 1e-3 * updates(2, 3)):
            new, state = strategy.update(state, rows.sum(axis=0), 3)
            for i in range(SIZE):
                delta = sum(float(row[i]) for row in rows) / 3
                m[i] = beta1 * m[i] + (1 - beta1) * delta
                v[i] += (1 - beta2) * delta * delta * (1 if delta * delta > v[i] else -1)
                x[i] += eta * m[i] / (v[i] ** 0.5 + tau)
            assert new == pytest.approx(x, rel=1e-5)

    @given(seed=SEEDS, scale=st.sampled_from([1e-6, 1.0, 1e6]))
    def test_its_second_moment_never_falls_below_zero(self, seed: int, scale: float) -> None:
        v = np.random.default_rng(seed).uniform(0, 2, SIZE)
        assert (FedYogi(beta2=0.0).second_moment(v, scale * updates(seed, 1)[0]) >= 0).all()


class TestMedian(Averaging):
    block = block(MedianBlock)

    @given(seed=SEEDS, cohort=st.integers(3, 7), size=st.sampled_from([1e6, -1e30, np.inf, -np.inf]))
    def test_one_huge_site_cannot_leave_the_range_of_the_others(self, seed: int, cohort: int, size: float) -> None:
        rows = updates(seed, cohort)
        rows[seed % cohort] = size
        honest = np.delete(rows, seed % cohort, axis=0)
        new, _ = Median().update(np.zeros(SIZE, np.float32), rows, cohort)
        assert (new >= honest.min(axis=0).astype(np.float32)).all()
        assert (new <= honest.max(axis=0).astype(np.float32)).all()

    def test_it_is_the_middle_of_each_coordinate(self) -> None:
        rows = np.array([[1.0, 9.0], [2.0, 7.0], [30.0, 8.0]])
        assert Median().update(np.zeros(2, np.float32), rows, 3)[0].tolist() == [2.0, 8.0]


def test_every_block_has_its_strategy() -> None:
    sums = (*PLAIN, FedProxBlock, MrMtlBlock, ScaffoldBlock, FedBnBlock)
    assert {build(block(kind)).consumes for kind in sums} == {"sum"}
    assert build(block(MedianBlock)).consumes == "updates"


def test_the_settings_of_a_block_arrive() -> None:
    adam = build(block(FedAdamBlock, server_lr=0.2, beta1=0.1, beta2=0.3, tau=0.4))
    assert (adam.server_lr, adam.beta1, adam.beta2, adam.tau) == (0.2, 0.1, 0.3, 0.4)  # type: ignore[attr-defined]
    assert build(block(FedAvgBlock, server_lr=0.2)) == FedAvg(0.2)
    assert build(block(MedianBlock, server_lr=0.2)) == Median(0.2)
    assert build(block(FedAvgMBlock, server_lr=0.2, beta=0.3)) == FedAvgM(0.2, 0.3)
    yogi = build(block(FedYogiBlock, server_lr=0.2, beta1=0.1, beta2=0.3, tau=0.4))
    assert yogi == FedYogi(0.2, 0.1, 0.3, 0.4)
    assert build(block(ScaffoldBlock, server_lr=0.2)) == Scaffold(2, 0.1, 0.2)
    assert build(block(FedBnBlock, server_lr=0.2)).local.keeps_normalisation
    assert build(block(FlowerBlock, rule="FedAdam", eta=1)) == Flower("FedAdam", {"eta": 1.0})


def test_what_is_no_block_has_no_strategy() -> None:
    with pytest.raises(TypeError, match="Expected a strategy block"):
        build("fedavg")  # type: ignore[arg-type]


def test_finetuning_takes_the_plans_learning_rate_where_it_has_none() -> None:
    assert FineTune.of(block(FedAvgBlock)) == FineTune(steps=100, lr=0.1, batch=8)
    assert FineTune.of(block(FedAvgBlock, finetune_lr=0.01, finetune_steps=7)) == FineTune(steps=7, lr=0.01, batch=8)
