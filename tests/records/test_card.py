"""Laws of the card and of processes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from jangin.codec.document import parse, read
from jangin.errors import DataError, PlanError
from jangin.records.card import UNITS, Card, Channel, Field
from jangin.records.process import Process, process_names, read_process


def channel(**changes: Any) -> Channel:
    return parse({"name": "current", "unit": "A", "range": [0, 400]} | changes, Channel, "card.yaml")


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_every_listed_unit_is_a_unit(unit: str) -> None:
    assert channel(unit=unit).unit == unit


def test_an_unquoted_one_is_the_unit_of_plain_numbers() -> None:
    assert channel(unit=1).unit == "1"


def test_an_unknown_unit_names_the_nearest() -> None:
    with pytest.raises(PlanError, match=r"JG-plan-003 card\.yaml: unit.*'Nm3/mim'.*'Nm3/min'"):
        channel(unit="Nm3/mim")


@pytest.mark.parametrize("limits", [[1, 1], [2, 1], [0, float("nan")]])
def test_a_range_ascends(limits: list[float]) -> None:
    with pytest.raises(PlanError, match="JG-plan-003"):
        channel(range=limits)


@pytest.mark.parametrize("name", ["", "1st", "a.b", "../x", "전류", "x" * 65])
def test_a_name_is_letters_digits_and_underscores(name: str) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-003 card\.yaml: name"):
        channel(name=name)


@pytest.mark.parametrize("given", [{}, {"range": [0, 1], "values": ["a"]}, {"values": []}])
def test_a_field_is_a_number_or_a_choice(given: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="JG-plan-003"):
        parse({"name": "position"} | given, Field, "card.yaml")


def test_a_name_given_twice_is_refused(card: Card) -> None:
    content = card.model_dump(mode="json")
    with pytest.raises(PlanError, match=r"streams.*'torch' is given twice"):
        parse(content | {"streams": content["streams"] * 2}, Card, "card.yaml")


def test_a_misspelt_key_names_the_nearest(card: Card) -> None:
    with pytest.raises(PlanError, match=r"JG-plan-001 card\.yaml: unknown key 'peple'.*people;"):
        parse(card.model_dump(mode="json") | {"peple": {}}, Card, "card.yaml")


def test_columns_carry_their_group_and_keep_the_documents_order(card: Card) -> None:
    names = ["context.position", "context.humidity", "action.speed", "judgement.grade", "outcome.defects"]
    assert list(card.columns()) == names


def test_a_stream_is_optional_when_each_of_its_channels_is(card: Card) -> None:
    torch = card.streams[0]
    voltage = torch.model_copy(update={"channels": (torch.channels[1],)})
    assert not torch.optional
    assert voltage.optional


def test_a_card_survives_its_yaml(card: Card, tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    content = card.model_dump(mode="json", exclude_defaults=True)
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    assert read(path, Card) == card


@pytest.mark.parametrize("name", process_names())
def test_every_installed_process_can_be_read_by_its_name(name: str) -> None:
    process = read_process(name)
    assert isinstance(process, Process)
    assert process.process == name


@pytest.mark.parametrize("name", ["steel.bof_blov", "../errors/data"])
def test_an_unknown_process_names_the_nearest(name: str) -> None:
    with pytest.raises(DataError, match=r"JG-data-001.*steel\.bof_blow"):
        read_process(name)
