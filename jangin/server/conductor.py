"""One campaign from its last finished round to its final model and the statement of its privacy.

The law: a round is finished when its checkpoint is on disk and its record in the database, in this order, so that
after a crash it is done over or not at all and nothing counts twice; a round that fails is tried at most
`MOST_ATTEMPTS` times, over restarts too, and then the campaign ends with the names of those who were missing. An
attempt at a secure sum is in the database before anything of it leaves: no two sums ever have one number. An
evaluation that fails has no figure, and the campaign goes on.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from math import ceil
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from jangin.errors import ServerError
from jangin.models.layout import ParameterLayout
from jangin.plan.messages import Kind, Order, order_digest
from jangin.plan.training_plan import FEWEST_EVALUATING, TrainingPlan
from jangin.privacy.releases import NO_DIFFERENTIAL_PRIVACY, Reading, Unit
from jangin.privacy.secure_sum.transcript import Manifest
from jangin.privacy.statement import Deployment, ShownTotal, promise_of, state
from jangin.server.checkpoints import Checkpoints
from jangin.server.life import Act, State
from jangin.server.rounds import Ask, Exchange, Learnt, Progress, RoundRecord, gather, rounds
from jangin.server.selection import best_round, stopped
from jangin.server.store import EvaluationEntry, Outcome, RoundEntry, Store
from jangin.server.sums import SecureSum, waits
from jangin.strategies import Strategy, build
from jangin.strategies.base import Gathered
from jangin.training.evaluation import figures
from jangin.training.recipe import Recipe
from jangin.training.summing import Encoding
from jangin.trust.commitments import peek_commitment

__all__ = ["MOST_ATTEMPTS", "Asked", "Conductor", "FieldExchange"]

MOST_ATTEMPTS = 3

# Torch draws initial weights by a random state that all threads share.
_drawing = threading.Lock()

Stand = tuple[Progress, Learnt | None]
"""Where a campaign stands."""

Learn = Callable[[Ask], tuple[RoundRecord, Stand]]
"""One round: how its order is asked to its record and where the campaign stands after it."""


class FieldExchange(Exchange, Protocol):
    """An exchange with sites that may send anything."""

    @property
    def refused(self) -> dict[str, str]:
        """Sites whose reply was left aside, with the server's code."""
        ...


Asked = FieldExchange | SecureSum
"""One order's cohort: of vectors in clear, or, where the plan wants sums only, of a secure sum."""


