"""`jangin simulate` and `jangin demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from jangin.cli.options import FormatOption, LangOption
from jangin.cli.talk import Format, Lang, Talk, default_lang
from jangin.errors import PlanError

if TYPE_CHECKING:
    from jangin.simulation import Result

__all__ = ["demo", "simulate"]

_WORDS = {
    "federated": ("federated", "연합 모델"),
    "personalised": ("federated, fine-tuned at the site", "연합 모델, 사업장에서 미세 조정"),
    "local": ("each site alone", "사업장 단독"),
    "local_trees": ("each site alone, boosted trees", "사업장 단독, 부스팅 트리"),
    "local_private": ("each site alone at the same epsilon", "사업장 단독, 같은 엡실론"),
    "pooled": ("all records in one place", "모든 기록을 한곳에"),
    "constant": ("the mean", "평균값"),
}

_HEAD = (("hold-outs", "시험 기록"), ("union of hold-outs", "시험 기록 전체"))


def simulate(
    file: Annotated[Path, typer.Argument(help="The simulation, e.g. configs/simulations/cmapss.yaml.")],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=V", help="Another value of a key; repeat as needed."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="First seed instead of the file's.")] = None,
    engine: Annotated[str, typer.Option(help="sequential: sites one after another in this process.")] = "sequential",
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    out: Annotated[Path | None, typer.Option(help="A new folder for plan, history, plots and model.")] = None,
    per_site: Annotated[bool, typer.Option("--per-site", help="Mean of site figures, not of records.")] = False,
    accept_noise: Annotated[
        bool, typer.Option("--accept-noise", help="Run a plan whose noise drowns what it learns.")
    ] = False,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Train a federation in one process and compare it with doing without."""
    from jangin.simulation import simulate as run

    talk = Talk(form, lang or default_lang())
    with talk.progress() as advance:
        result = run(
            file,
            seed=seed,
            engine=engine,
            threads=threads,
            out=out,
            per_site=per_site,
            accept_noise=accept_noise,
            progress=advance,
            **_assignments(sets or []),
        )
    for warning in result.warnings:
        talk.warn(warning)
    if form is Format.JSON:
        talk.json(result.as_dict(talk.language))
    else:
        talk.text(_table(result, talk.lang))
    if out is not None:
        talk.say(f"kept in {out}", f"{out}에 저장함")


def demo(
    sites: Annotated[int, typer.Option(min=2, max=50)] = 5,
    rounds: Annotated[int | None, typer.Option(min=1, help="Default: the simulation file's.")] = None,
    process: Annotated[str, typer.Option(help="A reference process.")] = "steel.bof_blow",
    keep: Annotated[Path | None, typer.Option(help="A new folder that keeps records, history and model.")] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Make master records of a process, check them, and train a private federation on them.

    All of it happens in this one process for now: records, scaling, rounds and noise are those of the field, the
    daemons, keys and connections are not there yet.
    """
    from jangin.simulation.demo import run_demo

    talk = Talk(form, lang or default_lang())
    with talk.progress() as advance:
        outcome, result = run_demo(process, sites=sites, rounds=rounds, keep=keep, progress=advance)
    for warning in result.warnings:
        talk.warn(warning)
    if form is Format.JSON:
        talk.json(outcome)
    else:
        talk.text(_table(result, talk.lang, union=True))
    if keep is not None:
        talk.say(f"kept in {keep}", f"{keep}에 저장함")


def _assignments(sets: list[str]) -> dict[str, str]:
    pairs = {}
    for item in sets:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise PlanError("JG-plan-003", where="--set", value=item, problem="it is not of the form a.b=value")
        pairs[key] = value
    return pairs


def _table(result: "Result", lang: Lang, *, union: bool = False) -> str:
    """The comparison as a table, the promise, and who is better off."""
    korean = lang is Lang.KO
    figures = result.union if union else {name: result.metric[name] for name in result.per_site}
    arrow = "↑" if result.metric["higher_is_better"] else "↓"
    table = Table(title=f"{result.metric['name']} {arrow}", title_justify="left")
    table.add_column("모델" if korean else "model")
    table.add_column(
        _HEAD[union][korean],
        justify="right",
    )
    if union:
        table.add_column("자기 시험 기록" if korean else "own hold-out", justify="right")
    table.add_column("±", justify="right")
    for name in _WORDS:
        if name in figures:
            own = [f"{result.metric[name]:.4g}"] if union else []
            row = [_WORDS[name][korean], f"{figures[name]:.4g}", *own, f"{result.std[name]:.2g}"]
            table.add_row(*row, style="bold" if name == "federated" else None)
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
        console.print(_promise(result, korean))
        console.print(_who(result, korean))
    return capture.get()


def _promise(result: "Result", korean: bool) -> str:
    promise = result.privacy
    if isinstance(promise, str):
        return promise
    figures = f"ε = {promise['epsilon']:.3g}, δ = {promise['delta']:.3g}"
    if korean:
        return f"{promise['unit']} 단위, 사업장마다 {figures} ({promise['mechanism']}, 하나를 더하거나 뺄 때)"
    return f"{figures} for each {promise['unit']} at its site ({promise['mechanism']}, adding or removing one)"


def _who(result: "Result", korean: bool) -> str:
    shares = result.better_off
    if shares["federated"] is None:
        return "사업장 단독 모델과 비교하지 않음" if korean else "not compared with sites alone"
    tuned = "" if shares["personalised"] is None else f", {shares['personalised']:.0%}"
    worse = ", ".join(shares["sites_worse"]) or ("없음" if korean else "none")
    if korean:
        return f"단독의 가장 좋은 모델보다 나은 사업장: {shares['federated']:.0%}{tuned} (미세 조정); 나쁜 곳: {worse}"
    return (
        f"sites better off than with their own best model: {shares['federated']:.0%}{tuned} fine-tuned; worse: {worse}"
    )
