"""Many runs of one simulation file: every combination of the values of some keys, compared in one table.

The law: a combination that is refused is a row with its code, and the others go on; a run that is finished is read,
never run again: with differential privacy it would spend once more.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jangin.codec.document import read_yaml
from jangin.errors import JanginError, Language, PlanError, SimulationError
from jangin.simulation.comparison import Row, as_text, csv_table, markdown
from jangin.simulation.experiment import Experiment, read_experiment
from jangin.simulation.federation import Advance
from jangin.simulation.result import Figures
from jangin.simulation.run import simulate
from jangin.simulation.run_folder import read_run
from jangin.simulation.unfinished import readable

__all__ = ["Sweep", "sweep"]

_LONGEST_NAME = 120


@dataclass(frozen=True)
class Sweep:
    """The outcome of `sweep`.

    Attributes:
        keys: what was swept.
        rows: one a combination, the last key changing fastest.
        lines: the same as `jangin simulate --format json` prints each; None where it was refused.
    """

    keys: tuple[str, ...]
    rows: tuple[Row, ...]
    lines: tuple[Mapping[str, Any] | None, ...]

    @property
    def complete(self) -> bool:
        """Whether no combination was refused."""
        return all(row.refused is None for row in self.rows)

    def markdown(self, lang: Language = "en") -> str:
        """The comparison table."""
        return markdown(self.rows, lang)

    def as_dict(self, lang: Language = "en") -> dict[str, Any]:
        """The line of `jangin simulate --sweep --format json`: `sweep`, the keys, and `runs`.

        A run is `set`, its values, with what a single run prints, or with `refused`: code, message, hint, where.
        """
        runs = []
        for row, line in zip(self.rows, self.lines, strict=True):
            refused = {"refused": row.refused.as_dict(lang)} if row.refused else {}
            runs.append({"set": dict(row.values), **(line or refused)})
        return {"sweep": list(self.keys), "runs": runs}


def sweep(
    file: str | Path,
    over: Mapping[str, Sequence[object]],
    *,
    seed: int | None = None,
    engine: str = "stacked",
    threads: int = 1,
    out: str | Path | None = None,
    tensorboard: str | Path | None = None,
    per_site: bool = False,
    accept_noise: bool = False,
    progress: Advance = lambda what, done, total: None,
    sets: Mapping[str, object] | None = None,
    lang: Language = "en",
    **more_sets: object,
) -> Sweep:
    """Run a simulation file once for every combination of values. Each run reads its data anew.

    Args:
        file: as of `simulate`, like all that is not explained here.
        over: the values of dotted keys, e.g. `{"privacy.epsilon": [1, 8, "none"]}`.
        seed: as there.
        engine: as there.
        threads: as there.
        out: a folder for the run folders (`1-privacy.epsilon=1`, ...), comparison.md and .csv, and pictures. It is new,
            or one in which a sweep was begun: a run with the same plan that is finished in it is read, and one that
            broke off goes on.
        tensorboard: a folder with one for each run, by its name.
        per_site: as there.
        accept_noise: as there.
        progress: as there.
        sets: as there.
        lang: of comparison.md and of messages in lines.
        **more_sets: as there.

    Raises:
        PlanError: JG-plan-003, a key is swept and set, or has no values; JG-plan-004..006, a file that cannot be read.
        SimulationError: JG-sim-001, a folder of something else; JG-sim-003, one that cannot be made; JG-sim-024, a
            folder of another sweep; JG-sim-035, a run in it whose files are damaged.
    """
    fixed = {**(sets or {}), **more_sets, **({} if seed is None else {"seed": seed})}
    for key, listed in over.items():
        if key in fixed or not listed:
            problem = "it is swept and set" if key in fixed else "it has no values"
            raise PlanError("JG-plan-003", where="--sweep", value=key, problem=problem)
    read_yaml(Path(file))
    combinations = [dict(zip(over, picked, strict=True)) for picked in itertools.product(*over.values())]
    names = _names(combinations)
    plans = [_plan(Path(file), {**fixed, **combination}) for combination in combinations]
    folder = None if out is None else Path(out)
    begun = {} if folder is None else _begun(folder, per_site, list(zip(names, plans, strict=True)))
    finished: dict[str, tuple[Figures, Mapping[str, Any]]] = {}
    rows: list[Row] = []
    lines: list[Mapping[str, Any] | None] = []
    for number, (name, plan, values) in enumerate(zip(names, plans, combinations, strict=True)):
        progress("run", number, len(names))
        digest = plan.digest("simulation") if plan else ""
        if digest in begun and digest not in finished:
            finished[digest] = read_run(begun[digest])
        if digest in finished:
            figures, line = finished[digest]
            rows.append(Row(figures, values))
            lines.append(line)
            continue
        try:
            result = simulate(
                file,
                engine=engine,
                threads=threads,
                out=folder and folder / name,
                tensorboard=tensorboard and Path(tensorboard) / name,
                per_site=per_site,
                accept_noise=accept_noise,
                progress=progress,
                sets={**fixed, **values},
            )
        except JanginError as error:
            rows.append(Row(None, values, refused=error.coded))
            lines.append(None)
        else:
            line = result.as_dict(lang)
            rows.append(Row(result, values, warnings=result.warnings))
            lines.append(line)
            finished[digest] = result, line
    progress("run", len(names), len(names))
    done = Sweep(tuple(over), tuple(rows), tuple(lines))
    if folder is not None:
        _write(folder, done, lang)
    return done


def _plan(file: Path, sets: Mapping[str, object]) -> Experiment | None:
    """The plan of a combination; None where it cannot be read, which its run will say."""
    try:
        return read_experiment(file, sets)
    except PlanError:
        return None


def _names(combinations: Sequence[Mapping[str, object]]) -> list[str]:
    """Of the run folders: the run's number, and what is its own."""
    digits = len(str(len(combinations)))
    texts = [",".join(f"{key}={as_text(value)}" for key, value in values.items()) for values in combinations]
    return [
        re.sub(r"[^\w.=,+-]", "_", f"{number:0{digits}}-{text}")[:_LONGEST_NAME] for number, text in enumerate(texts, 1)
    ]


