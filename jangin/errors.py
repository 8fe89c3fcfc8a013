"""The coded errors of every part.

    JanginError            what, the value and the way out, under a code `JG-<part>-<nnn>`
    ├── DataError          records, npz sets, model lines
    ├── PlanError          YAML documents and what they ask for
    ├── SiteError          what a site refuses, and its keys
    ├── PrivacyError       a private step or promise that fails
    ├── LinkError          the connection between site and server
    ├── ServerError        a round that cannot be finished
    ├── SumError           a secure sum that a site or the server ends
    └── SimulationError    a simulated federation

A code's words live in configs/errors/<part>.yaml, in English and Korean, and its page in docs/errors/ is
made from them; its exit status is in `EXITS`. The law: an error names its values as people write them, never a
secret, and always ends with a way out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Any, Final, Literal

import yaml

Language = Literal["en", "ko"]

__all__ = [
    "EXITS",
    "CodedText",
    "DataError",
    "Exit",
    "JanginError",
    "Language",
    "LinkError",
    "PlanError",
    "PrivacyError",
    "ServerError",
    "SimulationError",
    "SiteError",
    "SumError",
    "catalogue",
    "exit_status",
    "one_line",
]


@dataclass(frozen=True)
class Exit:
    """One exit status of every command.

    Attributes:
        status: what the shell sees.
        means: in words.
        codes: pattern of the codes that lead to it; empty where none does.
    """

    status: int
    means: str
    codes: str


EXITS: Final = (
    Exit(0, "done", ""),
    Exit(1, "findings, or refused: records, keys, a privacy promise, a state that does not fit", r"JG-.*"),
    Exit(2, "wrong usage, or a document that cannot be carried out", r"JG-plan-.*|JG-site-388"),
    Exit(3, "cannot reach the server, or what answers is not it", r"JG-site-(20[127]|400)|JG-server-410"),
    Exit(
        4,
        "not allowed: a signature, a role or a key that does not count, or a server that refused",
        r"JG-site-(102|11[2-4678]|12[1-46]|203|301|315|440|45[1-35])|JG-server-(10[1-3]|40[0-7]|416|420|44[26])",
    ),
    Exit(5, "a bug", r"JG-sim-900"),
)
"""All exit statuses; where several patterns fit a code, the last one counts."""


def one_line(error: BaseException) -> str:
    """What an error of somebody else's says, on one line."""
    return " ".join(str(error).split())


def exit_status(code: str) -> int:
    """With what a command ends that meets this code."""
    return max(entry.status for entry in EXITS if re.fullmatch(entry.codes, code))


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
        words = catalogue()[self.code][lang][field]
        return _Words(lang).vformat(words, (), {"where": self.where, **self.values}).strip()

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


class _Words(Formatter):
    """Values as people write them; `!r` marks texts.

    `a, b` for a list, `(8, 3)` for a tuple, which is a shape, `a: b` for a mapping, `none` for nothing. `!h` marks
    another code, and stands for its way out; for nothing where that is not known or needs values of its own.
    """

    def __init__(self, lang: Language) -> None:
        self._lang, self._none = lang, {"en": "none", "ko": "없음"}[lang]

    def format_field(self, value: Any, format_spec: str) -> str:
        return format(self._said(value), format_spec)

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        if conversion == "h":
            hint = catalogue()[value][self._lang]["hint"] if value in catalogue() else ""
            return "" if "{" in hint else hint
        match value:
            case list() if conversion:
                return f"[{self._said(value) if value else ''}]"
            case str() if conversion:
                return super().convert_field(str(value), conversion)
            case bool() | None | tuple() | Mapping() | set() | frozenset():
                return self._said(value)
            case _:
                return super().convert_field(value, conversion)

    def _said(self, value: Any) -> Any:
        match value:
            case None | [] | ():
                return self._none
            case bool():
                return str(value).lower()
            case Mapping():
                return ", ".join(f"{key}: {self._said(one)}" for key, one in value.items()) or self._none
            case tuple():
                return f"({', '.join(str(self._said(one)) for one in value)})"
            case list() | set() | frozenset():
                parts = sorted(value) if isinstance(value, set | frozenset) else value
                return ", ".join(str(self._said(one)) for one in parts) or self._none
            case _:
                return value


class JanginError(Exception):
    """What every part raises for bad input or a refused wish.

    Raise it as `DataError("JG-data-001", where="card.yaml", key="strems", ...)`.
    """

    def __init__(self, code: str, /, where: str = "", **values: object) -> None:
        """Take the same arguments as `CodedText`."""
        self.coded = CodedText(code, where, **values)
        super().__init__(code)

    @property
    def code(self) -> str:
        """The stable code, e.g. `JG-data-001`."""
        return self.coded.code

    @property
    def exit_status(self) -> int:
        """With what a command ends that meets it, as `EXITS` says."""
        return exit_status(self.code)

    def __str__(self) -> str:
        return f"{self.coded} {self.coded.text('hint')}"


class DataError(JanginError):
    """Records, npz sets or model lines that cannot be used as they are."""


class PlanError(JanginError):
    """A YAML document, or a wish in it, that cannot be carried out."""


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


class SumError(JanginError):
    """A message of a secure sum that is not what it has to be, or a sum that protects too little."""
