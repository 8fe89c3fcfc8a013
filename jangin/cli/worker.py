"""`jangin worker`: what is told to the people whose records these are."""

from html import escape
from pathlib import Path
from typing import Annotated, Any

import typer

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang
from jangin.errors import SiteError

__all__ = ["worker"]

worker = typer.Typer(help="What is told to the people whose records these are.", no_args_is_help=True)

_PAGE = """<!doctype html>
<html lang="{lang}"><meta charset="utf-8"><title>{title}</title>
<style>body{{max-width:42em;margin:2em auto;padding:0 1em;font:1rem/1.6 sans-serif}}h2{{font-size:1.1rem}}</style>
<body>{body}</body></html>
"""


@worker.callback()
def _worker() -> None:
    pass


@worker.command("statement")
def statement(
    folder: Annotated[Path, typer.Argument(help="The site's state folder.")],
    master: Annotated[str, typer.Option(help="The pseudonym.")],
    page: Annotated[Path | None, typer.Option(help="Write it as a page to print, too: HTML, nothing loaded.")] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """What of a master's recordings was used, for which model, with what protection, and what cannot be undone."""
    from jangin.client.desk import now_utc
    from jangin.client.master import statement as sentences
    from jangin.client.master import told

    talk = Talk(form, lang or default_lang())
    held = told(folder, master, clock=now_utc)
    blocks = sentences(held, talk.language, now_utc().date())
    shares: list[dict[str, Any]] = [
        {
            "campaign": share.campaign,
            "line": share.plan.model_line,
            "purposes": list(share.plan.governance.purposes),
            "trained": list(share.trained),
            "judged": list(share.judged),
            "episodes": share.learnt_from,
            "left": list(share.left),
            "unit": share.plan.privacy.unit.value,
            "epsilon": share.plan.privacy.epsilon,
            "delta": share.plan.privacy.delta,
        }
        for share in held.shares
    ]
    if page is not None:
        _write(page, blocks, talk)
    text = "\n\n".join("\n".join([heading, *(f"  {line}" for line in lines)]) for heading, lines in blocks)
    talk.answer(text, site=held.site, master=held.master, episodes=held.episodes, shares=shares, says=text)


def _write(page: Path, blocks: list[tuple[str, list[str]]], talk: Talk) -> None:
    body = "".join(
        f"<h{1 if number == 0 else 2}>{escape(heading)}</h{1 if number == 0 else 2}>"
        + "".join(f"<p>{escape(line)}</p>" for line in lines)
        for number, (heading, lines) in enumerate(blocks)
    )
    try:
        page.write_text(_PAGE.format(lang=talk.language, title=escape(blocks[0][0]), body=body), encoding="utf-8")
    except OSError as error:
        raise SiteError("JG-site-342", where=str(page), problem=error.strerror or type(error).__name__) from None
