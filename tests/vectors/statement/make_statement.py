"""Write statement.json: the privacy statement of a made-up campaign whose two readings differ.

Usage: python tests/vectors/statement/make_statement.py
"""

from pathlib import Path

from jangin.privacy.releases import Charge, GaussianRelease, Guarantee, Reading, Relation, Unit
from jangin.privacy.statement import Deployment, Mechanism, Promise, ShownTotal, Statement, state

ROUNDS, DELTA = 12, 1e-5


def charge(noise: float) -> Charge:
    opening = (GaussianRelease(4.0 * noise, 1.0, 1),)
    return Charge(Unit.EPISODE, ROUNDS, opening, (GaussianRelease(noise, 0.2, 2),))


def made() -> Statement:
    deployment = Deployment(
        kind="campaign",
        name="steel-2026-11",
        plan_hash="5a" * 32,
        model_line="national-bof-blow",
        process="steel.bof_blow",
        sites=20,
        rounds_planned=ROUNDS,
        rounds_done=ROUNDS - 2,
        rounds_charged=ROUNDS - 1,
    )
    promise = Promise(
        {Reading.SECURE_SUM: charge(2.0), Reading.COALITION: charge(1.0)},
        Guarantee(Unit.EPISODE, Relation.ADD_OR_REMOVE, 2.0, DELTA),
        Mechanism(
            name="M2",
            clip=0.5,
            divisor=100.0,
            windows_per_unit=4,
            c_max=3,
            n_plan=10,
            n_min_final=7,
            honest_shares=4,
        ),
        "secure_sum",
    )
    shown = ShownTotal(
        site="kr-0421", privacy_unit=Unit.EPISODE, reading=Reading.SECURE_SUM, campaigns=3, epsilon=4.25, delta=DELTA
    )
    return state(deployment, promise, runs=2, shown_totals=(shown,))


if __name__ == "__main__":
    (Path(__file__).parent / "statement.json").write_bytes(made().as_json())
