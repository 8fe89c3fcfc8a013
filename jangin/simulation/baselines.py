"""What a result is compared with.

Each site alone, boosted trees of each site alone, all records in one place, the mean. Trained WITHOUT differential
privacy, with the model and the number of steps of the federation; only `local_private` carries the federation's own
(epsilon, delta).
"""

from collections.abc import Sequence

import numpy as np

from jangin.models.layout import Vector
from jangin.models.tasks import Task
from jangin.plan.blocks import StrategyBlock
from jangin.privacy.moments import noise_deviation
from jangin.privacy.randomness import SecureRandom
from jangin.privacy.releases import LocalDpSgd
from jangin.privacy.sampling import UnitIndex
from jangin.records.examples import Examples
from jangin.simulation.result import Scores
from jangin.simulation.setting import Setting, joined
from jangin.training.loop import Learner
from jangin.training.scaling import Scaling

__all__ = ["Fitted", "boosted_trees", "compared", "constant", "descended", "descended_privately", "pooled"]

_SMALL_SITE = 1_000
_LEAVES = {"min_samples_leaf": 5}


class Fitted:
    """Parameters with the scaling they were trained under."""

    def __init__(self, learner: Learner, scaling: Scaling, parameters: Vector) -> None:
        """Bind a model, (size,), to how its inputs and outputs are scaled."""
        self._learner, self._scaling, self.parameters = learner, scaling, parameters

    def predict(self, examples: Examples) -> Vector:
        """Predictions for raw examples, in the units of the targets; shapes as in models/tasks.py."""
        inputs, _ = self._scaling.apply(examples)
        self._learner.model.load(self.parameters)
        return self._scaling.restore(self._learner.predict(inputs))


def compared(setting: Setting, learner: Learner, initial: Vector, public: Scaling, seed: int) -> dict[str, Scores]:
    """The scores of the asked-for baselines in one seed, by name; they learn their own scaling where it does.

    Args:
        setting: the experiment.
        learner: trains in place; its mechanism is used by `local_private` only.
        initial: where all of them start, shape (size,).
        public: the scaling by public ranges alone.
        seed: of batches and trees.
    """
    experiment, federation = setting.experiment, setting.federation
    block, silos, task, asked = experiment.strategy, federation.silos, federation.task, experiment.baselines
    learns = learner.mechanism is None or learner.mechanism.scaling is not None

    def own(train: Examples) -> Scaling:
        return public.learned(public.moments(train, None, None)) if learns else public

    everything = pooled([silo.train for silo in silos])
    classes = max(federation.outputs, 2)
    scores = {}
    if "local" in asked:
        alone = [
            descended(learner, initial, silo.train, own(silo.train), block, block.batch, seed, silo.name, "local")
            for silo in silos
        ]
        scores["local"] = setting.score(lambda site, examples: alone[site].predict(examples), common=False)
        if isinstance(learner.mechanism, LocalDpSgd):
            noised = [
                descended_privately(learner, initial, silo.train, public, block, setting.nominal_units)
                for silo in silos
            ]
            scores["local_private"] = setting.score(lambda site, examples: noised[site].predict(examples), common=False)
    setting.progress("baselines", 1, 3)
    if "local_trees" in asked:
        union = joined([silo.test for silo in silos])
        trees = [boosted_trees(silo.train, [silo.test, union], task, classes, seed) for silo in silos]
        scores["local_trees"] = setting.score(
            lambda site, examples: trees[site][0 if examples is silos[site].test else 1], common=False
        )
    setting.progress("baselines", 2, 3)
    if "pooled" in asked:
        batch = block.batch * len(silos)
        one = descended(learner, initial, everything, own(everything), block, batch, seed, "pooled")
        scores["pooled"] = setting.score(lambda site, examples: one.predict(examples), common=True)
    if "constant" in asked:
        scores["constant"] = setting.score(
            lambda site, examples: constant(everything, examples, task, classes), common=True
        )
    setting.progress("baselines", 3, 3)
    return scores


