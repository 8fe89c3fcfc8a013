"""A records folder as one page to look at, in Korean or English: no script, no network, no font of its own.

The law: the page shows records, so it stays at the site, and says so; it asks nobody for anything; whatever stands in
the records is escaped; making it changes nothing in the folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import yaml
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from jangin.errors import DataError, JanginError, Language, one_line
from jangin.records.as_is import as_it_is
from jangin.records.card import Field, Stream
from jangin.records.checks import Finding
from jangin.records.dataset import EpisodeView
from jangin.records.drawing import COLOURS, bars, contact_sheet, curves, spectrogram
from jangin.records.manifest import Manifest, read_manifest

__all__ = ["page", "words"]

Array = NDArray[np.float64]

_SHOWN: Final = 3
_BINS: Final = 20


@dataclass(frozen=True)
class _Plot:
    """Pictures with what stands under them: curves, a spectrogram, frames of films, or nothing."""

    name: str
    says: str
    svg: str = ""
    heat: str = ""
    films: Sequence[tuple[str, str]] = ()


def page(
    folder: Path,
    findings: Sequence[Finding],
    lang: Language,
    now: datetime,
    consents: Mapping[str, str] | None = None,
) -> str:
    """The page, complete in itself.

    Args:
        folder: the records, validated or not.
        findings: what the checks say of them.
        lang: its language.
        now: when it is made.
        consents: of each master by pseudonym how the site's grants stand, in words; None where nobody looked.

    Raises:
        DataError: as `as_it_is`, where there is nothing to look at.
        PlanError: JG-plan-001..006, the card has another form.
    """
    everything, shown = as_it_is(folder, _some)
    episodes, said = everything.episodes, words()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_template())
    started = [moment for moment in episodes["start_utc"].to_pylist() if moment is not None]
    return template.render(
        lang=lang,
        say=lambda key: said[key][lang],
        card=everything.card,
        made=now.isoformat(timespec="seconds"),
        episodes=len(episodes),
        hours=float(np.nansum(_numbers(episodes["duration_s"].to_pylist()))) / 3600,
        since=min(started).isoformat(timespec="minutes") if started else "-",
        until=max(started).isoformat(timespec="minutes") if started else "-",
        manifest=_current(folder, everything),
        masters=_masters(episodes.to_pylist(), consents),
        asked=consents is not None,
        findings=[
            (one.severity, one.code, *(one.text(key, lang) for key in ("what", "why", "hint"))) for one in findings
        ],
        shown=list(zip(shown.episodes["episode_id"].to_pylist(), COLOURS, strict=False)),
        streams=[(stream, list(_stream(shown, stream, lang))) for stream in everything.card.streams],
        fields=[
            _field(name, field, episodes[name].to_pylist(), lang) for name, field in everything.card.columns().items()
        ],
    )


@cache
def words() -> Mapping[str, Any]:
    """The page's words: `{key: {"en", "ko"}}`."""
    text = files("jangin.configs").joinpath("preview", "words.yaml").read_text(encoding="utf-8")
    known: Mapping[str, Any] = yaml.safe_load(text)
    return known


def _template() -> str:
    return files("jangin.configs").joinpath("preview", "page.html").read_text(encoding="utf-8")


def _some(ids: list[str]) -> list[str]:
    """The first, the middle and the last episode of the file."""
    places = {round(place) for place in np.linspace(0, len(ids) - 1, _SHOWN)} if ids else set()
    return [ids[place] for place in sorted(places)]


def _current(folder: Path, view: EpisodeView) -> Manifest | None:
    """What was validated, where that is still what lies there."""
    try:
        manifest = read_manifest(folder)
    except JanginError:
        return None
    return manifest if manifest is not None and manifest.files.keys() == set(view.files) else None


