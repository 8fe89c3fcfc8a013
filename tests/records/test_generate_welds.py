"""Laws of the simulated welds, on pipes and hulls, and of their records."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng

from jangin.records.checks import validate
from jangin.records.dataset import Records
from jangin.records.generate import GENERATORS, arc_weld, generate, pipe_tig_weld, ship_hull_weld
from jangin.records.generate.air import vapour_pressure
from jangin.records.generate.arc_weld import FAULTS, REGIONS, Trade, Welds, WeldState
from jangin.records.generate.regime import centre
from jangin.records.generate.sensors import Made
from jangin.records.process import read_process

TRADES = {"pipe.tig_weld": pipe_tig_weld.TRADE, "ship.hull_weld": ship_hull_weld.TRADE}
PIPES, HULLS = (read_process(name) for name in TRADES)
COAST, PLAIN, INLAND = range(3)
trades = st.sampled_from(list(TRADES.values()))
waters = st.floats(1.0, 45.0)


def state(water: float = arc_weld.QUALIFIED_HPA, plate: float = 20.0) -> WeldState:
    return WeldState(*(np.array([value]) for value in (4000.0, 12.0, 4.0, plate, water, 50.0)))


def drawn(trade: Trade, region: str = "coast", passes: int = 200, seed: int = 1) -> Welds:
    return arc_weld.draw_welds(default_rng(seed), trade, centre(trade.regime, 0, seed), REGIONS[region], 3, passes)


def numbers(made: Made, column: str) -> np.ndarray:
    return made.episodes[column].to_numpy().astype(float)


@pytest.fixture(scope="module")
def made() -> dict[str, list[Made]]:
    """Three sites of each trade, one of each region."""
    return {name: [GENERATORS[name](read_process(name), site, 3, 40, 3) for site in range(3)] for name in TRADES}


def test_saturated_air_holds_as_much_water_as_steam_tables_say() -> None:
    temperature, pascal = np.array([0.0, 10.0, 20.0, 30.0]), [611.2, 1228.2, 2339.3, 4247.0]
    assert vapour_pressure(np.full(4, 100.0), temperature) == pytest.approx(pascal, rel=3e-3)


@given(st.floats(5, 40), st.floats(3, 30), st.floats(-10, 150))
def test_the_slower_of_both_ways_of_cooling_takes_the_procedures_time(seconds: float, d: float, t: float) -> None:
    heat = arc_weld.heat_for_cooling(seconds, np.array([d]), np.array([t])).item()
    deep = (6700 - 5 * t) * heat * (1 / (500 - t) - 1 / (800 - t))
    flat = (4300 - 4.3 * t) * 1e5 * (heat / d) ** 2 * (1 / (500 - t) ** 2 - 1 / (800 - t) ** 2)
    assert max(deep, flat) == pytest.approx(seconds)


@given(trades, waters)
def test_in_air_no_wetter_than_the_qualifications_wire_fills_the_groove_and_no_more(trade: Trade, water: float) -> None:
    feed, travel = arc_weld.expert_policy(trade, state(water))
    filled = arc_weld.groove_metal(trade, state(), travel) / trade.gram_per_metre
    assert (feed == pytest.approx(filled)) == (water <= arc_weld.QUALIFIED_HPA + 1e-6)
    assert feed >= filled


@given(trades, st.floats(12.5, 45.0), st.floats(0.5, 10.0))
def test_wetter_air_asks_for_more_wire_at_the_same_travel(trade: Trade, water: float, more: float) -> None:
    (feed, travel), (wetter, same) = (arc_weld.expert_policy(trade, state(w)) for w in (water, water + more))
    assert wetter > feed
    assert travel == same


@given(trades, waters)
def test_what_an_ideal_master_sets_leaves_no_pores_beyond_those_of_any_weld(trade: Trade, water: float) -> None:
    feed, travel = arc_weld.expert_policy(trade, state(water))
    pores = arc_weld.porosity(trade, state(water), feed * trade.gram_per_metre, travel)
    assert pores == pytest.approx(arc_weld.PORES_PERCENT)


def test_wire_of_a_dry_day_leaves_a_wet_days_weld_porous() -> None:
    trade = ship_hull_weld.TRADE
    feed, travel = arc_weld.expert_policy(trade, state())
    pores = arc_weld.porosity(trade, state(30.0), feed * trade.gram_per_metre, travel)
    assert pores > arc_weld.MOST_PORES


@given(trades, st.floats(20, 150))
def test_a_hot_plate_is_welded_faster(trade: Trade, plate: float) -> None:
    assert arc_weld.travel_for_heat(trade, state(plate=plate + 5)) > arc_weld.travel_for_heat(trade, state(plate=plate))


def test_it_rains_on_the_coast_and_never_inland_unless_asked_for() -> None:
    wet = [drawn(ship_hull_weld.TRADE, region).values["humidity"] >= arc_weld.RAIN_RELATIVE[0] for region in REGIONS]
    assert 0.4 < wet[COAST].mean() < 0.6
    assert 0.1 < wet[PLAIN].mean() < 0.4
    assert not wet[INLAND].any()
    rain = ship_hull_weld.make_site(HULLS, INLAND, 3, 40, 3, rain=True)
    ordinary = ship_hull_weld.make_site(HULLS, INLAND, 3, 40, 3)
    assert numbers(rain, "context.humidity").min() > 75 > 45 > numbers(ordinary, "context.humidity").max()
    assert not rain.streams["arc"].equals(ordinary.streams["arc"])


def test_no_cue_shows_the_airs_water() -> None:
    welds = drawn(ship_hull_weld.TRADE, passes=600)
    times = np.arange(0, arc_weld.WATCH_S, 0.02)
    cues = {**arc_weld.arc(welds, times), **arc_weld.motion(welds, times)}
    shown = np.column_stack([*(f(cue, axis=1) for cue in cues.values() for f in (np.mean, np.std)), np.ones(600)])
    humidity, held = welds.values["humidity"], np.arange(600) % 3 == 0
    weights = np.linalg.lstsq(shown[~held], humidity[~held], rcond=None)[0]
    residual = humidity[held] - shown[held] @ weights
    assert residual.var() > 0.9 * humidity[held].var()


def test_every_channel_is_made_and_hardly_one_sample_saturates(made: dict[str, list[Made]]) -> None:
    for name, sites in made.items():
        process = read_process(name)
        assert set(sites[0].streams) | set(sites[0].media) == {stream.name for stream in process.streams}
        for stream in process.streams:
            for channel in stream.channels if stream.media is None else ():
                shown = np.concatenate([site.streams[stream.name][channel.name].to_numpy() for site in sites])
                assert ((shown <= channel.range[0]) | (shown >= channel.range[1])).mean() <= 0.01, channel.name
        for column, field in process.columns().items():
            if field.range:
                values = np.concatenate([numbers(site, column) for site in sites])
                assert ((values >= field.range[0]) & (values <= field.range[1])).all(), column


def test_faults_of_the_watch_make_most_defects_and_an_even_hand_few(made: dict[str, list[Made]]) -> None:
    welds, rng = drawn(pipe_tig_weld.TRADE, "plain", 900), default_rng(2)
    decision = arc_weld.decide(rng, welds, np.arange(900) % 3)
    defect = decision.fault > 0
    assert defect[welds.fault == 0].mean() < 0.1 < 0.5 < defect[welds.fault > 0].mean()
    kinds = {word for site in made["pipe.tig_weld"] for word in site.episodes["outcome.defect_kind"].to_pylist()}
    assert kinds == set(FAULTS)


def test_the_seed_decides_every_number_and_more_sites_change_none(made: dict[str, list[Made]]) -> None:
    for name, sites in made.items():
        again, other = (GENERATORS[name](read_process(name), 1, 3, 40, seed) for seed in (3, 4))
        assert again.episodes.equals(sites[1].episodes)
        assert all(again.streams[stream].equals(rows) for stream, rows in sites[1].streams.items())
        for stream, of_episode in again.media.items():
            assert all((sites[1].media[stream][episode] == counts).all() for episode, counts in of_episode.items())
        assert not other.episodes.equals(again.episodes)


def test_the_pool_sounds_at_its_own_frequency() -> None:
    assert pipe_tig_weld.pool_frequency(np.array([5.0])) == pytest.approx(5.84 * (1.2 / 7000 / 0.005**3) ** 0.5)
    welds = drawn(pipe_tig_weld.TRADE, passes=12)
    heard = pipe_tig_weld.sound(default_rng(0), PIPES.streams[1], welds)
    spectrum = np.abs(np.fft.rfft(heard, axis=1))
    hertz = np.fft.rfftfreq(heard.shape[1], 1 / 8000)
    mains = np.abs(hertz - 120) < 1
    spectrum[:, (hertz < 60) | mains] = 0
    calm = welds.fault != FAULTS.index("inclusion")
    pool = pipe_tig_weld.pool_frequency(pipe_tig_weld.pool_width(welds))
    assert hertz[spectrum.argmax(axis=1)][calm] == pytest.approx(pool[calm], abs=1)


def test_failing_gas_falls_silent_and_a_breaking_arc_crackles() -> None:
    welds = drawn(pipe_tig_weld.TRADE, passes=120)
    heard = pipe_tig_weld.sound(default_rng(0), PIPES.streams[1], welds).astype(float)
    hiss = np.diff(heard, axis=1)
    before, after = (hiss[:, span].std(axis=1) for span in (slice(0, 4000), slice(-8000, None)))
    lost, broken, calm = (welds.fault == FAULTS.index(kind) for kind in ("porosity", "inclusion", "none"))
    assert (after[lost] < 0.6 * before[lost]).all()
    assert np.abs(after[calm] / before[calm] - 1).max() < 0.1
    assert np.median(np.abs(heard[broken]).max(axis=1)) > 1.3 * np.median(np.abs(heard[calm]).max(axis=1))


def test_a_wider_pool_covers_more_of_the_picture() -> None:
    welds = drawn(pipe_tig_weld.TRADE, passes=120)
    seen = pipe_tig_weld.pictures(default_rng(0), PIPES.streams[3], welds)
    assert seen.shape == (120, 24, 24, 24)
    calm = welds.fault == 0
    bright = (seen > 110).mean(axis=(1, 2, 3))[calm]
    assert np.corrcoef(bright, pipe_tig_weld.pool_width(welds)[calm])[0, 1] > 0.9


def test_records_with_media_are_written_and_pass_validation(tmp_path: Path) -> None:
    for name in TRADES:
        (folder,) = generate(name, tmp_path / name, sites=1, masters=2, episodes=8, seed=1)
        assert validate(folder, level=1).passed
        records = Records.open(folder)
        assert records.card.people.masters == 2
        train = records.train()
        assert train.stream("motion").num_rows == 1200 * train.episodes.num_rows
        if name == "pipe.tig_weld":
            first = train.episodes["episode_id"][0].as_py()
            made = pipe_tig_weld.make_site(PIPES, 0, 2, 8, 1)
            assert train.media("sound", first) == pytest.approx(made.media["sound"][first] * 2 / 2**15)
            assert train.media("pool", first) == pytest.approx(made.media["pool"][first] / 255)
