"""One pass of an arc weld: heat, pool, air and hydrogen, and the master who sets wire and travel.

A pass runs for 6 s as its procedure says; then the master sets the wire feed and the travel for the rest of it.
Welding heat and groove ask for so much wire; water in the air and in the wire brings hydrogen, which makes pores
where there is more of it than in the air in which the procedure was qualified. A master who knows this dilutes
it: on a wet day he gives more wire.

The law: the master acts on the true state (`expert_policy`); all sites and both trades obey the same equations;
the pores lie inside, so that no cue of the 6 s shows the air's water: only who reads hygrometer and thermometer
knows it. Hydrogen in the arc adds to its voltage too, at these traces far below what a voltmeter tells.

Units: mm, g, A, V, kJ/mm of heat, mm/min of travel, m/min of wire, hPa of water, Cel. Arrays are (passes,) or
(passes, samples). A number marked "chosen" is an engineering choice within the sources' usual values.

Sources:
    EN 1011-1:2009 (thermal efficiency of processes) and EN 1011-2:2001, annex D (cooling time t8/5).
    IEC 60974-1 (conventional voltage of an arc by its current).
    Lancaster (ed.), The Physics of Welding, 2nd ed., Pergamon, 1986: field of the arc's column, gas shields.
    Kou, Welding Metallurgy, 2nd ed., Wiley, 2003: hydrogen and porosity, melting, undercut.
    DuPont and Marder, Welding Journal 74 (1995) 406s-416s: melting efficiency.
    Sieverts, Zeitschrift fuer Metallkunde 21 (1929) 37-46: a dissolved gas goes with the root of its pressure.
    ISO 15614-1 (a procedure is qualified once, in the air of that day), ISO 5817 (most porosity of a sound weld).
    Deuschl, Bain and Brin, Movement Disorders 13 (1998) suppl. 3, 2-23: tremor of a healthy hand, 8 to 12 Hz.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.random import Generator
from numpy.typing import NDArray

from jangin.records.generate.air import vapour_pressure
from jangin.records.generate.regime import Regime, around
from jangin.records.generate.sensors import measured, sample_times
from jangin.records.process import Process

__all__ = [
    "FAULTS",
    "REGIONS",
    "WATCH_S",
    "Decision",
    "Region",
    "Trade",
    "WeldState",
    "Welds",
    "arc",
    "draw_welds",
    "expert_policy",
    "motion",
    "rows",
    "streams",
]

Array = NDArray[np.float64]
Cues = dict[str, Array]

WATCH_S = 6.0
"""Length of the watch before the decision, in s (chosen)."""
FIRST_PASS = datetime(2026, 3, 2, tzinfo=UTC)
PASS_INTERVAL = timedelta(minutes=12)

STEEL_G_MM3 = 7.85e-3
MELTING_J_G = 1340.0  # from 25 Cel to liquid at 1500 Cel, DuPont and Marder's 10.5 J/mm3
QUALIFIED_HPA = 12.0  # water of the air in which procedures were qualified: 20 Cel and 51 %, chosen
LOT_HPA = np.array([42.0, 47.0, 52.0, 57.0])  # what the wire's own moisture comes to, by its lot A to D, chosen
LOT_WIDTH = np.array([0.94, 0.98, 1.02, 1.06])  # pool's width by the plate's lot (sulphur, chosen)
AIR_PER_WIND = 0.1  # share by which a wind of 1 m/s lets in more air, chosen
AIR_PER_LOSS = 12.0  # the same when the shielding gas is gone, chosen
PORES_PERCENT = 0.3  # porosity of a weld without excess, chosen
PORES_PER_EXCESS = 8.0  # %, for each unit of hydrogen pressure above the qualified one, chosen
MOST_PORES = 1.5  # %, ISO 5817, quality level C, one layer


@dataclass(frozen=True)
class Trade:
    """What one way of arc welding is like; the procedure's constants (all chosen within the sources' usual values).

    Attributes:
        arc_voltage: V at no current; volts an ampere; V for each mm beside the usual arc length.
        arc_length: mm, as the procedure says.
        arc_efficiency: share of the arc's power that reaches the plate (EN 1011-1).
        melting_efficiency: share of that which melts plate.
        wire: mm, its diameter.
        wire_yield: share of the wire that becomes weld.
        layer: mm, height of the pass.
        bevel: deg, of one flank.
        cooling: s from 800 to 500 Cel.
        regime: where sites operate.
    """

    arc_voltage: tuple[float, float, float]
    arc_length: float
    arc_efficiency: float
    melting_efficiency: float
    wire: float
    wire_yield: float
    layer: float
    bevel: float
    cooling: float
    regime: Regime

    @property
    def gram_per_metre(self) -> float:
        """Weld metal in g from 1 m of wire."""
        return self.wire_yield * STEEL_G_MM3 * 1000 * np.pi * self.wire**2 / 4


@dataclass(frozen=True)
class WeldState:
    """The true state of a pass, each (passes,).

    Attributes:
        power: W of the arc.
        thickness: mm of the plate.
        gap: mm at the root.
        plate_temperature: Cel.
        water: hPa in the air that reaches the arc.
        moisture: hPa, what the wire's own moisture comes to.
    """

    power: Array
    thickness: Array
    gap: Array
    plate_temperature: Array
    water: Array
    moisture: Array


def expert_policy(trade: Trade, state: WeldState) -> tuple[Array, Array]:
    """What an ideal master sets, before habits.

    With heat q that cools as the procedure demands (`heat_for_cooling`), power P, efficiencies k and m, groove A:

        v = 60 k P / (1000 q)                          travel, mm/min
        W = rho A v                                    weld metal that fills the groove, g/min
        B = 60 m k P / h                               plate that melts, g/min
        F = max(W, (B + W) sqrt((p + p_l) / (p_q + p_l)) - B)

    Hydrogen goes into the plate's part of the pool with the root of its pressure (Sieverts), p in the air and p_l
    of the wire's lot; the wire dilutes it. The last line keeps the pool's hydrogen at what it was in the air p_q
    of the qualification, and never leaves the groove unfilled.

    Returns:
        Wire feed in m/min and travel in mm/min.
    """
    travel = travel_for_heat(trade, state)
    groove = groove_metal(trade, state, travel)
    return np.maximum(groove, diluting_metal(trade, state, travel)) / trade.gram_per_metre, travel


def heat_for_cooling(seconds: float, thickness: Array, plate_temperature: Array) -> Array:
    """Heat in kJ/mm after which the weld takes `seconds` from 800 to 500 Cel (EN 1011-2, annex D, butt weld).

    t = (6700 - 5 T) q (1 / (500 - T) - 1 / (800 - T)) where heat flows into the depth of the plate, and
    t = (4300 - 4.3 T) 1e5 q^2 / d^2 (1 / (500 - T)^2 - 1 / (800 - T)^2) where it flows only along it; the
    plate cools by the slower of the two.
    """
    t = plate_temperature
    deep = seconds / ((6700 - 5 * t) * (1 / (500 - t) - 1 / (800 - t)))
    flat = thickness * np.sqrt(seconds / ((4300 - 4.3 * t) * 1e5 * (1 / (500 - t) ** 2 - 1 / (800 - t) ** 2)))
    heat: Array = np.minimum(deep, flat)
    return heat


def travel_for_heat(trade: Trade, state: WeldState) -> Array:
    """Travel in mm/min at which the arc gives the heat that the procedure's cooling time asks for."""
    heat = heat_for_cooling(trade.cooling, state.thickness, state.plate_temperature)
    return 60 * trade.arc_efficiency * state.power / (1000 * heat)


