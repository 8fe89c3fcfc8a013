"""Laws of the flat vector: every parameter has one place, and it is shared or personal."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.errors import PlanError
from jangin.models.layout import ParameterLayout

SHAPES = [("body.0.weight", (3, 2)), ("body.0.bias", (3,)), ("head.weight", (1, 3)), ("head.bias", (1,)), ("scale", ())]


def test_parameters_lie_one_after_another_in_the_order_given() -> None:
    layout = ParameterLayout.of(SHAPES)
    assert [(e.name, e.offset, e.size) for e in layout.entries] == [
        ("body.0.weight", 0, 6),
        ("body.0.bias", 6, 3),
        ("head.weight", 9, 3),
        ("head.bias", 12, 1),
        ("scale", 13, 1),
    ]
    assert layout.size == 14


@given(st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=6), st.data())
def test_a_value_is_shared_or_personal_and_never_both(shapes: list[list[int]], data: st.DataObject) -> None:
    named = [(f"part{number}.weight", shape) for number, shape in enumerate([[2], *shapes])]
    prefixes = [f"part{number}" for number in range(1, len(named))]
    personal = data.draw(st.lists(st.sampled_from(prefixes), unique=True)) if prefixes else []
    layout = ParameterLayout.of(named, personal)
    own = [np.arange(e.offset, e.offset + e.size) for e in layout.entries if e.name.partition(".")[0] in personal]
    everything = np.concatenate([layout.shared, *own])
    assert sorted(everything) == list(range(layout.size))
    assert (np.diff(layout.shared) > 0).all()


def test_a_model_of_which_nothing_is_shared_is_refused() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-013 model\.personal: .*body.*head.*scale"):
        ParameterLayout.of(SHAPES, ("body", "head", "scale"))


@pytest.mark.parametrize(
    ("personal", "kept"),
    [
        ((), 0),
        (("head",), 4),
        (("head.bias",), 1),
        (("body.0",), 9),
        (("body", "head"), 13),
        (("head", "head.bias"), 4),
        (("scale",), 1),
    ],
)
def test_a_prefix_ends_where_a_name_ends(personal: tuple[str, ...], kept: int) -> None:
    assert len(ParameterLayout.of(SHAPES, personal).shared) == 14 - kept


def test_head_is_no_prefix_of_header() -> None:
    layout = ParameterLayout.of([("head.weight", (2,)), ("header.weight", (3,))], ("head",))
    assert layout.shared.tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("prefix", "near"), [("haed", "head"), ("head.wieght", "head.weight"), ("he", "head"), ("", "")]
)
def test_a_prefix_that_fits_nothing_is_refused_with_the_nearest(prefix: str, near: str) -> None:
    """It would leave everything shared, against the plan's word."""
    with pytest.raises(PlanError, match=rf"JG-plan-010 model\.personal: .*'{prefix}'.*{near}"):
        ParameterLayout.of(SHAPES, (prefix,))


def test_names_may_be_of_any_depth() -> None:
    layout = ParameterLayout.of([("a.b.c.d.e.weight", (2,)), ("z", (1,))], ("a.b.c.d.e",))
    assert layout.shared.tolist() == [2]


@pytest.mark.parametrize("personal", [(), ("head",), ("body.0.weight", "scale")])
def test_the_metadata_says_where_each_shared_parameter_lies_in_the_shared_vector(personal: tuple[str, ...]) -> None:
    layout = ParameterLayout.of(SHAPES, personal)
    whole = np.arange(layout.size, dtype=np.float32)
    sent = whole[layout.shared]
    parts = json.loads(layout.metadata()["layout"])
    assert [part["name"] for part in parts] == [entry.name for entry in layout.entries if entry.shared]
    places = {entry.name: entry for entry in layout.entries}
    for part in parts:
        entry = places[part["name"]]
        assert tuple(part["shape"]) == entry.shape
        found = sent[part["offset"] : part["offset"] + entry.size]
        np.testing.assert_array_equal(found, whole[entry.offset : entry.offset + entry.size])
    assert sum(places[part["name"]].size for part in parts) == len(sent)
