"""What a check says: a state, a value, and words in both languages from the catalogue `doctor`.

The law: whoever is told that something is wrong is told the way out, in either language; a coded error brings its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from jangin.errors import CodedText, Language
from jangin.words import LANGUAGES, knows, say

__all__ = ["Finding", "Said", "State", "finding", "title", "word"]

Words = Mapping[Language, str]
Value = str | float | int

_PART = "doctor"


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


def title(check: str) -> Words:
    """What a check looks at, in each language."""
    return {lang: say(_PART, check, lang) for lang in LANGUAGES}


def word(name: str) -> Words:
    """A single word in each language, to stand within others."""
    return {lang: say(_PART, f"any-{name}", lang) for lang in LANGUAGES}


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
    key = f"{check}-{said.saying}"
    if not knows(_PART, key):
        key = f"any-{said.saying}"
    values = {name: given[lang] if isinstance(given, Mapping) else given for name, given in said.values.items()}
    what = say(_PART, key, lang, **values)
    return what, say(_PART, f"{key}.mend", lang, **values) if knows(_PART, f"{key}.mend") else ""
