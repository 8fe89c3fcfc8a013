"""Cells: the invited sites of a campaign, split into groups that each have secure sums of their own.

The law: every site is in exactly one cell, sizes differ by at most one, and the split follows from the hash of the plan
and the names of its sites alone, whatever their order; nobody chooses it afterwards (decision 22).
"""

import hashlib
from collections.abc import Iterable
from typing import Final

__all__ = ["FEWEST_CELLS", "split"]

FEWEST_CELLS: Final = 3
"""A rule over fewer rows cannot tell which one is wrong."""

_TAG: Final = b"jangin/cells"


def split(campaign: str, sites: Iterable[str], cells: int) -> tuple[frozenset[str], ...]:
    """The cells of a campaign: sites in the order of SHA-256(tag, plan hash, name), dealt out in turn.

    Tag and hash have one length always, so that no two inputs are written alike.

    Args:
        campaign: hash of its plan, 64 hex digits.
        sites: names of those invited.
        cells: how many, >= 1; where there are fewer sites some cells are empty.
    """
    start = hashlib.sha256(_TAG + bytes.fromhex(campaign))

    def place(site: str) -> bytes:
        digest = start.copy()
        digest.update(site.encode())
        return digest.digest()

    dealt = sorted(set(sites), key=place)
    return tuple(frozenset(dealt[number::cells]) for number in range(cells))
