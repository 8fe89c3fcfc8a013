"""Flux-cored welding of a hull outdoors, `ship.hull_weld`: yards in wet and dry regions, masters and instruments.

The law: `arc_weld`'s; what differs here is the procedure, the wind, and where yards operate.
"""

from numpy.random import SeedSequence, default_rng

from jangin.records.generate.arc_weld import REGIONS, Region, Trade, arc, draw_welds, motion, rows, streams
from jangin.records.generate.regime import centre
from jangin.records.generate.sensors import Made
from jangin.records.process import Process

__all__ = ["TRADE", "make_site"]

TRADE = Trade(
    arc_voltage=(14.0, 0.05, 1.5),
    arc_length=4.0,
    arc_efficiency=0.8,
    melting_efficiency=0.4,
    wire=1.4,
    wire_yield=0.88,
    layer=6.0,
    bevel=20.0,
    cooling=15.0,
    regime={
        "current": (210.0, 270.0, 2),
        "thickness": (13.0, 21.0, 3),
        "gap": (5.0, 7.0, 5),
        "plate_temperature": (15.0, 80.0, 7),
        "gas_flow": (16.0, 22.0, 11),
        "wind": (0.5, 4.0, 13),
        "warmth": (0.0, 1.0, 17),
        "damp": (0.0, 1.0, 19),
        "arc_length": (0.9, 1.1, 23),  # as a share of the procedure's
        "tremor": (0.1, 0.3, 29),  # m/s2
        "weave": (2.0, 4.0, 31),  # mm to either side
    },
)
CUES = {"arc": arc, "motion": motion}


def make_site(process: Process, site: int, masters: int, episodes: int, seed: int, *, rain: bool = False) -> Made:
    """One yard's passes.

    Args:
        process: names streams, channels and their public ranges.
        site: which place among the regimes; regions come in turn.
        masters: they take the passes in turn.
        episodes: passes.
        seed: the world's.
        rain: days of rain alone, whatever the region's weather; other passes than those of the ordinary days, with
            habits and instruments' errors drawn anew.
    """
    rng = default_rng(SeedSequence(seed, spawn_key=(site, 1) if rain else (site,)))
    region = list(REGIONS.values())[site % len(REGIONS)]
    weather = Region(region.temperature, region.relative, 1.0) if rain else region
    welds = draw_welds(rng, TRADE, centre(TRADE.regime, site, seed), weather, masters, episodes)
    table = rows(rng, process, site, welds, masters)
    ids = table["episode_id"].combine_chunks()
    return Made(table, streams(rng, process, welds, ids, CUES), {})
