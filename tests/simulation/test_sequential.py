"""Laws of the exchange in one process, and of the scaling that sites learn through it."""

from collections.abc import Sequence

import numpy as np
import pytest

from jangin.models.flat import FlatModel
from jangin.models.networks import build
from jangin.models.spec import LinearSpec
from jangin.models.tasks import Task
from jangin.plan.blocks import FedAvgBlock
from jangin.plan.messages import Kind, Order
from jangin.records.examples import Examples, PublicRange
from jangin.server.rounds import gather
from jangin.simulation.sequential import SequentialExchange
from jangin.strategies.fedavg import FedAvg
from jangin.training.loop import Learner
from jangin.training.scaling import Scaling
from jangin.training.site import Site

BLOCK = FedAvgBlock(name="fedavg", rounds=1, local_steps=1, batch=4, lr=0.1)


def examples(rows: int, offset: float, per_unit: int = 1) -> Examples:
    stream = np.random.default_rng(rows)
    inputs = (offset + (1 + offset) * stream.normal(size=(rows, 3))).astype(np.float32)
    return Examples(inputs, (inputs.sum(axis=1, keepdims=True) * 2), np.arange(rows) // per_unit)


def exchange(trains: Sequence[Examples], public: Scaling) -> SequentialExchange:
    learner = Learner(FlatModel(build(LinearSpec(name="linear"), (3,), 1, 0)), Task.REGRESSION, None)
    sites = [Site(f"site-{i}", train, public, learner, 0) for i, train in enumerate(trains)]
    return SequentialExchange(sites, BLOCK, FedAvg())


def learnt(trains: Sequence[Examples], inputs: PublicRange | None = None) -> Scaling:
    public = Scaling.public(trains[0], Task.REGRESSION, inputs, None, private=False)
    _, total = gather(exchange(trains, public), Order(Kind.SCALE, 0, np.empty(0, np.float32)))
    return public.learned(total)


def test_scaling_by_sums_is_scaling_by_the_pool() -> None:
    trains = [examples(rows, offset) for rows, offset in ((20, 0.0), (35, 1.0), (50, 4.0))]
    pool = np.concatenate([np.concatenate([t.inputs, t.targets], axis=1) for t in trains]).astype(np.float64)
    scaling = learnt(trains)
    np.testing.assert_allclose(scaling.mean, pool.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(scaling.deviation, pool.std(axis=0), rtol=1e-9)


def test_every_unit_counts_the_same_however_many_examples_it_has() -> None:
    trains = [examples(20, 0.0, per_unit=4), examples(30, 1.0)]
    units = [trains[0].inputs.astype(np.float64).reshape(5, 4, 3).mean(axis=1), trains[1].inputs]
    np.testing.assert_allclose(learnt(trains).mean[:3], np.concatenate(units).mean(axis=0), rtol=1e-6)


def test_what_is_learnt_within_public_ranges_is_the_same_map() -> None:
    """A wide enough range changes the way, not the end."""
    trains = [examples(20, 0.0), examples(30, 1.0)]
    wide = PublicRange(np.full(3, -50.0), np.full(3, 70.0))
    (free, _), (ranged, _) = (learnt(trains, inputs).apply(trains[1]) for inputs in (None, wide))
    np.testing.assert_allclose(free.numpy(), ranged.numpy(), atol=1e-5)


def test_replies_come_in_the_order_of_the_cohort() -> None:
    trains = [examples(8, 0.0)] * 3
    here = exchange(trains, Scaling.public(trains[0], Task.REGRESSION, None, None, private=False))
    assert here.sites == ("site-0", "site-1", "site-2")
    here.push(Order(Kind.TRAIN, 1, np.zeros(4, np.float32)), ("site-2", "site-0"))
    assert [reply.site for reply in here.pull()] == ["site-2", "site-0"]
    assert list(here.pull()) == []


def test_nobody_trains_before_the_reply_is_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    trains = [examples(8, 0.0)] * 2
    here = exchange(trains, Scaling.public(trains[0], Task.REGRESSION, None, None, private=False))
    asked: list[str] = []
    answer = Site.answer

    def noted(site: Site, *arguments: object) -> object:
        asked.append(site.name)
        return answer(site, *arguments)

    monkeypatch.setattr(Site, "answer", noted)
    here.push(Order(Kind.TRAIN, 1, np.zeros(4, np.float32)), here.sites)
    assert asked == []
    next(iter(here.pull()))
    assert asked == ["site-0"]