def groove_metal(trade: Trade, state: WeldState, travel: Array) -> Array:
    """Weld metal in g/min that fills gap and bevels to the height of the layer."""
    area: Array = state.gap * trade.layer + trade.layer**2 * np.tan(np.deg2rad(trade.bevel))
    return STEEL_G_MM3 * area * travel


def melted_plate(trade: Trade, power: Array) -> Array:
    """Plate that melts, in g/min."""
    return 60 * trade.melting_efficiency * trade.arc_efficiency * power / MELTING_J_G


def hydrogen(water: Array, moisture: Array) -> Array:
    """Hydrogen in the plate's part of the pool beside that of the qualification (Sieverts)."""
    return np.sqrt((water + moisture) / (QUALIFIED_HPA + moisture))


def diluting_metal(trade: Trade, state: WeldState, travel: Array) -> Array:
    """Weld metal in g/min that dilutes the pool's hydrogen to that of the qualification."""
    plate = melted_plate(trade, state.power)
    whole = plate + groove_metal(trade, state, travel)
    return whole * hydrogen(state.water, state.moisture) - plate


def porosity(trade: Trade, state: WeldState, metal: Array, travel: Array) -> Array:
    """Pores in %: with the excess of hydrogen's pressure, its concentration squared, above the qualified one."""
    plate = melted_plate(trade, state.power)
    diluted = (plate + groove_metal(trade, state, travel)) / (plate + metal)
    excess = (hydrogen(state.water, state.moisture) * diluted) ** 2 - 1
    return PORES_PERCENT + PORES_PER_EXCESS * np.maximum(excess, 0.0)


