"""Purposes: what records may be used for, and what no model made from them is ever for.

The law: consents and plans speak of purposes in these words alone, so that one can be checked against the other.
"""

from enum import StrEnum
from typing import Final

__all__ = ["NEVER", "Purpose"]


class Purpose(StrEnum):
    """One use that a master may allow and a plan may ask for."""

    SKILL_PRESERVATION = "skill_preservation"
    """Keeping a way of working for those who come after."""
    TRAINING_OF_NOVICES = "training_of_novices"
    """Something from which beginners learn."""
    SAFETY = "safety"
    """Fewer accidents."""
    QUALITY = "quality"
    """A better or steadier product."""
    RESEARCH = "research"
    """Finding out what works; nothing is put to use."""
    DEMONSTRATION = "demonstration"
    """Showing how it works, with made-up records."""


NEVER: Final = frozenset({"worker_evaluation", "dismissal"})
"""Uses that every plan has to prohibit by name: a model made from masters' records is no yardstick for anybody."""
