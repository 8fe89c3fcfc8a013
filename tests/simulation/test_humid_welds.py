"""The signature test: yards that never saw rain learn of it from those that did, and from nothing else."""

import runpy
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "humid_welds.py"
ALONE, FEDERATED, PRIVATE, BLIND = range(4)


def asked(folder: Path, yards: int, episodes: int, seed: int) -> list[Any]:
    """What models advise in rain: the yard's own, the federation's, the same with epsilon 4, one without hygrometer."""
    if not EXAMPLE.exists():
        pytest.skip("examples/humid_welds.py is not in this tree")
    example = runpy.run_path(str(EXAMPLE))
    advice = example["ask_all"](folder, yards, episodes, seed)
    example["draw"](advice, folder / "rain.svg")
    return list(advice.values())


@pytest.fixture(scope="module")
def advice(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return asked(tmp_path_factory.mktemp("welds") / "records", 9, 120, 7)


def holds(advice: list[Any], model: int) -> bool:
    """More wire for more humidity at every yard, and at most half the error of each yard's own model."""
    return min(advice[model].slopes) > 0 and advice[model].error <= 0.5 * advice[ALONE].error


def test_a_yard_that_never_saw_rain_is_advised_more_wire_for_it_and_half_its_own_error(advice: list[Any]) -> None:
    assert holds(advice, FEDERATED)


def test_it_holds_with_epsilon_4_for_every_pass(advice: list[Any]) -> None:
    assert holds(advice, PRIVATE)


def test_without_a_hygrometer_nobody_knows(advice: list[Any]) -> None:
    assert advice[BLIND].error > 0.5 * advice[ALONE].error
    assert advice[BLIND].error > 2 * advice[FEDERATED].error


@pytest.mark.soak
@pytest.mark.parametrize("seed", [8, 9])
def test_it_holds_in_other_worlds_of_twelve_yards(tmp_path: Path, seed: int) -> None:
    advice = asked(tmp_path / "records", 12, 240, seed)
    assert holds(advice, FEDERATED)
    assert holds(advice, PRIVATE)
    assert advice[BLIND].error > 0.5 * advice[ALONE].error