class Conductor:
    """A campaign's rounds, checkpoints and records."""

    def __init__(
        self,
        plan: TrainingPlan,
        store: Store,
        checkpoints: Checkpoints,
        assemble: Callable[[int], Asked],
        *,
        clock: Callable[[], float],
        pause: Callable[[], None],
    ) -> None:
        """Nothing is asked yet.

        Args:
            plan: the campaign's, in the database.
            store: takes a record of every attempt.
            checkpoints: take where it stands.
            assemble: waits for a cohort and gives what asks it once, by the plan; its argument is the number of values
                in a reply's vector. It raises ServerError where too few sites are there.
            clock: seconds that only grow.
            pause: lets a moment pass before a round is tried again.
        """
        self._plan, self._store, self._checkpoints = plan, store, checkpoints
        self._assemble, self._clock, self._pause = assemble, clock, pause

    def run(self) -> None:
        """Go on to the end.

        Raises:
            ServerError: JG-server-342, a round failed too often; JG-server-343, a checkpoint that cannot be used.
            LinkError: JG-server-204, the run has ended. Also what `Recipe.of` and `Recipe.initial` raise.
        """
        # 1. What is public: model, scaling, strategy.
        recipe, strategy = Recipe.of(self._plan), build(self._plan.strategy)
        # 2. Learning; where it ends early, what sites gave is spent and said.
        try:
            layout, (progress, scaling) = self._learn(recipe, strategy)
        except ServerError:
            self._state(recipe)
            raise
        if self._store.campaign(self._plan.hash).state is State.RUNNING:
            self._store.move(self._plan.hash, Act.EVALUATE)
        # 3. The privacy statement, so that no model stands without one, and the final model.
        self._state(recipe)
        final = recipe.public_scaling() if scaling is None else recipe.public_scaling().standardised(*scaling)
        best = self._best()
        if best is not None:
            progress, _ = self._checkpoints.load(best, strategy, progress.parameters)
        self._checkpoints.finish(progress.parameters, layout, final.as_dict())

    def _learn(self, recipe: Recipe, strategy: Strategy[Any]) -> tuple[ParameterLayout, Stand]:
        """From the last finished round through the last."""
        # 1. Where it stands; initial weights are let go of when the first round is done.
        layout, (progress, scaling) = self._last(recipe, strategy)
        values = progress.parameters.size
        # 2. The scaling, where it is learnt.
        if recipe.learns_scaling and scaling is None:
            size = 1 + 2 * len(recipe.public_scaling().center)
            order = Order(Kind.SCALE, 0, np.empty(0, np.float32))

            def learnt(ask: Ask) -> tuple[RoundRecord, Stand]:
                record, total = ask(order)
                learned = recipe.learned_scaling(total, len(record.reported))
                return record, (progress, (learned.mean, learned.deviation))

            progress, scaling = self._round(0, size, learnt, recipe.encoding(Kind.SCALE, size))
        # 3. The rounds, and after some of them how good their models are.
        encoding, single = recipe.encoding(Kind.TRAIN, values), strategy.consumes == "updates"
        while True:
            self._evaluate(recipe, progress, scaling)
            evaluations = self._store.evaluations(self._plan.hash)
            if progress.round >= self._plan.strategy.rounds or stopped(self._plan, evaluations):
                return layout, (progress, scaling)
            learn = _trained(strategy, progress, scaling)
            progress, scaling = self._round(progress.round + 1, values, learn, encoding, single=single)

    def _evaluate(self, recipe: Recipe, progress: Progress, scaling: Learnt | None) -> None:
        """Judge the model of an evaluated round once: a figure of all sites that answer, or why there is none.

        In clear a site answers one order as often as it comes in the same words, so that a second attempt asks nothing
        more. A secure sum is tried once: it is charged whole, and is the attempt after those of its round.
        """
        number, campaign = progress.round, self._plan.hash
        if number not in self._plan.evaluated_rounds or self._plan.evaluate is None:
            return
        if number in {entry.round for entry in self._store.evaluations(campaign)}:
            return
        order, size = Order(Kind.EVALUATE, number, progress.parameters, scaling), 1 + len(self._plan.evaluate.metrics)
        encoding = recipe.encoding(Kind.EVALUATE, size)
        after = sum(entry.round == number for entry in self._store.rounds(campaign))
        for attempt in range(1, MOST_ATTEMPTS + 1 if encoding is None else 2):
            if attempt > 1:
                self._pause()
            began = self._clock()
            asked: Asked | None = None
            try:
                asked = self._assemble(size)
                record, total = self._asking(asked, after + attempt, size, encoding, lambda begun: None)(order)
                shown = _shown_figures(recipe, record, total)
                entry = _finished(record, attempt, asked, self._clock() - began)
                break
            except ServerError as error:
                shown, entry = {}, _failed(number, attempt, asked, error, self._clock() - began)
        self._store.record_evaluation(campaign, _evaluation(entry, shown))

    def _best(self) -> int | None:
        return best_round(self._plan, self._store.evaluations(self._plan.hash))

    def _state(self, recipe: Recipe) -> None:
        """Keep the privacy statement of every round that may have begun: what left a site in one that failed has left.

        After a finished round the next may have been asked by a server that was killed before it took a note.
        """
        plan, entries = self._plan, self._store.rounds(self._plan.hash)
        if not entries:
            return
        begun = max(entry.round + (entry.outcome is Outcome.FINISHED) for entry in entries)
        if plan.privacy.sums_only:  # a vector leaves when masked ones are asked for, which was noted before
            begun = sum(entry.round > 0 and (entry.released or entry.outcome is Outcome.FINISHED) for entry in entries)
        deployment = Deployment(
            kind="campaign",
            name=plan.campaign,
            plan_hash=plan.hash,
            model_line=plan.model_line,
            process=plan.process,
            sites=len({site for entry in entries for site in entry.reported}),
            rounds_planned=plan.strategy.rounds,
            rounds_done=self._best()
            or max((one.round for one in entries if one.outcome is Outcome.FINISHED), default=0),
            rounds_charged=min(begun, plan.charged_rounds),
        )
        promise = promise_of(recipe.mechanism, plan.charged_rounds) if recipe.mechanism else None
        shown = tuple(self._shown({site for entry in entries for site in entry.reported}))
        self._checkpoints.state(state(deployment, promise, shown_totals=shown or None))

    def _shown(self, sites: Iterable[str]) -> Iterator[ShownTotal]:
        """The totals that sites chose to show of their ledgers; each commitment was verified when it came."""
        for site in sorted(sites):
            envelope = self._store.commitment(site)
            totals = () if envelope is None else peek_commitment(envelope).totals
            for total in totals:
                yield ShownTotal(
                    site=site,
                    privacy_unit=Unit(total.unit),
                    reading=Reading(total.reading),
                    campaigns=total.campaigns,
                    epsilon=NO_DIFFERENTIAL_PRIVACY if total.epsilon is None else total.epsilon,
                    delta=total.delta,
                )

    def _last(self, recipe: Recipe, strategy: Strategy[Any]) -> tuple[ParameterLayout, Stand]:
        """How the model is laid out, and where it stands after the last finished round."""
        with _drawing:
            model = recipe.initial()
        layout, start = model.layout, model.layout.of_shared(model.vector.numpy())
        del model  # it has room for gradients
        entries = self._store.rounds(self._plan.hash)
        finished = [entry.round for entry in entries if entry.outcome is Outcome.FINISHED]
        if not finished:
            return layout, (Progress.start(strategy, start), None)
        return layout, self._checkpoints.load(max(finished), strategy, start)

    def _round(self, number: int, size: int, learn: Learn, encoding: Encoding | None, *, single: bool = False) -> Stand:
        """One round, tried until it has its quorum: asked, kept, recorded."""
        entries = [entry for entry in self._store.rounds(self._plan.hash) if entry.round == number]
        for attempt in range(len(entries) + 1, MOST_ATTEMPTS + 1):
            if attempt > 1:
                self._pause()
            began = self._clock()
            asked: Asked | None = None
            try:
                asked = self._assemble(size)
                note = partial(self._store.record, self._plan.hash)
                ask = self._asking(asked, attempt, size, encoding, note, single=single)
                record, (progress, scaling) = learn(ask)
            except ServerError as error:
                entry = _failed(number, attempt, asked, error, self._clock() - began)
                self._store.record(self._plan.hash, entry)
                entries.append(entry)
                continue
            self._checkpoints.save(progress, scaling)
            self._store.record(self._plan.hash, _finished(record, attempt, asked, self._clock() - began))
            self._checkpoints.drop_before(number, self._best())
            return progress, scaling
        raise ServerError(
            "JG-server-342",
            where=f"round {number}",
            attempts=MOST_ATTEMPTS,
            abstained={**entries[-1].abstained, **entries[-1].refused},
            missing=list(entries[-1].missing),
        )

    def _asking(
        self,
        asked: Asked,
        attempt: int,
        size: int,
        encoding: Encoding | None,
        note: Callable[[RoundEntry], object],
        *,
        single: bool = False,
    ) -> Ask:
        """How a cohort is asked: in clear, or by a secure sum that `note` is told of before anything of it leaves."""
        quorum = self._quorum(len(asked.sites))
        if isinstance(asked, SecureSum) and encoding is not None:
            return partial(self._summed, asked, attempt, size, encoding, note, quorum)
        if not isinstance(asked, SecureSum) and encoding is None:
            return partial(gather, asked, quorum=quorum, single=single)
        raise TypeError(f"Expected a cohort of the plan's kind: {type(asked).__name__}.")

    def _summed(
        self,
        asked: SecureSum,
        attempt: int,
        size: int,
        encoding: Encoding,
        note: Callable[[RoundEntry], object],
        quorum: int,
        order: Order,
    ) -> tuple[RoundRecord, NDArray[np.float64]]:
        """One attempt at a secure sum, which is noted before anything of it leaves, and again before vectors do."""
        campaign = self._plan.hash
        begun = RoundEntry(order.round, attempt, Outcome.BEGUN, [], {}, {}, list(asked.sites), 0.0)
        note(begun)
        manifest = Manifest(
            campaign=campaign,
            round=order.round,
            attempt=attempt,
            model=order_digest(order),
            roster=asked.roster,
            size=size,
            seconds=waits(self._plan.sites.deadline_s),
            previous=self._store.last_certified(campaign),
        )

        def releasing() -> None:
            note(replace(begun, released=True))

        record, steps, certificate = asked.answer(order, manifest, quorum=quorum, releasing=releasing)
        self._store.certify(campaign, order.round, attempt, certificate)
        return record, encoding.total(steps)

    def _quorum(self, cohort: int) -> int:
        return max(self._plan.sites.min_sites, ceil(self._plan.sites.quorum * cohort))


