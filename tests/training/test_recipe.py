"""Laws of the recipe: server and site that read one plan share model, scaling and mechanism."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fusions import CNN2D, FUSION, PICTURE, ROW

from jangin.codec.document import parse
from jangin.errors import PlanError
from jangin.models.lines import read_line
from jangin.models.spec import Cnn1dSpec, GruSpec, MlpSpec, ModelSpec, TransformerSpec
from jangin.plan.blocks import FedBnBlock
from jangin.plan.training_plan import TrainingPlan
from jangin.training.recipe import Recipe

PLAN = {
    "campaign": "bof-2026-11",
    "process": "steel.bof_blow",
    "model_line": "national-bof-blow",
    "sites": {"invite": ["site-0", "site-1"], "min_sites": 2},
    "model": {"name": "linear"},
    "strategy": {"name": "fedavg", "rounds": 3, "local_steps": 2, "batch": 480, "lr": 0.1},
    "privacy": {"epsilon": 8, "delta": 1e-5, "nominal_units": 480},
    "governance": {
        "purposes": ["safety"],
        "prohibited": ["worker_evaluation", "dismissal"],
        "release": {"recipients": "contributors", "export": "domestic_only"},
    },
}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.of(parse(PLAN, TrainingPlan, "plan"))


def test_two_places_with_one_plan_start_from_one_model(recipe: Recipe) -> None:
    again = Recipe.of(parse(PLAN, TrainingPlan, "plan"))
    assert np.array_equal(recipe.learner().model.read(), again.learner().model.read())
    assert recipe.mechanism == again.mechanism


def test_the_model_line_says_what_goes_in_and_comes_out(recipe: Recipe) -> None:
    assert recipe.outputs == 2
    assert recipe.inputs is not None
    assert recipe.input_shape == recipe.inputs.low.shape
    assert recipe.public_scaling().inputs == recipe.input_shape[0]


def test_the_noise_of_the_scaling_falls_with_the_root_of_the_sites(recipe: Recipe) -> None:
    assert recipe.learns_scaling
    assert recipe.scaling_noise(4) == pytest.approx(recipe.scaling_noise(1) / 2)


def test_fedbn_leaves_normalisation_and_nothing_else_to_the_sites(recipe: Recipe) -> None:
    strategy = FedBnBlock(name="fedbn", rounds=3, local_steps=2, batch=40, lr=0.1)
    models: dict[ModelSpec, set[str]] = {
        CNN2D: {"body.1", "body.4"},
        FUSION: {f"from_{part}.body.{layer}" for part in ("arc", "sound") for layer in (1, 4)},
        Cnn1dSpec(name="cnn1d", channels=(4, 4), groups=2): {"body.1", "body.4"},
        TransformerSpec(name="transformer", width=4, heads=2, layers=1): {"body.1.before", "body.1.between", "body.2"},
    }
    shapes = {"cnn2d": PICTURE, "fusion": ROW}
    for model, layers in models.items():
        shape = shapes.get(model.name, (2, 16))
        own = replace(recipe, model=model, strategy=strategy, input_shape=shape).initial().layout
        kept = {entry.name for entry in own.entries if not entry.shared}
        assert kept == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    also = replace(
        recipe, model=model.model_copy(update={"personal": ("head",)}), strategy=strategy, input_shape=(2, 16)
    )
    assert len(also.initial().layout.shared) < len(own.shared)
    for plain in (recipe.model, MlpSpec(name="mlp"), GruSpec(name="gru")):
        with pytest.raises(PlanError, match=rf"JG-plan-045 model\.name: .*{plain.name}"):
            replace(recipe, model=plain, strategy=strategy, input_shape=(2, 16)).initial()


def test_the_parts_of_a_fusion_are_those_of_its_line() -> None:
    line = read_line("national-tig-defect")
    model = line.model.model_dump(mode="json")
    wanted = {**PLAN, "process": line.process, "model_line": line.line, "model": model}
    recipe = Recipe.of(parse(wanted, TrainingPlan, "plan"))
    assert recipe.learner().model.module(torch.zeros(2, *recipe.input_shape)).shape == (2, 1)
    assert recipe.public_scaling().inputs < 20 < recipe.input_shape[0]
    for parts in (model["parts"][:-1], model["parts"][::-1]):
        with pytest.raises(PlanError, match=r"JG-plan-065 model\.parts: .* its model line are arc \[4, 60\], sound"):
            Recipe.of(parse({**wanted, "model": model | {"parts": parts}}, TrainingPlan, "plan"))
    with pytest.raises(PlanError, match=r"JG-plan-065 .* its model line are -"):
        Recipe.of(parse({**PLAN, "model": model}, TrainingPlan, "plan"))


def test_without_a_share_for_it_no_scaling_is_learnt() -> None:
    plan = {**PLAN, "privacy": {**PLAN["privacy"], "scaling_share": 0}}
    assert not Recipe.of(parse(plan, TrainingPlan, "plan")).learns_scaling


def test_without_privacy_the_scaling_is_learnt_without_noise() -> None:
    plan = {**PLAN, "privacy": {"epsilon": "none"}}
    recipe = Recipe.of(parse(plan, TrainingPlan, "plan"))
    assert recipe.mechanism is None
    assert recipe.learns_scaling
    assert recipe.scaling_noise(5) == 0.0