@dataclass(frozen=True)
class Region:
    """The weather of a region (all chosen).

    Attributes:
        temperature: Cel, where its sites lie.
        relative: % in fair weather, where its sites lie.
        rain: share of passes that are welded in rain.
    """

    temperature: tuple[float, float]
    relative: tuple[float, float]
    rain: float


REGIONS: Mapping[str, Region] = {
    "coast": Region((14.0, 28.0), (55.0, 72.0), 0.5),
    "plain": Region((10.0, 26.0), (40.0, 58.0), 0.25),
    "inland": Region((16.0, 24.0), (22.0, 34.0), 0.0),
}
"""Sites lie in these in turn. Inland it never rained while records were made."""
RAIN_RELATIVE = (86.0, 98.0)  # %, chosen

FAULTS = ("none", "porosity", "inclusion", "undercut")
"""What may come of a pass. By the faults of the watch: gas that fails, an arc that flickers, a torch held askew."""
FAULT_SHARES = (0.76, 0.08, 0.08, 0.08)  # chosen
FLICKERS = 24  # most breaks of an arc in a watch, chosen


@dataclass(frozen=True)
class Welds:
    """One site's passes; `values` and `flicker` hold the truth behind the cues.

    Attributes:
        trade: which.
        state: at the decision.
        values: further numbers by name, each (passes,).
        fault: place in `FAULTS`, (passes,).
        severity: of the fault, 0 to 1, (passes,).
        flicker: s, when the arc breaks, (passes, FLICKERS); infinite where it does not.
    """

    trade: Trade
    state: WeldState
    values: Mapping[str, Array]
    fault: NDArray[np.int64]
    severity: Array
    flicker: Array

    def __getitem__(self, name: str) -> Array:
        """One number of each pass as a column, (passes, 1)."""
        return self.values[name][:, None]

    def of(self, fault: str) -> Array:
        """How severe one fault is, (passes,); 0 where it is another or none."""
        return np.where(self.fault == FAULTS.index(fault), self.severity, 0.0)


def draw_welds(
    rng: Generator,
    trade: Trade,
    middle: Mapping[str, float],
    region: Region,
    masters: int,
    passes: int,
) -> Welds:
    """Passes around a site's place in its region's weather, by masters in turn, each with a hand of his own."""
    master = np.arange(passes) % masters
    value = {"wind": np.zeros(passes)} | around(rng, trade.regime, middle, passes)
    value["ambient_temperature"] = _within(region.temperature, middle["warmth"]) + rng.uniform(-3, 3, passes)
    fair = _within(region.relative, middle["damp"]) + rng.uniform(-6, 6, passes)
    wet = rng.random(passes) < region.rain
    value["humidity"] = np.where(wet, rng.uniform(*RAIN_RELATIVE, passes), fair)
    turn = np.arange(passes) // 20 % 2  # two lots lie open and are used in turn
    value["filler_lot"], value["base_lot"] = (rng.choice(4, 2, replace=False).astype(float)[turn] for _ in range(2))

    fault = rng.choice(len(FAULTS), passes, p=FAULT_SHARES)
    severity = np.where(fault > 0, rng.uniform(0.4, 1.0, passes), 0.0)
    askew = np.where(fault == FAULTS.index("undercut"), severity, 0.0)
    value["fault_s"] = rng.uniform(0.5, 3.0, passes)
    breaks = rng.uniform(0, 1, (passes, FLICKERS)) * (WATCH_S - value["fault_s"][:, None]) + value["fault_s"][:, None]
    flickers = (fault == FAULTS.index("inclusion"))[:, None] & (rng.random(breaks.shape) < severity[:, None])

    hand = rng.standard_normal((4, masters))[:, master]
    value["arc_length"] = trade.arc_length * (value["arc_length"] + 0.05 * hand[0] + 0.35 * askew)
    value["tremor"] = value["tremor"] * np.exp(0.25 * hand[1]) * (1 + 1.2 * askew)
    value["tremor_hz"] = np.clip(10 + hand[2] + 0.3 * rng.standard_normal(passes), 8, 12)
    value["weave_hz"] = np.clip(1.2 + 0.15 * hand[3] + 0.05 * rng.standard_normal(passes), 0.6, 2)
    value["lean"] = 12 + 2 * rng.standard_normal(passes) + 14 * askew
    for phase in ("phase_x", "phase_y", "phase_z", "phase_drift"):
        value[phase] = rng.uniform(0, 2 * np.pi, passes)
    value["power"] = value["current"] * arc_voltage(trade, value["current"], value["arc_length"])
    water = vapour_pressure(value["humidity"], value["ambient_temperature"]) / 100
    moisture = LOT_HPA[value["filler_lot"].astype(int)]
    state = WeldState(
        value["power"],
        value["thickness"],
        value["gap"],
        value["plate_temperature"],
        water * (1 + AIR_PER_WIND * value["wind"]),
        moisture,
    )
    usual = replace(state, gap=np.full(passes, middle["gap"]), plate_temperature=np.full(passes, 20.0))
    value["travel"] = travel_for_heat(trade, usual)  # of the watch, by the procedure: a cold plate, the usual gap
    value["wire_feed"] = groove_metal(trade, usual, value["travel"]) / trade.gram_per_metre
    return Welds(trade, state, value, fault, severity, np.where(flickers, breaks, np.inf))


