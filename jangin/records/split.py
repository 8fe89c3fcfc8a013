"""The hold-out rule: which episodes, or masters, are set aside for good.

The law: membership follows from a secret key and the id alone, never from what was measured, and whoever has
been drawn once stays on that side.
"""

import hmac
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from jangin.errors import DataError

__all__ = ["HOLDOUT_SHARE", "KEY_BYTES", "Split", "SplitUnit", "draw", "draw_both_sides", "fraction"]

HOLDOUT_SHARE = 0.2
"""The expected share of units set aside."""

KEY_BYTES = 32
"""Length of the key: the output size of SHA-256, as RFC 2104 section 3 advises."""

SplitUnit = Literal["episode", "master"]


@dataclass(frozen=True)
class Split:
    """The units (episode ids or masters) of each side, in alphabetical order."""

    train: tuple[str, ...] = ()
    holdout: tuple[str, ...] = ()


def fraction(key: bytes, identifier: str) -> float:
    """HMAC-SHA256(key, identifier) (RFC 2104) as a number in [0, 1), of its first 53 bits."""
    return (int.from_bytes(hmac.digest(key, identifier.encode(), "sha256")[:8], "big") >> 11) / 2**53


def draw(key: bytes, units: Iterable[str], earlier: Split = Split()) -> Split:
    """Put every unit on a side: where `earlier` has it, else by its fraction.

    Args:
        key: secret, `KEY_BYTES` long.
        units: the ids that are there now, each counted once.
        earlier: a split that stands.
    """
    placed = dict.fromkeys(earlier.train, False) | dict.fromkeys(earlier.holdout, True)
    aside = {unit: placed.get(unit, fraction(key, unit) < HOLDOUT_SHARE) for unit in sorted(set(units))}
    return Split(
        train=tuple(unit for unit, held in aside.items() if not held),
        holdout=tuple(unit for unit, held in aside.items() if held),
    )


def draw_both_sides(
    keys: Iterable[bytes], units: Collection[str], earlier: Split = Split(), where: str = ""
) -> tuple[bytes, Split]:
    """The first of `keys` whose draw leaves neither side empty, with that draw.

    Raises:
        DataError: JG-data-029 each of them leaves a side empty; `where` names the folder.
    """
    for key in keys:
        split = draw(key, units, earlier)
        if split.train and split.holdout:
            return key, split
    raise DataError("JG-data-029", where=where, units=len(units))
