"""Options that several commands share."""

from collections.abc import Sequence
from typing import Annotated

import typer

from jangin.cli.talk import Format, Lang
from jangin.errors import PlanError

__all__ = ["FormatOption", "LangOption", "SetsOption", "assignments"]

FormatOption = Annotated[Format, typer.Option("--format", help="Form of stdout; json ends with one line.")]
LangOption = Annotated[
    Lang | None, typer.Option("--lang", help="Language of messages; default by JANGIN_LANG, else by locale.")
]
SetsOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=V", help="Another value of a key; repeat as needed.")
]


def assignments(items: Sequence[str], option: str = "--set") -> dict[str, str]:
    """The keys and values of an option that is repeated.

    Raises:
        PlanError: JG-plan-003, one without a key or a sign, or a key that came before.
    """
    pairs = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise PlanError("JG-plan-003", where=option, value=item, problem="it is not of the form a.b=value")
        if key in pairs:
            raise PlanError("JG-plan-003", where=option, value=item, problem="the key is given twice")
        pairs[key] = value
    return pairs
