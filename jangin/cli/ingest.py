"""`jangin data init` and `jangin data ingest`: from a folder as a small firm has it to master records."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang

if TYPE_CHECKING:
    from jangin.records.checks import Finding

__all__ = ["ingest", "init"]


class Pictures(StrEnum):
    """What becomes of a video."""

    KEPT = "kept"
    PNG = "png"


def init(
    drop: Annotated[Path, typer.Argument(help="The folder into which recordings will be put.")],
    process: Annotated[str, typer.Option(help="An installed process, e.g. pipe.tig_weld.")],
    site: Annotated[str | None, typer.Option(help="The site's public name; default: the folder's name.")] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Make a drop folder: episodes.csv for Excel, a README, and the mapping from the plant's names."""
    from jangin.records.intake.drop import init_drop

    talk = Talk(form, lang or default_lang())
    made = init_drop(drop, process, site or drop.absolute().name)
    files = sorted(str(path) for path in made.iterdir() if path.is_file())
    talk.answer("\n".join(files), drop=str(made), files=files)


def ingest(
    drop: Annotated[
        Path, typer.Argument(help="Made by `jangin data init`: a folder an episode, a line in episodes.csv.")
    ],
    folder: Annotated[Path, typer.Argument(help="The records; a later run adds new episodes to them.")],
    state: Annotated[
        Path | None,
        typer.Option(help="The site's state folder, whose key makes pseudonyms; else DROP.masters.key is made for it."),
    ] = None,
    pictures: Annotated[
        Pictures, typer.Option(help="kept: videos as they came. png: frames of the process' size and rate, lossless.")
    ] = Pictures.KEPT,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Episodes that are read at once.")] = 2,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Add the new episodes of a drop folder to the records, all of them or none.

    Exit 0: done. 1: findings that are errors, and nothing was written. With `--format json` each finding is a line, and
    the last line says what was added, or the first error.
    """
    from jangin.client.state import SiteFolder
    from jangin.records.intake.drop import read_mapping
    from jangin.records.intake.ingest import ingest as take
    from jangin.records.intake.ingest import masters_key, write_masters

    talk = Talk(form, lang or default_lang())
    read_mapping(drop)  # refused before a key is made
    key = masters_key(drop) if state is None else SiteFolder(state).masters_key()
    with talk.progress() as advance:
        done = take(
            drop,
            folder,
            key,
            pictures=pictures.value,
            workers=workers,
            progress=lambda read, total: advance("ingest", read, total),
        )
    for finding in done.findings:
        _tell(talk, finding)
    if not done.passed:
        if form is Format.JSON:
            talk.json({"ok": False, **done.findings[0].as_dict(talk.language)})
        sys.exit(1)
    write_masters(drop, done.masters)
    told = {"added": len(done.added), "known": done.known, "filled": done.filled}
    talk.answer(str(folder), folder=str(folder), masters=len(set(done.masters.values())), **told)
    talk.tell("drop", "ingested", **told)


def _tell(talk: Talk, finding: "Finding") -> None:
    """A finding: a line of JSON, or what, why and the way out; a warning is talk, an error is what came of it."""
    if talk.format is Format.JSON:
        talk.json(finding.as_dict(talk.language))
    elif finding.severity == "warning":
        talk.warn(finding)
    else:
        lines = (finding.text(field, talk.language) for field in ("what", "why", "hint"))
        talk.text(f"{finding.severity} {finding.code} " + "\n  ".join(lines))
