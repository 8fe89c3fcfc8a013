"""A basic-oxygen converter in the last stage of the blow: physics, masters and sensors of `steel.bof_blow`.

A heat is watched for 30 s; then the master decides how much oxygen is still to be blown and for how long.
Carbon, temperature and slag of the bath are hidden; 74 cue channels show them through physics and noise.

The law: the master acts on the true state (`expert_policy`), the cues show the true state, and every site
obeys the same equations; sites differ in where they operate, in their sensors' errors and in their masters'
habits.

Units: carbon and other shares of the metal in % (mass), temperatures in Cel, heat in MJ per tonne of metal,
oxygen in Nm3 per tonne (0 Cel, 101.325 kPa) and flows in Nm3 per minute and tonne unless a name says
otherwise. Arrays are (heats,) or (heats, samples). A number marked "chosen" is an engineering choice within
the sources' usual values.

Sources:
    Deo and Boom, Fundamentals of Steelmaking Metallurgy, Prentice Hall, 1993: three stages of
        decarburisation, heat balance and dynamic control of the converter.
    Turkdogan, Fundamentals of Steelmaking, Institute of Materials, 1996: slag practice and reaction heats.
    Fruehan (ed.), The Making, Shaping and Treating of Steel: Steelmaking and Refining, 11th ed., AISE, 1998:
        usual charges, flows and off-gas of converters.
    Chase, NIST-JANAF Thermochemical Tables, 4th ed., 1998: enthalpies of formation.
    Ito and Fruehan, Metallurgical Transactions B 20 (1989) 509-521: foam height is a foaming index times the
        superficial gas velocity.
    Nakanishi, Fujii and Szekely, Ironmaking and Steelmaking 2 (1975) 193-197: stirring power of a gas.
    Planck, Annalen der Physik 309 (1901) 553-563, in Wien's limit: radiance of the flame.
    Heskestad, Fire Safety Journal 5 (1983) 103-108: height of a turbulent flame.
    Cetegen and Ahmed, Combustion and Flame 93 (1993) 157-184: a fire puffs at 1.5 / sqrt(diameter).
    Lighthill, Proceedings of the Royal Society A 211 (1952) 564-587: noise of a jet.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from jangin.records.generate.air import absolute_humidity
from jangin.records.generate.regime import Regime, around, centre
from jangin.records.generate.sensors import Made, measured, sample_times
from jangin.records.process import Process

__all__ = ["WINDOW_S", "BathState", "expert_policy", "make_site"]

Array = NDArray[np.float64]
Cues = dict[str, Array]

WINDOW_S = 30.0
"""Length of the watch before the decision, in s (chosen)."""
FIRST_HEAT = datetime(2026, 1, 5, tzinfo=UTC)
HEAT_INTERVAL = timedelta(minutes=45)

# Oxygen: C + 1/2 O2 = CO, and for the post-combusted share CO + 1/2 O2 = CO2.
MOLAR_VOLUME = 22.414  # Nm3/kmol
POST_COMBUSTION = 0.10  # share of CO burnt inside the vessel, chosen
OXYGEN_PER_CARBON = 10 * MOLAR_VOLUME / 2 / 12.011 * (1 + POST_COMBUSTION)  # Nm3/t for 1 % of carbon: 10.26
OXYGEN_PER_KG = {"silicon": 0.798, "manganese": 0.204, "phosphorus": 0.905}  # SiO2, MnO, P2O5
CARBON_FLOOR = 0.012  # %, carbon in balance with the slag at the end, chosen
CARBON_SCALE = 0.15  # %, below about twice this the bath can no longer feed the jet with carbon, chosen

# Heat. Enthalpies of formation (JANAF, kJ/mol): CO -110.5, CO2 -393.5, SiO2 -910.9, FeO -272.0.
# Carbon: to CO, half of the heat of post-combustion, less that of the hot gas. Iron: 4.98 kg at 4.87 MJ/kg,
# less that of the oxygen. Silicon, manganese, phosphorus: less that of their oxides.
CARBON_HEAT = 10 * (9.20 + 0.5 * POST_COMBUSTION * 23.6 - 4.33)  # MJ/t for 1 %
IRON_HEAT = 21.7  # MJ for each Nm3 of oxygen that burns iron
ELEMENT_HEAT = {"silicon": 260.0, "manganese": 60.0, "phosphorus": 200.0}  # MJ/t for 1 %
BATH_HEAT_CAPACITY = 0.95  # MJ/(t K), metal .82 and its slag
METAL_HEAT_CAPACITY = 0.82
SCRAP_HEAT = 1380.0  # MJ/t to 1600 Cel
LIME_HEAT = 1.5  # MJ/kg from 25 to 1600 Cel
MOISTURE_HEAT = 0.32  # MJ/t for each g/m3 of water in the air: wet scrap and lime bring .02 kg/t, chosen
HEAT_LOSS = 0.025  # MJ/(t s), chosen
# Ore that cools brings oxygen: 5.2 MJ/kg to reduce, 1.6 to melt, .21 Nm3/kg. Ferrosilicon that warms takes
# it: .80 Nm3 and 26 MJ for a kilogram of silicon. Both come to about:
OXYGEN_PER_HEAT = 0.031  # Nm3/MJ

# The masters' decision (chosen).
NOMINAL_FLOW = 3.4
SOFTER_PER_METRE = 0.04
NOMINAL_FOAM_M = 3.0
NOMINAL_MASS_T = 280.0
HIT_CARBON, HIT_TEMPERATURE = 0.012, 12.0


@dataclass(frozen=True)
class BathState:
    """The true state of the bath at the decision, each of shape (heats,).

    Attributes:
        carbon: %.
        temperature: Cel.
        foam_height: m, of the slag above the bath.
        steel_mass: t.
    """

    carbon: Array
    temperature: Array
    foam_height: Array
    steel_mass: Array


def expert_policy(state: BathState, target_carbon: Array, target_temperature: Array) -> tuple[Array, Array]:
    """What a perfect balance would blow: the decision of an ideal master, before habits.

    With k = `OXYGEN_PER_CARBON`, s = `CARBON_SCALE`, c0 = `CARBON_FLOOR`, bath (c, T), targets (c*, T*), mass
    M and foam height h:

        v_c = k s ln[(exp((c - c0) / s) - 1) / (exp((c* - c0) / s) - 1)]      carbon, see `oxygen_to_reach`
        T_c = T + temperature_gain(c - c*, v_c)                               where that alone leads
        v   = v_c + OXYGEN_PER_HEAT BATH_HEAT_CAPACITY (T* - T_c)             ore or silicon
        F   = 3.4 exp(-0.04 (h - 3))                                          softer into a foaming slag
        volume = M v,   duration = 60 v / F

    Returns:
        Oxygen volume in Nm3 and blow duration in s, each (heats,).
    """
    volume, duration, _ = _balance(state, target_carbon, target_temperature)
    return volume, duration


def _balance(state: BathState, target_carbon: Array, target_temperature: Array) -> tuple[Array, Array, Array]:
    """Volume, duration, and the part v_c that goes to carbon."""
    for_carbon = oxygen_to_reach(state.carbon, target_carbon)
    reached = state.temperature + temperature_gain(state.carbon - target_carbon, for_carbon)
    oxygen = for_carbon + OXYGEN_PER_HEAT * BATH_HEAT_CAPACITY * (target_temperature - reached)
    flow = NOMINAL_FLOW * np.exp(-SOFTER_PER_METRE * (state.foam_height - NOMINAL_FOAM_M))
    return state.steel_mass * oxygen, 60 * oxygen / flow, for_carbon


def decarburising_share(carbon: Array) -> Array:
    """Share of the oxygen that burns carbon: the falling rate of the third stage, exponential (chosen).

    g(c) = 1 - exp(-(c - c0) / s); the rest burns iron (Deo and Boom, 1993).
    """
    return 1 - np.exp(-(carbon - CARBON_FLOOR) / CARBON_SCALE)


def oxygen_to_reach(carbon: Array, target: Array) -> Array:
    """Oxygen in Nm3/t from `carbon` down to `target`: the integral of k dc / g(c)."""
    start: Array = np.expm1((carbon - CARBON_FLOOR) / CARBON_SCALE)
    end: Array = np.expm1((target - CARBON_FLOOR) / CARBON_SCALE)
    return OXYGEN_PER_CARBON * CARBON_SCALE * np.log(start / end)


def carbon_after(carbon: Array, oxygen: Array) -> Array:
    """Carbon in % after `oxygen` Nm3/t, or before it where negative: the inverse of `oxygen_to_reach`."""
    spent = np.exp(-oxygen / (OXYGEN_PER_CARBON * CARBON_SCALE))
    left: Array = np.log1p(spent * np.expm1((carbon - CARBON_FLOOR) / CARBON_SCALE))
    return CARBON_FLOOR + CARBON_SCALE * left


def temperature_gain(burnt: Array, oxygen: Array) -> Array:
    """Rise of the bath in K while `oxygen` Nm3/t burns `burnt` % of carbon and iron; both may be negative."""
    seconds = 60 * oxygen / NOMINAL_FLOW
    heat = CARBON_HEAT * burnt + IRON_HEAT * (oxygen - OXYGEN_PER_CARBON * burnt) - HEAT_LOSS * seconds
    return heat / BATH_HEAT_CAPACITY


REGIME: Regime = {
    "carbon": (0.25, 0.50, 2),
    "target_carbon": (0.030, 0.100, 3),
    "target_temperature": (1630.0, 1690.0, 5),
    "steel_mass": (240.0, 320.0, 7),
    "silicon": (0.25, 0.75, 11),
    "hot_metal_temperature": (1290.0, 1400.0, 13),
    "hot_metal_carbon": (4.2, 4.7, 19),
    "manganese": (0.15, 0.45, 23),
    "phosphorus": (0.06, 0.14, 29),
    "humidity": (30.0, 90.0, 31),
    "ambient_temperature": (2.0, 32.0, 37),
    "flow": (3.0, 3.7, 43),
    "lance_height": (1.6, 2.2, 47),
    "foaming_index": (0.36, 0.56, 53),
    "temperature_bias": (-10.0, 10.0, 59),
}
"""Where sites operate (all chosen)."""


@dataclass(frozen=True)
class Heat:
    """One site's heats, true values of shape (heats,); see `REGIME` and the process for what they are."""

    state: BathState
    values: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.values[name]


