"""The data card: what a records folder holds, in words that every site shares (master records, version 1).

The law: a channel or field has one public name, one unit of a short list and one public range or list of
values; nothing here is learnt from anybody's records.
"""

from collections import Counter
from typing import Annotated, Literal, Self

import pydantic
from pydantic import (
    AfterValidator,
    BeforeValidator,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    model_validator,
)

from jangin.codec.document import Document, nearest

__all__ = [
    "UNITS",
    "Card",
    "Channel",
    "Field",
    "Frame",
    "Group",
    "Media",
    "Named",
    "People",
    "Range",
    "Stream",
    "StreamKind",
]

UNITS = frozenset(
    {
        *("1", "%", "ppm", "dB"),
        *("ms", "s", "min", "h", "1/s", "1/min", "Hz", "kHz"),
        *("um", "mm", "m", "mm/s", "mm/min", "m/s", "m/min", "m/s2", "m2", "px"),
        *("deg", "rad", "deg/s", "rad/s"),
        *("g", "kg", "t", "kg/s", "kg/min", "t/h"),
        *("L", "m3", "Nm3", "L/min", "m3/h", "m3/min", "Nm3/h", "Nm3/min", "Nm3/t"),
        *("Cel", "K", "Cel/s", "Cel/min", "K/s", "K/min"),
        *("Pa", "kPa", "MPa", "bar", "mbar", "N", "kN", "Nm"),
        *("mV", "V", "mA", "A", "W", "kW", "MW", "J", "kJ", "kWh", "MJ", "kJ/mm"),
    }
)
"""The units that a card may name: case-sensitive, after UCUM 2.2 (Unified Code for Units of Measure), with
`1` for plain numbers, and the trade's own forms `ppm`, `px`, `Nm` (newton metre) and `Nm3` (a cubic metre of
gas at 0 Cel and 101.325 kPa)."""

StreamKind = Literal["telemetry", "vibration", "audio", "motion", "image_sequence", "thermal", "event"]
Media = Literal["sound", "pictures"]
Group = Literal["context", "action", "judgement", "outcome"]


def _listed(unit: str) -> str:
    if unit not in UNITS:
        raise ValueError(f"unknown unit {unit!r}; the nearest known unit is {nearest(unit, UNITS)!r}")
    return unit


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] >= limits[1]:
        raise ValueError("the low end of a range lies below its high end")
    return limits


def _unique(entries: "tuple[Named, ...]") -> "tuple[Named, ...]":
    twice = [name for name, times in Counter(entry.name for entry in entries).items() if times > 1]
    if twice:
        raise ValueError(f"the name {twice[0]!r} is given twice")
    return entries


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]
Unit = Annotated[
    str, BeforeValidator(str), AfterValidator(_listed), pydantic.Field(json_schema_extra={"enum": sorted(UNITS)})
]
Range = Annotated[tuple[float, float], AfterValidator(_ascending)]


class Named(Document):
    """What has a public name, unique within its group.

    Attributes:
        name: letters, digits and underscores; it becomes a column or folder name.
    """

    name: Name


class Channel(Named):
    """One measured quantity of a stream, one float32 column.

    Attributes:
        unit: one of `UNITS`.
        range: public (low, high) in the unit.
        optional: a site may lack it.
        ko: its Korean name.
    """

    unit: Unit
    range: Range
    optional: bool = False
    ko: str | None = None


class Frame(Document):
    """The size of a picture.

    Attributes:
        width: px.
        height: px.
    """

    width: PositiveInt
    height: PositiveInt


