"""Laws of the model lines: names and ranges without records, and the cut into examples."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.errors import DataError, PlanError
from jangin.models.cut import cut
from jangin.models.lines import ModelLine, input_names, input_range, read_line, target_range
from jangin.records.card import Channel, Field, Stream
from jangin.records.process import Process, Title, read_process

PROCESS = Process(
    process="test.turn",
    industry="machinery",
    title=Title(en="Turning", ko="선삭"),
    streams=(
        Stream(
            name="drive",
            kind="telemetry",
            rate_hz=2,
            channels=(
                Channel(name="force", unit="N", range=(0, 100)),
                Channel(name="speed", unit="m/s", range=(-1, 3), optional=True),
            ),
        ),
        Stream(
            name="chip",
            kind="telemetry",
            rate_hz=1,
            channels=(Channel(name="heat", unit="Cel", range=(0, 800), optional=True),),
        ),
    ),
    context=(
        Field(name="humidity", unit="%", range=(0, 100)),
        Field(name="lot", values=("A", "B")),
        Field(name="age", range=(0, 10), optional=True),
    ),
    actions=(Field(name="feed", unit="mm", range=(0, 5)), Field(name="tool", values=("round", "flat"))),
    judgements=(Field(name="finish", range=(1, 5), optional=True),),
)


@dataclass
class View:
    """What `cut` needs of a view: two episodes of 4 s unless told otherwise."""

    columns: Mapping[str, Any] = field(default_factory=dict)
    force: Any = (0, 1, 2, 3, 4, 5, 6, 7, 10, 10, 10, 10, 10, 10, 10, 10)
    speed: Any = (1,) * 16

    @property
    def episodes(self) -> pa.Table:
        columns = {
            "episode_id": ["e2", "e1"],
            "master": ["m", "m"],
            "duration_s": [4.0, 4.0],
            "context.humidity": [30.0, 60.0],
            "context.lot": ["B", "A"],
            "context.age": [1.0, 2.0],
            "action.feed": [1.5, 2.5],
            "action.tool": ["flat", "round"],
            "judgement.finish": [1.0, 5.0],
        }
        return pa.table(columns | self.columns)

    def stream(self, name: str) -> pa.Table:
        if name == "chip":
            raise DataError("JG-data-016", where="site-0", stream=name)
        rows = {"episode_id": ["e2"] * 8 + ["e1"] * 8, "t": np.tile(np.arange(8) / 2, 2)}
        channels = {"force": pa.array(self.force, pa.float32()), "speed": pa.array(self.speed, pa.float32())}
        return pa.table(rows | channels)


def line(**changes: Any) -> ModelLine:
    document = {
        "line": "test-feed",
        "process": "test.turn",
        "model": {"name": "linear"},
        "task": "regression",
        "inputs": [{"channel": "drive.force", "reduce": ["mean"]}],
        "targets": [{"action": "feed", "range": [0, 5]}],
    }
    return ModelLine.model_validate(document | changes)


def reduced(*reductions: str, channel: str = "drive.force", window_s: float = 4) -> ModelLine:
    return line(inputs=[{"channel": channel, "reduce": list(reductions), "window_s": window_s}])


def examples(model_line: ModelLine, view: View | None = None, unit: str = "episode") -> Any:
    return cut(model_line, view or View(), PROCESS, unit)  # type: ignore[arg-type]


WINDOWS = {"stream": "drive", "rate_hz": 4, "window_s": 2, "hop_s": 1}


def test_reductions_are_what_they_are_called() -> None:
    found = examples(reduced("mean", "std", "last", "slope", "max"))
    assert found.inputs == pytest.approx(np.array([[3.5, np.arange(8).std(), 7, 2, 7], [10, 0, 10, 0, 10]]), abs=1e-6)
    assert found.inputs.dtype == np.float32
    assert found.targets.tolist() == [[1.5], [2.5]]


@given(st.lists(st.floats(0, 100, width=32), min_size=16, max_size=16))
def test_every_reduction_agrees_with_numpy_and_stays_in_its_public_range(force: list[float]) -> None:
    wanted = reduced("mean", "std", "last", "slope", "max")
    found = examples(wanted, View(force=force)).inputs
    t = np.arange(8) / 2
    for row, x in zip(found, np.array(force).reshape(2, 8), strict=True):
        expected = [x.mean(), x.std(), x[-1], np.polyfit(t, x, 1)[0], x.max()]
        assert row == pytest.approx(expected, rel=1e-5, abs=1e-4)
    limits, steady = input_range(wanted, PROCESS), [0, 1, 2, 4]
    assert (found[:, steady] >= limits.low[steady] - 1e-4).all()
    assert (found[:, steady] <= limits.high[steady] + 1e-4).all()


def test_a_window_keeps_only_the_last_seconds() -> None:
    wanted = reduced("mean", window_s=1)
    assert input_names(wanted, PROCESS) == ("drive.force.mean_1s",)
    assert examples(wanted).inputs.tolist() == [[6.5], [10]]


def test_samples_that_are_missing_are_left_out() -> None:
    force = [None, 1, 2, 3, 4, 5, 6, None] + [10] * 8
    assert examples(reduced("mean", "last"), View(force=force)).inputs[0].tolist() == [3.5, 6]


def test_names_and_ranges_need_no_records() -> None:
    wanted = line(
        inputs=[
            {"channel": "drive.*", "reduce": ["mean", "std"]},
            {"channel": "drive.speed", "reduce": ["slope"], "window_s": 2},
        ],
        context=["humidity", "lot", "age"],
    )
    limits = input_range(wanted, PROCESS)
    assert dict(zip(input_names(wanted, PROCESS), zip(limits.low, limits.high, strict=True), strict=True)) == {
        "drive.force.mean": (0, 100),
        "drive.force.std": (0, 50),
        "drive.speed.mean": (-1, 3),
        "drive.speed.std": (0, 2),
        "drive.speed.slope_2s": (-2, 2),
        "drive.speed.missing": (0, 1),
        "context.humidity": (0, 100),
        "context.lot=A": (0, 1),
        "context.lot=B": (0, 1),
        "context.age": (0, 10),
        "context.age.missing": (0, 1),
    }
    assert examples(wanted).inputs.shape == (2, 11)
    assert (target_range(wanted).low.tolist(), target_range(wanted).high.tolist()) == ([0], [5])


def test_context_is_given_and_a_choice_is_one_of_its_values() -> None:
    found = examples(line(context=["humidity", "lot"])).inputs
    assert found[:, 1:].tolist() == [[30, 0, 1], [60, 1, 0]]


def test_a_missing_optional_value_is_the_middle_of_its_range_and_says_so() -> None:
    wanted = line(inputs=[{"channel": "drive.speed", "reduce": ["mean"]}], context=["age"])
    found = examples(wanted, View({"context.age": [None, 2.0]}, speed=[1] * 8 + [None] * 8))
    assert input_names(wanted, PROCESS)[1::2] == ("drive.speed.missing", "context.age.missing")
    assert found.inputs.tolist() == [[1, 0, 5, 1], [1, 1, 2, 0]]


def test_a_stream_that_a_site_may_lack_is_missing_everywhere() -> None:
    found = examples(line(inputs=[{"channel": "chip.heat", "reduce": ["max"]}]))
    assert found.inputs.tolist() == [[400, 1], [400, 1]]


def test_units_are_numbered_by_their_ids() -> None:
    assert examples(line()).units.tolist() == [1, 0]
    assert examples(line(), unit="master").units.tolist() == [0, 0]


def test_windows_share_their_episode_s_unit_target_and_context() -> None:
    wanted = line(inputs=[WINDOWS], context=["humidity"])
    found = examples(wanted)
    assert input_names(wanted, PROCESS) == (
        "drive.force",
        "drive.speed",
        "drive.speed.missing",
        "context.humidity",
    )
    assert found.inputs.shape == (6, 4, 8)
    assert found.units.tolist() == [1, 1, 1, 0, 0, 0]
    assert found.targets[:, 0].tolist() == [1.5] * 3 + [2.5] * 3
    assert found.inputs[1, 0].tolist() == [2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5]
    assert (found.inputs[:3, 3] == 30).all()


def test_windows_of_a_missing_optional_channel_carry_the_indicator() -> None:
    found = examples(line(inputs=[WINDOWS]), View(speed=[None] * 8 + [2] * 8)).inputs
    assert (found[:3, 1] == 1).all()
    assert (found[:3, 2] == 1).all()
    assert (found[3:, 2] == 0).all()


@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 4))
def test_every_window_lies_within_its_episode(rate: int, window: int, hop: int) -> None:
    found = examples(line(inputs=[{"stream": "drive", "rate_hz": rate, "window_s": window, "hop_s": hop}]))
    assert len(found) == 2 * ((4 - window) // hop + 1)
    assert found.inputs.shape[2] == rate * window
    starts = np.arange(len(found) // 2) * hop
    assert found.inputs[: len(starts), 0, 0] == pytest.approx(2 * starts)


def test_classes_are_counted_from_the_low_end_and_choices_in_the_process_order() -> None:
    finish = {"task": "multiclass", "targets": [{"judgement": "finish", "range": [1, 5]}]}
    tool = {"task": "binary", "targets": [{"action": "tool", "range": [0, 1]}]}
    assert examples(line(**finish)).targets.tolist() == [0, 4]
    assert examples(line(**tool)).targets.tolist() == [1, 0]
    assert examples(line(**tool)).targets.dtype == np.int64


def test_an_empty_side_gives_no_examples_of_the_right_shape() -> None:
    view = View()
    none = View({name: view.episodes[name].slice(0, 0) for name in view.episodes.column_names})
    none.stream = lambda name: view.stream(name).slice(0, 0)  # type: ignore[method-assign]
    assert examples(line(), none).inputs.shape == (0, 1)
    assert examples(line(inputs=[WINDOWS]), none).inputs.shape == (0, 3, 8)


@pytest.mark.parametrize(
    ("code", "named", "changes", "view"),
    [
        ("JG-data-064", "drive.force", {"inputs": [{"channel": "drive.forse", "reduce": ["max"]}]}, {}),
        ("JG-data-065", "context.humidity", {"context": ["humidty"]}, {}),
        ("JG-data-065", "action.feed", {"targets": [{"action": "feet", "range": [0, 1]}]}, {}),
        ("JG-data-066", "drive.force", {}, {"force": [1] * 8 + [None] * 8}),
        (
            "JG-data-066",
            "context.humidity",
            {"context": ["humidity"]},
            {"columns": {"context.humidity": [1.0, None]}},
        ),
        ("JG-data-067", "action.feed", {}, {"columns": {"action.feed": [1.0, None]}}),
        ("JG-data-068", "action.tool", {"targets": [{"action": "tool", "range": [0, 1]}]}, {}),
        ("JG-data-069", "e1", {"inputs": [WINDOWS]}, {"columns": {"duration_s": [4.0, 1.0]}}),
        (
            "JG-data-070",
            "judgement.finish",
            {"task": "multiclass", "targets": [{"judgement": "finish", "range": [1, 3]}]},
            {},
        ),
        ("JG-data-071", "test.turn", {"process": "steel.bof_blow"}, {}),
    ],
)
def test_what_cannot_be_cut_is_refused_by_name(
    code: str, named: str, changes: dict[str, Any], view: dict[str, Any]
) -> None:
    with pytest.raises(DataError) as refused:
        examples(line(**changes), View(**view))
    assert refused.value.code == code
    assert named in str(refused.value)


def test_an_unknown_line_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"JG-data-062.*: national-bof-blow\."):
        read_line("national-bof-blo")


@pytest.mark.parametrize(
    ("code", "named", "entry"),
    [
        ("JG-plan-001", "inputs.0.windows", "{channel: drive.force, reduce: [mean], windows: 2}"),
        ("JG-plan-002", "inputs.0.hop_s", "{stream: drive, rate_hz: 4, window_s: 2}"),
        ("JG-plan-002", "inputs.0.frames", "{stream: drive, bands: 4, low_hz: 1, high_hz: 2, window_s: 2, hop_s: 1}"),
        ("JG-plan-002", "inputs.0.width", "{stream: drive, frames: 4, height: 3, window_s: 2, hop_s: 1}"),
        (
            "JG-plan-003",
            "floor_db",
            "{stream: drive, bands: 4, frames: 2, low_hz: 1, high_hz: 2, window_s: 2, hop_s: 1, floor_db: 1}",
        ),
        ("JG-plan-003", "window_s", "{channel: drive.force, reduce: [slope]}"),
        ("JG-plan-003", "median", "{channel: drive.force, reduce: [median]}"),
    ],
)
def test_a_bad_line_names_file_and_key(tmp_path: Path, code: str, named: str, entry: str) -> None:
    path = tmp_path / "line.yaml"
    path.write_text(
        f"line: x\nprocess: test.turn\nmodel: {{name: linear}}\ntask: regression\ninputs: [{entry}]\n"
        "targets: [{action: feed, range: [0, 5]}]\n"
    )
    with pytest.raises(PlanError) as refused:
        read_line(str(path))
    assert refused.value.code == code
    assert str(path) in str(refused.value)
    assert named in str(refused.value)


def test_the_installed_line_fits_its_process() -> None:
    installed = read_line("national-bof-blow")
    process = read_process(installed.process)
    names = input_names(installed, process)
    assert len(names) == len(set(names)) < 120
    assert {f"{s.name}.{c.name}" for s in process.streams for c in s.channels} <= {n.rpartition(".")[0] for n in names}
    assert {name.split("=")[0] for name in names} >= {f"context.{f.name}" for f in process.context}
    assert (input_range(installed, process).low < input_range(installed, process).high).all()
    assert [target.column for target in installed.targets] == [f"action.{f.name}" for f in process.actions]


LINES = sorted(file.name.removesuffix(".yaml") for file in files("jangin.configs").joinpath("lines").iterdir())


@pytest.mark.parametrize("name", LINES)
def test_every_installed_line_is_named_by_its_file_and_fits_its_process(name: str) -> None:
    installed = read_line(name)
    process = read_process(installed.process)
    assert installed.line == name
    assert (input_range(installed, process).low < input_range(installed, process).high).all()
    for target in installed.targets:
        field = process.columns()[target.column]
        low, high = field.range or (0, len(field.values or ()) - 1)
        assert low <= target.range[0] < target.range[1] <= high


def test_reading_lines_loads_neither_torch_nor_pyarrow() -> None:
    code = (
        "import sys; from jangin.models.lines import read_line; read_line('national-bof-blow'); "
        "sys.exit(bool({'torch', 'pyarrow'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