def _masters(rows: Sequence[Mapping[str, Any]], consents: Mapping[str, str] | None) -> list[tuple[str, int, int, str]]:
    """Pseudonym, episodes, episodes that name a consent, and how the grants stand."""
    of_master: dict[str, list[bool]] = {}
    for row in rows:
        of_master.setdefault(row["master"] or "-", []).append(row["consent_id"] is not None)
    return [
        (master, len(named), sum(named), (consents or {}).get(master, "-"))
        for master, named in sorted(of_master.items())
    ]


def _stream(view: EpisodeView, stream: Stream, lang: Language) -> Iterator[_Plot]:
    """The pictures of a stream; what cannot be read is told in their place."""
    try:
        yield from _recorded(view, stream, lang) if stream.media else _sampled(view, stream, lang)
    except DataError as error:
        yield _Plot(stream.name, f"{error.code} {error.coded.text('what', lang)}")
    except pa.ArrowException as error:
        yield _Plot(stream.name, one_line(error))


def _sampled(view: EpisodeView, stream: Stream, lang: Language) -> Iterator[_Plot]:
    rows = view.stream(stream.name)
    ids = np.array(rows["episode_id"].to_pylist(), dtype=object)
    t = rows["t"].to_numpy().astype(np.float64)
    places = [np.flatnonzero(ids == episode) for episode in view.episodes["episode_id"].to_pylist()]
    for channel in stream.channels:
        x = rows[channel.name].to_numpy().astype(np.float64)
        x = np.where(np.isfinite(x), x, np.nan)
        drawn = curves([(t[place], x[place]) for place in places], channel.range)
        yield _Plot(channel.name, _range(channel.ko if lang == "ko" else None, channel.unit, channel.range), drawn)


def _recorded(view: EpisodeView, stream: Stream, lang: Language) -> Iterator[_Plot]:
    held = []
    for episode in view.episodes["episode_id"].to_pylist():
        try:
            held.append((episode, view.media(stream.name, episode)))
        except DataError as error:
            if error.code != "JG-data-016":
                raise
    if stream.media == "pictures":
        limits = [channel.range for channel in stream.channels]
        sheets = [(episode, contact_sheet(frames, limits)) for episode, frames in held if frames.shape[1]]
        names = ", ".join(channel.name for channel in stream.channels)
        yield _Plot(names, _range(None, stream.channels[0].unit, stream.channels[0].range), films=sheets)
        return
    for number, channel in enumerate(stream.channels):
        for (episode, heard), colour in zip(held, COLOURS, strict=False):
            x = heard[number].astype(np.float64)
            drawn = curves([(np.arange(len(x)) / stream.rate_hz, x)], channel.range, [colour])
            says = _range(channel.ko if lang == "ko" else None, channel.unit, channel.range)
            heat = spectrogram(x) if len(x) >= 64 else ""
            yield _Plot(f"{channel.name}, {episode}", says, drawn, heat)


def _field(name: str, field: Field, column: Sequence[Any], lang: Language) -> tuple[str, str, str, int]:
    """Name, unit and range, histogram, and how many episodes lack it."""
    given = [value for value in column if value is not None]
    missing, ko = len(column) - len(given), field.ko if lang == "ko" else None
    if field.values is not None:
        counts = [given.count(word) for word in field.values]
        says = " · ".join(f"{word} {number}" for word, number in zip(field.values, counts, strict=True))
        return name, " · ".join(filter(None, [ko, says])), bars(counts, field.values, len(given) - sum(counts)), missing
    low, high = field.range or (0.0, 1.0)
    x = _numbers(given)
    edges = np.linspace(low, high, _BINS + 1)
    tallied = np.histogram(x[(x >= low) & (x <= high)], edges)[0].tolist()
    names = [f"{one:.4g} ... {other:.4g}" for one, other in pairwise(edges)]
    return name, _range(ko, field.unit, (low, high)), bars(tallied, names, len(x) - sum(tallied)), missing


def _numbers(values: Sequence[Any]) -> Array:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _range(ko: str | None, unit: str, limits: tuple[float, float]) -> str:
    return " · ".join(filter(None, [ko, unit if unit != "1" else "", f"{limits[0]:g} ... {limits[1]:g}"]))
