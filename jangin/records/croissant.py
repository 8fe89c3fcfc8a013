"""What a records folder holds, as Croissant metadata: JSON-LD that others' tools read.

Croissant 1.1 (MLCommons, 2026-01-29, http://mlcommons.org/croissant/1.1) is a vocabulary on schema.org: files with
their hashes, record sets with their fields. A field's unit and public range stand as constant annotations of it.

The law: nothing is read but the card, the manifest and the names of columns, and no value of a record, no pseudonym, no
episode's id, no path outside the folder and nothing of mapping.local.yaml is in it; the site's name only where it is
asked for.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from jangin.records.card import Card, Channel, Field, Stream
from jangin.records.dataset import EPISODES_FILE, Records, stream_parts
from jangin.records.manifest import CARD_FILE, MANIFEST_FILE
from jangin.records.process import read_process

__all__ = ["CONFORMS_TO", "croissant"]

Json = dict[str, Any]

CONFORMS_TO: Final = "http://mlcommons.org/croissant/1.1"

_TERMS: Final = (
    *("annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract"),
    *("field", "fileProperty", "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath"),
    *("key", "md5", "parentField", "path", "readLines", "recordSet", "references", "regex", "repeated", "replace"),
    *("samplingRate", "sdVersion", "separator", "source", "subField", "transform", "unArchive", "value"),
)
_CONTEXT: Final[Json] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "description": {"@container": "@language"},
    **{term: f"cr:{term}" for term in _TERMS},
}
"""The context of the specification's appendix 1; `name` and `description` as its reference implementation has them."""

_STAYS: Final = "Not licensed. The records stay at the site; this document describes them."
_FORMATS: Final = {"sound": ("audio/flac", ("flac", "wav")), "pictures": ("image/png", ("png", "mp4", "avi"))}
_PARQUET: Final = "application/x-parquet"
"""As the reference implementation names it."""


def croissant(folder: Path, today: date, *, with_site: bool = False) -> Json:
    """The metadata of a validated folder; addresses of files are within the folder.

    Args:
        folder: validated records.
        today: the day on which the metadata are made, their `datePublished`.
        with_site: name the site, as its card does.

    Raises:
        DataError: as `Records.open`; JG-data-001, the card's process is not known here.
        PlanError: a card or manifest of another form.
    """
    records = Records.open(folder)
    card, manifest = records.card, records.manifest
    process = read_process(card.process)
    kept = {name: digest for name, digest in sorted(manifest.files.items()) if name in {CARD_FILE, EPISODES_FILE}}
    parts = {stream.name: stream_parts(manifest.files, stream.name) for stream in card.streams}
    for name in (name for names in parts.values() for name in names):
        kept[name] = manifest.files[name]
    media = [stream for stream in card.streams if stream.media and _held(stream, manifest.files)]
    identity = hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": f"{card.process} master records",
        "description": (
            f"{process.title.en}: {len(manifest.masters)} episodes of master records, version {card.schema_version}; "
            f"{len(manifest.holdout)} {manifest.unit}s are set aside for evaluation. Every file's SHA-256 stands in a "
            "manifest, whose own is in `url`."
        ),
        "url": f"urn:sha256:{identity}",
        "version": f"{card.schema_version}.0.0",
        "license": _STAYS,
        "creator": {"@type": "Organization", "name": card.site if with_site else "not named"},
        "datePublished": today.isoformat(),
        "isLiveDataset": False,
        "keywords": [card.process, card.industry],
        "distribution": [
            *(_file(name, digest, (folder / name).stat().st_size) for name, digest in kept.items()),
            *(_media_files(stream) for stream in media),
        ],
        "recordSet": [
            _episodes(card, _columns(folder / EPISODES_FILE)),
            *(
                _rows(stream, parts[stream.name], _columns(folder / parts[stream.name][0]))
                for stream in card.streams
                if parts[stream.name]
            ),
            *(_recordings(stream) for stream in media),
        ],
    }


def _held(stream: Stream, files: dict[str, str]) -> bool:
    return any(name.startswith(f"media/{stream.name}/") for name in files)


def _file(name: str, digest: str, size: int) -> Json:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": _PARQUET if name.endswith(".parquet") else "application/yaml",
        "sha256": digest,
    }