def _begun(folder: Path, per_site: bool, runs: Sequence[tuple[str, Experiment | None]]) -> dict[str, Path]:
    """Make the folder, or find what is finished in it: run folders by the digest of their plans."""
    note = folder / "sweep.json"
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            note.write_text(json.dumps({"per_site": per_site}))
        elif not note.exists():
            raise SimulationError("JG-sim-001", where="--out", folder=str(folder))
        before = json.loads(note.read_text())
    except (OSError, ValueError) as error:
        problem = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise SimulationError("JG-sim-003", where="--out", folder=str(folder)[:80], problem=problem) from None
    if before != {"per_site": per_site}:
        problem = f"per_site: {str(not per_site).lower()}"
        raise SimulationError("JG-sim-024", where="--out", folder=str(folder), problem=problem)
    finished = {}
    for environment in sorted(folder.glob("*/environment.json")):
        if not environment.parent.name.startswith("."):
            with readable(environment):
                finished[json.loads(environment.read_text())["plan_sha256"]] = environment.parent
    for name, plan in runs:
        digest = plan.digest("simulation") if plan else ""
        if (folder / name).exists() and digest not in finished:
            raise SimulationError("JG-sim-024", where="--out", folder=str(folder), problem=f"{name}: another plan")
    return finished


def _write(folder: Path, done: Sweep, lang: Language) -> None:
    """The tables, and pictures where there is a run and all have one metric."""
    from jangin.simulation.plots import better_off_in_runs, metric_by_epsilon, rounds_of_runs

    (folder / "comparison.md").write_text(done.markdown(lang), encoding="utf-8")
    (folder / "comparison.csv").write_text(csv_table(done.rows), encoding="utf-8")
    runs = [row.figures for row in done.rows if row.figures is not None]
    if len({figures.metric["name"] for figures in runs}) != 1:
        return
    rounds_of_runs(done.rows, folder / "metric_by_round.png")
    if all(figures.better_off["federated"] is not None for figures in runs):
        better_off_in_runs(done.rows, folder / "better_off.png")
    if "privacy.epsilon" in done.keys:
        metric_by_epsilon(done.rows, folder / "metric_by_epsilon.png")
