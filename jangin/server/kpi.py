"""Factory figures measured after a campaign, beside the baseline that its plan fixed before.

The law: what is measured is the figure that the plan names, and nothing is ever taken away; each is somebody's signed
word and one entry of the audit log.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select

from jangin.errors import ServerError
from jangin.server import tables
from jangin.server.audit import Note
from jangin.server.store import Store, plan_of
from jangin.trust.envelope import Kind, parsed, peek
from jangin.trust.measurements import Measurement, verify_measurement
from jangin.trust.staff import Staff

__all__ = ["Measured", "measure", "measurements"]


@dataclass(frozen=True)
class Measured:
    """A figure, and the evaluator who signed it."""

    measurement: Measurement
    person: str


def measure(store: Store, envelope: bytes, staff: Staff, now: datetime, document: bytes = b"") -> Measured:
    """Keep a figure that an evaluator measured.

    Args:
        store: the database.
        envelope: the measurement as the evaluator signed it.
        staff: the list in force.
        now: the time.
        document: the signed command; the envelope itself where there was none.

    Raises:
        SiteError: JG-site-110..119 as `verify_measurement`. ServerError: JG-server-330, no such campaign; 452, another
            figure than its plan's.
    """
    measurement, person = verify_measurement(envelope, staff, now)
    campaign, kpi = measurement.campaign, plan_of(store.campaign(measurement.campaign)).kpi
    if kpi is None or measurement.figure != kpi.name:
        expected = None if kpi is None else kpi.name
        raise ServerError("JG-server-452", where=campaign, expected=expected, figure=measurement.figure)
    detail = {"figure": measurement.figure, "value": repr(measurement.value), "note": measurement.note}
    with store.database.writing() as writing:
        writing.execute(insert(tables.measurements).values(campaign=campaign, person=person, envelope=envelope))
        writing.note(Note("campaign", campaign, "measure", person, detail, document or envelope))
    return Measured(measurement, person)


def measurements(store: Store, campaign: str) -> list[Measured]:
    """The figures of a campaign, in the order in which they came."""
    of = tables.measurements.c
    query = select(of.person, of.envelope).where(of.campaign == campaign).order_by(of.number)
    with store.database.reading() as database:
        rows = database.execute(query).all()
    return [Measured(parsed(peek(row.envelope, Kind.MEASUREMENT), Measurement), row.person) for row in rows]