def _within(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])


def arc_voltage(trade: Trade, current: Array, length: Array) -> Array:
    """V: the conventional line of IEC 60974-1, and the column's field for every mm beside the usual length."""
    base, slope, field = trade.arc_voltage
    return base + slope * current + field * (length - trade.arc_length)


def tremor(welds: Welds, axis: str, times: Array) -> Array:
    """Acceleration of the hand in m/s2 along one axis, (passes, samples)."""
    return welds["tremor"] * np.sin(2 * np.pi * welds["tremor_hz"] * times + welds[f"phase_{axis}"])


def flickering(welds: Welds, times: Array, decay_s: float) -> Array:
    """How broken the arc is: each break falls off with `decay_s`, (passes, samples)."""
    broken = np.zeros((len(welds.fault), len(times)))
    for pass_ in np.flatnonzero(np.isfinite(welds.flicker).any(axis=1)):
        since = times - welds.flicker[pass_, np.isfinite(welds.flicker[pass_]), None]
        broken[pass_] = np.where(since >= 0, np.exp(-np.maximum(since, 0.0) / decay_s), 0.0).sum(axis=0)
    return np.minimum(broken, 1.5)


def gas_flow(welds: Welds, times: Array) -> Array:
    """L/min of shielding gas; where it fails it falls within about .3 s (chosen)."""
    failed = 1 / (1 + np.exp(-(times - welds["fault_s"]) / 0.1))
    return welds["gas_flow"] * (1 - 0.95 * welds.of("porosity")[:, None] * failed)


def arc(welds: Welds, times: Array) -> Cues:
    """The source's own instruments: the hand's tremor moves the arc's length and so its voltage.

    Moving with acceleration a at f Hz the length swings by a / (2 pi f)^2. A break costs current and adds
    voltage (15 % and 4 V, chosen).
    """
    swing = 1000 * tremor(welds, "z", times) / (2 * np.pi * welds["tremor_hz"]) ** 2
    broken = flickering(welds, times, 0.05)
    current = welds["current"] * (1 - 0.15 * broken)
    return {
        "current": current,
        "voltage": arc_voltage(welds.trade, current, welds["arc_length"] - swing) + 4 * broken,
        "wire_feed": welds["wire_feed"] * np.ones_like(times),
        "gas_flow": gas_flow(welds, times),
    }


def motion(welds: Welds, times: Array) -> Cues:
    """The torch: tremor in all directions, weaving across the groove, and its two angles with a slow drift."""
    weave = 2 * np.pi * welds["weave_hz"]
    drift = np.sin(2 * np.pi * 0.3 * times + welds["phase_drift"])
    across = -welds["weave"] / 1000 * weave**2 * np.sin(weave * times)
    return {
        "acceleration_x": 0.6 * tremor(welds, "x", times),
        "acceleration_y": 0.8 * tremor(welds, "y", times) + across,
        "acceleration_z": tremor(welds, "z", times),
        "work_angle": 90 + 2 * drift + 3 * np.sin(weave * times),
        "travel_angle": welds["lean"] + 1.5 * drift,
    }


