"""A drop folder: where recordings are put, a folder an episode and a line in episodes.csv, as a small firm has them.

    README.txt           what goes where, in Korean and English
    episodes.csv         one line an episode: its folder's name, the master, the start, context, actions, outcomes
    mapping.local.yaml   the process, the site's public name, the plant's own names; never leaves the site
    <episode>/           tables (.csv), sound (.wav, .flac), pictures (.avi, .mp4, .png), each named after its stream

The law: a header means one quantity of the process or is refused; what a name means is said by the process, by the
plant's mapping, or by nobody. Names of masters are in this folder alone.
"""

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydantic
import yaml

from jangin.codec.document import Document, nearest, read
from jangin.errors import DataError
from jangin.records.card import UNITS, Described, Stream
from jangin.records.manifest import MAPPING_FILE, write_whole
from jangin.records.process import Process, read_process
from jangin.words import LANGUAGES, say

__all__ = [
    "EPISODES",
    "IGNORED",
    "MAPPING_FILE",
    "TIME",
    "Dictionary",
    "LocalMapping",
    "Meaning",
    "init_drop",
    "of_episodes",
    "of_streams",
    "plain",
    "read_mapping",
    "stream_of",
]

EPISODES: Final = "episodes.csv"
_README: Final = "README.txt"

TIME: Final = "t"
"""What a column of times means."""
IGNORED: Final = "-"
"""What a column or file means that nobody needs."""

_FIXED: Final[Mapping[str, tuple[str, ...]]] = {
    "episode_id": ("에피소드", "episode", "폴더", "작업 번호"),
    "master": ("장인", "작업자"),
    "start_utc": ("시작 시각", "시작", "시작 일시", "start"),
    "duration_s": ("길이", "소요 시간", "duration"),
    "consent_id": ("동의 번호", "consent"),
}
_TIMES: Final = (TIME, "time", "timestamp", "시간", "시각", "일시", "경과 시간")
_UNIT_NAMES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("°C", "C", "degC", "섭씨"), "Cel"),
    **dict.fromkeys(("초", "sec"), "s"),
    **dict.fromkeys(("μs", "usec"), "us"),
    **dict.fromkeys(("분",), "min"),
    **dict.fromkeys(("시", "시간"), "h"),
    **dict.fromkeys(("%RH", "RH%", "퍼센트"), "%"),
    **dict.fromkeys(("l", "리터"), "L"),
    **dict.fromkeys(("l/min", "LPM"), "L/min"),
    **dict.fromkeys(("μm", "micron"), "um"),
    **dict.fromkeys(("°",), "deg"),
    **dict.fromkeys(("N·m", "N.m"), "Nm"),
    **dict.fromkeys(("rpm",), "1/min"),
    **dict.fromkeys(("m^2",), "m2"),
    **dict.fromkeys(("m^3",), "m3"),
    **dict.fromkeys(("m/s^2", "m/s/s"), "m/s2"),
    **dict.fromkeys(("mm/sec",), "mm/s"),
    **dict.fromkeys(("개", "회", "점"), "1"),
}
_BRACKETED: Final = re.compile(r"^(.*\S)\s*[(\[]([^()\[\]]*)[)\]]$")
_SUFFIXED: Final = re.compile(r"^(.*\S)[_ ]([^_ ]+)$")


class LocalMapping(Document):
    """mapping.local.yaml.

    Attributes:
        process: an installed process.
        site: the site's public name.
        tags: the plant's own name of a column or file, to `stream.channel`, a stream, `context.humidity`, `t` for
            times, or `-` for what nobody needs.
        words: the plant's own words of a choice, to the process' words.
        note: for the card, how masters were asked and what was removed.
        deidentified: for the card, by stream of pictures or sound, what was done so that nobody is known by it.
    """

    process: str
    site: str
    tags: dict[str, str] = pydantic.Field(default_factory=dict)
    words: dict[str, str] = pydantic.Field(default_factory=dict)
    note: str = ""
    deidentified: dict[str, str] = pydantic.Field(default_factory=dict)