def _trained(strategy: Strategy[Any], progress: Progress, scaling: Learnt | None) -> Learn:
    """One training round after `progress`."""

    def trained(ask: Ask) -> tuple[RoundRecord, Stand]:
        record, after = next(rounds(strategy, ask, progress, progress.round + 1, scaling=scaling))
        return record, (after, scaling)

    return trained


def _shown_figures(recipe: Recipe, record: RoundRecord, total: Gathered) -> dict[str, tuple[float, float]]:
    """The figures of an evaluation, where enough sites are in them.

    Raises:
        ServerError: JG-server-355, too few sites; JG-server-356, no unit in their sum.
    """
    where, sites = f"round {record.round}", len(record.reported)
    if sites < FEWEST_EVALUATING:
        raise ServerError(
            "JG-server-355",
            where=where,
            sites=sites,
            least=FEWEST_EVALUATING,
            abstained=record.abstained,
            missing=record.missing,
        )
    if total[0] < 1.0:
        raise ServerError("JG-server-356", where=where, abstained=record.abstained, missing=record.missing)
    return figures(recipe, total, sites)


def _evaluation(entry: RoundEntry, shown: Mapping[str, Sequence[float]]) -> EvaluationEntry:
    kept = {part.name: getattr(entry, part.name) for part in fields(EvaluationEntry) if part.name != "figures"}
    return EvaluationEntry(figures={name: list(figure) for name, figure in shown.items()}, **kept)