@dataclass(frozen=True)
class Decision:
    """What masters set and what came of it, each (passes,).

    Attributes:
        filler: m/min of wire.
        travel: mm/min.
        porosity: %.
        fault: place in `FAULTS` of what the finished pass shows.
    """

    filler: Array
    travel: Array
    porosity: Array
    fault: NDArray[np.int64]


def decide(rng: Generator, welds: Welds, master: NDArray[np.int64]) -> Decision:
    """The policy, bent by each master's habits (chosen), and its outcome.

    Habits: 2 % more or less wire, 15 % more or less of what a wet day adds, 1.5 % more or less travel; from pass
    to pass 1.5 % of both. A fault of the watch that is not of the gas shows in the finished pass as often as it
    is severe.
    """
    trade, state = welds.trade, welds.state
    wire, wet, speed = np.array([[0.02], [0.15], [0.015]]) * rng.standard_normal((3, int(master.max()) + 1))
    scatter = 1 + 0.015 * rng.standard_normal((2, len(master)))
    _, ideal = expert_policy(trade, state)
    travel = ideal * (1 + speed[master]) * scatter[0]
    groove = groove_metal(trade, state, travel)
    added = np.maximum(diluting_metal(trade, state, travel) - groove, 0.0)
    metal = (groove + (1 + wet[master]) * added) * (1 + wire[master]) * scatter[1]
    lost = replace(state, water=state.water * (1 + AIR_PER_LOSS * welds.of("porosity")))
    pores = porosity(trade, lost, metal, travel) * np.exp(0.3 * rng.standard_normal(len(master)))
    shown = np.where((welds.fault > 1) & (rng.random(len(master)) < welds.severity), welds.fault, 0)
    shown = np.where((shown == 0) & (pores > MOST_PORES), FAULTS.index("porosity"), shown)
    return Decision(metal / trade.gram_per_metre, travel, pores, shown)


def rows(rng: Generator, process: Process, site: int, welds: Welds, masters: int) -> pa.Table:
    """The episodes' rows of one site, instruments read with their errors (chosen)."""
    passes = len(welds.fault)
    master, value = np.arange(passes) % masters, welds.values
    decision = decide(rng, welds, master)
    lots = {f.name: f.values or () for f in process.context if f.values}
    errors = rng.standard_normal((5, passes))
    hygrometer, thermometer = 2 * rng.standard_normal(), 0.5 * rng.standard_normal()
    calm = 4.5 - 3 * welds.of("inclusion") - 2 * welds.of("undercut") - welds.of("porosity")
    calm = calm + rng.normal(0, 0.4, int(master.max()) + 1)[master]
    return pa.table(
        {
            "episode_id": [f"S{site}-P{number:06d}" for number in range(passes)],
            "master": [f"S{site}-M{number:02d}" for number in master],
            "start_utc": [FIRST_PASS + number * PASS_INTERVAL for number in range(passes)],
            "duration_s": np.full(passes, WATCH_S),
            "context.humidity": np.clip(value["humidity"] + hygrometer + 1.5 * errors[0], 0, 100),
            "context.ambient_temperature": value["ambient_temperature"] + thermometer + 0.3 * errors[1],
            "context.wind": value["wind"],
            "context.plate_temperature": value["plate_temperature"] + 2 * errors[2],
            "context.thickness": value["thickness"] + 0.05 * errors[3],
            "context.gap": value["gap"] + 0.05 * errors[4],
            **{
                f"context.{name}": [words[number] for number in value[name].astype(int)] for name, words in lots.items()
            },
            "action.filler": decision.filler,
            "action.travel_speed": decision.travel,
            "judgement.arc_calm": np.clip(np.round(calm), 1, 5),
            "outcome.porosity": np.minimum(decision.porosity, 30.0),
            "outcome.defect": (decision.fault > 0).astype(float),
            "outcome.defect_kind": [FAULTS[number] for number in decision.fault],
            "consent_id": [f"C-S{site}-M{number:02d}" for number in master],
        }
    )


def streams(
    rng: Generator, process: Process, welds: Welds, ids: pa.Array, cues: Mapping[str, Callable[[Welds, Array], Cues]]
) -> dict[str, pa.Table]:
    """The streams that are rows, as the site's sensors show them."""
    made = {}
    for stream in process.streams:
        if stream.media is None:
            times = sample_times(stream, WATCH_S)
            made[stream.name] = measured(rng, stream, cues[stream.name](welds, times), times, ids)
    return made
