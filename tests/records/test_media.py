"""Laws of an episode's media: what is written is read again to the last count; another form has a code."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jangin.codec.document import parse
from jangin.errors import DataError
from jangin.records import checks
from jangin.records.card import Card, Stream
from jangin.records.checks import validate
from jangin.records.dataset import Records, write_records
from jangin.records.media import Counts, read_media, write_media
from jangin.records.process import Process

SOUND: dict[str, Any] = {
    "name": "sound",
    "kind": "audio",
    "media": "sound",
    "rate_hz": 8000,
    "channels": [{"name": "left", "unit": "Pa", "range": [-2, 2]}, {"name": "right", "unit": "Pa", "range": [-4, 4]}],
}
GREY: dict[str, Any] = {
    "name": "pool",
    "kind": "image_sequence",
    "media": "pictures",
    "rate_hz": 4,
    "frame": {"width": 7, "height": 5},
    "channels": [{"name": "grey", "unit": "1", "range": [0, 1]}],
}
COLOURED = GREY | {"channels": [{"name": name, "unit": "1", "range": [0, 1]} for name in ("red", "green", "blue")]}
THERMAL = GREY | {"kind": "thermal", "channels": [{"name": "surface", "unit": "Cel", "range": [20, 1620]}]}


def stream(form: dict[str, Any]) -> Stream:
    return parse(form, Stream, "stream")


def drawn(dtype: type, *shape: int) -> Counts:
    limits = np.iinfo(np.int32) if dtype is np.int32 else np.iinfo(dtype)
    low, high = (-(2**23), 2**23 - 1) if dtype is np.int32 else (limits.min, limits.max)
    counts = np.random.default_rng(7).integers(low, high, shape, dtype=dtype, endpoint=True)
    counts.flat[0], counts.flat[-1] = low, high
    return counts


@pytest.mark.parametrize(
    ("form", "name", "counts", "full"),
    [
        (SOUND, "a.flac", drawn(np.int16, 2, 8001), 2**15),
        (SOUND, "a.flac", drawn(np.int32, 2, 8001), 2**23),
        (SOUND, "a.wav", drawn(np.int16, 2, 1), 2**15),
        (GREY, "a.png", drawn(np.uint8, 1, 6, 5, 7), 255),
        (COLOURED, "a.png", drawn(np.uint8, 3, 6, 5, 7), 255),
        (THERMAL, "a.png", drawn(np.uint16, 1, 6, 5, 7), 65535),
    ],
)
def test_what_is_written_is_read_again_to_the_last_count(
    form: dict[str, Any], name: str, counts: Counts, full: int, tmp_path: Path
) -> None:
    one, path = stream(form), tmp_path / "media" / name
    write_media(path, one, counts)
    values = read_media(path.read_bytes(), one, path)
    ends = zip(*(channel.range for channel in one.channels), strict=True)
    low, high = (np.reshape(end, (-1,) + (1,) * (counts.ndim - 1)) for end in ends)
    back = values / high if one.media == "sound" else (values - low) / (high - low)
    assert values.dtype == np.float32
    assert np.array_equal(np.round(back * float(full)), counts)


@pytest.mark.parametrize(
    "form",
    [
        SOUND | {"kind": "telemetry"},
        GREY | {"frame": None},
        SOUND | {"frame": {"width": 1, "height": 1}},
        GREY | {"channels": SOUND["channels"]},
        SOUND | {"channels": [{"name": "left", "unit": "Pa", "range": [0, 2]}]},
    ],
)
def test_a_card_says_nothing_of_media_that_no_file_can_hold(form: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"JG-plan-00"):
        stream(form)


def test_media_of_another_form_and_media_that_nobody_can_read_have_codes(tmp_path: Path) -> None:
    sound, grey, path = stream(SOUND), stream(GREY), tmp_path / "a.flac"
    write_media(path, sound, drawn(np.int16, 2, 10))
    content = path.read_bytes()
    for broken, form, code in (
        (b"RIFF", sound, "032"),
        (content, stream(SOUND | {"rate_hz": 16000}), "033 .*rate_hz is 8000"),
        (content, stream(SOUND | {"channels": SOUND["channels"][:1]}), "033 .*channels is 2"),
        (b"\x89PNG", grey, "032"),
    ):
        with pytest.raises(DataError, match=f"JG-data-{code}"):
            read_media(broken, form, path)
    write_media(tmp_path / "b.png", grey, drawn(np.uint8, 1, 2, 5, 7))
    with pytest.raises(DataError, match="JG-data-033"):
        read_media((tmp_path / "b.png").read_bytes(), stream(GREY | {"frame": {"width": 7, "height": 4}}), path)
    for wrong in (drawn(np.uint8, 1, 2, 5, 6), drawn(np.int16, 2, 5)):
        with pytest.raises(DataError, match="JG-data-033"):
            write_media(tmp_path / "c.png", grey, wrong)


def test_a_video_is_shown_frame_by_frame(tmp_path: Path) -> None:
    import av

    path, levels = tmp_path / "a.avi", (40, 200, 90)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mjpeg", rate=4, width=32, height=16, pix_fmt="yuvj420p")
        for level in levels:
            picture = av.VideoFrame.from_ndarray(np.full((16, 32), level, np.uint8), format="gray")
            container.mux(video.encode(picture.reformat(format="yuvj420p")))
        container.mux(video.encode())
    one = stream(GREY | {"frame": {"width": 32, "height": 16}})
    values = read_media(path.read_bytes(), one, path)
    assert values.shape == (1, 3, 16, 32)
    assert np.allclose(values.mean(axis=(0, 2, 3)) * 255, levels, atol=4)


@pytest.fixture
def sounding(tmp_path: Path, card: Card, episodes: pa.Table, torch_rows: pa.Table) -> Path:
    folder, with_sound = tmp_path / "sounding", card.model_copy(update={"streams": (*card.streams, stream(SOUND))})
    counts = {name: drawn(np.int16, 2, 50 + i) for i, name in enumerate(episodes["episode_id"].to_pylist())}
    write_records(folder, with_sound, episodes, {"torch": torch_rows}, {"sound": counts})
    return folder


@pytest.mark.usefixtures("known_process")
def test_a_view_gives_the_media_of_its_own_episodes_alone_and_only_as_validated(sounding: Path) -> None:
    validate(sounding).require(sounding)
    records = Records.open(sounding)
    train, held = records.train(), records.holdout()
    own, other = (view.episodes["episode_id"][0].as_py() for view in (train, held))
    assert train.media("sound", own).shape == (2, 50 + int(own[1:]))
    with pytest.raises(DataError, match="JG-data-016"):
        train.media("sound", other)
    with pytest.raises(DataError, match=r"JG-data-016.*'sound'"):
        train.stream("sound")
    path = sounding / "media" / "sound" / f"{own}.flac"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match="JG-data-005"):
        train.media("sound", own)


@pytest.mark.parametrize("demanded", [True, False])
def test_an_episode_is_known_by_the_sound_that_its_process_demands(
    demanded: bool, sounding: Path, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = (*process.streams, *([stream(SOUND)] if demanded else []))
    monkeypatch.setattr(checks, "read_process", lambda name: process.model_copy(update={"streams": streams}))

    def known() -> dict[str, str]:
        validate(sounding).require(sounding)
        held = Records.open(sounding).manifest.contents
        return {episode: digest for of_unit in held.values() for episode, digest in of_unit.items()}

    before, path = known(), sounding / "media" / "sound" / "e003.flac"
    write_media(path, stream(SOUND), drawn(np.int16, 2, 777))
    after = known()
    assert {name for name in after if after[name] != before[name]} == ({"e003"} if demanded else set())
