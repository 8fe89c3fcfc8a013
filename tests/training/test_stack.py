"""Laws of the stack's private step: clipped as a site's own, noise of the priced deviation."""

from math import sqrt

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from jangin.models.layout import ParameterLayout
from jangin.models.networks import build
from jangin.models.spec import Cnn1dSpec, LinearSpec, MlpSpec, ModelSpec
from jangin.models.tasks import Task, row_losses
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease, Guarantee, LocalDpSgd, Relation, Unit
from jangin.privacy.sampling import Draw
from jangin.privacy.step import BookkeepingStep
from jangin.privacy.step.stack import MOST_ROWS
from jangin.training.stack import parts_of, private_stacked_step

CLIP, DIVISOR, LR = 0.5, 20.0, 0.1
MECHANISM = LocalDpSgd(
    Unit.EPISODE,
    CLIP,
    GaussianRelease(3.0, 0.1, 40),
    DIVISOR,
    1,
    None,
    Guarantee(Unit.EPISODE, Relation.ADD_OR_REMOVE, 1.0, 1e-5),
)
MODELS = [LinearSpec(name="linear"), MlpSpec(name="mlp", hidden=(5, 4))]
TARGETS = {Task.REGRESSION: 2, Task.BINARY: 1, Task.MULTICLASS: 3}
SITES, FEATURES = 3, 6


class Silent(SecureRandom):
    """Makes no noise, and notes how many values of which deviation it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, float]] = []

    def fill_gaussian(self, values: NDArray[np.float32], deviation: float) -> None:
        values.fill(0.0)
        self.asked.append((len(values), deviation))


def drawn(task: Task, rows: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and what is there, of which the last site has nothing."""
    stream = torch.Generator().manual_seed(seed)
    inputs = torch.randn(SITES, rows, FEATURES, generator=stream)
    targets = {
        Task.REGRESSION: torch.randn(SITES, rows, 2, generator=stream),
        Task.BINARY: torch.randint(0, 2, (SITES, rows), generator=stream),
        Task.MULTICLASS: torch.randint(0, 3, (SITES, rows), generator=stream),
    }
    there = torch.rand(SITES, rows, generator=stream) < 0.7
    there[-1] = False
    return inputs, targets[task], there


def moved(
    module: nn.Module,
    task: Task,
    inputs: Tensor,
    targets: Tensor,
    there: Tensor,
    random: SecureRandom,
    *,
    first: bool = False,
) -> Tensor:
    """What a step, the first or another, takes from every site's parameters, (sites, parameters), over lr / divisor."""
    layout = ParameterLayout.of([(name, p.shape) for name, p in module.named_parameters()])
    parts = parts_of(layout, torch.empty(SITES * layout.size), SITES)
    for part, parameter in zip(parts, module.parameters(), strict=True):
        part.copy_(parameter.detach())
    before = torch.cat([part.flatten(1).double() for part in parts], dim=1)
    step = private_stacked_step(module, task, MECHANISM)
    assert step is not None
    common = [parameter.detach() for parameter in module.parameters()] if first else None
    step(parts, inputs.clone(), targets, there, LR, random, common)
    return (before - torch.cat([part.flatten(1) for part in parts], dim=1)) * (DIVISOR / LR)


def site_sum(module: nn.Module, task: Task, inputs: Tensor, targets: Tensor) -> Tensor:
    """The clipped sum of the step that a site takes by itself."""
    step = BookkeepingStep(module, lambda outputs, truth: row_losses(task, outputs, truth), CLIP)
    count = len(inputs)
    return step.clipped_sum(inputs, targets, Draw(np.arange(count), np.arange(count), count))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("rows", [9, MOST_ROWS + 8])
@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_every_site_moves_by_the_clipped_sum_of_its_own_rows(
    spec: ModelSpec, task: Task, rows: int, first: bool
) -> None:
    module = build(spec, (FEATURES,), TARGETS[task], 1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.1)  # float32 parameters round what is taken from them
    inputs, targets, there = drawn(task, rows)
    found = moved(module, task, inputs, targets, there, Silent(), first=first)
    for site in range(SITES):
        own = site_sum(module, task, inputs[site][there[site]], targets[site][there[site]])
        assert (found[site] - own).norm() <= 1e-5 * max(own.norm(), CLIP)
    assert found[-1].norm() == 0


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_broken_unit_gives_nothing_and_harms_nobody(value: float, first: bool) -> None:
    module = build(MlpSpec(name="mlp", hidden=(5, 4)), (FEATURES,), 2, 1)
    inputs, targets, there = drawn(Task.REGRESSION, 8)
    there[0] = True
    inputs[0, 3, 2] = value
    found = moved(module, Task.REGRESSION, inputs, targets, there, Silent(), first=first)
    there[0, 3] = False
    inputs[0, 3] = 0.0
    without = moved(module, Task.REGRESSION, inputs, targets, there, Silent(), first=first)
    if value == 1e30:  # finite, so it is clipped
        assert 0.99 * CLIP < (found[0] - without[0]).norm() <= CLIP * (1 + 1e-3)
        found[0] = without[0]
    torch.testing.assert_close(found, without)


@pytest.mark.parametrize("rows", [2, MOST_ROWS, MOST_ROWS + 1, 300])
def test_one_unit_moves_a_sum_by_no_more_than_the_clip_even_where_all_agree(rows: int) -> None:
    module = build(LinearSpec(name="linear"), (FEATURES,), 2, 1)  # at zero, so that nothing else is rounded
    inputs = torch.randn(1, 1, FEATURES, generator=torch.Generator().manual_seed(2)).expand(SITES, rows, -1)
    targets = torch.full((SITES, rows, 2), 7.3)
    there = torch.ones(SITES, rows, dtype=torch.bool)
    there[1, -1] = False
    found = moved(module, Task.REGRESSION, inputs, targets, there, Silent())
    apart = (found[0] - found[1]).norm()
    assert apart > 0.9 * CLIP
    # Parameters are float32: what is released is rounded once, whatever the noise; the sum itself is not.
    assert apart <= CLIP * (1 + 1e-5) + 2**-24 * found[0].norm()


def test_noise_of_the_priced_deviation_goes_into_every_value_also_of_an_empty_draw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = build(MlpSpec(name="mlp", hidden=(64, 64)), (FEATURES,), 2, 1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    inputs, targets, there = drawn(Task.REGRESSION, 4)
    silent = Silent()
    moved(module, Task.REGRESSION, inputs, targets, there, silent)
    size = sum(parameter.numel() for parameter in module.parameters())
    deviation = MECHANISM.steps.noise_multiplier * CLIP
    assert sum(count for count, _ in silent.asked) == SITES * size
    assert {asked for _, asked in silent.asked} == {LR / DIVISOR * deviation}
    noise = moved(module, Task.REGRESSION, inputs, targets, torch.zeros_like(there), SecureRandom()) / deviation
    assert stats.kstest(noise.numpy().ravel(), "norm").pvalue > 1e-4
    assert abs(np.corrcoef(noise.numpy()) - np.eye(SITES)).max() < 5 / sqrt(size)


def test_a_model_that_is_not_affine_has_no_private_step_in_a_stack() -> None:
    spec = Cnn1dSpec(name="cnn1d", channels=(4, 4), groups=2, kernel=3)
    assert private_stacked_step(build(spec, (2, 8), 1, 0), Task.REGRESSION, MECHANISM) is None