@dataclass(frozen=True)
class Meaning:
    """What a header says.

    Attributes:
        targets: what it may be; none where nobody knows it, several where nobody can tell.
        unit: of UNITS or `us`, where the header names one; else the header's own text, or None.
    """

    targets: tuple[str, ...]
    unit: str | None = None


@dataclass(frozen=True)
class Dictionary:
    """Which headers a table may have.

    Attributes:
        names: what each plain name may mean.
        shown: each target as a header of the template.
    """

    names: Mapping[str, tuple[str, ...]]
    shown: Mapping[str, str]

    def look_up(self, header: str) -> Meaning:
        """What a header means: as it stands, else without the unit at its end, `습도(%)`, `humidity [%]`, `t_ms`."""
        if plain(header) in self.names:
            return Meaning(self.names[plain(header)])
        for form in (_BRACKETED, _SUFFIXED):
            parts = form.match(unicodedata.normalize("NFKC", header.strip()))
            known = parts and self.names.get(plain(parts[1]))
            if parts and known and (form is _BRACKETED or _unit(parts[2]) is not None):
                return Meaning(known, _unit(parts[2]) or parts[2])
        return Meaning(())

    def nearest(self, header: str) -> str:
        """The header of the template that is most like another."""
        return nearest(header, self.shown.values())


def init_drop(drop: Path, process: str, site: str) -> Path:
    """Make a drop folder with its templates; what is there already stays as it is.

    Args:
        drop: the folder; made where it is not there.
        process: an installed process.
        site: the site's public name.

    Raises:
        DataError: JG-data-001 no such process; 002 there is a drop already; 019 the folder cannot be made.
    """
    described = read_process(process)
    if (drop / MAPPING_FILE).exists() or (drop / EPISODES).exists():
        raise DataError("JG-data-002", where=str(drop))
    table = io.StringIO(newline="")
    csv.writer(table).writerow(_shown(described)[column] for column in _template_columns(described))
    mapping = "\n".join(f"# {line}" for lang in LANGUAGES for line in say("drop", "mapping", lang).splitlines())
    chosen = yaml.safe_dump({"process": process, "site": site}, allow_unicode=True, sort_keys=False)
    texts = {
        _README: ("\n\n".join(_readme(described)) + "\n").replace("\n", "\r\n"),
        EPISODES: table.getvalue(),
        MAPPING_FILE: f"{mapping}\n{chosen}tags: {{}}\nwords: {{}}\nnote: ''\ndeidentified: {{}}\n",
    }
    try:
        drop.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_whole(drop / name, text.encode("utf-8" if name == MAPPING_FILE else "utf-8-sig"), mode=0o644)
    except OSError as error:
        raise DataError("JG-data-019", where=str(drop), problem=error.strerror) from None
    return drop


def read_mapping(drop: Path) -> tuple[LocalMapping, Process]:
    """What a drop folder is, and its process.

    Raises:
        DataError: JG-data-100 it is no drop folder; 001 no such process.
        PlanError: JG-plan-001..006, its mapping has another form.
    """
    for name in (MAPPING_FILE, EPISODES):
        if not (drop / name).is_file():
            raise DataError("JG-data-100", where=str(drop), file=name)
    mapping = read(drop / MAPPING_FILE, LocalMapping)
    return mapping, read_process(mapping.process)


def of_episodes(process: Described, mapping: LocalMapping) -> Dictionary:
    """The headers of episodes.csv: names of columns, of fields alone, and Korean ones."""
    known = [(target, (target, *names)) for target, names in _FIXED.items()]
    for target, field in process.columns().items():
        known.append((target, (target, field.name, *([field.ko] if field.ko else []))))
    return Dictionary(_index(known, mapping.tags), _shown(process))


def of_streams(streams: Iterable[Stream], mapping: LocalMapping) -> Dictionary:
    """The headers of tables of these streams: `stream.channel`, `channel`, its Korean name, and times."""
    known: list[tuple[str, tuple[str, ...]]] = [(TIME, _TIMES)]
    shown = {TIME: "시간(s)"}
    for stream in streams:
        for channel in stream.channels:
            target = f"{stream.name}.{channel.name}"
            known.append((target, (target, channel.name, *([channel.ko] if channel.ko else []))))
            shown[target] = _header(channel.ko or channel.name, channel.unit)
    return Dictionary(_index(known, mapping.tags), shown)


