"""Laws of the flat model: one storage, whichever way it is looked at."""

import numpy as np
import pytest
import torch
from fusions import CNN2D, FUSION, PICTURE, ROW
from torch import Tensor, nn

from jangin.errors import PlanError
from jangin.models.flat import FlatModel
from jangin.models.networks import build
from jangin.models.spec import Cnn1dSpec, GruSpec, LinearSpec, MlpSpec, ModelSpec, TransformerSpec

EVERY: list[tuple[ModelSpec, tuple[int, ...]]] = [
    (LinearSpec(name="linear"), (6,)),
    (MlpSpec(name="mlp", hidden=(5, 4)), (6,)),
    (Cnn1dSpec(name="cnn1d", channels=(4, 8), kernel=3, groups=2), (3, 16)),
    (GruSpec(name="gru", hidden=4, layers=2, patch=4), (3, 16)),
    (TransformerSpec(name="transformer", width=8, heads=2, layers=1, patch=4), (3, 16)),
    (CNN2D, PICTURE),
    (FUSION, ROW),
]
every = pytest.mark.parametrize(("spec", "shape"), EVERY)


def module(spec: ModelSpec, shape: tuple[int, ...]) -> nn.Module:
    return build(spec, shape, 2, seed=3)


def loss(network: nn.Module, shape: tuple[int, ...]) -> Tensor:
    inputs = torch.randn(8, *shape, generator=torch.Generator().manual_seed(1))
    result: Tensor = (network(inputs) - 1).square().mean()
    return result


@every
def test_parameters_and_gradients_are_views_of_two_vectors(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    model = FlatModel(module(spec, shape))
    for entry, (name, parameter) in zip(model.layout.entries, model.module.named_parameters(), strict=True):
        assert entry.name == name
        assert parameter.grad is not None
        assert parameter.data_ptr() == model.vector[entry.offset :].data_ptr()
        assert parameter.grad.data_ptr() == model.gradient[entry.offset :].data_ptr()
    model.vector.fill_(0.25)
    assert all((parameter == 0.25).all() for parameter in model.module.parameters())


@every
def test_moving_into_flat_storage_changes_no_output(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    assert loss(FlatModel(module(spec, shape)).module, shape) == loss(module(spec, shape), shape)


@every
def test_the_gradient_is_autograds(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    plain, model = module(spec, shape), FlatModel(module(spec, shape))
    expected = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss(plain, shape), list(plain.parameters()))])
    for _ in range(2):  # the second time nothing of the first is left in it
        assert torch.equal(model.backward(loss(model.module, shape)), expected)
    assert torch.equal(model.gradient, expected)


@every
def test_what_is_loaded_is_read(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    model = FlatModel(module(spec, shape))
    vector = np.random.default_rng(1).normal(size=model.layout.size).astype(np.float32)
    model.load(vector)
    assert model.read().dtype == np.float32
    assert np.array_equal(model.read(), vector)
    for entry, (name, parameter) in zip(model.layout.entries, model.module.named_parameters(), strict=True):
        assert (entry.name, entry.shape) == (name, tuple(parameter.shape))
        assert np.array_equal(parameter.detach().ravel(), vector[entry.offset : entry.offset + entry.size])


def test_what_was_read_does_not_change_with_the_model() -> None:
    model = FlatModel(module(*EVERY[1]))
    before = model.read()
    kept = before.copy()
    model.vector.add_(1)
    assert np.array_equal(before, kept)


def test_bytes_from_the_wire_are_loaded_without_a_warning() -> None:
    model = FlatModel(module(*EVERY[1]))
    wire = np.frombuffer(np.arange(model.layout.size, dtype="<f4").tobytes(), "<f4")
    model.load(wire)
    assert np.array_equal(model.read(), wire)


@pytest.mark.parametrize("shape", [(1,), (), (13,), (1, 14), (15,)])
def test_a_vector_of_another_shape_is_refused_and_changes_nothing(shape: tuple[int, ...]) -> None:
    model = FlatModel(build(LinearSpec(name="linear"), (6,), 2, seed=0))
    assert model.layout.size == 14
    with pytest.raises(ValueError, match="Expected a vector of 14 values"):
        model.load(np.ones(shape, np.float32))
    assert not model.read().any()


def test_personal_parameters_are_in_the_model_and_not_in_what_is_shared() -> None:
    model = FlatModel(module(*EVERY[1]), ("head",))
    head = sum(p.numel() for name, p in model.module.named_parameters() if name.startswith("head"))
    assert head > 0
    assert len(model.layout.shared) == model.layout.size - head


def test_a_prefix_that_no_parameter_has_is_refused() -> None:
    with pytest.raises(PlanError, match="JG-plan-010"):
        FlatModel(module(*EVERY[1]), ("haed",))
