"""`jangin data export`: what a records folder holds, and what its documents look like, for others' tools."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang
from jangin.errors import DataError, PlanError

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["export", "refuse_inside", "write_file"]


def export(
    folder: Annotated[Path | None, typer.Argument(help="One site's validated records, for --croissant.")] = None,
    croissant: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write Croissant 1.1 metadata (JSON-LD) here.")
    ] = None,
    site: Annotated[bool, typer.Option("--site", help="Name the site in them.")] = False,
    json_schema: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write JSON Schemas of card, manifest, process and line here.")
    ] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Describe a folder as Croissant metadata, or write the JSON Schemas of the documents around records.

    Metadata hold files with hashes, fields with units and public ranges; no record, no pseudonym, no episode's id, and
    nothing of mapping.local.yaml. Look at the file before it goes anywhere.
    """
    talk = Talk(form, lang or default_lang())
    if (croissant is None) != (folder is None) or not (croissant or json_schema):
        raise _misused("FOLDER with --croissant FILE is needed, or --json-schema DIR")
    made = []
    if croissant is not None and folder is not None:
        from jangin.client.desk import now_utc
        from jangin.records.croissant import croissant as described

        refuse_inside(folder, croissant)
        _write(croissant, described(folder, now_utc().date(), with_site=site))
        made.append(croissant)
    if json_schema is not None:
        for name, document in _documents().items():
            schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **document.model_json_schema()}
            _write(json_schema / f"{name}.schema.json", schema)
            made.append(json_schema / f"{name}.schema.json")
    files = [str(file) for file in made]
    talk.answer("\n".join(files), files=files)


def refuse_inside(folder: Path, path: Path) -> None:
    """Refuse a new file in a records folder: one that was validated would no longer be what was.

    Raises:
        DataError: JG-data-194, it lies there.
    """
    if path.resolve().is_relative_to(folder.resolve()):
        raise DataError("JG-data-194", where=str(path), folder=folder)


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file whole or not at all, into a folder that is made where it lacks.

    Raises:
        DataError: JG-data-193, it cannot be written.
    """
    from jangin.records.manifest import write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content, mode)
    except (OSError, DataError) as error:
        problem = error.coded.values["problem"] if isinstance(error, DataError) else error.strerror
        raise DataError("JG-data-193", where=str(path), problem=problem) from None


def _misused(problem: str) -> PlanError:
    return PlanError("JG-plan-030", where="jangin data export", problem=problem)


def _write(path: Path, document: dict[str, Any]) -> None:
    write_file(path, f"{json.dumps(document, ensure_ascii=False, indent=1)}\n".encode())


def _documents() -> "dict[str, type[BaseModel]]":
    """What people write and tools check, by the name of its schema."""
    from jangin.models.lines import ModelLine
    from jangin.records.card import Card
    from jangin.records.manifest import Manifest
    from jangin.records.process import Process

    return {"card": Card, "manifest": Manifest, "process": Process, "line": ModelLine}
