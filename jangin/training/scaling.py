"""Scaling: features and targets brought to comparable size by public ranges and a federation's summed moments.

    value -> (clip((value - center) / radius, -1, 1) - mean) / deviation

`center` and `radius` are public; `mean` and `deviation` come from a sum over sites (privacy/moments.py) or, where
nothing was spent on it, are the public 0 and 1. The law: no pooled statistics are assumed;
what the sites tell each other is one sum.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jangin.models.tasks import Task
from jangin.privacy.moments import clipped_moment_sum, means_and_deviations, moment_sum
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import GaussianRelease
from jangin.records.examples import Examples, ExamplesAside, PublicRange, row_slices

__all__ = ["Columns", "Scaling"]

Columns = NDArray[np.float64]

# Without a public range, privacy clips features as they come to [-10, 10] (docs/sharp-edges.md).
_AS_THEY_COME = 10.0


@dataclass(frozen=True)
class Scaling:
    """The map from raw values to what a model sees.

    Columns are features, or channels for inputs over time, followed by the targets of a regression. A column that takes
    several places of an example, e.g. a channel's window in a flat row, has one map for all of them.

    Attributes:
        center, radius: public affine map, shape (columns,); radius infinite: no clip and no map.
        mean, deviation: learnt or public standardisation, shape (columns,).
        inputs: how many of the columns are inputs.
        task: whether targets are scaled (regression) or classes.
        places: how many places of the examples' second axis each input column takes, (inputs,); None: one.
    """

    center: Columns
    radius: Columns
    mean: Columns
    deviation: Columns
    inputs: int
    task: Task
    places: NDArray[np.int64] | None = None

    @classmethod
    def public(
        cls,
        examples: Examples,
        task: Task,
        inputs: PublicRange | None,
        targets: PublicRange | None,
        private: bool,
    ) -> "Scaling":
        """The scaling by public ranges alone; without ranges `examples` give the number of columns, and nothing else.

        Args:
            examples: any examples of the federation; one row is enough.
            task: regression scales targets too.
            inputs: range of each input column; None: as they come, within [-10, 10] when private.
            targets: range of each target; None: as they come (never private: JG-privacy-006 comes before).
            private: whether every column has to be bounded.
        """
        width = examples.inputs.shape[1] if inputs is None else len(inputs.low)
        center_x, radius_x = _affine(width, inputs)
        deviation = np.ones(len(center_x))
        if inputs is None and private:
            radius_x, deviation = np.full(len(center_x), _AS_THEY_COME), deviation / _AS_THEY_COME
        columns = examples.targets.shape[1] if task is Task.REGRESSION else 0
        center_y, radius_y = _affine(columns, targets if task is Task.REGRESSION else None)
        center, radius = np.concatenate([center_x, center_y]), np.concatenate([radius_x, radius_y])
        deviation = np.concatenate([deviation, np.ones(columns)])
        places = None if inputs is None else inputs.places
        return cls(center, radius, np.zeros(len(center)), deviation, width, task, places)

    def moments(
        self, examples: Examples | ExamplesAside, release: GaussianRelease | None, random: SecureRandom | None
    ) -> Columns:
        """What a site sends to learn the scaling: `moment_sum` of the publicly mapped columns, float64.

        Shape (1 + 2 * columns,); inputs over time count with all their samples. Guarantee and errors: `moment_sum`'s.
        """
        return moment_sum(self._columns(examples), examples.units, release, random, self._places())

    def clipped_moments(self, examples: Examples | ExamplesAside) -> Columns:
        """The same without noise, for a sum that gets its noise elsewhere: `clipped_moment_sum`."""
        return clipped_moment_sum(self._columns(examples), examples.units, self._places())

    def learned(self, total: Columns, noise: float = 0.0) -> "Scaling":
        """The scaling whose mean and deviation come from the sites' summed moments; `noise` as in moments.py."""
        return self.standardised(*means_and_deviations(total, noise))

    def standardised(self, mean: Columns, deviation: Columns) -> "Scaling":
        """The scaling with these means and deviations, each (columns,), over the same public map."""
        return replace(self, mean=mean, deviation=deviation)

    def apply(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """Model inputs (examples, ...) float32 and targets, float32 (examples, targets) or int64 (examples,)."""
        return self.apply_inputs(examples.inputs), self.apply_targets(examples.targets)

    def apply_inputs(self, values: NDArray[np.float32]) -> Tensor:
        """Model inputs, (examples, ...), float32."""
        columns = slice(None, self.inputs)
        mean, deviation = (self._along(part, columns, values) for part in (self.mean, self.deviation))
        inputs = np.empty(values.shape, np.float32)
        for rows in row_slices(values.shape):
            mapped = self._mapped(values[rows], columns)
            mapped -= mean
            mapped /= deviation
            inputs[rows] = mapped
        return torch.from_numpy(inputs)

    def apply_targets(self, values: NDArray[np.float32] | NDArray[np.int64]) -> Tensor:
        """Targets, float32 (examples, targets) or int64 (examples,)."""
        if self.task is not Task.REGRESSION:
            return torch.from_numpy(values)
        columns = slice(self.inputs, None)
        targets = (self._mapped(values, columns) - self.mean[columns]) / self.deviation[columns]
        return torch.from_numpy(targets.astype(np.float32))

    def restore(self, predictions: NDArray[np.float32]) -> NDArray[np.float32]:
        """A regression's outputs (examples, targets) in the units of the targets; others pass unchanged."""
        if self.task is not Task.REGRESSION:
            return predictions
        columns = slice(self.inputs, None)
        mapped = predictions * self.deviation[columns] + self.mean[columns]
        radius = np.where(np.isinf(self.radius[columns]), 1.0, self.radius[columns])
        return (mapped * radius + self.center[columns]).astype(np.float32)

    def as_dict(self) -> dict[str, object]:
        """The scaling as JSON: each list (columns,), a radius of null where nothing is clipped."""
        return {
            "center": self.center.tolist(),
            "radius": [radius if np.isfinite(radius) else None for radius in self.radius.tolist()],
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
            "inputs": self.inputs,
        } | ({} if self.places is None else {"places": self.places.tolist()})

    def _columns(self, examples: Examples | ExamplesAside) -> Iterator[NDArray[np.float64]]:
        """The publicly mapped columns, (some, columns, ...), part by part."""
        for part in examples.parts():
            values = self._mapped(part.inputs, slice(None, self.inputs))
            if self.task is Task.REGRESSION:
                targets = self._mapped(part.targets, slice(self.inputs, None))
                targets = targets.reshape(targets.shape + (1,) * (values.ndim - 2))
                constant = np.broadcast_to(targets, targets.shape[:2] + values.shape[2:])
                values = np.concatenate([values, constant], axis=1)
            yield values

    def _mapped(self, values: NDArray[Any], columns: slice) -> NDArray[np.float64]:
        center, radius = self._along(self.center, columns, values), self._along(self.radius, columns, values)
        bounded = np.isfinite(radius)
        mapped: NDArray[np.float64] = values - center
        mapped /= np.where(bounded, radius, 1.0)
        if bounded.all():
            return mapped.clip(-1.0, 1.0, out=mapped)
        return np.where(bounded, mapped.clip(-1.0, 1.0), mapped)

    def _along(self, of_columns: Columns, columns: slice, values: NDArray[Any]) -> Columns:
        """What columns have, at their places along the second axis of `values`."""
        some = of_columns[columns]
        if self.places is not None and columns.start is None:
            some = np.repeat(some, self.places)
        return some.reshape(1, -1, *(1,) * (values.ndim - 2))

    def _places(self) -> NDArray[np.int64] | None:
        """Of all columns, (columns,): a target takes one."""
        if self.places is None:
            return None
        return np.concatenate([self.places, np.ones(len(self.center) - self.inputs, np.int64)])


def _affine(columns: int, ranges: PublicRange | None) -> tuple[Columns, Columns]:
    if ranges is None:
        return np.zeros(columns), np.full(columns, np.inf)
    return (ranges.high + ranges.low) / 2, (ranges.high - ranges.low) / 2
