"""Laws of the torch modules: records stay apart, weights come from the seed, and shapes are refused by name."""

from itertools import pairwise

import pytest
import torch
from fusions import CNN2D, FUSION, PICTURE, ROW
from torch import nn

from jangin.errors import PlanError
from jangin.models.networks import build
from jangin.models.spec import (
    BranchSpec,
    Cnn1dSpec,
    FusionSpec,
    GruSpec,
    LinearSpec,
    MlpSpec,
    ModelSpec,
    TransformerSpec,
)
from jangin.privacy.step import BookkeepingStep

LINEAR, MLP = LinearSpec(name="linear"), MlpSpec(name="mlp", hidden=(5, 4))
CNN = Cnn1dSpec(name="cnn1d", channels=(4, 8, 8), kernel=3, groups=2)
GRU = GruSpec(name="gru", hidden=6, layers=2, patch=3)
TRANSFORMER = TransformerSpec(name="transformer", width=8, heads=2, layers=2, patch=4)
EVERY: list[tuple[ModelSpec, tuple[int, ...]]] = [
    (LINEAR, (6,)),
    (LINEAR, (2, 3)),
    (MLP, (6,)),
    (MLP, (2, 9)),
    (MLP, (1, 4, 4)),
    (CNN, (3, 16)),
    (CNN, (3, 1)),
    (GRU, (3, 16)),
    (TRANSFORMER, (3, 16)),
    (TRANSFORMER, (2, 4)),
    (CNN2D, PICTURE),
    (CNN2D, (3, 1, 4)),
    (FUSION, ROW),
    (FUSION, (ROW[0] - 2,)),
]
every = pytest.mark.parametrize(("spec", "shape"), EVERY)


def rows(shape: tuple[int, ...], number: int = 4) -> torch.Tensor:
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(1))


@every
@pytest.mark.parametrize("outputs", [1, 3])
def test_rows_go_in_and_one_row_of_outputs_each_comes_out(
    spec: ModelSpec, shape: tuple[int, ...], outputs: int
) -> None:
    assert build(spec, shape, outputs, seed=0)(rows(shape)).shape == (4, outputs)


@every
def test_no_row_changes_the_output_of_another(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    module, inputs = build(spec, shape, 2, seed=0), rows(shape)
    nn.init.ones_([parameter for name, parameter in module.named_parameters() if name.endswith("head.weight")][-1])
    alone = torch.cat([module(row[None]) for row in inputs])
    assert torch.allclose(module(inputs), alone, rtol=1e-4, atol=1e-6)
    changed = inputs.clone()
    changed[0] += 100
    assert torch.allclose(module(changed)[1:], alone[1:], rtol=1e-4, atol=1e-6)


@every
def test_every_layer_has_a_private_gradient(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    assert BookkeepingStep.unknown_layers(build(spec, shape, 1, seed=0)) == []
    assert not list(build(spec, shape, 1, seed=0).buffers())


@every
def test_one_seed_gives_one_model(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    one, same = (build(spec, shape, 2, seed=7).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], same[name]) for name in one)


@pytest.mark.parametrize(("spec", "shape"), [(MLP, (6,)), (CNN, (3, 16))])
def test_another_seed_gives_another_model(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    one, other = (build(spec, shape, 2, seed=seed).state_dict() for seed in (7, 8))
    assert not torch.equal(one["head.weight"], other["head.weight"])


@every
def test_building_leaves_torchs_own_random_state_alone(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    before = torch.get_rng_state()
    build(spec, shape, 2, seed=7)
    assert torch.equal(torch.get_rng_state(), before)


def test_torchs_own_random_state_does_not_reach_a_model() -> None:
    built = []
    for state in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state)
            built.append(build(MLP, (6,), 2, seed=7).state_dict()["head.weight"])
    assert torch.equal(*built)


def test_a_linear_model_starts_at_zero() -> None:
    assert not any(parameter.any() for parameter in build(LINEAR, (6,), 2, seed=7).parameters())


def test_the_widths_of_an_mlp_stand_in_its_layers() -> None:
    widths = [
        tuple(layer.weight.shape) for layer in build(MLP, (2, 3), 2, seed=0).modules() if isinstance(layer, nn.Linear)
    ]
    assert widths == [(5, 6), (4, 5), (2, 4)]


def test_convolutions_halve_the_length_after_the_first() -> None:
    lengths = []
    module = build(CNN, (3, 16), 1, seed=0)
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d):
            layer.register_forward_hook(lambda *call: lengths.append(call[-1].shape[-1]))
    module(rows((3, 16)))
    assert lengths == [16, 8, 4]
    norms = [layer for layer in module.modules() if isinstance(layer, nn.GroupNorm)]
    convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv1d)]
    assert [norm.num_channels for norm in norms] == [4, 8, 8]
    assert all(norm.num_groups == 2 for norm in norms)
    assert all(one.out_channels == next_.in_channels for one, next_ in pairwise(convolutions))


