"""The coded errors of every part.

    JanginError            what, the value and the way out, under a code `JG-<part>-<nnn>`
    ├── DataError          records, npz sets, model lines           exit 1
    ├── PlanError          YAML documents and what they ask for     exit 2
    ├── SiteError          what a site refuses, and its keys        exit 1
    ├── PrivacyError       a private step or promise that fails     exit 1
    ├── LinkError          the connection between site and server   exit 1
    ├── ServerError        a round that cannot be finished          exit 1
    └── SimulationError    a simulated federation                   exit 1

A code's words live in configs/errors/<part>.yaml, in English and Korean, and its page in docs/errors/ is
made from them. The law: an error names its values, never a secret, and always ends with a way out.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import ClassVar, Literal

import yaml

Language = Literal["en", "ko"]

__all__ = [
    "CodedText",
    "DataError",
    "JanginError",
    "Language",
    "LinkError",
    "PlanError",
    "PrivacyError",
    "ServerError",
    "SimulationError",
    "SiteError",
    "catalogue",
]


@cache
def catalogue() -> Mapping[str, Mapping[Language, Mapping[str, str]]]:
    """Every code with its words: `{code: {"en" | "ko": {"what", "why", "hint"}}}`."""
    texts: dict[str, Mapping[Language, Mapping[str, str]]] = {}
    for part in sorted(files("jangin.configs").joinpath("errors").iterdir(), key=lambda part: part.name):
        if part.name.endswith(".yaml"):
            texts |= yaml.safe_load(part.read_text(encoding="utf-8")) or {}
    return texts


class CodedText:
    """A code with the values that fill its words; the common form of errors, findings and warnings."""

    def __init__(self, code: str, /, where: str = "", **values: object) -> None:
        """Take `code` from the catalogue; `where` is a file, key or channel; `values` fill the text's fields."""
        self.code, self.where, self.values = code, where, values

    def text(self, field: Literal["what", "why", "hint"] = "what", lang: Language = "en") -> str:
        """One sentence of the catalogue with the values filled in.

        Raises:
            KeyError: the code or one of the text's fields is unknown (a bug in Jangin).
        """
        return catalogue()[self.code][lang][field].format(where=self.where, **self.values).strip()

    def __str__(self) -> str:
        return f"{self.code} {self.text()}"

    def as_dict(self, lang: Language = "en") -> dict[str, object]:
        """The line of `--format json`: code, message, hint, where."""
        return {
            "code": self.code,
            "message": self.text("what", lang),
            "hint": self.text("hint", lang),
            "where": self.where,
        }


class JanginError(Exception):
    """What every part raises for bad input or a refused wish.

    Raise it as `DataError("JG-data-001", where="card.yaml", key="strems", ...)`.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, /, where: str = "", **values: object) -> None:
        """Take the same arguments as `CodedText`."""
        self.coded = CodedText(code, where, **values)
        super().__init__(code)

    @property
    def code(self) -> str:
        """The stable code, e.g. `JG-data-001`."""
        return self.coded.code

    def __str__(self) -> str:
        return f"{self.coded} {self.coded.text('hint')}"


class DataError(JanginError):
    """Records, npz sets or model lines that cannot be used as they are."""


class PlanError(JanginError):
    """A YAML document, or a wish in it, that cannot be carried out."""

    exit_code = 2


class SiteError(JanginError):
    """What a site refuses: a key, a signed document, an order."""


class PrivacyError(JanginError):
    """A privacy promise that would not hold."""


class LinkError(JanginError):
    """A message, or the connection that carries it, that fails between site and server."""


class ServerError(JanginError):
    """A round or campaign that cannot be finished."""


class SimulationError(JanginError):
    """A simulated federation that cannot run."""
