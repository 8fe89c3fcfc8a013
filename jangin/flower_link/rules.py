"""Aggregation rules on flat vectors and on Flower's records: each in the other's place.

`VectorStrategy` is a Flower strategy whose aggregation is a rule on vectors, for a plain Flower app; `step` is one
aggregation of a rule of Flower's, on vectors. jangin/strategies/flower.py says which rules go together.

The law: every reply counts the same, whatever number of examples it names; sums are in float64; what is not the model
that was sent is refused.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.serverapp import Grid, strategy
from numpy.typing import NDArray

from jangin.errors import SimulationError

__all__ = ["Moments", "VectorRule", "VectorStrategy", "step"]

_ARRAYS, _METRICS, _WEIGHT, _WHOLE = "arrays", "metrics", "num-examples", "parameters"

VectorRule = Callable[[Any, NDArray[np.float32], NDArray[np.float64], int], tuple[NDArray[np.float32], Any]]
"""From state (None before the first round), parameters (d,), what was gathered and how many sites, to both anew."""


class VectorStrategy(strategy.FedAvg):
    """Flower's FedAvg with another aggregation: it samples, configures and evaluates as FedAvg does.

    ClientApps answer as they do to FedAvg: their parameters in one ArrayRecord, perhaps a MetricRecord beside it. The
    arrays are of floating-point numbers and are aggregated as one float32 vector, in the order of their record.
    """

    def __init__(self, rule: VectorRule, *, single: bool, **sampling: Any) -> None:
        """Take a rule; `single`: it gathers one row a reply, (replies, d), else their sum, (d,).

        Args:
            rule: from updates, each a reply's parameters minus those sent, to the next parameters.
            single: whether it needs each update.
            **sampling: what FedAvg of Flower is given, e.g. `fraction_train`, `min_train_nodes`.
        """
        super().__init__(**sampling)
        self._rule, self._single = rule, single
        self._state: Any = None
        self._sent: ArrayRecord | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Note what is sent, and send it as FedAvg does."""
        self._sent = arrays
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """One step of the rule; metrics are aggregated as FedAvg does, where each reply has them.

        Raises:
            SimulationError: JG-sim-020, arrays that are not those that were sent. ValueError: nothing was sent.
        """
        if self._sent is None:
            raise ValueError("Expected a round that was configured.")
        start = _flat(self._sent, self._sent)
        rows: list[NDArray[np.float64]] = []
        metrics: list[RecordDict] = []
        for reply in replies:
            if reply.has_error():
                continue
            arrays = list(reply.content.array_records.values())
            update = _flat(arrays[0] if len(arrays) == 1 else ArrayRecord(), self._sent).astype(np.float64) - start
            if self._single or not rows:
                rows.append(update)
            else:
                rows[0] += update
            metrics.append(RecordDict(dict(reply.content.metric_records)))
        if not rows:
            return None, None
        gathered = np.stack(rows) if self._single else rows[0]
        parameters, self._state = self._rule(self._state, start, gathered, len(metrics))
        weighed = all(any(self.weighted_by_key in one for one in each.metric_records.values()) for each in metrics)
        shown = self.train_metrics_aggr_fn(metrics, self.weighted_by_key) if weighed else None
        return _shaped(parameters, self._sent), shown


@dataclass(frozen=True)
class Moments:
    """What Flower's server optimisers go on from, each (d,) in float64, and the rounds they have taken, (1,)."""

    m: NDArray[np.float64]
    v: NDArray[np.float64]
    rounds: NDArray[np.int64]

    @classmethod
    def none(cls, size: int) -> "Moments":
        """Before the first round: zeros, as Flower's rules begin."""
        return cls(np.zeros(size), np.zeros(size), np.zeros(1, np.int64))


def step(
    rule: str, options: Mapping[str, float], moments: Moments, start: NDArray[np.float64], mean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], Moments]:
    """One aggregation of a rule of `flwr.serverapp.strategy`, on the mean update of equal sites.

    The rule is made anew, given what it keeps, and shown the mean as one reply: its own code takes the step.

    Args:
        rule: name of its class: FedAvg, or one that keeps `m_t` and `v_t`, or `momentum_vector`.
        options: of its constructor.
        moments: from `none`, or what the last step returned.
        start: the parameters, (d,).
        mean: update, (d,).

    Returns:
        The next parameters, (d,), and moments.

    Raises:
        ValueError: the rule gave nothing (a bug).
    """
    made: Any = getattr(strategy, rule)(min_train_nodes=0, min_available_nodes=0, **options)
    number = int(moments.rounds[0]) + 1
    made.m_t, made.v_t, made.momentum_vector = {_WHOLE: moments.m}, {_WHOLE: moments.v}, [moments.m]
    made.configure_train(number, ArrayRecord({_WHOLE: Array(start)}), ConfigRecord(), cast(Grid, _Nobody()))
    content = RecordDict({_ARRAYS: ArrayRecord({_WHOLE: Array(start + mean)}), _METRICS: MetricRecord({_WEIGHT: 1.0})})
    arrays, _ = made.aggregate_train(number, [make_message(_OF_NOBODY, content)])
    if arrays is None:
        raise ValueError(f"Expected parameters from {rule}.")
    m = made.momentum_vector[0] if rule == "FedAvgM" else made.m_t[_WHOLE]
    return arrays[_WHOLE].numpy(), Moments(m, made.v_t[_WHOLE], np.array([number]))


_OF_NOBODY = Metadata(
    run_id=0,
    message_id="",
    src_node_id=0,
    dst_node_id=0,
    reply_to_message_id="",
    group_id="",
    created_at=0.0,
    ttl=1.0,
    message_type="train",
)


class _Nobody:
    """A grid without nodes: a rule that is configured on it notes the parameters and sends nothing."""

    def get_node_ids(self) -> list[int]:
        return []


def _flat(arrays: ArrayRecord, like: ArrayRecord) -> NDArray[np.float32]:
    """The values of a record with the names and shapes of another, (d,).

    Raises:
        SimulationError: JG-sim-020, others, or arrays that are not of floating-point numbers.
    """
    if list(arrays) != list(like):
        raise SimulationError("JG-sim-020", where="arrays", problem=f"{list(arrays)} in place of {list(like)}")
    parts = []
    for name, array in arrays.items():
        values = array.numpy()
        if values.dtype.kind != "f" or values.shape != tuple(like[name].shape):
            problem = f"{values.dtype} {values.shape}, sent as {like[name].dtype} {tuple(like[name].shape)}"
            raise SimulationError("JG-sim-020", where=name, problem=problem)
        parts.append(values.astype(np.float32).reshape(-1))
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _shaped(vector: NDArray[np.float32], like: ArrayRecord) -> ArrayRecord:
    """A vector, (d,), as the arrays of a record."""
    made: dict[str, Array] = {}
    at = 0
    for name, array in like.items():
        size = int(np.prod(array.shape))
        made[name] = Array(vector[at : at + size].reshape(array.shape).astype(array.dtype))
        at += size
    return ArrayRecord(made)
