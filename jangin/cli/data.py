"""`jangin data`: make and check master records; what is made here is checked here."""

from pathlib import Path
from typing import Annotated

import typer

from jangin.cli.aligning import align
from jangin.cli.baseline import baseline
from jangin.cli.exporting import export
from jangin.cli.importing import importing
from jangin.cli.ingest import ingest, init
from jangin.cli.options import FormatOption, LangOption
from jangin.cli.previewing import preview
from jangin.cli.talk import Format, Talk, default_lang
from jangin.cli.validate import UnitOption, drawn_by, passed, validate
from jangin.privacy.releases import Unit

__all__ = ["data"]

data = typer.Typer(help="Master records: make and check them.", no_args_is_help=True)
data.command("init")(init)
data.command("ingest")(ingest)
data.add_typer(importing, name="import")
data.command("align")(align)
data.command("baseline")(baseline)
data.command("export")(export)
data.command("preview")(preview)


@data.command("generate")
def generate(
    process: Annotated[str, typer.Argument(help="A reference process, e.g. steel.bof_blow.")],
    folder: Annotated[Path, typer.Argument(help="Takes one folder a site: site-0, site-1, ...")],
    sites: Annotated[int, typer.Option(min=1, max=500)] = 5,
    masters: Annotated[int, typer.Option(min=1, help="Masters of a site.")] = 3,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of a site.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed makes the same records.")] = 0,
    unit: UnitOption = Unit.EPISODE,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Make the records of a reference process, validate them, and set each site's hold-out aside."""
    from jangin.records.checks import validate as check
    from jangin.records.generate import generate as make

    talk, drawn = Talk(form, lang or default_lang()), drawn_by(unit)
    with talk.progress() as advance:
        made = make(
            process,
            folder,
            sites=sites,
            masters=masters,
            episodes=episodes,
            seed=seed,
            progress=lambda done, total: advance("generate", done, total),
        )
        reports = []
        for number, site in enumerate(made, 1):
            reports.append(check(site, unit=drawn))
            reports[-1].require(site)
            advance("validate", number, len(made))
    folders = [str(site) for site in made]
    held = {"episodes": sum(one.episodes for one in reports), "holdout": sum(one.holdout for one in reports)}
    talk.answer("\n".join(folders), folders=folders, **held)
    talk.say(*passed(**held))


data.command("validate")(validate)
