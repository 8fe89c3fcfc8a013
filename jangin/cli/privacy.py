"""`jangin privacy`: what a plan would cost, and whether a model's privacy statement holds."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Talk, default_lang
from jangin.errors import PrivacyError

if TYPE_CHECKING:
    from jangin.plan.blocks import PrivacyBlock, StrategyBlock
    from jangin.plan.training_plan import Evaluation
    from jangin.privacy.recount import Recount
    from jangin.training.explanation import Explanation

__all__ = ["privacy"]

privacy = typer.Typer(help="What a promise costs, and whether one was kept to.", no_args_is_help=True)

_WIDTH = 110


@privacy.command("explain")
def explain(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.yaml", help="A training plan or a simulation.")],
    at: Annotated[
        Path | None,
        typer.Option("--site", help="A site's folder: what the plan would leave there. Nothing is reserved."),
    ] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """What a plan costs whom, before anything runs, and where its knobs yield only noise."""
    from jangin.privacy.releases import NO_DIFFERENTIAL_PRIVACY
    from jangin.strategies.check import check
    from jangin.training.explanation import explain as explained

    talk = Talk(form, lang or default_lang())
    strategy, block, nominal_units, sites, evaluation = _blocks(plan)
    check(strategy, block)
    found = (
        NO_DIFFERENTIAL_PRIVACY
        if block.epsilon == "none"
        else explained(block, strategy, _known(nominal_units, plan, "privacy.nominal_units"), sites, evaluation)
    )
    left, left_text = ({}, "") if at is None else _at_site(plan, at, talk)
    if isinstance(found, str):
        talk.answer(found + left_text, privacy=found, **left)
        return
    keys = {
        "epsilon": block.epsilon,
        "sites": sites,
        "nominal_units": nominal_units,
        "batch": strategy.batch,
        "scaling_share": block.scaling_share,
    }
    talk.answer(_explained(found, keys, talk.language) + left_text, privacy=found.model_dump(mode="json"), **left)


@privacy.command("verify")
def verify(
    statement: Annotated[Path, typer.Argument(metavar="STATEMENT.json")],
    site: Annotated[
        Path | None, typer.Option(help="A site's folder: its ledger must have paid for these events.")
    ] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Compute every figure of a privacy statement anew, from its events; exit 0 only where a promise holds."""
    from jangin.privacy.recount import Verdict, recount

    talk = Talk(form, lang or default_lang())
    try:
        content = statement.read_bytes()
    except OSError as error:
        raise PrivacyError("JG-privacy-041", where=str(statement), problem=error.strerror) from None
    if site is not None:
        _confirm(site, content, str(statement))
    found = recount(content, str(statement))
    values = {"verdict": found.verdict.value, "figures": [asdict(figure) for figure in found.figures]}
    match found.verdict:
        case Verdict.HOLDS:
            talk.answer(_recounted(found, talk.language), **values)
        case Verdict.NO_DIFFERENTIAL_PRIVACY:
            talk.answer(found.verdict.value, **values)
            raise typer.Exit(1)
        case Verdict.DOES_NOT_HOLD:
            broken = PrivacyError(
                "JG-privacy-042",
                where=str(statement),
                figures="; ".join(f"{figure.name} ({figure.reading})" for figure in found.failed),
            )
            if form is Format.JSON:
                talk.json({"ok": False, **broken.coded.as_dict(talk.language), **values})
            else:
                talk.text(_recounted(found, talk.language))
                talk.error(broken)
            raise typer.Exit(1)


def _confirm(site: Path, content: bytes, where: str) -> None:
    """Whether a site's ledger paid for the events of a statement."""
    from jangin.client.state import SiteFolder
    from jangin.privacy.recount import confirm
    from jangin.privacy.statement import read_statement

    campaign = read_statement(content, where).deployment.plan_hash
    with SiteFolder(site).ledger() as ledger:
        ledger.check()
        account = ledger.accounts.get(campaign)
    if account is None:
        raise PrivacyError("JG-privacy-045", where=str(site), campaign=campaign)
    confirm(content, account.reservation.cost, where)


def _blocks(file: Path) -> tuple["StrategyBlock", "PrivacyBlock", int | None, int, "Evaluation | None"]:
    """Strategy, privacy, nominal units, number of sites and evaluation of a plan, or of a simulation without any."""
    from jangin.codec.document import parse, read_yaml
    from jangin.plan.training_plan import TrainingPlan

    tree = read_yaml(file)
    if "data" not in tree:
        plan = parse(tree, TrainingPlan, str(file))
        return plan.strategy, plan.privacy, plan.privacy.nominal_units, len(plan.sites.invite), plan.evaluate
    from jangin.simulation.experiment import NpzData, ProcessData, read_experiment

    experiment = read_experiment(file, {})
    data = experiment.data
    match data:
        case NpzData() if experiment.privacy.epsilon == "none":
            sites = 0
        case NpzData():
            sites = _known(None, file, "data.sites")
        case ProcessData():
            sites = data.sites
        case _:
            sites = len(data.records)
    return experiment.strategy, experiment.privacy, experiment.privacy.nominal_units, sites, None


