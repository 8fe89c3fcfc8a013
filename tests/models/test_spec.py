"""Laws of model specifications: data that names an installed model, with every key known."""

from typing import Any

import pytest
from fusions import FUSION
from pydantic import TypeAdapter

from jangin.codec.document import Document, parse
from jangin.errors import PlanError
from jangin.models.spec import Cnn1dSpec, Cnn2dSpec, GruSpec, LinearSpec, MlpSpec, ModelSpec, TransformerSpec


class Holder(Document):
    model: ModelSpec


def spec(**content: Any) -> Any:
    return parse({"model": content}, Holder, "plan.yaml").model


def test_a_name_chooses_the_specification() -> None:
    assert spec(name="linear") == LinearSpec(name="linear")
    assert spec(name="mlp") == MlpSpec(name="mlp", hidden=(64, 64))
    assert spec(name="cnn1d") == Cnn1dSpec(name="cnn1d", channels=(32, 64), kernel=5, groups=8)
    assert spec(name="cnn2d") == Cnn2dSpec(name="cnn2d", channels=(16, 32), kernel=3, groups=8)
    assert spec(name="gru") == GruSpec(name="gru", hidden=64, layers=2, patch=4)
    assert spec(name="transformer") == TransformerSpec(name="transformer", width=96, heads=4, layers=2, patch=8)


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn1d", "cnn2d", "gru", "transformer"])
def test_a_specification_survives_being_written(name: str) -> None:
    there = spec(name=name, personal=["head"])
    assert TypeAdapter(ModelSpec).validate_json(there.model_dump_json()) == there


def test_a_fusion_survives_being_written() -> None:
    assert spec(**FUSION.model_dump(mode="json")) == FUSION
    assert TypeAdapter(ModelSpec).validate_json(FUSION.model_dump_json()) == FUSION


BRANCH = {"name": "arc", "shape": [2, 8], "body": {"name": "linear"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "mpl"}, r"JG-plan-003 .*model\.name: the value 'mpl'.*'linear', 'mlp', 'cnn1d'"),
        ({}, r"JG-plan-002 .*'model\.name'"),
        ({"name": "linear", "hidden": [3]}, r"JG-plan-001 .*'model\.hidden'"),
        ({"name": "mlp", "hidden": [64, 0]}, r"JG-plan-003 .*model\.hidden\.1: the value 0"),
        ({"name": "mlp", "hidden": 64}, r"JG-plan-003 .*model\.hidden: the value 64"),
        ({"name": "cnn1d", "kernel": 4}, r"JG-plan-003 .*model\.kernel: the value 4 .*odd"),
        ({"name": "cnn1d", "groups": 0}, r"JG-plan-003 .*model\.groups: the value 0"),
        ({"name": "cnn2d", "kernel": 2}, r"JG-plan-003 .*model\.kernel: the value 2 .*odd"),
        ({"name": "fusion"}, r"JG-plan-002 .*'model\.parts'"),
        ({"name": "fusion", "parts": []}, r"JG-plan-003 .*model\.parts"),
        ({"name": "fusion", "parts": [BRANCH, BRANCH]}, r"JG-plan-003 .*a name of its own"),
        ({"name": "fusion", "parts": [BRANCH | {"shape": [1, 2, 3, 4]}]}, r"JG-plan-003 .*model\.parts\.0\.shape"),
        ({"name": "fusion", "parts": [BRANCH | {"name": "a.b"}]}, r"JG-plan-003 .*model\.parts\.0\.name"),
        (
            {"name": "fusion", "parts": [BRANCH | {"body": {"name": "linear", "personal": ["head"]}}]},
            r"JG-plan-003 .*from_arc",
        ),
        ({"name": "fusion", "parts": [BRANCH | {"body": {"name": "fusion"}}]}, r"JG-plan-003 .*'fusion'"),
        ({"name": "gru", "layers": 0}, r"JG-plan-003 .*model\.layers: the value 0"),
        ({"name": "transformer", "width": 90}, r"JG-plan-003 .*width is even and a multiple of heads"),
        ({"name": "transformer", "width": 9, "heads": 3}, r"JG-plan-003 .*width is even"),
    ],
)
def test_a_model_that_is_not_installed_or_cannot_be_built_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        spec(**content)