def _finished(record: RoundRecord, attempt: int, asked: Asked, seconds: float) -> RoundEntry:
    missing = [site for site in record.missing if site not in asked.refused]
    return RoundEntry(
        record.round,
        attempt,
        Outcome.FINISHED,
        list(record.reported),
        record.abstained,
        dict(asked.refused),
        missing,
        seconds,
        **_of_sum(asked),
    )


def _failed(number: int, attempt: int, asked: Asked | None, error: ServerError, seconds: float) -> RoundEntry:
    refused = dict(asked.refused) if asked else {}
    abstained = cast("dict[str, str]", error.coded.values.get("abstained", {}))
    unheard = cast("Sequence[str]", error.coded.values.get("missing", ()))
    missing = [site for site in unheard if site not in refused]
    sites = asked.sites if asked else ()
    reported = [site for site in sites if site not in {*abstained, *refused, *missing}]
    return RoundEntry(
        number,
        attempt,
        Outcome.FAILED,
        reported,
        abstained,
        refused,
        missing,
        seconds,
        str(error.coded),
        **_of_sum(asked),
    )


def _of_sum(asked: Asked | None) -> dict[str, Any]:
    """What only the record of a secure sum says."""
    return {"released": asked.released, "blamed": asked.blamed} if isinstance(asked, SecureSum) else {}