def stream_of(file: Path, streams: Collection[Stream], mapping: LocalMapping) -> str | None:
    """The stream that a file's name tells: the plant's own name, or one that stands in it as a word; `-` for none.

    Args:
        file: e.g. `20261121_arc.csv`.
        streams: that may be meant.
        mapping: the plant's names.

    Returns:
        A stream's name, `-`, or None where the file's name says nothing.
    """
    stem = unicodedata.normalize("NFC", file.stem).casefold()
    names = {stream.name for stream in streams} | {IGNORED}
    for own in (file.name, file.stem):
        target = next((target for tag, target in mapping.tags.items() if plain(tag) == plain(own)), None)
        if target in names:
            return target
    words = "_" + re.sub(r"[^0-9a-z가-힣]+", "_", stem) + "_"
    told = [(tag, target) for tag, target in mapping.tags.items() if target in names]
    told += [(stream.name, stream.name) for stream in streams]
    forms = ((re.sub(r"[^0-9a-z가-힣]+", "_", tag.casefold()).strip("_"), target) for tag, target in told)
    found = [(len(form), target) for form, target in forms if form and f"_{form}_" in words]
    return max(found)[1] if found else None


def plain(name: str) -> str:
    """A name without what people write in different ways: width, case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_\-]", "", unicodedata.normalize("NFKC", name).casefold())


def _unit(text: str) -> str | None:
    """A unit as the card names it, or `us`; None for anything else."""
    text = text.strip()
    return text if text in UNITS or text == "us" else _UNIT_NAMES.get(text)


def _index(known: Iterable[tuple[str, tuple[str, ...]]], tags: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    """What each plain name may mean; the plant's own names come first."""
    index: dict[str, list[str]] = {}
    targets = set()
    for target, names in known:
        targets.add(target)
        for name in dict.fromkeys(map(plain, names)):
            index.setdefault(name, []).append(target)
    own = {plain(tag): (target,) for tag, target in tags.items() if target in targets or target == IGNORED}
    return {name: tuple(targets) for name, targets in index.items()} | own


def _shown(process: Described) -> Mapping[str, str]:
    """The headers of the template, by column: Korean where there is a name that no other column has."""
    fields = process.columns()
    fixed = [name for names in _FIXED.values() for name in names]
    times = Counter(map(plain, [*fixed, *(field.ko for field in fields.values() if field.ko)]))
    shown = {target: names[0] for target, names in _FIXED.items()} | {"duration_s": "길이(s)"}
    for target, field in fields.items():
        alone = field.ko is not None and times[plain(field.ko)] == 1
        shown[target] = _header(field.ko if field.ko and alone else target, "1" if field.values else field.unit)
    return shown


def _template_columns(process: Described) -> list[str]:
    return ["episode_id", "master", "start_utc", *process.columns()]


def _header(name: str, unit: str) -> str:
    return name if unit == "1" else f"{name}({unit})"


def _readme(process: Process) -> Iterable[str]:
    """README.txt, language by language."""
    for lang in LANGUAGES:
        lines = [say("drop", "readme", lang, process=process.process, title=getattr(process.title, lang))]
        for stream in process.streams:
            suffix = {None: ".csv", "sound": ".wav", "pictures": ".mp4"}[stream.media]
            columns = ", ".join(_header(one.ko or one.name, one.unit) for one in stream.channels)
            key = "table" if stream.media is None else stream.media
            size = f"{stream.frame.width}x{stream.frame.height}" if stream.frame else ""
            values = {"file": f"{stream.name}{suffix}", "rate": f"{stream.rate_hz:g}", "columns": columns, "size": size}
            lines.append(say("drop", f"file-{key}", lang, **values))
        choices = [(name, field) for name, field in process.columns().items() if field.values]
        lines += [
            say("drop", "choice", lang, column=_shown(process)[name], words=", ".join(field.values or ()))
            for name, field in choices
        ]
        lines.append(say("drop", "then", lang))
        yield "\n".join(lines)
