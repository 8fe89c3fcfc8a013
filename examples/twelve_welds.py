"""From a folder of twelve welds to a validated set and a first local baseline, in five commands.

Run it (half a minute): .venv/bin/python examples/twelve_welds.py [--keep DIR] [--lang ko]

The folder is as a recorder and Excel on a Korean PC leave it: tables with Korean headers in code page 949, sound as
WAV, the pool's pictures as AVI, one line a weld with `오전`, `오후` and the welder's name. The welds are made by
`pipe.tig_weld`, so nobody was recorded, and the names are out of old novels. Each command is a process of its own and
is shown with all that it says.
"""

import argparse
import csv
import io
import os
import shlex
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import pyarrow.compute as pc
import soundfile
import yaml

from jangin.records.as_is import as_it_is
from jangin.records.card import Stream
from jangin.records.dataset import EpisodeView
from jangin.records.generate import generate

COMMANDS = (
    "jangin data init welds --process pipe.tig_weld --site kr-0421",
    "jangin data ingest welds records",
    "jangin data validate records",
    "jangin data preview records",
    "jangin data baseline records --line national-tig-filler",
)
"""What is typed, in this order; between the first and the second the welds are recorded."""

NOTES = {
    "sound": "The microphone is on the torch; nobody speaks while the arc burns, and the rest was cut off.",
    "pool": "24 x 24 px of the weld pool through the welding filter; nobody can be seen.",
}
"""What somebody writes into the drop folder's mapping.local.yaml: what was done so that nobody is heard or seen."""

WELDS, SEED = 12, 4
NAMES = ("홍길동", "성춘향", "이몽룡")
KOREA = timezone(timedelta(hours=9))
JANGIN = (sys.executable, "-m", "jangin")


def main() -> None:
    """Type the commands, and print what they say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="an empty folder that keeps everything")
    parser.add_argument("--lang", default="en", choices=("en", "ko"), help="of what the commands say")
    arguments = parser.parse_args()
    os.environ["JANGIN_LANG"] = arguments.lang
    with TemporaryDirectory() as made:
        folder = arguments.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        walk(folder.resolve())


def walk(folder: Path) -> None:
    """The five commands, and the twelve welds after the first."""
    init, *rest = COMMANDS
    typed(init, folder)
    record(folder / "welds")
    note(folder / "welds" / "mapping.local.yaml")
    aside(f"{WELDS} welds are recorded into welds/, and episodes.csv is filled in with Excel")
    aside("two notes are written into welds/mapping.local.yaml: why nobody is heard or seen")
    for command in rest:
        typed(command, folder)


def aside(text: str) -> None:
    """What people do meanwhile."""
    print(f"[{text}]", flush=True)


def note(mapping: Path) -> None:
    """Write what was done about voices and faces, for the card."""
    told = yaml.safe_load(mapping.read_text(encoding="utf-8")) | {"deidentified": NOTES}
    mapping.write_text(yaml.safe_dump(told, allow_unicode=True, sort_keys=False), encoding="utf-8")


def typed(command: str, folder: Path) -> None:
    """Run what is typed, and show both."""
    print(f"$ {command}", flush=True)
    done = subprocess.run([*JANGIN, *shlex.split(command)[1:]], cwd=folder, stderr=subprocess.STDOUT, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"{command}: status {done.returncode}")


def record(drop: Path) -> None:
    """Fill a drop folder: a folder a weld, and its line in episodes.csv."""
    with TemporaryDirectory() as made:
        site = generate("pipe.tig_weld", Path(made), sites=1, masters=len(NAMES), episodes=WELDS, seed=SEED)[0]
        view, _ = as_it_is(site)
        header = (drop / "episodes.csv").read_text(encoding="utf-8-sig").strip().split(",")
        rows = [header]
        for number, episode in enumerate(view.episodes.to_pylist(), 1):
            folder = drop / f"{episode['start_utc'].astimezone(KOREA):%Y-%m-%d}-{number:02d}"
            folder.mkdir()
            for stream in view.card.streams:
                match stream.media:
                    case "sound":
                        write_sound(folder / f"{stream.name}.wav", view, stream, episode["episode_id"])
                    case "pictures":
                        write_film(folder / f"{stream.name}.avi", view, stream, episode["episode_id"])
                    case _:
                        write_table(folder / f"{stream.name}.csv", view, stream, episode["episode_id"])
            rows.append([folder.name, *line(view, episode)])
    write_csv(drop / "episodes.csv", rows)


def line(view: EpisodeView, episode: dict[str, Any]) -> list[str]:
    """A weld's line after its folder's name, in the order of the template; a pseudonym becomes a name again here."""
    start: datetime = episode["start_utc"].astimezone(KOREA)
    half = "오전" if start.hour < 12 else "오후"
    masters = sorted(view.episodes["master"].unique().to_pylist())
    told = [episode[column] for column in view.card.columns()]
    values = ["" if one is None else f"{one:.4g}" if isinstance(one, float) else str(one) for one in told]
    moment = f"{start:%Y-%m-%d} {half} {start.hour % 12 or 12}:{start:%M}"
    return [NAMES[masters.index(episode["master"])], moment, *values]


def write_table(path: Path, view: EpisodeView, stream: Stream, episode: str) -> None:
    """Rows as a recorder exports them: the time, then each channel under its Korean name and unit."""
    rows = view.stream(stream.name)
    rows = rows.filter(pc.equal(rows["episode_id"], episode))
    names = [f"{channel.ko}({channel.unit})" for channel in stream.channels]
    columns = [rows[channel.name].to_pylist() for channel in stream.channels]
    times = rows["t"].to_pylist()
    shown = ([f"{t:g}", *(f"{one:.6g}" for one in values)] for t, *values in zip(times, *columns, strict=True))
    write_csv(path, [["시간(s)", *names], *shown])


def write_csv(path: Path, rows: list[list[str]]) -> None:
    """As Excel on a Korean PC saves it: code page 949, and lines that end with CR LF."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    path.write_bytes(text.getvalue().encode("cp949"))


def write_sound(path: Path, view: EpisodeView, stream: Stream, episode: str) -> None:
    """Sound of 16 bits."""
    high = stream.channels[0].range[1]
    counts = np.round(view.media(stream.name, episode).T / high * 2**15).clip(-(2**15), 2**15 - 1)
    soundfile.write(path, counts.astype(np.int16), round(stream.rate_hz))


def write_film(path: Path, view: EpisodeView, stream: Stream, episode: str) -> None:
    """A film as a small camera writes it: Motion JPEG."""
    frames = view.media(stream.name, episode)[0]
    with av.open(str(path), "w") as container:
        film = container.add_stream("mjpeg", rate=round(stream.rate_hz))
        film.height, film.width, film.pix_fmt = *frames.shape[1:], "yuvj420p"
        for frame in (frames * 255).round().astype(np.uint8):
            container.mux(film.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(film.encode())


if __name__ == "__main__":
    main()
