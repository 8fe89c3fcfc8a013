"""Laws of the simulated converter and its records."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.errors import DataError
from jangin.records.checks import validate
from jangin.records.dataset import Records
from jangin.records.generate import generate
from jangin.records.generate import steel_bof_blow as bof
from jangin.records.generate.regime import centre
from jangin.records.process import read_process

PROCESS = read_process("steel.bof_blow")
carbons = st.floats(0.03, 0.6)


def one(value: float) -> np.ndarray:
    return np.array([value])


def sites(number: int, heats: int = 60, seed: int = 3) -> list[tuple[pa.Table, dict[str, pa.Table]]]:
    return [bof.make_site(PROCESS, site, 3, heats, seed)[:2] for site in range(number)]


def numbers(table: pa.Table, column: str) -> np.ndarray:
    return table[column].to_numpy().astype(float)


def test_a_master_watches_at_least_seventy_cue_channels() -> None:
    assert sum(len(stream.channels) for stream in PROCESS.streams) == 74


def test_the_generator_makes_every_channel_of_the_process_and_no_other() -> None:
    _, streams = sites(1, heats=2)[0]
    assert {name: table.column_names[2:] for name, table in streams.items()} == {
        stream.name: [channel.name for channel in stream.channels] for stream in PROCESS.streams
    }
    heat = bof.draw_heats(np.random.default_rng(0), centre(bof.REGIME, 0, 0), 2)
    for stream in PROCESS.streams:
        shown = bof.CUES[stream.name](bof.watch(heat, np.array([0.0, 1.0])))
        assert set(shown) == {channel.name for channel in stream.channels}


@given(carbons, carbons)
def test_carbon_after_undoes_oxygen_to_reach(carbon: float, target: float) -> None:
    oxygen = bof.oxygen_to_reach(one(carbon), one(target))
    assert bof.carbon_after(one(carbon), oxygen) == pytest.approx(target)


@given(carbons)
def test_oxygen_is_the_integral_of_the_falling_rate(carbon: float) -> None:
    steps = np.linspace(0.03, carbon, 2001)
    integral = np.trapezoid(bof.OXYGEN_PER_CARBON / bof.decarburising_share(steps), steps)
    assert bof.oxygen_to_reach(one(carbon), one(0.03)) == pytest.approx(integral, rel=1e-4, abs=1e-9)


def test_carbon_needs_half_a_mole_of_oxygen_and_the_post_combusted_share() -> None:
    kilograms_per_tonne, moles_per_kilogram = 10, 1000 / 12.011
    expected = kilograms_per_tonne * moles_per_kilogram * 0.022414 * (1 + bof.POST_COMBUSTION) / 2
    assert pytest.approx(expected) == bof.OXYGEN_PER_CARBON


def test_a_balanced_heat_needs_oxygen_for_its_carbon_alone() -> None:
    oxygen = bof.oxygen_to_reach(one(0.35), one(0.05))
    temperature = 1650 - bof.temperature_gain(one(0.30), oxygen)
    state = bof.BathState(one(0.35), temperature, one(3.0), one(280.0))
    volume, duration = bof.expert_policy(state, one(0.05), one(1650.0))
    assert volume == pytest.approx(280 * oxygen)
    assert duration == pytest.approx(60 * oxygen / 3.4)


def test_a_hot_or_lean_or_foaming_heat_gets_less_or_slower_oxygen() -> None:
    def decide(carbon: float = 0.35, temperature: float = 1580.0, foam: float = 3.0) -> tuple[float, float]:
        state = bof.BathState(one(carbon), one(temperature), one(foam), one(280.0))
        volume, duration = bof.expert_policy(state, one(0.05), one(1650.0))
        return volume.item(), duration.item()

    volume, duration = decide()
    assert decide(temperature=1600.0)[0] < volume
    assert decide(carbon=0.30)[0] < volume
    assert decide(foam=4.0)[0] == volume
    assert decide(foam=4.0)[1] > duration


def test_the_two_colour_pyrometer_reads_the_flame_temperature() -> None:
    heat = bof.draw_heats(np.random.default_rng(1), centre(bof.REGIME, 0, 1), 8)
    seen = bof.watch(heat, np.arange(5.0))
    assert bof.flame(seen)["ratio_temperature"] == pytest.approx(seen.flame_temperature)


def test_the_off_gas_sums_to_its_whole() -> None:
    heat = bof.draw_heats(np.random.default_rng(1), centre(bof.REGIME, 0, 1), 8)
    gas = bof.off_gas(bof.watch(heat, np.arange(5.0)))
    assert sum(gas[name] for name in ("carbon_monoxide", "carbon_dioxide", "nitrogen", "hydrogen")) == pytest.approx(
        100
    )


def test_the_foam_falls_and_the_bath_warms_towards_the_end() -> None:
    heat = bof.draw_heats(np.random.default_rng(1), centre(bof.REGIME, 0, 1), 8)
    seen = bof.watch(heat, np.array([0.0, 15.0, 30.0]))
    assert (np.diff(seen.temperature) > 0).all()
    assert (np.diff(seen.carbon) < 0).all()
    assert (np.diff(seen.foam) < 0).all()
    assert seen.temperature[:, -1] == pytest.approx(heat.state.temperature)
    assert seen.foam[:, -1] == pytest.approx(heat.state.foam_height)


def test_the_charge_calculation_closes_its_own_balance() -> None:
    heat = bof.draw_heats(np.random.default_rng(1), centre(bof.REGIME, 0, 1), 8)
    aim = np.linspace(1560, 1620, 8)
    scrap = bof._scrap_for(aim, heat.state.carbon, heat.values)
    reached = 1600 + bof._charge_heat(scrap, heat.state.carbon, heat.values) / bof.BATH_HEAT_CAPACITY
    assert reached == pytest.approx(aim)


def test_sites_operate_in_regimes_that_hardly_overlap() -> None:
    places = {name: sorted(centre(bof.REGIME, site, 3)[name] for site in range(5)) for name in bof.REGIME}
    for name in ("carbon", "target_carbon", "target_temperature", "steel_mass"):
        low, high, _ = bof.REGIME[name]
        assert max(places[name]) - min(places[name]) > 0.4 * (high - low)
    means = [numbers(rows, "context.target_carbon").mean() for rows, _ in sites(5, heats=20)]
    spread = [np.ptp(numbers(rows, "context.target_carbon")) for rows, _ in sites(5, heats=20)]
    assert np.ptp(means) > 2 * max(spread)


def test_nothing_saturates_at_the_public_ranges() -> None:
    made = sites(6)
    for stream in PROCESS.streams:
        for channel in stream.channels:
            shown = np.concatenate([numbers(streams[stream.name], channel.name) for _, streams in made])
            at_the_ends = (shown <= channel.range[0]) | (shown >= channel.range[1])
            assert at_the_ends.mean() <= 0.01, channel.name
    for name, field in PROCESS.columns().items():
        if field.range:
            values = np.concatenate([numbers(rows, name) for rows, _ in made])
            inside = (values >= field.range[0]) & (values <= field.range[1])
            assert inside[~np.isnan(values)].all(), name


def test_masters_hit_most_end_points_and_leave_room_for_better() -> None:
    hits = np.concatenate([numbers(rows, "outcome.hit") for rows, _ in sites(6)])
    assert 0.8 < hits.mean() < 0.97


def test_cues_and_context_carry_the_decision() -> None:
    features, actions = [], []
    for rows, streams in sites(5, heats=200):
        means = [
            np.nanmean(numbers(streams[stream.name], channel.name).reshape(200, -1), axis=1)
            for stream in PROCESS.streams
            for channel in stream.channels
            if not channel.optional
        ]
        context = [numbers(rows, f"context.{f.name}") for f in PROCESS.context if f.range and not f.optional]
        features.append(np.column_stack([*means, *context, np.ones(200)]))
        actions.append(np.column_stack([numbers(rows, f"action.{f.name}") for f in PROCESS.actions]))
    x, y = np.concatenate(features), np.concatenate(actions)
    held = np.arange(len(x)) % 5 == 0
    weights = np.linalg.lstsq(x[~held], y[~held], rcond=None)[0]
    residual = y[held] - x[held] @ weights
    assert (1 - residual.var(axis=0) / y[held].var(axis=0) > 0.9).all()


def test_the_seed_decides_every_number_and_more_sites_change_none() -> None:
    first, again, other = sites(1, heats=4)[0], sites(2, heats=4)[0], sites(1, heats=4, seed=4)[0]
    assert first[0].equals(again[0])
    assert all(first[1][name].equals(again[1][name]) for name in first[1])
    assert not first[0].equals(other[0])


def test_records_are_written_site_by_site_and_pass_validation(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    folders = generate(
        "steel.bof_blow",
        tmp_path,
        sites=2,
        masters=3,
        episodes=20,
        seed=1,
        progress=lambda *step: done.append(step),
    )
    assert [folder.name for folder in folders] == ["site-0", "site-1"]
    assert done == [(1, 2), (2, 2)]
    for folder in folders:
        assert validate(folder, level=1).passed
        records = Records.open(folder)
        assert records.train().episodes.num_rows + records.holdout().episodes.num_rows == 20
        assert records.train().stream("flame").num_rows == 120 * records.train().episodes.num_rows


def test_an_unknown_process_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"JG-data-060.*'steel\.bof_blow'"):
        generate("steel.bof_blo", tmp_path, sites=1, masters=1, episodes=1, seed=1)


@pytest.mark.parametrize("name", ["sites", "masters", "episodes", "seed"])
def test_a_count_that_makes_nothing_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    counts = {"sites": 1, "masters": 1, "episodes": 1, "seed": 1} | {name: -1}
    with pytest.raises(DataError, match=rf"JG-data-061 {name}: .*-1"):
        generate("steel.bof_blow", tmp_path, **counts)
    assert not list(tmp_path.iterdir())
