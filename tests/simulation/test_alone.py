"""Laws of a first baseline: judged on what was not seen, honest about how little that is, and it leaves nothing."""

from pathlib import Path

import numpy as np
import pytest

from jangin.errors import DataError
from jangin.records.checks import validate
from jangin.records.generate import generate
from jangin.simulation import alone as module
from jangin.simulation.alone import Alone, alone, line_for

LINE = "national-bof-end-point"


def made(folder: Path, episodes: int) -> Path:
    site = generate("steel.bof_blow", folder, sites=1, masters=2, episodes=episodes, seed=3)[0]
    validate(site, random_bytes=np.random.default_rng(1).bytes).require(site)
    return site


def held(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Alone]:
    """A folder and its baseline, which wrote nothing."""
    folder = made(tmp_path_factory.mktemp("twelve"), 12)
    before, told = held(folder), list[tuple[str, int, int]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TURNS", 2)  # fewer fits
        baseline = alone(folder, LINE, lambda *step: told.append(step))
    assert held(folder.parent) == before
    assert told == [("baselines", done, 3) for done in range(1, 4)]
    return folder, baseline


def test_twelve_episodes_are_enough_to_run_and_too_few_to_say_much(twelve: tuple[Path, Alone]) -> None:
    _, baseline = twelve
    assert (baseline.line, baseline.task, baseline.split_by) == (LINE, "regression", "episode")
    assert baseline.train + baseline.holdout == 12
    assert [(row.target, row.unit, row.judged, row.units) for row in baseline.rows] == [
        (target, unit, judged, units)
        for judged, units in (("holdout", baseline.holdout), ("turns", baseline.train))
        for target, unit in (("outcome.end_carbon", "%"), ("outcome.end_temperature", "Cel"))
    ]
    for row in baseline.rows:
        assert list(row.scores) == ["constant", "linear", "trees"]
        for score in row.scores.values():
            assert score.figure > 0
            assert (score.low is None) == (score.high is None) == (row.units < 5)
            assert score.low is None or score.high is None or score.low <= score.figure <= score.high
            assert row.units >= 5 or score.verdict == "open"
        assert row.scores["constant"].verdict == "open"
        # Leaves of five episodes divide none of nine: the trees say the mean, and that is no better and no worse.
        assert row.scores["trees"].verdict == "open"
        assert row.scores["trees"].figure == pytest.approx(row.scores["constant"].figure, rel=1e-4)


@pytest.mark.soak
def test_a_baseline_is_the_same_again_and_asks_every_fifth(twelve: tuple[Path, Alone]) -> None:
    folder, _ = twelve
    told: list[int] = []
    baseline = alone(folder, LINE, lambda what, done, total: told.append(total))
    assert alone(folder, LINE) == baseline
    assert told == [6] * 6


def test_enough_episodes_need_no_turns_and_tell_a_model_from_the_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEW", 10)
    baseline = alone(made(tmp_path, 60), "national-bof-blow")
    assert [(row.target, row.judged) for row in baseline.rows] == [
        ("action.oxygen_volume", "holdout"), ("action.blow_duration", "holdout")
    ]  # fmt: skip
    assert baseline.rows[0].units == baseline.holdout >= 10
    oxygen = baseline.rows[0].scores
    assert oxygen["trees"].verdict == "better"
    assert oxygen["trees"].figure < oxygen["constant"].figure


def test_a_process_with_several_lines_is_asked_which(twelve: tuple[Path, Alone]) -> None:
    with pytest.raises(DataError) as error:
        alone(twelve[0])
    assert (error.value.code, LINE in str(error.value)) == ("JG-data-190", True)
    with pytest.raises(DataError) as error:
        line_for("pipe.tig_weld", LINE)
    assert error.value.code == "JG-data-071"


@pytest.mark.parametrize(
    ("model", "mean", "verdict"),
    [(0.5, 1.0, "better"), (1.0, 0.0, "worse"), (0.0, 0.0, "open"), (1.0, 1.0, "open"), (1.0 - 1e-6, 1.0, "open")],
)
def test_a_verdict_is_said_of_what_is_sure_alone(model: float, mean: float, verdict: str) -> None:
    ones, drawn = np.ones(10), np.random.default_rng(0).multinomial(10, np.full(10, 0.1), 100)
    score = module._score(model * ones, mean * ones, ones, drawn)
    assert score.verdict == verdict
    assert (score.figure, score.low, score.high) == pytest.approx((model, model, model))
    assert module._score(model * ones, mean * ones, ones, None).verdict == "open"
