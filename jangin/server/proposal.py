"""What a plan is refused for before anybody signs it, and what else an operator should know of it.

The law: `propose` refuses what `refusals` names first and nothing else, so that a dry run and the act never differ;
each part of a plan is judged by itself, so that all that is wrong is said at once; nothing here writes.
"""

from collections.abc import Callable, Collection, Generator, Iterator
from math import ceil

from jangin.codec.document import Document
from jangin.errors import CodedText, DataError, JanginError, Language, PlanError, ServerError
from jangin.models.lines import ModelLine, read_line
from jangin.plan.terms import terms_of_cells
from jangin.plan.training_plan import TrainingPlan
from jangin.privacy.secure_sum.policy import Policy
from jangin.strategies.check import check

__all__ = ["Finding", "Works", "fewest_opened", "findings", "least_sites", "refusals"]

_NOISE = "JG-privacy-005"


class Works(Document):
    """A value with which a refused plan would hold, the others as they are; None where no value does.

    Attributes:
        key: of the plan.
        least: value from which on it holds, or up to which.
        at_most: whether it is the highest.
    """

    key: str
    least: float | None
    at_most: bool = False


class Finding(Document):
    """One thing that a dry run found.

    Attributes:
        code, message, hint, where: of the coded error.
        refused: whether `propose` refuses the plan for it; else it is a warning.
        works: what would hold instead, where that can be computed.
    """

    code: str
    message: str
    hint: str
    where: str
    refused: bool
    works: tuple[Works, ...] = ()


def findings(plan: TrainingPlan, active: Collection[str] | None, lang: Language = "en") -> tuple[Finding, ...]:
    """All that a dry run finds, refusals first.

    Args:
        plan: the campaign.
        active: sites of the roster; None: nobody asks whether those invited are on it.
        lang: of the messages.
    """
    refused = list(refusals(plan, active))
    found = [_finding(error.coded, lang, refused=True, works=_works(plan, error)) for error in refused]
    return (*found, *(_finding(text, lang, refused=False) for text in _warnings(plan)))


def refusals(plan: TrainingPlan, active: Collection[str] | None) -> Iterator[JanginError]:
    """Every reason for which a plan cannot be proposed, one a part.

    Yields:
        PlanError: JG-plan-003, -010..013, -020..027, -031..035, -042..046, -060. DataError: JG-data-060..071.
        PrivacyError: JG-privacy-002..005, -016, -017, -037. ServerError: JG-server-352, sites that are not active.
    """

    def strategy() -> None:
        check(plan.strategy, plan.privacy)

    def cells() -> None:
        if plan.privacy.cells > 1:
            raise PlanError("JG-plan-044", where="privacy.cells", cells=plan.privacy.cells)

    def cohort() -> None:
        least, invited = least_sites(plan), len(plan.sites.invite)
        if least > invited:
            raise PlanError("JG-plan-060", where="sites.invite", least=least, sites=invited, c_max=plan.privacy.c_max)

    def roster() -> None:
        strangers = [site for site in plan.sites.invite if active is not None and site not in active]
        if strangers:
            raise ServerError("JG-server-352", where=plan.campaign, sites=strangers)

    held = yield from _each(strategy, cells, cohort)
    line = yield from _each(lambda: _check_line(plan))
    if held and line:  # what follows is computed from all of it
        yield from _of_recipe(plan)
    yield from _each(roster)


def least_sites(plan: TrainingPlan) -> int:
    """Fewest sites with which a round begins; a secure sum, or that of each cell, has bounds of its own."""
    return max(plan.sites.min_sites, sum(cell.least for cell in terms_of_cells(plan)) if plan.privacy.sums_only else 1)


def fewest_opened(plan: TrainingPlan) -> int:
    """Fewest sites whose sum is opened where all that are invited begin it, in every cell."""
    return sum(cell.least_final(len(cell.invited)) for cell in terms_of_cells(plan))


def _each(*parts: Callable[[], object]) -> Generator[JanginError, None, bool]:
    """What each part refuses; gives whether none did."""
    held = True
    for part in parts:
        try:
            part()
        except JanginError as error:
            held = False
            yield error
    return held


def _check_line(plan: TrainingPlan) -> None:
    line = _installed_line(plan.model_line)
    if line.process != plan.process:
        problem = f"{plan.model_line} learns {line.process}"
        raise PlanError("JG-plan-003", where="process", value=plan.process, problem=problem)


def _of_recipe(plan: TrainingPlan) -> Iterator[JanginError]:
    """Whether its model can be trained as it says, and model and figures show more than noise."""
    from jangin.training.mechanism import refuse_noise, refuse_vague_figures
    from jangin.training.recipe import Recipe

    try:
        recipe = Recipe.of(plan)
    except JanginError as error:
        yield error
        return
    made, sites, shown = recipe.mechanism, len(plan.sites.invite), plan.evaluate
    yield from _each(recipe.learner)
    if made is not None:
        yield from _each(lambda: refuse_noise(made, sites))
    if made is not None and shown is not None:
        yield from _each(lambda: refuse_vague_figures(made, len(shown.metrics), recipe.nominal_units, sites))


def _installed_line(name: str) -> ModelLine:
    """The line of a plan, which is never a file.

    Raises:
        PlanError: JG-plan-003, a file, or no line that is installed.
    """
    problem = "a plan names a line that is installed, never a file: sites open none"
    if not name.endswith(".yaml"):
        try:
            return read_line(name)
        except DataError as error:
            if error.code != "JG-data-062":
                raise
            problem = f"no line of this name is installed; the nearest: {error.coded.values['nearest']}"
    raise PlanError("JG-plan-003", where="model_line", value=name, problem=problem)


def _warnings(plan: TrainingPlan) -> Iterator[CodedText]:
    """What a plan may be proposed with and an operator should know."""
    privacy, least = plan.privacy, least_sites(plan)
    if plan.sites.min_sites < least <= len(plan.sites.invite):
        yield CodedText("JG-plan-061", where="sites.min_sites", least=least, sites=plan.sites.min_sites)
    if not privacy.sums_only:
        return
    invited = len(plan.sites.invite)
    wanted, opened = ceil(plan.sites.quorum * invited), fewest_opened(plan)
    if wanted < opened:
        yield CodedText("JG-plan-063", where="sites.quorum", wanted=wanted, sites=invited, least=opened)
    for cell in terms_of_cells(plan):
        wanted = max(cell.least, Policy.n_min)
        if len(cell.invited) < wanted:
            yield CodedText("JG-plan-062", where="sites.invite", sites=len(cell.invited), wanted=wanted)
            return


def _works(plan: TrainingPlan, error: JanginError) -> tuple[Works, ...]:
    """For a plan of M1 that would only yield noise: each of its knobs, turned alone."""
    if error.code != _NOISE or plan.privacy.nominal_units is None:
        return ()
    from jangin.training.explanation import explain

    found = explain(plan.privacy, plan.strategy, plan.privacy.nominal_units, len(plan.sites.invite), plan.evaluate)
    if isinstance(found, str) or found.thresholds is None:
        return ()
    keys = {"sites": "sites.invite", "batch": "strategy.batch"}
    return tuple(
        Works(key=keys.get(key, f"privacy.{key}"), least=value, at_most=key == "scaling_share")
        for key, value in found.thresholds
    )


def _finding(text: CodedText, lang: Language, *, refused: bool, works: tuple[Works, ...] = ()) -> Finding:
    said = text.as_dict(lang)
    return Finding.model_validate({**said, "where": str(said["where"]), "refused": refused, "works": works})
