"""Laws of lines that read streams in windows beside each other: rows, sound and pictures of one stretch of time."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jangin.errors import DataError
from jangin.models.cut import cut
from jangin.models.lines import (
    ModelLine,
    columns_read,
    input_names,
    input_parts,
    input_range,
    input_shape,
)
from jangin.models.spectra import band_levels
from jangin.records.card import Channel, Field, Frame, Stream
from jangin.records.process import Process, Title

RATE, SECONDS = 400, 4.0
PROCESS = Process(
    process="test.weld",
    industry="machinery",
    title=Title(en="Welding", ko="용접"),
    streams=(
        Stream(
            name="arc",
            kind="telemetry",
            rate_hz=10,
            channels=(
                Channel(name="current", unit="A", range=(0, 200)),
                Channel(name="voltage", unit="V", range=(0, 40), optional=True),
            ),
        ),
        Stream(
            name="sound",
            kind="audio",
            rate_hz=RATE,
            media="sound",
            channels=(Channel(name="near", unit="Pa", range=(-2, 2)), Channel(name="far", unit="Pa", range=(-1, 1))),
        ),
        Stream(
            name="pool",
            kind="thermal",
            rate_hz=5,
            media="pictures",
            frame=Frame(width=6, height=4),
            channels=(Channel(name="heat", unit="Cel", range=(0, 1600), optional=True),),
        ),
        Stream(
            name="shake",
            kind="vibration",
            rate_hz=RATE,
            channels=(Channel(name="z", unit="m/s2", range=(-4, 4)),),
        ),
    ),
    context=(Field(name="humidity", unit="%", range=(0, 100)),),
    actions=(Field(name="feed", unit="mm", range=(0, 5)),),
)
SPAN = {"window_s": 2, "hop_s": 1}
ARC = {"stream": "arc", "rate_hz": 5, **SPAN}
SOUND = {"stream": "sound", "bands": 3, "frames": 4, "low_hz": 20, "high_hz": 200, **SPAN}
POOL = {"stream": "pool", "frames": 2, "height": 2, "width": 3, **SPAN}
SHAKE = SOUND | {"stream": "shake"}
CURRENT = {"channel": "arc.current", "reduce": ["mean", "slope"], "window_s": 1}
TIMES = np.arange(round(SECONDS * RATE)) / RATE
HEARD = np.stack([2 * np.sin(2 * np.pi * 60 * TIMES) * (TIMES >= 2), 0.5 * np.sin(2 * np.pi * 150 * TIMES)])
SEEN = np.arange(20, dtype=np.float32)[:, None, None] + np.zeros((4, 6), np.float32)


@dataclass
class View:
    """Two episodes of 4 s; the second has no pictures."""

    card: Process = field(default_factory=lambda: PROCESS)
    without: tuple[str, ...] = ("pool",)

    def __post_init__(self) -> None:
        self.card = Card(self.card.streams)  # type: ignore[assignment]

    episodes = pa.table(
        {
            "episode_id": ["e2", "e1"],
            "master": ["m", "m"],
            "duration_s": [SECONDS, SECONDS],
            "context.humidity": [30.0, 60.0],
            "action.feed": [1.5, 2.5],
        }
    )

    def stream(self, name: str) -> pa.Table:
        t = np.arange(40) / 10 if name == "arc" else TIMES
        ids = pa.array(["e2"] * len(t) + ["e1"] * len(t))
        values = {
            "arc": {"current": np.concatenate([t, 100 - t]), "voltage": np.full(2 * len(t), 20.0)},
            "shake": {"z": np.tile(HEARD[1], 2)},
        }[name]
        rows = {channel: pa.array(column, pa.float32()) for channel, column in values.items()}
        return pa.table({"episode_id": ids, "t": np.tile(t, 2)} | rows)

    def media(self, name: str, episode: str) -> np.ndarray:
        if name in self.without and episode == "e1":
            raise DataError("JG-data-016", where="site-0", stream=name)
        shown = HEARD if name == "sound" else SEEN[None]
        return shown.astype(np.float32)


@dataclass
class Card:
    """What `cut` needs of one."""

    streams: tuple[Stream, ...]

    def stream(self, name: str) -> Stream | None:
        return next((stream for stream in self.streams if stream.name == name), None)


def line(*inputs: dict[str, Any], **changes: Any) -> ModelLine:
    document = {
        "line": "test-weld",
        "process": "test.weld",
        "model": {"name": "linear"},
        "task": "regression",
        "inputs": list(inputs),
        "targets": [{"action": "feed", "range": [0, 5]}],
    }
    return ModelLine.model_validate(document | changes)


def examples(model_line: ModelLine, view: View | None = None) -> Any:
    return cut(model_line, view or View(), PROCESS, "episode")  # type: ignore[arg-type]


WHOLE = line(CURRENT, ARC, SOUND, POOL, context=["humidity"])


def test_names_ranges_places_and_parts_need_no_records() -> None:
    limits = input_range(WHOLE, PROCESS)
    assert limits.places is not None
    assert list(zip(input_names(WHOLE, PROCESS), limits.low, limits.high, limits.places, strict=True)) == [
        ("arc.current", 0, 200, 10),
        ("arc.voltage", 0, 40, 10),
        ("sound.near", -100, 0, 12),
        ("sound.far", -100, 0, 12),
        ("pool.heat", 0, 1600, 12),
        ("arc.current.mean_1s", 0, 200, 1),
        ("arc.current.slope_1s", -200, 200, 1),
        ("arc.voltage.missing", 0, 1, 1),
        ("pool.heat.missing", 0, 1, 1),
        ("context.humidity", 0, 100, 1),
    ]
    assert input_parts(WHOLE, PROCESS) == {"arc": (2, 10), "sound": (2, 3, 4), "pool": (2, 2, 3)}
    assert input_shape(WHOLE, PROCESS) == (61,)
    assert columns_read(WHOLE, PROCESS) == (
        *("arc.current", "arc.voltage", "sound.near", "sound.far", "pool.heat"),
        *("context.humidity", "action.feed"),
    )


def test_a_mixed_example_is_its_parts_one_after_another() -> None:
    found = examples(WHOLE)
    assert (found.inputs.shape, found.inputs.dtype) == ((6, 61), np.float32)
    first = 0
    for window, (stream, shape) in zip((ARC, SOUND, POOL), input_parts(WHOLE, PROCESS).items(), strict=True):
        alone = examples(line(window)).inputs[:, : shape[0]]
        size = int(np.prod(shape))
        indicators = 1 if stream == "arc" else 0  # behind `voltage`, the last of them
        assert alone.shape[1] == shape[0] - indicators or alone.shape[1:] == shape
        np.testing.assert_array_equal(found.inputs[:, first : first + size].reshape(6, *shape), alone)
        first += size
    assert found.inputs[:, -1].tolist() == [30] * 3 + [60] * 3


def test_what_is_reduced_beside_windows_is_reduced_over_them() -> None:
    found = examples(line(CURRENT, ARC)).inputs[:, 20:]
    ends = np.array([2, 3, 4])
    middle = ends - 0.55  # of the ten samples of the last second
    assert found[:, 0] == pytest.approx(np.concatenate([middle, 100 - middle]), rel=1e-6)
    assert found[:, 1] == pytest.approx([1] * 3 + [-1] * 3, rel=1e-4)
    whole = examples(line(ARC, {"channel": "arc.current", "reduce": ["max"]})).inputs[:3, 20]
    assert whole == pytest.approx([1.9, 2.9, 3.9])


def test_sound_alone_is_levels_by_its_public_full_scale() -> None:
    found = examples(line(SOUND)).inputs
    assert found.shape == (6, 2, 3, 4)
    assert input_range(line(SOUND), PROCESS).places is None
    for window in range(3):
        own = slice(window * RATE, (window + 2) * RATE)
        for channel, full in enumerate((2, 1)):
            expected = band_levels(HEARD[channel, own] / full, RATE, 3, 4, 20, 200, -100)
            assert found[window, channel] == pytest.approx(expected, abs=1e-3)
    assert found[0, 0].max() == -100
    assert found[2, 0].max() == pytest.approx(0, abs=0.1)


def test_a_vibration_of_rows_has_bands_as_a_sound_has() -> None:
    rows = examples(line(SHAKE)).inputs
    media = examples(line(SOUND)).inputs[:, 1:] + 20 * np.log10(1 / 4)
    assert rows == pytest.approx(media.clip(min=-100), abs=0.01)


def test_pictures_alone_are_frames_in_the_middle_of_their_steps() -> None:
    wanted = line(POOL, context=["humidity"])
    found = examples(wanted).inputs
    assert found.shape == (6, 4, 2, 3)
    assert found[:3, :2, 0, 0].tolist() == [[2, 7], [7, 12], [12, 17]]  # at 0.5 s and 1.5 s of each window, 5 a second
    assert (found[3:, :2] == 800).all()
    assert (found[:, 2, 0, 0] == [0, 0, 0, 1, 1, 1]).all()
    assert (found[:, 3] == np.repeat([30, 60], 3)[:, None, None]).all()
    places = input_range(wanted, PROCESS).places
    assert places is not None
    assert places.tolist() == [2, 1, 1]


def test_media_that_a_process_demands_must_be_there() -> None:
    with pytest.raises(DataError, match="JG-data-016"):
        examples(line(SOUND), View(without=("sound",)))


def test_a_sound_that_ends_early_is_silent_then() -> None:
    view = View()
    whole = view.media
    view.media = lambda name, episode: whole(name, episode)[:, : 3 * RATE]  # type: ignore[method-assign]
    found = examples(line(SOUND), view).inputs
    assert found[2, 1, :, -1].tolist() == [-100] * 3
    assert found[1].tolist() == examples(line(SOUND)).inputs[1].tolist()


def test_no_episodes_give_no_examples_of_the_right_shape() -> None:
    view = View()
    none = View()
    none.episodes = view.episodes.slice(0, 0)
    none.stream = lambda name: view.stream(name).slice(0, 0)  # type: ignore[method-assign]
    assert examples(WHOLE, none).inputs.shape == (0, 61)


@pytest.mark.parametrize(
    ("code", "named", "inputs"),
    [
        ("JG-data-063", "arc 2/1 s, pool 1/1 s", [ARC, POOL | {"window_s": 1}]),
        ("JG-data-210", "arc", [ARC, ARC | {"rate_hz": 2}]),
        ("JG-data-211", "arc.current", [ARC, CURRENT | {"window_s": 3}]),
        ("JG-data-212", "sound", [ARC | {"stream": "sound"}]),
        ("JG-data-212", "pool", [{"channel": "pool.*", "reduce": ["mean"]}]),
        ("JG-data-212", "arc", [SOUND | {"stream": "arc"}]),
        ("JG-data-212", "pool", [SOUND | {"stream": "pool"}]),
        ("JG-data-212", "sound", [POOL | {"stream": "sound"}]),
        ("JG-data-213", "201", [SOUND | {"high_hz": 201}]),
        ("JG-data-213", "20", [SOUND | {"high_hz": 20}]),
        ("JG-data-213", "7 samples", [SOUND | {"frames": 210}]),
        ("JG-data-214", "6 x 4", [POOL | {"height": 5}]),
        ("JG-data-064", "arc", [ARC | {"stream": "ark"}]),
    ],
)
def test_inputs_that_do_not_fit_the_process_or_each_other_are_refused(
    code: str, named: str, inputs: list[dict[str, Any]]
) -> None:
    with pytest.raises(DataError) as refused:
        input_range(line(*inputs), PROCESS)
    assert refused.value.code == code
    assert named in str(refused.value)