class Stream(Named):
    """Channels sampled together.

    Attributes:
        kind: what the rows are.
        rate_hz: samples a second (for events: the most there can be).
        channels: at least one, names unique. Of `sound` one a microphone; of `pictures` one (grey, thermal) or
            three (red, green, blue).
        media: absent where the samples are rows of Parquet; else what an episode's own file holds. It holds
            counts of full scale, and the public range says what full scale is: +-high of sound, low to high of
            pictures.
        frame: the size of its pictures.
    """

    kind: StreamKind
    rate_hz: PositiveFloat
    channels: Annotated[tuple[Channel, ...], pydantic.Field(min_length=1), AfterValidator(_unique)]
    media: Media | None = None
    frame: Frame | None = None

    @property
    def optional(self) -> bool:
        """Whether a site may lack the whole stream: it may lack each of its channels."""
        return all(channel.optional for channel in self.channels)

    @model_validator(mode="after")
    def _media_fit(self) -> Self:
        if self.media and self.kind not in _KINDS[self.media]:
            raise ValueError(f"a stream of kind {self.kind!r} holds no {self.media}")
        if (self.frame is None) == (self.media == "pictures"):
            raise ValueError("pictures have a frame, and nothing else has one")
        if self.media == "pictures" and len(self.channels) not in (1, 3):
            raise ValueError("pictures have one channel or three")
        if self.media == "sound" and any(low != -high for low, high in (one.range for one in self.channels)):
            raise ValueError("the range of sound is full scale to both sides: [-high, high]")
        return self


_KINDS: dict[Media, tuple[StreamKind, ...]] = {
    "sound": ("audio", "vibration"),
    "pictures": ("image_sequence", "thermal"),
}


class Field(Named):
    """One value an episode: a number in a public range, or one of some public words.

    Attributes:
        unit: one of `UNITS`; `1` for plain numbers and words.
        range: public (low, high) in the unit; a number has it.
        values: the public words; a choice has them.
        optional: a site may lack it.
        ko: its Korean name.
    """

    unit: Unit = "1"
    range: Range | None = None
    values: Annotated[tuple[str, ...], pydantic.Field(min_length=1)] | None = None
    optional: bool = False
    ko: str | None = None

    @model_validator(mode="after")
    def _range_or_values(self) -> Self:
        if (self.range is None) == (self.values is None):
            raise ValueError(f"the field {self.name!r} has either a range (a number) or values (a choice)")
        return self


class People(Document):
    """Who worked, without names.

    Attributes:
        masters: how many masters' episodes the folder holds.
        note: how they were asked and what was removed.
        deidentified: by stream that can show a face or carry speech, what was done so that nobody is known by it.
    """

    masters: PositiveInt
    note: str = ""
    deidentified: dict[str, str] = pydantic.Field(default_factory=dict)


Fields = Annotated[tuple[Field, ...], AfterValidator(_unique)]
Streams = Annotated[tuple[Stream, ...], AfterValidator(_unique)]


class Described(Document):
    """What a card and a process both say: streams and the fields of an episode, unique within their group."""

    process: str
    industry: str
    streams: Streams = ()
    context: Fields = ()
    actions: Fields = ()
    judgements: Fields = ()
    outcomes: Fields = ()

    def columns(self) -> dict[str, Field]:
        """The episode columns `<group>.<name>` with their fields, in the order of the document."""
        groups: dict[Group, tuple[Field, ...]] = {
            "context": self.context,
            "action": self.actions,
            "judgement": self.judgements,
            "outcome": self.outcomes,
        }
        return {f"{group}.{field.name}": field for group, fields in groups.items() for field in fields}


class Card(Described):
    """card.yaml of a records folder.

    Attributes:
        schema_version: the version of master records.
        process: a file of configs/processes.
        industry: the branch, e.g. `steel`.
        site: the site's public name.
        streams: what was sampled, at which rate.
        context: what was given before the episode.
        actions: what the master decided.
        judgements: what masters said about it.
        outcomes: what came of it.
        people: how many masters, without names.
    """

    schema_version: Literal[1]
    site: str
    people: People

    def stream(self, name: str) -> Stream | None:
        """The stream of that name, or None."""
        return next((stream for stream in self.streams if stream.name == name), None)
