"""`jangin data preview`: a records folder as one page, for those who are at the site."""

from pathlib import Path
from typing import Annotated

import typer

from jangin.cli.exporting import refuse_inside, write_file
from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang
from jangin.cli.validate import consents_at

__all__ = ["preview"]


def preview(
    folder: Annotated[Path, typer.Argument(help="One site's records, validated or not.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Where to; default beside the folder, FOLDER-preview.html.")
    ] = None,
    site: Annotated[
        Path | None, typer.Option("--site", metavar="STATE", help="The site's state folder: how its consents stand.")
    ] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Show a folder on one HTML page: what it is, what the checks find, curves, spectrograms, frames, histograms.

    The page is complete in itself and asks the network for nothing. It shows records, so it stays at the site: only its
    owner may read the file. Nothing in the folder changes.
    """
    from jangin.client.desk import now_utc
    from jangin.records.checks import validate
    from jangin.records.manifest import read_manifest
    from jangin.records.preview import page

    talk = Talk(form, lang or default_lang())
    named = folder if folder.name not in ("", "..") else folder.resolve()
    path = out or named.with_name(f"{named.name}-preview.html")
    refuse_inside(folder, path)
    earlier = read_manifest(folder)
    report = validate(
        folder,
        level=4,
        unit=earlier.unit if earlier else "episode",
        draw=False,
        consents=None if site is None else consents_at(site),
    )
    shown = page(folder, report.findings, talk.language, now_utc(), None if site is None else _told(site, talk))
    write_file(path, shown.encode(), mode=0o600)
    talk.answer(str(path), file=str(path), episodes=report.episodes, findings=len(report.findings))
    talk.tell("preview", "stays")


def _told(site: Path, talk: Talk) -> dict[str, str]:
    """Of each master the grant that comes nearest to a yes, in words."""
    from jangin.client.consent import listed
    from jangin.client.desk import now_utc

    entries = [entry for entry in listed(site, clock=now_utc) if entry.master is not None]
    best: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: entry.verdict):
        best[str(entry.master)] = talk.said("consent", f"verdict-{entry.verdict.name.lower()}")
    return best
