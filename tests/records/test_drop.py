"""Laws of a drop folder's names: every header of a template means its own column, in every process."""

import csv
from pathlib import Path

import pytest

from jangin.errors import DataError
from jangin.records.intake.drop import LocalMapping, init_drop, of_episodes, of_streams, read_mapping, stream_of
from jangin.records.process import process_names, read_process

MAPPING = LocalMapping(process="p", site="s")


@pytest.mark.parametrize("name", process_names())
def test_every_header_of_a_template_means_its_own_column(name: str) -> None:
    process = read_process(name)
    known = of_episodes(process, MAPPING)
    assert {header: known.look_up(header).targets for header in known.shown.values()} == {
        header: (target,) for target, header in known.shown.items()
    }
    for stream in (stream for stream in process.streams if stream.media is None):
        own = of_streams((stream,), MAPPING)
        for target, header in own.shown.items():
            meaning = own.look_up(header)
            assert meaning.targets == (target,)
    for stream in process.streams:
        alike = [other for other in process.streams if other.media == stream.media]
        assert stream_of(Path(f"2026-11-21_{stream.name}_1.csv"), alike, MAPPING) == stream.name


@pytest.mark.parametrize(
    ("header", "unit"),
    [
        ("상대 습도(%)", "%"),
        ("상대습도［％］", "%"),
        ("humidity", None),
        ("context.humidity", None),
        ("humidity_%", "%"),
        ("Humidity [g/m3]", "g/m3"),
    ],
)
def test_a_header_is_known_with_and_without_its_unit(header: str, unit: str | None) -> None:
    meaning = of_episodes(read_process("steel.bof_blow"), MAPPING).look_up(header)
    assert (meaning.targets, meaning.unit) == (("context.humidity",), unit)


def test_a_drop_folder_is_made_once_and_says_what_it_is(tmp_path: Path) -> None:
    made = init_drop(tmp_path / "drop", "steel.bof_blow", "제철소")
    mapping, process = read_mapping(made)
    assert (mapping.site, process.process) == ("제철소", "steel.bof_blow")
    (header,) = csv.reader((made / "episodes.csv").read_text(encoding="utf-8-sig").splitlines())
    assert len(header) == 3 + len(process.columns())
    readme = (made / "README.txt").read_text(encoding="utf-8-sig")
    assert all(f"{stream.name}." in readme for stream in process.streams)
    with pytest.raises(DataError, match="JG-data-002"):
        init_drop(made, "steel.bof_blow", "제철소")
    (made / "mapping.local.yaml").unlink()
    with pytest.raises(DataError, match="JG-data-100"):
        read_mapping(made)
