"""What is said to people, by catalogue: one Fluent file a part and language, configs/words/<language>/<part>.ftl.

Fluent 1.0 (https://projectfluent.org/fluent/guide/) has a message under a key, its values by name, its further texts as
attributes (`D08-ahead.mend`), plural forms, and numbers as the language writes them. The law: both languages have the
same keys, which take the same values; a key or a value that lacks is a bug and never half a sentence; nothing is said
twice, here and in code. Coded errors have catalogues of their own (errors.py).
"""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from jangin.errors import Language

if TYPE_CHECKING:
    from fluent.runtime import FluentBundle

__all__ = ["LANGUAGES", "knows", "say"]

LANGUAGES: Final[tuple[Language, ...]] = ("ko", "en")


def say(part: str, key: str, lang: Language, /, **values: object) -> str:
    """One message with its values filled in.

    Args:
        part: the catalogue: site, consent, ledger or doctor.
        key: of the message; with `.attribute` for one of its further texts.
        lang: the language.
        **values: by name. A number is written as the language writes numbers, `12,000`; anything else as text.

    Raises:
        KeyError: no such message, or a value lacks (a bug in Jangin).
    """
    pattern = _pattern(part, key, lang)
    if pattern is None:
        raise KeyError(f"{part}/{key}")
    given = {name: value if isinstance(value, int | float) else str(value) for name, value in values.items()}
    text, wrong = _bundle(part, lang).format_pattern(pattern, given)  # type: ignore[arg-type]
    if wrong:
        raise KeyError(f"{part}/{key}: {wrong[0]}")
    return str(text)


def knows(part: str, key: str) -> bool:
    """Whether a catalogue has this message, or this further text of one."""
    return _pattern(part, key, "en") is not None


def _pattern(part: str, key: str, lang: Language) -> object | None:
    bundle, (name, _, attribute) = _bundle(part, lang), key.partition(".")
    if not bundle.has_message(name):
        return None
    message = bundle.get_message(name)
    return message.attributes.get(attribute) if attribute else message.value


@cache
def _bundle(part: str, lang: Language) -> "FluentBundle":
    """A part in one language; no marks of direction stand around values, as both run from the left."""
    from fluent.runtime import FluentBundle, FluentResource  # only for who speaks

    text = files("jangin.configs").joinpath("words", lang, f"{part}.ftl").read_text(encoding="utf-8")
    bundle = FluentBundle([lang], use_isolating=False)
    bundle.add_resource(FluentResource(text))
    return bundle
