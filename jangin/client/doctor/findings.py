"""What a check says: a state, a value, and words in both languages from configs/doctor/words.yaml.

The law: whoever is told that something is wrong is told the way out, in either language; a coded error brings its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Final, Literal

import yaml
from pydantic import TypeAdapter

from jangin.errors import CodedText, Language

__all__ = ["LANGUAGES", "CheckWords", "Finding", "Said", "State", "finding", "word", "words"]

LANGUAGES: Final[tuple[Language, ...]] = ("ko", "en")

Words = Mapping[Language, str]
Value = str | float | int
Saying = Mapping[Language, tuple[str] | tuple[str, str]]


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"
    SKIPPED = "skipped"


class Said:
    """What a check answers.

    Attributes:
        state: how it came out.
        saying: which of its words; or a coded error, which brings its own.
        value: what was found, for a program.
        values: what fills the words; a mapping is a word in each language.
    """

    def __init__(
        self, state: State, saying: str | CodedText, value: Value | None = None, **values: Value | Words
    ) -> None:
        """Take what fills the words by name."""
        self.state, self.saying, self.value = state, saying, value
        self.values: Mapping[str, Value | Words] = values


@dataclass(frozen=True)
class Finding:
    """What came of one check, in words.

    Attributes:
        check: its id, `D01` to `D20`.
        state: how it came out.
        value: what was found, or None.
        what: one sentence without its full stop, in each language.
        mend: the way out; empty where nothing is to be mended.
    """

    check: str
    state: State
    value: Value | None
    what: Words
    mend: Words

    def line(self, languages: Sequence[Language] = LANGUAGES) -> str:
        """The line of the report: `FAIL D08 what → way out`, in one language or in several."""
        said = (" → ".join(filter(None, (self.what[lang], self.mend[lang]))) for lang in languages)
        return f"{self.state.value} {self.check} {' / '.join(said)}"

    def as_dict(self, lang: Language) -> dict[str, object]:
        """The same for a program."""
        return {
            "id": self.check,
            "state": self.state.value,
            "what": self.what[lang],
            "value": self.value,
            "mend": self.mend[lang],
        }


@dataclass(frozen=True)
class CheckWords:
    """The words of one check.

    Attributes:
        title: what it looks at.
        says: what it may answer: by language what was found and, where it is to be mended, the way out.
    """

    title: Words
    says: Mapping[str, Saying]


@cache
def words() -> Mapping[str, CheckWords]:
    """All words by the check's id; `any` has those that every check may answer, and single words."""
    text = files("jangin.configs").joinpath("doctor", "words.yaml").read_text(encoding="utf-8")
    return TypeAdapter(Mapping[str, CheckWords]).validate_python(yaml.safe_load(text))


def word(name: str) -> Words:
    """A single word in each language, to stand within others."""
    return {lang: said[0] for lang, said in words()["any"].says[name].items()}


def finding(check: str, said: Said) -> Finding:
    """What a check said, in words."""
    shown: Mapping[Language, tuple[str, str]] = {lang: _shown(check, said, lang) for lang in LANGUAGES}
    what, mend = ({lang: texts[place] for lang, texts in shown.items()} for place in (0, 1))
    return Finding(check, said.state, said.value, what, mend)


def _shown(check: str, said: Said, lang: Language) -> tuple[str, str]:
    """What was found, and the way out where it is bad."""
    if isinstance(said.saying, CodedText):
        fields: tuple[Literal["what", "hint"], ...] = ("what", "hint")
        what, mend = (said.saying.text(field, lang).rstrip(".") for field in fields)
        return f"{said.saying.code} {what}", mend
    known = words()[check].says
    texts = (known[said.saying] if said.saying in known else words()["any"].says[said.saying])[lang]
    values = {name: given[lang] if isinstance(given, Mapping) else given for name, given in said.values.items()}
    return texts[0].format(**values), "".join(texts[1:]).format(**values)
