"""Laws of Croissant metadata: what the specification asks for is there, and what stays at the site is not."""

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import three_clocks

from jangin.codec.document import parse, read
from jangin.records import croissant as exporting
from jangin.records.card import Card
from jangin.records.croissant import CONFORMS_TO, croissant
from jangin.records.manifest import Manifest, Validation, described_files, file_digest, write_manifest
from jangin.records.process import Process

TODAY = date(2026, 11, 21)
# "Required" in the tables of the specification 1.1, for the set, its files, its record sets and its fields.
REQUIRED = {
    "sc:Dataset": {
        *("@context", "@type", "conformsTo", "description", "license", "name", "url", "creator", "datePublished"),
        "distribution",
    },
    "cr:FileObject": {"@id", "name", "contentUrl", "encodingFormat", "sha256"},
    "cr:FileSet": {"@id", "name", "encodingFormat", "includes"},
    "cr:RecordSet": {"@id", "name", "field"},
    "cr:Field": {"@id", "name", "dataType"},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = three_clocks.write(tmp_path / "records", 3)
    card = read(made / "card.yaml", Card)
    shared = card.model_dump(include={"process", "industry", "streams", "context", "actions", "outcomes"})
    process = parse({**shared, "title": {"en": "Three clocks", "ko": "시계 셋"}}, Process, "process")
    monkeypatch.setattr(exporting, "read_process", lambda name: process)
    (made / "mapping.local.yaml").write_text("PLC7_SECRET_TAG: arc.current\n")
    (made / "holdout.key").write_bytes(bytes(32))
    manifest = Manifest(
        schema_version=1,
        tool_version="1",
        files={name: file_digest(made / name) for name in described_files(made)},
        validation=Validation(level=1, findings=0, passed=True),
        unit="episode",
        train=("weld-00", "weld-01"),
        holdout=("weld-02",),
        masters={f"weld-{number:02d}": f"M-{number % 2}" for number in range(3)},
    )
    write_manifest(made, manifest)
    return made


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Everything with a type."""
    match value:
        case dict():
            if "@type" in value:
                yield value
            for key, inside in value.items():
                if key != "@context":
                    yield from nodes(inside)
        case list():
            for inside in value:
                yield from nodes(inside)


def test_every_required_property_is_there_and_every_reference_meets_something(folder: Path) -> None:
    made = croissant(folder, TODAY)
    assert made["conformsTo"] == CONFORMS_TO
    assert made["datePublished"] == "2026-11-21"
    named = [node["@id"] for node in nodes(made) if "@id" in node]
    assert len(named) == len(set(named))
    for node in nodes(made):
        assert REQUIRED.get(node["@type"], set()) <= node.keys(), node
    text = json.dumps(made["recordSet"])
    assert set(re.findall(r'(?:fileObject|fileSet|field|key)": \{"@id": "([^"]+)"', text)) <= set(named)


def test_files_are_those_of_the_folder_with_their_hashes_and_columns_are_there(folder: Path) -> None:
    made = croissant(folder, TODAY)
    files = [node for node in nodes(made) if node["@type"] == "cr:FileObject"]
    assert {file["contentUrl"] for file in files} == {"card.yaml", "episodes.parquet", "streams/arc/part-000.parquet"}
    for file in files:
        content = (folder / file["contentUrl"]).read_bytes()
        assert (file["sha256"], file["contentSize"]) == (hashlib.sha256(content).hexdigest(), f"{len(content)} B")
    sets = {record["@id"]: record for record in made["recordSet"]}
    assert set(sets) == {"episodes", "arc", "sound", "pool"}
    for name, file in (("episodes", "episodes.parquet"), ("arc", "streams/arc/part-000.parquet")):
        columns = [field["source"]["extract"]["column"] for field in sets[name]["field"]]
        assert set(columns) <= set(pq.read_schema(folder / file).names)
    assert made["url"] == f"urn:sha256:{hashlib.sha256((folder / 'manifest.json').read_bytes()).hexdigest()}"


def test_a_channel_says_its_unit_and_public_range(folder: Path) -> None:
    arc = next(record for record in croissant(folder, TODAY)["recordSet"] if record["@id"] == "arc")
    current = next(field for field in arc["field"] if field["name"] == "current")
    said = {one["equivalentProperty"]: one["value"] for one in current["annotation"]}
    assert said == {"sc:unitText": "A", "sc:minValue": 0, "sc:maxValue": 400}


def test_nothing_that_stays_at_the_site_is_in_it(folder: Path) -> None:
    text = json.dumps(croissant(folder, TODAY), ensure_ascii=False)
    assert not re.search("SECRET|mapping|holdout.key|weld-0|M-0|M-1|site-0", text)
    assert str(folder) not in text
    assert "site-0" in json.dumps(croissant(folder, TODAY, with_site=True))
