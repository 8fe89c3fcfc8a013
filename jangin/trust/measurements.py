"""A factory figure that was measured after a campaign: the value that its plan hoped to move, signed by an evaluator.

The law: a figure is somebody's word, and says whose; none is ever changed or taken away, a later one stands beside it.
"""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from jangin.trust.envelope import Hash, Kind, SignedDocument, read_document
from jangin.trust.staff import Role, Staff

__all__ = ["Measurement", "verify_measurement"]


class Measurement(SignedDocument):
    """One figure.

    Attributes:
        campaign: the plan's hash.
        figure: the name of the plan's kpi.
        value: in its unit.
        note: where and how it was measured.
    """

    kind = Kind.MEASUREMENT

    campaign: Hash
    figure: Annotated[str, Field(min_length=1, max_length=100)]
    value: float
    note: Annotated[str, Field(min_length=1, max_length=500)]


def verify_measurement(data: bytes, staff: Staff, now: datetime) -> tuple[Measurement, str]:
    """The figure, if an evaluator signed it; and who that was.

    Raises:
        SiteError: JG-site-110..114 and 116..117 as `Staff.open`, 115 and 119 as `read_document`.
    """
    payload, (evaluator,) = staff.open(data, Kind.MEASUREMENT, (Role.EVALUATOR,), now)
    return read_document(payload, Measurement, now), evaluator.person