def descended(
    learner: Learner,
    initial: Vector,
    train: Examples,
    scaling: Scaling,
    block: StrategyBlock,
    batch: int,
    *key: object,
) -> Fitted:
    """Gradient descent on one set of examples for rounds * local_steps steps; no baseline diverges (`Learner.fit`)."""
    inputs, targets = scaling.apply(train)
    learner.fit(initial, inputs, targets, batch, block.rounds * block.local_steps, block.lr, *key)
    return Fitted(learner, scaling, learner.model.read())


def descended_privately(
    learner: Learner,
    initial: Vector,
    train: Examples,
    public: Scaling,
    block: StrategyBlock,
    nominal_units: int,
) -> Fitted:
    """The same under the learner's mechanism: what a site gets alone at the federation's own (epsilon, delta)."""
    random, mechanism = SecureRandom(), learner.mechanism
    scaling = public
    if mechanism is not None and mechanism.scaling is not None:
        noise = noise_deviation(mechanism.scaling, len(public.center), nominal_units, 1)
        scaling = public.learned(public.moments(train, mechanism.scaling, random), noise)
    inputs, targets = scaling.apply(train)
    steps = block.rounds * block.local_steps
    learner.model.load(initial)
    learner.descend(learner.private_gradients(inputs, targets, UnitIndex(train.units), steps, random), block.lr)
    return Fitted(learner, scaling, learner.model.read())


def pooled(trains: Sequence[Examples]) -> Examples:
    """All training examples in one place; units of different sites stay apart."""
    units = np.concatenate([np.unique(train.units, return_inverse=True)[1] for train in trains])
    site = np.repeat(np.arange(len(trains)), [len(train) for train in trains])
    _, units = np.unique(np.stack([site, units]), axis=1, return_inverse=True)
    return Examples(
        np.concatenate([train.inputs for train in trains]),
        np.concatenate([train.targets for train in trains]),
        units.astype(np.int64),
    )


def boosted_trees(train: Examples, test: Sequence[Examples], task: Task, classes: int, seed: int) -> list[Vector]:
    """Predictions of scikit-learn's gradient boosting for each test set, in its defaults.

    Trees with exact splits and leaves of at least 5 examples where a site has fewer than 1,000, histograms above:
    their bins and leaves of 20 starve small sites with a rare class.
    """
    from sklearn import ensemble

    if len(train) < _SMALL_SITE:
        kinds, settings = (ensemble.GradientBoostingRegressor, ensemble.GradientBoostingClassifier), _LEAVES
    else:
        kinds, settings = (ensemble.HistGradientBoostingRegressor, ensemble.HistGradientBoostingClassifier), {}
    regressor, classifier = kinds
    flat = train.inputs.reshape(len(train), -1)
    flat_tests = [part.inputs.reshape(len(part), -1) for part in test]
    if task is Task.REGRESSION:
        trees = [
            regressor(random_state=seed, **settings).fit(flat, train.targets[:, column])
            for column in range(train.targets.shape[1])
        ]
        return [np.stack([tree.predict(rows) for tree in trees], axis=1) for rows in flat_tests]
    seen = np.unique(train.targets)
    if len(seen) == 1:
        return [_class_shares(np.eye(classes)[np.full(len(rows), seen[0])], task) for rows in flat_tests]
    model = classifier(random_state=seed, **settings).fit(flat, train.targets)
    parts = []
    for rows in flat_tests:
        shares = np.zeros((len(rows), classes))
        shares[:, model.classes_] = model.predict_proba(rows)
        parts.append(_class_shares(shares, task))
    return parts


def constant(train: Examples, test: Examples, task: Task, classes: int) -> Vector:
    """The mean of the targets, or the shares of the classes, for every row of `test`."""
    if task is Task.REGRESSION:
        return np.broadcast_to(train.targets.mean(axis=0), (len(test), train.targets.shape[1]))
    shares = np.bincount(train.targets, minlength=classes) / len(train)
    return _class_shares(np.broadcast_to(shares, (len(test), classes)), task)


def _class_shares(shares: np.ndarray, task: Task) -> np.ndarray:
    return shares[:, 1] if task is Task.BINARY else shares