def draw_heats(rng: Generator, middle: Mapping[str, float], heats: int) -> Heat:
    """Heats around a regime's centre, charged by a static balance and blown up to the decision.

    The charge calculation picks the scrap that would bring the bath, at the planned carbon, to the
    temperature from which the carbon blow alone reaches the target. What it does not know - water in the
    charge, weights, the scrap's kind (9 K, chosen), the carbon really left - moves the bath away from it.
    """
    value = around(rng, REGIME, middle, heats)
    planned = np.full(heats, middle["carbon"])
    for_carbon = oxygen_to_reach(planned, value["target_carbon"])
    start = value["target_temperature"] - temperature_gain(planned - value["target_carbon"], for_carbon)
    value["lime"] = 12 + 63 * value["silicon"]  # kg/t: a base, and basicity 3.2 on the silica (chosen)
    value["scrap_ratio"] = _scrap_for(start + value["temperature_bias"], planned, value)
    value["water"] = absolute_humidity(value["humidity"], value["ambient_temperature"])
    temperature = (
        1600
        + _charge_heat(value["scrap_ratio"], value["carbon"], value) / BATH_HEAT_CAPACITY
        - MOISTURE_HEAT * (value["water"] - 8) / BATH_HEAT_CAPACITY
        + rng.normal(0, 9, heats)
    )
    slag = 45 + 1.67 * value["lime"]  # kg/t: lime, its silica, and iron oxide (chosen)
    value["foaming_index"] = value["foaming_index"] * slag / 100 * np.exp(rng.normal(0, 0.1, heats))
    foam = foam_height(value["carbon"], temperature, value["flow"], value["foaming_index"])
    burnt = {name: 10 * (1 - value["scrap_ratio"]) * value[name] for name in OXYGEN_PER_KG}
    carbon_loss = (1 - value["scrap_ratio"]) * value["hot_metal_carbon"] - value["carbon"]
    for_others = 3.0 + sum(OXYGEN_PER_KG[name] * kilograms for name, kilograms in burnt.items())  # 3 for iron
    value["oxygen_blown"] = OXYGEN_PER_CARBON * carbon_loss + for_others
    turn, order = np.divmod(np.arange(heats), 20)
    vessel = turn % 2  # a shop blows 20 heats in one of two vessels, then in the other
    value["lot"] = rng.choice(4, 2, replace=False).astype(float)[vessel]
    value["vessel_age"] = np.round(rng.uniform(200, 2500, 2))[vessel] + 20 * (turn // 2) + order
    return Heat(BathState(value["carbon"], temperature, foam, value["steel_mass"]), value)


def _charge_heat(scrap: Array, carbon: Array, value: Mapping[str, Array]) -> Array:
    """Heat in MJ/t beyond a bath of 1600 Cel: hot metal, oxidation; scrap, lime, losses (25 MJ/t, chosen)."""
    return (
        (1 - scrap) * _hot_metal_heat(value)
        - CARBON_HEAT * carbon
        + 52  # 12 kg/t of iron burnt before the last stage, chosen
        - scrap * SCRAP_HEAT
        - LIME_HEAT * value["lime"]
        - 25
    )


def _scrap_for(temperature: Array, carbon: Array, value: Mapping[str, Array]) -> Array:
    """The scrap ratio at which `_charge_heat` gives a bath of `temperature`; the balance is linear in it."""
    none = _charge_heat(np.zeros_like(carbon), carbon, value)
    return (none - BATH_HEAT_CAPACITY * (temperature - 1600)) / (_hot_metal_heat(value) + SCRAP_HEAT)


def _hot_metal_heat(value: Mapping[str, Array]) -> Array:
    """Heat in MJ per tonne of hot metal beyond 1600 Cel once all its carbon, silicon, ... is burnt."""
    sensible = METAL_HEAT_CAPACITY * (value["hot_metal_temperature"] - 1600)
    oxidation = sum(heat * value[name] for name, heat in ELEMENT_HEAT.items())
    return sensible + oxidation + CARBON_HEAT * value["hot_metal_carbon"]


def gas_flow(carbon: Array, flow: Array) -> Array:
    """CO and CO2 leaving the bath, Nm3/(min t): 22.414 / 12.011 Nm3 for each kg of carbon."""
    return flow * decarburising_share(carbon) / OXYGEN_PER_CARBON * 10 * MOLAR_VOLUME / 12.011


def foam_height(carbon: Array, temperature: Array, flow: Array, foaming_index: Array) -> Array:
    """Height in m: foaming index (s) times gas velocity (Ito and Fruehan, 1989), .1 m2 a tonne (chosen)."""
    return foaming_index * gas_flow(carbon, flow) / 60 / 0.1 * (temperature + 273.15) / 273.15


@dataclass(frozen=True)
class Watch:
    """A heat's last 30 s at one stream's sample times; arrays of shape (heats, samples) or (heats, 1)."""

    heat: Heat
    t: Array
    carbon: Array
    temperature: Array
    flow: Array
    foam: Array

    def __getitem__(self, name: str) -> Array:
        return self.heat[name][:, None]

    @property
    def rate(self) -> Array:
        """Decarburisation relative to a carbon-rich bath under the nominal flow."""
        return decarburising_share(self.carbon) * self.flow / NOMINAL_FLOW

    @property
    def flame_temperature(self) -> Array:
        """Cel; gas leaves with the bath's temperature and burns at the mouth (20 to 80 K, chosen)."""
        return self.temperature + 20 + 60 * self.rate

    @property
    def flame_thickness(self) -> Array:
        """Optical thickness of the dusty flame; it clears as decarburisation ebbs (chosen)."""
        return 0.35 + 1.2 * self.rate


def watch(heat: Heat, times: Array) -> Watch:
    """Wind the bath back from the decision: `times` in s from the start of the watch, shape (samples,)."""
    flow = heat["flow"][:, None]
    oxygen = flow * (WINDOW_S - times) / 60
    last = heat.state.carbon[:, None]
    carbon = carbon_after(last, -oxygen)
    temperature = heat.state.temperature[:, None] - temperature_gain(carbon - last, oxygen)
    foam = foam_height(carbon, temperature, flow, heat["foaming_index"][:, None])
    return Watch(heat, times, carbon, temperature, flow, foam)


FLAME_BANDS_NM = (450, 500, 550, 600, 650, 700, 750, 820, 880, 940)
REFERENCE_K = 1923.15


def flame(w: Watch) -> Cues:
    """Spectral bands beside a black body of 1650 Cel, ratio pyrometry, and the flame's shape in the image.

    Band i: exp(-(c2 / lambda)(1/T - 1/T_ref)) times emissivity, through air whose vapour absorbs at 820 and
    940 nm. The ratio temperature inverts two bands as a two-colour pyrometer does. Height: .235 Q^(2/5) -
    1.02 D, Q in kW of the 2 % of CO that burns in sight above a mouth of D = 3 m (Heskestad, 1983; 2 %
    chosen).
    """
    kelvin = w.flame_temperature + 273.15
    emissivity = 1 - np.exp(-w.flame_thickness)
    vapour = {820: 0.002, 940: 0.010}  # per g/m3 on the path to the camera, chosen
    bands = {
        nm: emissivity * np.exp(-1.4388e7 / nm * (1 / kelvin - 1 / REFERENCE_K) - vapour.get(nm, 0.0) * w["water"])
        for nm in FLAME_BANDS_NM
    }
    ratio = np.log(bands[650] / bands[880]) / (1.4388e7 * (1 / 650 - 1 / 880))
    heat_kw = 0.02 * gas_flow(w.carbon, w.flow) * NOMINAL_MASS_T / 60 * 12630
    height = 0.235 * heat_kw**0.4 - 1.02 * 3.0
    width = 1.6 + 1.2 * w.rate
    return {f"band_{nm}": band for nm, band in bands.items()} | {
        "ratio_temperature": 1 / (1 / REFERENCE_K - ratio) - 273.15,
        "height": height,
        "width": width,
        "area": 0.7 * height * width,
        "flicker": 1.5 / np.sqrt(width),
        "transparency": 1 - emissivity,
        "contrast": 0.25 + 0.35 * w.rate - 0.03 * w.foam,
        "redness": bands[650] / bands[550],
        "blueness": bands[450] / bands[550],
        "brightness": (bands[450] + bands[550] + bands[650]) / 3,
    }


SOUND_BANDS_HZ = (100, 125, 160, 200, 250, 315, 400, 500, 630, 800, 1000, 1250, 1600, 2000, 2500, 3150)


def sound(w: Watch) -> Cues:
    """Third-octave levels of the lance's jet, muffled by the foam that buries it.

    Jet noise grows with a power of the jet's speed (Lighthill, 1952); behind a sonic nozzle only mass flow
    and height over the bath change: 20 log10 of flow and 8 dB a metre (chosen). The boil adds low tones; a
    metre of foam takes .5 dB at 100 Hz and .35 dB more each octave (chosen).
    """
    hz = np.array(SOUND_BANDS_HZ, dtype=float)
    octaves = np.log2(hz / 100)
    jet = 98 - 3 * np.abs(np.log2(hz / 500))
    levels = [
        jet[i]
        + 20 * np.log10(w.flow / NOMINAL_FLOW)
        + 8 * (w["lance_height"] - 1.9)
        + 6 * np.exp(-octaves[i]) * np.log10(0.2 + w.rate)
        - (0.5 + 0.35 * octaves[i]) * w.foam
        for i in range(len(hz))
    ]
    power = [10 ** (level / 10) for level in levels]
    total = np.sum(power, axis=0)
    return {f"band_{band}": level for band, level in zip(SOUND_BANDS_HZ, levels, strict=True)} | {
        "centroid": np.tensordot(hz, np.array(power), 1) / total,
        "level": 10 * np.log10(total),
    }


VIBRATION_BANDS = {
    "1_2": (0.8, 0.5),
    "2_5": (1.6, 0.9),
    "5_10": (2.4, 1.2),
    "10_20": (1.5, 0.8),
    "20_50": (0.7, 0.3),
}
"""By band in Hz: rms in mm/s of the lance and of the trunnion at 45 kW/t of stirring power (chosen)."""


def vibration(w: Watch) -> Cues:
    """Velocity of lance and trunnion: the square root of the bath's stirring power, shaped by foam and mass.

    Stirring power 6.18 Q T ln(1 + H / 1.46) W/t with Q in Nm3/(min t), T in K and a bath of H = 1.5 m
    (Nakanishi, Fujii and Szekely, 1975). Foam damps the lance, less so the slow sloshing; a heavy vessel
    shakes its trunnion more (chosen).
    """
    power = 6.18e-3 * gas_flow(w.carbon, w.flow) * (w.temperature + 273.15) * np.log(1 + 1.5 / 1.46)
    stirring = np.sqrt(power / 45)
    mass = np.sqrt(w["steel_mass"] / NOMINAL_MASS_T)
    lance = {
        f"lance_{band}": rms * stirring * np.exp(-0.03 * order * w.foam)
        for order, (band, (rms, _)) in enumerate(VIBRATION_BANDS.items())
    }
    return lance | {f"trunnion_{band}": rms * stirring * mass for band, (_, rms) in VIBRATION_BANDS.items()}


def spark(w: Watch) -> Cues:
    """Sparks at the mouth: droplets burst where their carbon meets air, so bursts show carbon (chosen)."""
    burst = w.carbon / (w.carbon + 0.40)
    return {
        "count": 400 * w.carbon / (w.carbon + 0.25) * (0.5 + 0.5 * w.rate),
        "burst_share": burst,
        "branches": 1 + 6 * burst,
        "length": 0.5 + 0.8 * np.sqrt(w.rate),
        "speed": 6 + 8 * w.rate,
        "size": 2.4 - 1.8 * burst,
        "spread": 28 + 18 * w.rate - 2.5 * w.foam,
        "colour_temperature": w.temperature + 30 + 90 * burst,
    }


OFF_GAS_LAG_S = 4.0


def off_gas(w: Watch) -> Cues:
    """Gas in the hood 4 s later (chosen): the bath's CO, partly burnt by air drawn in at the mouth.

    Air of .6 Nm3/(min t) (chosen) brings 21 % oxygen, of which each part burns two of CO. Its vapour and the
    charge's water, .02 kg/t over a blow of 15 min for each g/m3, become hydrogen (22.414 / 18.015 Nm3/kg),
    beside .02 Nm3/(min t) from the oil of scrap (chosen).
    """
    carbon = carbon_after(w.carbon, -w.flow * OFF_GAS_LAG_S / 60)
    bath_gas, air = gas_flow(carbon, w.flow), 0.6
    burnt = bath_gas * POST_COMBUSTION + 2 * 0.21 * air
    hydrogen = 0.02 + 1.244 * w["water"] * (air / 1000 + 0.02 / 15)
    nitrogen = 0.79 * air
    total = bath_gas + nitrogen + hydrogen
    return {
        "carbon_monoxide": 100 * (bath_gas - burnt) / total,
        "carbon_dioxide": 100 * burnt / total,
        "nitrogen": 100 * nitrogen / total,
        "hydrogen": 100 * hydrogen / total,
        "oxygen": 0.4 / (0.2 + w.rate),
        "flow": total * w["steel_mass"],
        "temperature": 850 + 450 * w.rate + 0.4 * (w.temperature - 1600),
        "dust": 0.08 * bath_gas * w["steel_mass"] * np.exp((w.flame_temperature - 1650) / 150),
    }


LOT_HEAT_K = np.array([0.0, 4.0, -3.0, 7.0])
"""What the lining's lot changes in the wall's temperature, in K (chosen)."""


def telemetry(w: Watch) -> Cues:
    """The plant's own tags. Cooling water warms with the flame's radiation, T^4, less under foam (chosen)."""
    radiation = ((w.flame_temperature + 273.15) / REFERENCE_K) ** 4
    steady = np.ones_like(w.carbon)
    lot = LOT_HEAT_K[w["lot"].astype(int)]
    return {
        "lance_height": w["lance_height"] * steady,
        "oxygen_flow": w.flow * w["steel_mass"] * steady,
        "oxygen_pressure": 9.5 * w.flow / NOMINAL_FLOW * steady,
        "oxygen_blown": w["oxygen_blown"] - w.flow * (WINDOW_S - w.t) / 60,
        "lance_water_flow": 220 * steady,
        "lance_water_rise": 14 * radiation - 0.8 * w.foam,
        "hood_water_rise": 18 * radiation * (0.3 + 0.7 * w.rate),
        "stirring_flow": 0.05 * w["steel_mass"] * steady,
        "stirring_pressure": 0.6 + 0.12 * w.foam,
        "lining_temperature": 320 + 0.12 * (w.temperature - 1600) + 0.03 * w["vessel_age"] + lot,
    }


CUES: Mapping[str, Callable[[Watch], Cues]] = {
    "flame": flame,
    "sound": sound,
    "vibration": vibration,
    "spark": spark,
    "off_gas": off_gas,
    "telemetry": telemetry,
}

LAB_LATE = 0.03  # share of heats without a phosphorus result, chosen


def decide(rng: Generator, heat: Heat, master: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """What the masters do: the balance, bent by each one's habits, and what comes of it.

    Habits (chosen): 1.5 % bias of volume, 5 % exaggeration of what departs from 5 Nm3/t, 1.5 % bias of flow;
    each decision scatters by 2 % in volume and 1.5 % in flow.

    Returns:
        Volume (Nm3), duration (s), and the excess over the balance in Nm3/t.
    """
    volume, duration = expert_policy(heat.state, heat["target_carbon"], heat["target_temperature"])
    masters = int(master.max()) + 1
    bias, gain, flow_bias = np.array([[0.015], [0.05], [0.015]]) * rng.standard_normal((3, masters))
    ideal = volume / heat.state.steel_mass
    habit = 1 + bias[master] + gain[master] * (ideal / 5 - 1) + rng.normal(0, 0.02, len(ideal))
    flow_habit = 1 + flow_bias[master] + rng.normal(0, 0.015, len(ideal))
    return volume * habit, duration * habit / flow_habit, ideal * (habit - 1)


def end_point(rng: Generator, heat: Heat, excess: Array) -> tuple[Array, Array]:
    """Carbon (%) and temperature (Cel) at the end of the blow, scattered by .005 % and 5 K (chosen)."""
    _, _, for_carbon = _balance(heat.state, heat["target_carbon"], heat["target_temperature"])
    carbon = carbon_after(heat.state.carbon, for_carbon + excess)
    temperature = heat["target_temperature"] + temperature_gain(heat["target_carbon"] - carbon, excess)
    scatter = rng.standard_normal((2, len(excess)))
    return np.maximum(carbon + 0.005 * scatter[0], CARBON_FLOOR), temperature + 5 * scatter[1]


def make_site(process: Process, site: int, masters: int, episodes: int, seed: int) -> Made:
    """One site's heats.

    Args:
        process: names streams, channels and their public ranges.
        site: which place among the regimes.
        masters: they take the heats in turn.
        episodes: heats.
        seed: the world's.

    Returns:
        Episode rows, one a heat, and by stream its samples.
    """
    rng = default_rng(SeedSequence(seed, spawn_key=(site,)))
    heat = draw_heats(rng, centre(REGIME, site, seed), episodes)
    master = np.arange(episodes) % masters
    volume, duration, excess = decide(rng, heat, master)
    carbon, temperature = end_point(rng, heat, excess)
    hit = np.abs(carbon - heat["target_carbon"]) <= HIT_CARBON
    hit &= np.abs(temperature - heat["target_temperature"]) <= HIT_TEMPERATURE
    lots = next(field.values for field in process.context if field.name == "lining_lot") or ()
    phosphorus = lab(rng, heat["phosphorus"], 0.003)
    phosphorus[rng.random(episodes) < LAB_LATE] = np.nan
    ids = pa.array([f"S{site}-H{number:06d}" for number in range(episodes)])
    rows = {
        "episode_id": ids,
        "master": [f"S{site}-M{number:02d}" for number in master],
        "start_utc": [FIRST_HEAT + number * HEAT_INTERVAL for number in range(episodes)],
        "duration_s": np.full(episodes, WINDOW_S),
        "context.humidity": heat["humidity"],
        "context.ambient_temperature": heat["ambient_temperature"],
        "context.hot_metal_temperature": lab(rng, heat["hot_metal_temperature"], 5),
        "context.hot_metal_carbon": lab(rng, heat["hot_metal_carbon"], 0.03),
        "context.hot_metal_silicon": lab(rng, heat["silicon"], 0.01),
        "context.hot_metal_manganese": lab(rng, heat["manganese"], 0.01),
        "context.hot_metal_phosphorus": pa.array(phosphorus, from_pandas=True),
        "context.scrap_ratio": 100 * heat["scrap_ratio"],
        "context.lime": heat["lime"] * heat.state.steel_mass / 1000,
        "context.steel_mass": heat.state.steel_mass,
        "context.vessel_age": heat["vessel_age"],
        "context.lining_lot": [lots[number] for number in heat["lot"].astype(int)],
        "context.target_carbon": heat["target_carbon"],
        "context.target_temperature": heat["target_temperature"],
        "action.oxygen_volume": volume,
        "action.blow_duration": duration,
        "judgement.flame_clarity": clarity(rng, heat, master),
        "outcome.end_carbon": carbon,
        "outcome.end_temperature": temperature,
        "outcome.hit": hit.astype(float),
        "consent_id": [f"C-S{site}-M{number:02d}" for number in master],
    }
    streams = {}
    for stream in process.streams:
        times = sample_times(stream, WINDOW_S)
        streams[stream.name] = measured(rng, stream, CUES[stream.name](watch(heat, times)), times, ids)
    return Made(pa.table(rows), streams, {})


def lab(rng: Generator, truth: Array, error: float) -> Array:
    """A measured charge value: the truth with the laboratory's error (chosen)."""
    return truth + error * rng.standard_normal(truth.shape)


def clarity(rng: Generator, heat: Heat, master: NDArray[np.int64]) -> Array:
    """How clear a master calls the flame at the decision, 1 to 5: transparency and his leniency (chosen)."""
    seen = 1 - np.exp(-watch(heat, np.array([WINDOW_S])).flame_thickness[:, 0])
    leniency = rng.normal(0, 0.3, int(master.max()) + 1)[master]
    return np.clip(np.round(1 + 4 * (0.85 - seen) / 0.17 + leniency), 1, 5)
