"""The law of rows on disk: a site that reads its rows from there gives what one that holds them gives."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from jangin.models.tasks import Task
from jangin.plan.blocks import FedAvgBlock
from jangin.plan.messages import Kind, Order
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import LocalDpSgd
from jangin.privacy.sampling import UnitIndex
from jangin.records import examples as examples_of_records
from jangin.records.aside import Room, RowFile
from jangin.records.examples import Examples, ExamplesAside
from jangin.strategies import LocalRule
from jangin.training import rows as rows_of_training
from jangin.training.loop import Learner
from jangin.training.rows import RowsAside, _read_ahead
from jangin.training.scaling import Scaling
from jangin.training.site import Site

BLOCK = FedAvgBlock(name="fedavg", rounds=3, local_steps=6, batch=5, lr=0.1)
Make = Callable[..., Learner]
Data = Callable[..., Examples]


class Seeded(SecureRandom):
    """The same draws each time, and no noise."""

    def __init__(self) -> None:
        self._stream = np.random.default_rng(3)

    def uniform(self, count: int) -> NDArray[np.float64]:
        return self._stream.random(count)

    def gaussian(self, count: int) -> NDArray[np.float64]:
        return np.zeros(count)

    def fill_gaussian(self, values: NDArray[np.float32], deviation: float) -> None:
        values.fill(0.0)


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows are worked on at once."""
    for part in (examples_of_records, rows_of_training):
        monkeypatch.setattr(part, "_VALUES_AT_ONCE", 12)


@pytest.fixture
def aside(tmp_path: Path) -> Callable[[Examples], ExamplesAside]:
    def made(held: Examples) -> ExamplesAside:
        file = RowFile(Room(0, tmp_path, 0), held.inputs.shape)
        file.append(held.inputs)
        return ExamplesAside(file, held.targets, held.units)

    return made


def site(learner: Learner, train: Examples | ExamplesAside, like: Examples, private: bool = False) -> Site:
    made = Site("site-0", train, Scaling.public(like, Task.REGRESSION, None, None, private), learner, 7)
    if private:
        made._random = Seeded()
    return made


def test_without_privacy_moments_and_updates_are_the_same_to_the_last_bit(
    learner: Make, examples: Data, aside: Callable[[Examples], ExamplesAside]
) -> None:
    held = examples()
    made = learner()
    sites = site(made, held, held), site(made, aside(held), held)
    vectors: list[list[bytes]] = [[], []]
    for number in range(3):
        for one, kept in zip(sites, vectors, strict=True):
            scaling = None if number == 1 else (np.full(4, 0.1), np.full(4, 2.0))
            order = Order(Kind.TRAIN, number, made.initial, scaling) if number else Order(Kind.SCALE, 0, np.empty(0))
            vector = one.answer(order, BLOCK, LocalRule()).vector
            assert vector is not None
            kept.append(vector.tobytes())
    assert vectors[0] == vectors[1]
    with pytest.raises(ValueError, match="in memory"):
        sites[1].examples(order)


def test_with_privacy_the_same_units_are_drawn_and_their_sums_agree(
    learner: Make, examples: Data, aside: Callable[[Examples], ExamplesAside], private: LocalDpSgd
) -> None:
    held, made = examples(40), learner(replace(private, windows=2))
    order = Order(Kind.TRAIN, 1, made.initial)
    one, other = (
        site(made, train, held, private=True).answer(order, BLOCK, LocalRule()).vector for train in (held, aside(held))
    )
    assert one is not None
    assert np.abs(one).max() > 0.01
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_draw_is_read_in_pieces_of_whole_units_and_nobody_is_left_out(
    examples: Data, aside: Callable[[Examples], ExamplesAside]
) -> None:
    held = examples(40)
    rows = RowsAside(aside(held).inputs, Scaling.public(held, Task.REGRESSION, None, None, private=False))
    draw = UnitIndex(held.units).draw(0.9, 3, Seeded())
    pieces = rows.pieces(draw)
    assert len(pieces) > 5
    assert sum(piece.count for piece in pieces) == draw.count
    np.testing.assert_array_equal(np.concatenate([piece.rows for piece in pieces]), draw.rows)
    whose = [set(held.units[piece.rows]) for piece in pieces]
    assert sum(map(len, whose)) == len(set.union(*whose))
    nobody = UnitIndex(held.units).draw(1e-9, 3, Seeded())
    assert [piece.count for piece in rows.pieces(nobody)] == [0]


def test_no_more_is_read_ahead_than_one_step_takes() -> None:
    asked = []

    def places() -> Iterator[int]:
        for number in range(9):
            asked.append(number)
            yield number

    for number, (place, found) in enumerate(_read_ahead(lambda place: 10 * place, places())):
        assert (place, found) == (number, 10 * number)
        assert len(asked) <= number + 2
    assert number == 8
