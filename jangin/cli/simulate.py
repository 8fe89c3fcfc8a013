"""`jangin simulate` and `jangin demo`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jangin.cli.options import FormatOption, LangOption, SetsOption, assignments
from jangin.cli.talk import Format, Lang, Talk, default_lang
from jangin.codec.document import read_value

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

_HEAD = (("hold-outs", "평가용 기록"), ("union of hold-outs", "평가용 기록 전체"))


def simulate(
    file: Annotated[Path, typer.Argument(help="The simulation, e.g. configs/simulations/cmapss.yaml.")],
    sets: SetsOption = None,
    sweeps: Annotated[
        list[str] | None,
        typer.Option("--sweep", metavar="A.B=V,W", help="Run each of these values; repeated, every combination."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="First seed instead of the file's.")] = None,
    engine: Annotated[
        str, typer.Option(help="stacked, sequential, flower: through its messages, or ray: on its workers.")
    ] = "stacked",
    threads: Annotated[
        int, typer.Option(min=1, help="Processes that train; threads of torch; under ray, of each worker.")
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="A new folder for plan, history, plots and model; a run that was killed goes on."),
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder that TensorBoard shows, round by round.")
    ] = None,
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
    options: dict[str, Any] = {"seed": seed, "engine": engine, "threads": threads, "out": out, "per_site": per_site}
    options |= {"accept_noise": accept_noise, "tensorboard": tensorboard, "sets": assignments(sets or [], "--set")}
    with _kept_when_stopped(talk, out):
        if sweeps:
            _sweep(talk, file, assignments(sweeps, "--sweep"), options)
            return
        with talk.progress() as advance:
            result = run(file, progress=advance, **options)
    for warning in result.warnings:
        talk.warn(warning)
    if form is Format.JSON:
        talk.json(result.as_dict(talk.language))
    else:
        talk.text(_table(result, talk.lang))
    if out is not None:
        talk.say(f"kept in {out}", f"{out}에 저장함")


@contextmanager
def _kept_when_stopped(talk: Talk, out: Path | None) -> Iterator[None]:
    """Say how to go on after Ctrl-C or SIGTERM, where there is something to go on from."""
    from jangin.simulation.run_folder import parts_left

    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        for part in () if out is None else parts_left(out):
            talk.say(
                f"the rounds until now are kept in {part}: the same command goes on from there",
                f"지금까지의 라운드는 {part}에 있음: 같은 명령을 다시 실행하면 이어서 진행함",
            )
        raise


def _sweep(talk: Talk, file: Path, sweeps: dict[str, str], options: dict[str, Any]) -> None:
    """Every combination, one table or line for all.

    Raises:
        typer.Exit: a combination was refused.
    """
    from jangin.simulation.sweep import sweep

    over = {key: read_value(f"[{values}]", key) for key, values in sweeps.items()}
    with talk.progress() as advance:
        done = sweep(file, over, progress=advance, lang=talk.language, **options)
    said = [warning for row in done.rows for warning in row.warnings] + [
        row.refused for row in done.rows if row.refused
    ]
    for warning in {str(one): one for one in said}.values():
        talk.warn(warning)
    if talk.format is Format.JSON:
        talk.json(done.as_dict(talk.language))
    else:
        talk.text(done.markdown(talk.language))
    if options["out"] is not None:
        talk.say(f"kept in {options['out']}", f"{options['out']}에 저장함")
    if not done.complete:
        raise typer.Exit(1)


def demo(
    sites: Annotated[int | None, typer.Option(min=2, max=50, help="Default: the simulation file's.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Default: the simulation file's.")] = None,
    process: Annotated[str, typer.Option(help="A reference process.")] = "steel.bof_blow",
    file: Annotated[
        Path | None, typer.Option("--from", metavar="SIM.yaml", help="A simulation of a process or of records instead.")
    ] = None,
    secure_aggregation: Annotated[
        bool,
        typer.Option("--secure-aggregation/--no-secure-aggregation", help="The server sees sums only; needs 4 sites."),
    ] = True,
    keep: Annotated[Path | None, typer.Option(help="A new folder that keeps records, logs, history, model.")] = None,
    form: FormatOption = Format.TEXT,
    lang: LangOption = None,
) -> None:
    """Run a real federation on this machine: a server and site daemons, each a process with keys of its own.

    Records are made and checked, sites enrol and approve, rounds run over TLS, everything is stopped at the end.
    """
    from jangin.simulation.demo import run_demo

    talk = Talk(form, lang or default_lang())
    with talk.progress() as advance:
        outcome, result = run_demo(
            process,
            sites=sites,
            rounds=rounds,
            keep=keep,
            progress=advance,
            file=file,
            secure_aggregation=secure_aggregation,
        )
    for warning in result.warnings:
        talk.warn(warning)
    if form is Format.JSON:
        talk.json(outcome)
    else:
        talk.text(_table(result, talk.lang, union=True))
    if keep is not None:
        talk.say(f"kept in {keep}", f"{keep}에 저장함")


def _table(result: "Result", lang: Lang, *, union: bool = False) -> str:
    """The comparison as a table, the promise, and who is better off."""
    korean = lang is Lang.KO
    figures = result.union if union else {name: result.metric[name] for name in result.per_site}
    spread = not union and any(result.std[name] for name in result.per_site)
    arrow = "↑" if result.metric["higher_is_better"] else "↓"
    table = Table(title=f"{result.metric['name']} {arrow}", title_justify="left")
    table.add_column("모델" if korean else "model")
    table.add_column(_HEAD[union][korean], justify="right")
    if union:
        table.add_column("자기 평가용 기록" if korean else "own hold-out", justify="right")
    if spread:
        table.add_column("±", justify="right")
    for name in _WORDS:
        if name in figures:
            own = [f"{result.metric[name]:.4g}"] if union else []
            deviation = [f"{result.std[name]:.2g}"] if spread else []
            row = [_WORDS[name][korean], f"{figures[name]:.4g}", *own, *deviation]
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
    several, alone = promise["runs"] > 1, promise.get("epsilon_coalition")
    if korean:
        from jangin.simulation.comparison import UNITS

        unit = UNITS[promise["unit"]]
        runs = f"; 같은 기록을 {promise['runs']}번 썼고, 이 값은 한 번의 실행에 대한 것" if several else ""
        return (
            f"연합 모델의 보호 단위: {unit}, 사업장별 {figures} ({promise['mechanism']}, 하나를 더하거나 뺄 때){runs}"
            + (
                f"; 서버가 합만 보고 사업장 {promise['c_max']}곳까지 서버와 공모한다고 가정한 값이며,"
                f" 서버와 다른 모든 사업장이 공모하면 ε = {alone:.3g}"
                if alone
                else ""
            )
        )
    runs = f"; for one of the {promise['runs']} runs on these records" if several else ""
    return (
        f"the federated model: {figures} for each {promise['unit']} at its site"
        f" ({promise['mechanism']}, adding or removing one){runs}"
        + (
            f"; towards a server that sees sums only, with up to {promise['c_max']} sites on its side;"
            f" ε = {alone:.3g} with all other sites on its side"
            if alone
            else ""
        )
    )


def _who(result: "Result", korean: bool) -> str:
    shares = result.better_off
    if shares["federated"] is None:
        return "사업장 단독 모델과 비교하지 않음" if korean else "not compared with sites alone"
    worse = ", ".join(shares["sites_worse"]) or ("없음" if korean else "none")
    tuned = ""
    if shares["personalised"] is not None:
        tuned = f", {'미세 조정 후' if korean else 'fine-tuned'} {shares['personalised']:.0%}"
    if korean:
        return f"자체 최고 모델보다 나아진 사업장: {shares['federated']:.0%}{tuned}; 나아지지 않은 곳: {worse}"
    return f"sites better off than with their own best model: {shares['federated']:.0%}{tuned}; worse: {worse}"
