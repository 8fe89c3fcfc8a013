"""What a site's own records teach without anybody else: a first baseline, fitted and judged in place.

The law: nothing is written and nothing is sent; a model is judged on episodes that it never saw, and the figure says
on how many. Trained WITHOUT differential privacy, as nothing of it leaves the site.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from jangin.errors import DataError
from jangin.models.cut import cut
from jangin.models.lines import (
    ModelLine,
    input_range,
    input_shape,
    line_names,
    outputs,
    read_line,
    target_range,
)
from jangin.models.tasks import Task
from jangin.plan.blocks import FedAvgBlock
from jangin.records.dataset import Records
from jangin.records.examples import Examples
from jangin.records.process import Process, read_process
from jangin.simulation.baselines import boosted_trees, constant, descended
from jangin.training.recipe import Recipe
from jangin.training.threads import one_thread

__all__ = ["FEW", "Alone", "Row", "Score", "Verdict", "alone", "line_for"]

Array = NDArray[np.float64]
Verdict = Literal["better", "worse", "open"]

FEW: Final = 30
"""Fewer episodes set aside than this, and the training side is judged in turns as well."""

_TURNS = 5
_LEAST = 5
"""Fewer episodes than this have no interval: resamples of so few say nothing of others."""
_RESAMPLES = 2_000
_TIE = 1e-4
"""Errors this near to those of the mean are no difference: float32 and the order of sums make more."""
_DESCENT = FedAvgBlock(name="fedavg", rounds=1, local_steps=300, batch=32, lr=0.5)
"""Where the descent starts: `Learner.fit` halves the rate for as long as that ends lower."""


@dataclass(frozen=True)
class Score:
    """What one model came to on one target.

    Attributes:
        figure: mean absolute error in the target's unit, or the share of wrong classes.
        low, high: 90 % of resamples of the episodes (Efron, Annals of Statistics 7 (1979) 1-26) lie between; None
            where there are too few episodes.
        verdict: whether it is better than the mean of the training side in 95 % of the same resamples.
    """

    figure: float
    low: float | None = None
    high: float | None = None
    verdict: Verdict = "open"


@dataclass(frozen=True)
class Row:
    """One target, judged on one set of episodes.

    Attributes:
        target: its column, e.g. `action.filler`.
        unit: of the figures; None for classes.
        judged: on the side set aside, or on the training side in turns (cross-validation).
        units: how many episodes, or masters, the figures are of.
        scores: by the model's name: `constant`, the line's own, `trees`.
    """

    target: str
    unit: str | None
    judged: Literal["holdout", "turns"]
    units: int
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Alone:
    """A first baseline.

    Attributes:
        line: which examples were cut, and what is predicted.
        task: regression, binary or multiclass.
        split_by: what was set aside: episodes or masters.
        train, holdout: how many of them on each side.
        rows: the figures.
    """

    line: str
    task: str
    split_by: str
    train: int
    holdout: int
    rows: tuple[Row, ...]


def line_for(process: str, name: str | None = None) -> ModelLine:
    """The line of that name, or the only one of a process.

    Raises:
        DataError: JG-data-062 no such line; JG-data-071 it is another process'; JG-data-190 a process with no line, or
            with several.
        PlanError: JG-plan-001..006 the file does not hold a line.
    """
    if name is not None:
        line = read_line(name)
        if line.process != process:
            raise DataError("JG-data-071", where=line.line, wanted=line.process, found=process)
        return line
    lines = [line for line in map(read_line, line_names()) if line.process == process]
    if len(lines) != 1:
        raise DataError("JG-data-190", where=process, number=len(lines), lines=[line.line for line in lines])
    return lines[0]


def alone(
    folder: Path, name: str | None = None, progress: Callable[[str, int, int], None] = lambda what, done, total: None
) -> Alone:
    """Fit the mean, a line's own model and boosted trees to a validated folder, and judge them on its hold-out.

    Where fewer than `FEW` are set aside, the training side is judged as well, in turns of a fifth each: every one of
    its episodes by models that were fitted without it.

    Args:
        folder: validated records.
        name: the model line; the only one of the records' process where None.
        progress: called with `baselines`, fits done, and of how many.

    Raises:
        DataError: as `line_for`, `Records.open` and `cut`. PlanError: a card, manifest or line of another form, or a
            model that cannot be built.
    """
    records = Records.open(folder)
    line = line_for(records.card.process, name)
    process, unit = read_process(line.process), records.manifest.unit
    train, test = (cut(line, view, process, unit) for view in (records.train(), records.holdout()))
    fit = _fitting(line, process)
    turns = _turns(train.units) if len(np.unique(test.units)) < FEW else []
    fits, rows = 1 + len(turns), _judged(line, process, "holdout", test, fit(train, test))
    progress("baselines", 1, fits)
    parts: list[dict[str, Array]] = []
    for number, turn in enumerate(turns, 2):
        parts.append(fit(train[~turn], train[turn]))
        progress("baselines", number, fits)
    if parts:
        order = np.concatenate([np.flatnonzero(turn) for turn in turns])
        errors = {model: np.concatenate([part[model] for part in parts]) for model in parts[0]}
        rows += _judged(line, process, "turns", train[order], errors)
    taught, aside = (len(np.unique(side.units)) for side in (train, test))
    return Alone(line.line, line.task, unit, taught, aside, tuple(rows))


def _fitting(line: ModelLine, process: Process) -> Callable[[Examples, Examples], dict[str, Array]]:
    """From training and test examples to each model's errors, shape (examples, targets)."""
    task, width = Task(line.task), outputs(line)
    recipe = Recipe(
        model=line.model,
        strategy=_DESCENT,
        mechanism=None,
        task=task,
        input_shape=input_shape(line, process),
        outputs=width,
        inputs=input_range(line, process),
        targets=target_range(line) if task is Task.REGRESSION else None,
        nominal_units=1,
        seed=0,
    )
    learner, public = recipe.learner(), recipe.public_scaling()

    def fit(train: Examples, test: Examples) -> dict[str, Array]:
        scaling = public.learned(public.moments(train, None, None))
        with one_thread():  # many small steps
            own = descended(learner, learner.initial, train, scaling, _DESCENT, _DESCENT.batch, "alone")
        said = {
            "constant": constant(train, test, task, max(width, 2)),
            line.model.name: own.predict(test),
            "trees": boosted_trees(train, [test], task, max(width, 2), seed=0)[0],
        }
        return {model: _errors(test, predictions, task) for model, predictions in said.items()}

    return fit


