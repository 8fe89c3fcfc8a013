"""What comes of one order that was put to several cells, each with a secure sum of its own (decision 22).

The law: a cell counts as one, whatever its size; one whose sum failed is left out whole; an answer takes more than half
of the cells, and at least `plan.cells.FEWEST_CELLS`, where there are several; the sites of one left out are named.
"""

import logging
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from jangin.errors import ServerError
from jangin.plan.cells import FEWEST_CELLS
from jangin.server.rounds import RoundRecord
from jangin.strategies.base import Gathered

__all__ = ["Cell", "together"]

_log = logging.getLogger(__name__)

Cell = tuple[Sequence[str], Callable[[], tuple[RoundRecord, Gathered]]]
"""The sites of a cell that are asked, and what asks them once: who is in the cell's sum, and the sum, (d,)."""


def together(number: int, cells: Sequence[Cell], *, single: bool) -> tuple[RoundRecord, Gathered]:
    """Ask one cell after another.

    Args:
        number: the round.
        cells: at least one.
        single: whether each cell's mean is kept; else the cells' sums are added up.

    Returns:
        Who took part, and the sum over all of them, (d,), or one row a cell that answered, the mean over those in its
        sum, (rows, d).

    Raises:
        ServerError: what the one cell raises where there is one; JG-server-001, too few cells answered.
        LinkError: JG-server-204, the run has ended.
    """
    records: list[RoundRecord] = []
    sums: list[Gathered] = []
    abstained: dict[str, str] = {}
    missing: list[str] = []
    for sites, ask in cells:
        try:
            record, total = ask()
        except ServerError as error:
            if len(cells) == 1:
                raise
            _log.warning("A cell is left out: %s", error)
            refused = cast("dict[str, str]", error.coded.values.get("abstained", {}))
            abstained |= refused
            missing += [site for site in sites if site not in refused]
        else:
            records.append(record)
            sums.append(total / len(record.reported) if single else total)
            abstained |= record.abstained
            missing += record.missing
    reported = tuple(site for record in records for site in record.reported)
    least = 1 if len(cells) == 1 else max(FEWEST_CELLS, len(cells) // 2 + 1)
    if len(records) < least:
        raise ServerError(
            "JG-server-001",
            where=f"round {number}, {len(records)} of {len(cells)} cells where {least} must answer",
            reported=len(reported),
            quorum=sum(sorted(len(sites) for sites, _ in cells)[:least]),
            abstained=abstained,
            missing=tuple(missing),
        )
    return RoundRecord(number, reported, abstained, tuple(missing)), np.stack(sums) if single else np.sum(sums, axis=0)
