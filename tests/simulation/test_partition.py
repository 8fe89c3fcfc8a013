"""Laws of partitions: units stay whole, rows are placed once, every site has both sides, each rule keeps its word."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from jangin import simulate
from jangin.errors import DataError, PlanError
from jangin.simulation.experiment import read_experiment
from jangin.simulation.federation import Federation, load
from jangin.simulation.partition import Partition, partitioned

Write = Callable[..., Path]
Rows = Callable[..., dict[str, np.ndarray]]
CLASSES = 4
RULES: list[dict[str, Any]] = [
    {"by": "iid", "sites": 5},
    {"by": "dirichlet", "sites": 5, "alpha": 0.1},
    {"by": "pathological", "sites": 6, "classes": 2},
    {"by": "quantity", "sites": 5, "skew": 1.5},
    {"by": "unit"},
]


def dealt(rule: dict[str, Any], arrays: dict[str, np.ndarray], seed: int = 0) -> np.ndarray:
    partition: Any = TypeAdapter(Partition).validate_python(rule)
    return partitioned(partition, **arrays, seed=seed)


def made(units: int, *, mixed: bool, seed: int = 0, regression: bool = False) -> dict[str, np.ndarray]:
    """Units of one to five rows with a class each; a fifth of them, or of the rows of each, are hold-out."""
    stream = np.random.default_rng(seed)
    unit = np.repeat(stream.permutation(3 * units)[:units], stream.integers(2, 6, units))
    label = {one: number % CLASSES for number, one in enumerate(np.unique(unit))}
    targets = np.array([label[one] for one in unit])
    drawn = stream.permutation(np.unique(unit))[: units // 5]
    order = np.concatenate([np.arange(np.sum(unit == one)) for one in dict.fromkeys(unit)])
    split = (order == 0) if mixed else np.isin(unit, drawn)
    return {
        "silo": np.zeros(len(unit), np.int64),
        "unit": unit,
        "split": split.astype(np.int8),
        "targets": stream.normal(targets)[:, None].astype(np.float32) if regression else targets,
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["by"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), units=st.integers(120, 200), mixed=st.booleans(), regression=st.booleans())
def test_units_stay_whole_every_site_has_both_sides_and_the_order_of_rows_decides_nothing(
    rule: dict[str, Any], seed: int, units: int, mixed: bool, regression: bool
) -> None:
    arrays = made(units, mixed=mixed or rule["by"] == "unit", seed=seed, regression=regression)
    site = dealt(rule, arrays, seed)
    pairs = np.unique(np.stack([arrays["unit"], site]), axis=1)
    assert pairs.shape[1] == units
    sites = units if rule["by"] == "unit" else rule["sites"]
    for side in (0, 1):
        np.testing.assert_array_equal(np.unique(site[arrays["split"] == side]), np.arange(sites))
    np.testing.assert_array_equal(site, dealt(rule, arrays, seed))
    order = np.random.default_rng(seed).permutation(len(site))
    shuffled = {key: values[order] for key, values in arrays.items()}
    np.testing.assert_array_equal(site[order], dealt(rule, shuffled, seed))


@pytest.mark.parametrize("rule", RULES[:-1], ids=lambda rule: rule["by"])
def test_another_seed_deals_otherwise(rule: dict[str, Any]) -> None:
    arrays = made(150, mixed=False)
    assert (dealt(rule, arrays, 1) != dealt(rule, arrays, 2)).any()


def units_of(site: np.ndarray, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Site and class of every unit."""
    _, first = np.unique(arrays["unit"], return_index=True)
    return site[first], arrays["targets"][first]


@pytest.mark.parametrize("rule", [RULES[0], RULES[1], RULES[3] | {"skew": 0}], ids=lambda rule: rule["by"])
def test_sites_are_of_one_size_where_the_rule_does_not_skew_it(rule: dict[str, Any]) -> None:
    arrays = made(203, mixed=False)
    sizes = np.bincount(units_of(dealt(rule, arrays), arrays)[0])
    assert np.ptp(sizes) <= 2  # one a side


def test_sizes_follow_the_power_law_that_is_asked_for() -> None:
    arrays = made(1000, mixed=True)
    sizes = np.bincount(units_of(dealt({"by": "quantity", "sites": 4, "skew": 2}, arrays), arrays)[0])
    expected = 1 + 996 * np.array([1, 1 / 4, 1 / 9, 1 / 16]) / (1 + 1 / 4 + 1 / 9 + 1 / 16)
    np.testing.assert_allclose(sizes, expected, atol=1)


