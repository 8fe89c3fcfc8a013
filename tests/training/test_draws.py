"""Seeded draws: a function of their key, and fair to every example."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jangin.training.draws import seeded_batches


def drawn(*arguments: object) -> list[list[int]]:
    return [batch.tolist() for batch in seeded_batches(*arguments)]  # type: ignore[arg-type]


def test_batches_are_a_function_of_the_key_alone() -> None:
    first = drawn(20, 6, 5, 7, "site-1", 3)
    torch.manual_seed(1)
    assert drawn(20, 6, 5, 7, "site-1", 3) == first


@pytest.mark.parametrize("key", [(8, "site-1", 3), (7, "site-2", 3), (7, "site-1", 4), (7, "site-1")])
def test_every_part_of_the_key_matters(key: tuple[object, ...]) -> None:
    assert drawn(20, 6, 5, *key) != drawn(20, 6, 5, 7, "site-1", 3)


def test_more_steps_begin_with_the_same_batches() -> None:
    assert drawn(20, 6, 9, "key")[:4] == drawn(20, 6, 4, "key")


def test_the_order_stays_what_it_was() -> None:
    seed = int(hashlib.sha256(b"7/site-1/3").hexdigest()[:32], 16)
    assert np.random.Generator(np.random.PCG64(seed)).permutation(8).tolist() == [5, 7, 0, 3, 2, 6, 4, 1]
    assert drawn(8, 4, 2, 7, "site-1", 3) == [[5, 7, 0, 3], [2, 6, 4, 1]]


@given(examples=st.integers(1, 30), batch=st.integers(1, 40), passes=st.integers(1, 3))
def test_every_example_is_used_once_a_permutation(examples: int, batch: int, passes: int) -> None:
    steps = -(-examples * passes // min(batch, examples))
    order = [row for rows in drawn(examples, batch, steps, "pass") for row in rows]
    for start in range(0, examples * passes, examples):
        assert sorted(order[start : start + examples]) == list(range(examples))


@given(examples=st.integers(1, 30), batch=st.integers(1, 40), steps=st.integers(0, 5))
def test_batches_have_their_size_or_are_everything(examples: int, batch: int, steps: int) -> None:
    assert [len(rows) for rows in drawn(examples, batch, steps, "size")] == [min(batch, examples)] * steps


def test_of_no_rows_every_batch_is_empty() -> None:
    assert seeded_batches(0, 4, 3, "nobody").shape == (3, 0)