@pytest.mark.parametrize("spec", [GRU, TRANSFORMER])
def test_the_oldest_samples_that_fill_no_patch_are_left_out(spec: GruSpec | TransformerSpec) -> None:
    module, inputs = build(spec, (3, 17), 2, seed=0), rows((3, 17))
    changed = inputs.clone()
    changed[:, :, : 17 % spec.patch] = 9.0
    assert torch.equal(module(changed), module(inputs))
    changed[:, :, 17 % spec.patch] = 9.0
    assert not torch.equal(module(changed), module(inputs))


def test_a_transformer_tells_the_order_of_patches() -> None:
    module, inputs = build(TRANSFORMER, (3, 16), 2, seed=0), rows((3, 16))
    turned = inputs.view(4, 3, 4, 4).flip(2).reshape(4, 3, 16)
    assert not torch.allclose(module(inputs), module(turned))


@pytest.mark.parametrize("spec", [GRU, TRANSFORMER])
@pytest.mark.parametrize("shape", [(6,), (3, 2), (1, 4, 4)])
def test_a_model_over_patches_refuses_other_inputs(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    with pytest.raises(PlanError, match=rf"JG-plan-011 model\.name: {spec.name} cannot take inputs of shape"):
        build(spec, shape, 1, seed=0)


@pytest.mark.parametrize("shape", [(6,), (1, 4, 4)])
def test_a_convolution_over_time_refuses_other_inputs(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        PlanError, match=r"JG-plan-011 model\.name: cnn1d cannot take inputs of shape \(.*mlp or linear"
    ):
        build(CNN, shape, 1, seed=0)


@pytest.mark.parametrize("shape", [(6,), (3, 16), (1, 4, 4, 4)])
def test_a_convolution_over_pictures_refuses_other_inputs(shape: tuple[int, ...]) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-011 model\.name: cnn2d cannot take inputs of shape \("):
        build(CNN2D, shape, 1, seed=0)


def test_a_picture_of_one_place_leaves_nothing_to_be_normalised() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-014 model\.groups: with 4 groups and inputs of 2 x 1 samples"):
        build(CNN2D.model_copy(update={"groups": 4}), (2, 2, 1), 1, seed=0)


def test_a_fusion_is_its_branches_side_by_side_and_the_rest_of_the_row() -> None:
    module, inputs = build(FUSION, ROW, 2, seed=0), rows(ROW)
    branches, parts = dict(module.named_children()), inputs.split([16, 24, 12, 2], dim=1)
    shapes = {"from_arc": (2, 8), "from_sound": (1, 4, 6), "from_pool": (2, 2, 3)}
    seen = [
        branches[name](part.reshape(4, *shape)).tanh()
        for (name, shape), part in zip(shapes.items(), parts[:3], strict=True)
    ]
    assert torch.equal(module(inputs), branches["fusion"](torch.cat([*seen, parts[3]], dim=1)))
    assert list(branches) == [*shapes, "fusion"]


def test_a_linear_branch_learns_from_its_start_at_zero() -> None:
    branch = BranchSpec(name="arc", shape=(3,), body=LINEAR, width=2)
    module = build(FusionSpec(name="fusion", parts=(branch,)), (4,), 1, seed=0)
    module(rows((4,))).square().sum().backward()
    assert module.get_parameter("from_arc.head.weight").grad.abs().min() > 0


@pytest.mark.parametrize("shape", [(ROW[0] - 3,), (1, *ROW), PICTURE])
def test_parts_that_do_not_fit_a_row_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-064 model\.parts: parts of 52 values do not fit .* shape \("):
        build(FUSION, shape, 1, seed=0)


def test_a_branch_that_cannot_take_its_part_is_refused_by_name() -> None:
    branch = BranchSpec(name="arc", shape=(4,), body=CNN2D)
    with pytest.raises(PlanError, match=r"JG-plan-011 model\.parts\.arc\.body\.name: cnn2d cannot take .* \(4\)"):
        build(FusionSpec(name="fusion", parts=(branch,)), (4,), 1, seed=0)


def test_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-012 model\.channels: 6 channels .* 4 groups"):
        build(Cnn1dSpec(name="cnn1d", channels=(8, 6), groups=4), (3, 16), 1, seed=0)


def test_what_is_no_specification_has_no_module() -> None:
    with pytest.raises(TypeError, match="Expected a model specification"):
        build("mlp", (6,), 1, seed=0)  # type: ignore[arg-type]
