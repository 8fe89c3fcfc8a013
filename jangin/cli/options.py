"""Options that several commands share."""

from typing import Annotated

import typer

from jangin.cli.talk import Format, Lang

__all__ = ["FormatOption", "LangOption"]

FormatOption = Annotated[Format, typer.Option("--format", help="Form of stdout; json ends with one line.")]
LangOption = Annotated[Lang | None, typer.Option("--lang", help="Language of messages; default by locale.")]