def _media_files(stream: Stream) -> Json:
    kind, suffixes = _FORMATS[str(stream.media)]
    return {
        "@type": "cr:FileSet",
        "@id": f"media/{stream.name}",
        "name": f"media/{stream.name}",
        "description": f"One file an episode: {stream.media}.",
        "encodingFormat": kind,
        "includes": [f"media/{stream.name}/*.{suffix}" for suffix in suffixes],
    }


def _record_set(name: str, description: str, fields: Sequence[Json], **more: object) -> Json:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        **more,
        "field": list(fields),
    }


def _columns(path: Path) -> frozenset[str]:
    """What the file has of the card's optional columns, and all others."""
    return frozenset(pq.read_schema(path).names)


def _episodes(card: Card, there: Collection[str]) -> Json:
    """One row an episode."""
    source = {"fileObject": {"@id": EPISODES_FILE}}
    plain = (
        ("episode_id", "sc:Text", "The episode."),
        ("master", "sc:Text", "Who worked: a pseudonym that only the site can resolve."),
        ("start_utc", "sc:DateTime", "When it began."),
        ("duration_s", "sc:Float", "How long it lasted, in seconds."),
    )
    fields = [_field("episodes", column, kind, source, says) for column, kind, says in plain]
    for column, described in ((name, field) for name, field in card.columns().items() if name in there):
        kind = "sc:Text" if described.values else "sc:Float"
        words = ", ".join(described.values or ())
        fields.append(_field("episodes", column, kind, source, f"One of {words}." if words else "", described))
    return _record_set("episodes", "One record an episode.", fields, key={"@id": "episodes/episode_id"})


def _rows(stream: Stream, parts: Sequence[str], there: Collection[str]) -> Json:
    """The samples of a stream; several part files are said by the first one's source, as they are all alike."""
    source = {"fileObject": {"@id": parts[0]}}
    fields = [
        _field(stream.name, "episode_id", "sc:Text", source, "The episode."),
        _field(stream.name, "t", "sc:Float", source, "Seconds since the episode's start."),
        *(
            _field(stream.name, channel.name, "sc:Float", source, "", channel)
            for channel in stream.channels
            if channel.name in there
        ),
    ]
    fields[0]["references"] = {"field": {"@id": "episodes/episode_id"}}
    more = "" if len(parts) == 1 else f" In {len(parts)} files of one form, of which the first is named."
    return _record_set(stream.name, f"{stream.kind}, {stream.rate_hz:g} samples a second.{more}", fields)


def _recordings(stream: Stream) -> Json:
    """Sound or pictures, a file an episode."""
    kind = "sc:AudioObject" if stream.media == "sound" else "sc:ImageObject"
    source = {"fileSet": {"@id": f"media/{stream.name}"}, "extract": {"fileProperty": "content"}}
    names = ", ".join(f"{one.name} ({one.unit}, {one.range[0]:g} to {one.range[1]:g})" for one in stream.channels)
    field = {
        "@type": "cr:Field",
        "@id": f"{stream.name}/content",
        "name": "content",
        "description": f"Counts of full scale: {names}.",
        "dataType": kind,
        "source": source,
    }
    return _record_set(stream.name, f"{stream.kind}, {stream.rate_hz:g} a second, a file an episode.", [field])


def _field(table: str, column: str, kind: str, source: Json, says: str, of: Channel | Field | None = None) -> Json:
    if of is not None:
        measured = f"In {of.unit}, {of.range[0]:g} to {of.range[1]:g}." if of.range else ""
        says = " ".join(filter(None, [f"{of.ko or of.name}.", measured, says]))
    made = {
        "@type": "cr:Field",
        "@id": f"{table}/{column}",
        "name": column,
        "description": says,
        "dataType": kind,
        "source": {**source, "extract": {"column": column}},
    }
    return made if of is None else {**made, "annotation": list(_annotations(f"{table}/{column}", of))}


def _annotations(place: str, of: Channel | Field) -> Iterator[Json]:
    """Unit and public range of a channel or field."""
    low, high = of.range or (None, None)
    for name, kind, value in (
        ("unitText", "sc:Text", of.unit),
        ("minValue", "sc:Float", low),
        ("maxValue", "sc:Float", high),
    ):
        if value is not None:
            yield {
                "@type": "cr:Field",
                "@id": f"{place}/{name}",
                "name": name,
                "dataType": kind,
                "equivalentProperty": f"sc:{name}",
                "value": value,
            }