def _errors(test: Examples, predictions: NDArray[Any], task: Task) -> Array:
    """Absolute errors in the units of the targets, or 1 for a wrong class, shape (examples, targets)."""
    if task is Task.REGRESSION:
        off: Array = np.abs(test.targets.astype(np.float64) - predictions)
        return off
    classes = predictions.argmax(axis=1) if predictions.ndim == 2 else predictions > 0.5
    return np.not_equal(test.targets, classes).astype(np.float64)[:, None]


def _turns(units: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Rows of each turn's test side; whole units, dealt in the order of their numbers."""
    turn = np.unique(units, return_inverse=True)[1] % _TURNS
    return [turn == number for number in range(_TURNS) if 0 < (turn == number).sum() < len(units)]


def _judged(
    line: ModelLine, process: Process, judged: Literal["holdout", "turns"], test: Examples, errors: dict[str, Array]
) -> list[Row]:
    """A row for each target; `errors` in the order of `test`."""
    places, number = np.unique(test.units, return_inverse=True)[1], len(np.unique(test.units))
    sizes = np.bincount(places, minlength=number).astype(np.float64)
    rng = np.random.default_rng(0)  # a seed of drawing again, no noise that protects anybody
    drawn = rng.multinomial(number, np.full(number, 1 / number), _RESAMPLES) if number >= _LEAST else None
    rows = []
    for column, target in enumerate(line.targets):
        field = process.columns()[target.column]
        sums = {
            model: np.bincount(places, error[:, column], number).astype(np.float64) for model, error in errors.items()
        }
        scores = {model: _score(total, sums["constant"], sizes, drawn) for model, total in sums.items()}
        unit = field.unit if line.task == "regression" else None
        rows.append(Row(target.column, unit, judged, number, scores))
    return rows


def _score(total: Array, beside: Array, sizes: Array, drawn: NDArray[np.int64] | None) -> Score:
    """The score of a model whose errors add up to `total` in each unit, beside those of the mean, shape (units,)."""
    figure = float(total.sum() / sizes.sum())
    if drawn is None:
        return Score(figure)
    low, high = np.quantile(drawn @ total / (drawn @ sizes), [0.05, 0.95])
    gain, tie = drawn @ (beside - total), _TIE * max(total.sum(), beside.sum())
    shares = {"better": np.mean(gain > tie), "worse": np.mean(gain < -tie)}
    verdict = next((name for name, share in shares.items() if share >= 0.95), "open")
    return Score(figure, float(low), float(high), cast(Verdict, verdict))