@pytest.mark.parametrize("classes", [1, 2, 3, 4])
def test_a_pathological_site_has_that_many_classes_in_train_and_in_test(classes: int) -> None:
    arrays = made(400, mixed=False)
    site = dealt({"by": "pathological", "sites": 8, "classes": classes}, arrays)
    for number in range(8):
        for side in (0, 1):
            here = (site == number) & (arrays["split"] == side)
            assert len(np.unique(arrays["targets"][here])) == classes


def distances(alpha: float) -> np.ndarray:
    """Total variation between each site's label shares and those of the set."""
    arrays = made(800, mixed=True)
    site, label = units_of(dealt({"by": "dirichlet", "sites": 8, "alpha": alpha}, arrays), arrays)
    shares = np.stack([np.bincount(label[site == number], minlength=CLASSES) / 100 for number in range(8)])
    return np.abs(shares - 1 / CLASSES).sum(axis=1) / 2


def test_label_shares_go_from_those_of_the_set_to_one_label_as_alpha_falls() -> None:
    much, some, little = (distances(alpha) for alpha in (1000, 1, 1e-3))
    assert much.max() < 0.15 < some.mean() < little.mean()
    assert little.max() == 1 - 1 / CLASSES  # a site of one label alone


def test_units_of_one_side_join_the_sites_of_those_that_have_both() -> None:
    arrays = made(20, mixed=True)
    alone = arrays["unit"] == arrays["unit"][0]
    arrays["split"][alone] = 0
    site = dealt({"by": "unit"}, arrays)
    assert len(np.unique(site)) == 19
    assert len(np.unique(site[alone])) == 1


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"by": "iid", "sites": 40}, "JG-data-085 .* by iid site-12 has no hold-out rows: 12 units .* 40 sites"),
        ({"by": "unit"}, "JG-data-085 .* by unit site-0 has no training rows"),
        (
            {"by": "pathological", "sites": 2, "classes": 1},
            "JG-data-086 partition: pathological over 2 sites .* the 4 labels",
        ),
        ({"by": "pathological", "sites": 9, "classes": 5}, "JG-data-086"),
    ],
)
def test_what_cannot_be_dealt_is_refused_with_the_way_out(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dealt(rule, made(60, mixed=False))


def test_shares_of_a_single_label_are_refused() -> None:
    arrays = made(60, mixed=True)
    arrays["targets"] = np.arange(len(arrays["unit"])) * 0
    with pytest.raises(DataError, match=r"JG-data-086 partition: dirichlet over 5 sites .* the 1 labels"):
        dealt(RULES[1], arrays)


def federation(file: Path, **sets: Any) -> Federation:
    return load(read_experiment(file, sets), Path("unused"), lambda what, done, total: None)


def test_a_simulation_trains_on_the_sites_of_its_partition(write: Write, rows: Rows, private: dict[str, Any]) -> None:
    arrays = rows("regression")
    arrays["unit"] = np.arange(len(arrays["unit"])) // 2
    file = write(arrays, private | {"partition": {"by": "iid", "sites": 4}, "privacy.nominal_units": 20})
    made = federation(file)
    assert [silo.name for silo in made.silos] == ["site-0", "site-1", "site-2", "site-3"]
    assert not [warning for warning in made.warnings if warning.code == "JG-privacy-015"]
    every = np.concatenate([side.inputs for silo in made.silos for side in (silo.train, silo.test)])
    np.testing.assert_array_equal(np.sort(every, axis=0), np.sort(arrays["X"], axis=0))
    assert simulate(file, accept_noise=True).sites == tuple(silo.name for silo in made.silos)


def test_a_site_of_one_class_is_kept_only_where_the_file_says_so(write: Write) -> None:
    file = write(sets={"partition": {"by": "pathological", "sites": 6, "classes": 1}}, task="multiclass")
    with pytest.raises(DataError, match=r"JG-data-080 .* data\.one_class_sites: keep"):
        federation(file)
    assert len(federation(file, **{"data.one_class_sites": "keep"}).silos) == 6


def test_folders_of_records_are_sites_and_are_not_dealt_anew(write: Write) -> None:
    data = {"process": "steel.bof_blow", "model_line": "national-bof-blow", "sites": 2, "masters": 2, "episodes": 12}
    with pytest.raises(DataError, match=r"JG-data-084 partition\.by: iid deals .* Set partition\.by to silo"):
        federation(write(sets={"data": data, "partition": {"by": "iid", "sites": 2}}))


def test_a_key_of_another_rule_is_refused(write: Write) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-001 .*partition\.alpha"):
        federation(write(sets={"partition": {"by": "iid", "sites": 2, "alpha": 1}}))