def _at_site(file: Path, folder: Path, talk: Talk) -> tuple[dict[str, Any], str]:
    """What a plan would leave at a site, as values and as text."""
    from jangin.cli.ledger import foreseen_text
    from jangin.client.accounts import foresee
    from jangin.client.desk import now_utc
    from jangin.client.state import SiteFolder
    from jangin.codec.document import read
    from jangin.plan.training_plan import TrainingPlan
    from jangin.training.price import price

    found = foresee(SiteFolder(folder), read(file, TrainingPlan), price, now_utc())
    return {"site": found.model_dump(mode="json")}, f"\n{foreseen_text(found, talk)}"


def _known(value: int | None, file: Path, key: str) -> int:
    if value is None:
        raise PrivacyError("JG-privacy-043", where=str(file), key=key)
    return value


def _explained(found: "Explanation", keys: dict[str, Any], lang: str) -> str:
    """The explanation as text."""
    from jangin.privacy.page import percent_at_most
    from jangin.privacy.statement import wording

    words = wording()
    unit = words["units"][found.unit][lang]

    def say(name: str, **values: object) -> str:
        shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in values.items()}
        return str(words["explain"][name][lang]).format(**shown)

    lines = [
        say("promise", unit=unit, epsilon=found.epsilon, delta=found.delta, mechanism=found.mechanism),
        say("guess", unit=unit, percent=percent_at_most(found.epsilon, found.delta)),
        say(
            "constants",
            noise=found.noise_multiplier,
            q=found.sampling_probability,
            steps=found.steps,
            rounds=found.rounds,
            sites=found.sites,
            units=found.nominal_units,
        ),
    ]
    if found.honest_shares is not None:
        lines.append(say("shares", honest=found.honest_shares, n_plan=found.n_plan, c_max=found.c_max))
    if found.scaling_noise_multiplier is not None:
        lines.append(say("opening", noise=found.scaling_noise_multiplier))
    if found.evaluation_noise_multiplier is not None:
        noise, part = found.evaluation_noise_multiplier, found.figure_noise
        lines.append(say("evaluations", noise=noise, count=found.evaluations, part=part))
    first = next(iter(found.readings.values()))
    after = [say("after", rounds=part.rounds) for part in first.by_rounds]
    costs = [
        [words["readings"][reading][lang], *(f"{part.epsilon:.3g}" for part in cost.by_rounds)]
        for reading, cost in found.readings.items()
    ]
    budgets = [
        say(
            "budget",
            against=words["readings"][reading][lang],
            order=cost.order,
            epsilon=cost.filter_epsilon,
            share=f"{cost.budget_share:.0%}",
            budget=cost.budget_epsilon,
        )
        for reading, cost in found.readings.items()
    ]
    people = [
        say(
            "master",
            units=group.units,
            epsilon=group.epsilon,
            delta=group.delta,
            word=say("weak" if group.promised else "no_promise"),
        )
        for group in found.groups
    ]
    people.append(f"{say('trust')}: {words['trust'][found.trust][lang]}")
    word = say("learns" if found.learns else "noise_only")
    people.append(say("noise", ratio=found.noise_ratio, limit=found.noise_limit, word=word))
    parts: list[str | Table] = [*lines, say("costs"), _table([say("against"), *after], costs), *budgets, *people]
    if found.thresholds is not None:
        limits = [
            [key, f"{keys[key]:g}", say("never") if value is None else say(_sides(key), value=value)]
            for key, value in found.thresholds
        ]
        parts += [say("thresholds"), _table([say("key"), say("now"), ""], limits)]
    return _printed(*parts)


def _sides(key: str) -> str:
    return "at_most" if key == "scaling_share" else "at_least"


def _recounted(found: "Recount", lang: str) -> str:
    """The verdict and every figure as a table."""
    from jangin.privacy.statement import wording

    words = wording()
    say = {name: texts[lang] for name, texts in words["verify"].items()}
    rows = [
        [
            figure.name,
            words["readings"][figure.reading][lang],
            f"{figure.stated:.7g}",
            say["no_figure"] if figure.recounted is None else f"{figure.recounted:.7g}",
            say["at_least"] if figure.tolerance is None else f"{figure.tolerance:g}",
            say["yes" if figure.holds else "no"],
        ]
        for figure in found.figures
    ]
    heads = [say[name] for name in ("figure", "against", "stated", "recounted", "tolerance", "holds")]
    return _printed(found.verdict.value, _table(heads, rows))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table()
    for number, head in enumerate(heads):
        table.add_column(head, no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    return table


def _printed(*parts: str | Table) -> str:
    console = Console(width=_WIDTH, force_terminal=False, highlight=False, markup=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return capture.get()
