"""Laws of paths: they lead where a site's own steps lead, whoever walks beside, and are taken where that is cheap."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from jangin.models.networks import build
from jangin.models.spec import Cnn1dSpec, LinearSpec, MlpSpec, ModelSpec
from jangin.models.tasks import Task, row_losses
from jangin.training.paths import Paths, held_by_paths, paths

SITES, STEPS, ROWS, FEATURES, LR = 3, 4, 5, 6, 0.3
MODELS = [LinearSpec(name="linear"), MlpSpec(name="mlp", hidden=(7,)), MlpSpec(name="mlp", hidden=(9, 8, 7))]
OUTPUTS = {Task.REGRESSION: 2, Task.BINARY: 1, Task.MULTICLASS: 3}


def drawn(task: Task) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and weights, of which the last site's last rows weigh nothing."""
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(SITES, STEPS, ROWS, 2, FEATURES // 2, generator=stream)
    shape = (SITES, STEPS, ROWS)
    targets = {
        Task.REGRESSION: torch.randn(*shape, 2, generator=stream),
        Task.BINARY: torch.randint(0, 2, shape, generator=stream),
        Task.MULTICLASS: torch.randint(0, 3, shape, generator=stream),
    }
    weights = torch.rand(SITES, ROWS, generator=stream)
    weights[-1, 2:] = 0
    return inputs, targets[task], weights


def walked(module: nn.Module, task: Task, *batches: Tensor) -> Paths:
    return paths(task, [parameter.detach() for parameter in module.parameters()], *batches, LR)


def descended(module: nn.Module, task: Task, inputs: Tensor, targets: Tensor, weights: Tensor) -> list[Tensor]:
    """One site's update, by torch's own gradients."""
    before = [parameter.detach().clone() for parameter in module.parameters()]
    for x, y in zip(inputs, targets, strict=True):
        module.zero_grad()
        (row_losses(task, module(x), y) * weights).sum().backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.sub_(parameter.grad, alpha=LR)
    moved = [parameter.detach() - at for parameter, at in zip(module.parameters(), before, strict=True)]
    with torch.no_grad():
        for parameter, at in zip(module.parameters(), before, strict=True):
            parameter.copy_(at)
    return moved


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_every_site_goes_where_its_own_steps_lead_and_the_total_is_their_sum(spec: ModelSpec, task: Task) -> None:
    module = build(spec, (2, FEATURES // 2), OUTPUTS[task], 1)
    batches = drawn(task)
    found = walked(module, task, *batches)
    own = [descended(module, task, *(of_site[site] for of_site in batches)) for site in range(SITES)]
    for part, total, *sites in zip(found.each(), found.total(), *own, strict=True):
        torch.testing.assert_close(part, torch.stack(sites), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(total, torch.stack(sites).sum(dim=0), rtol=1e-4, atol=1e-5)


def test_what_is_not_finite_at_one_site_stays_there() -> None:
    module = build(MlpSpec(name="mlp", hidden=(7, 7)), (2, FEATURES // 2), 2, 1)
    inputs, targets, weights = drawn(Task.REGRESSION)
    clean = walked(module, Task.REGRESSION, inputs, targets, weights).each()
    inputs[1, 0, 0, 0, 0] = torch.nan
    for part, before in zip(walked(module, Task.REGRESSION, inputs, targets, weights).each(), clean, strict=True):
        torch.testing.assert_close(part[[0, 2]], before[[0, 2]])
        assert part[1].isnan().any()


def test_paths_are_taken_where_a_site_sees_few_rows_of_wide_maps() -> None:
    widths = (64, 256, 256, 64, 10)
    wide = build(MlpSpec(name="mlp", hidden=widths[1:-1]), widths[:1], widths[-1], 0)
    held = held_by_paths(wide, 50, 10)
    assert held == 50 * sum(a + b for a, b in pairwise(widths))
    assert held_by_paths(wide, 200, 10) is None
    assert held_by_paths(wide, 200, 200) is not None  # a single step
    assert held_by_paths(build(MlpSpec(name="mlp", hidden=(8,)), (4,), 2, 0), 50, 10) is None
    assert (
        held_by_paths(build(Cnn1dSpec(name="cnn1d", channels=(4, 4), groups=2, kernel=3), (2, 8), 1, 0), 4, 4) is None
    )
