"""The run folder: resolved plan, environment, history, result, plots, model. It appears whole or not at all.

Until then it is a sibling, `.<name>.part` of a run that can go on, `.<name>.<process>.part` of one that cannot.
"""

import json
import os
import platform
import shutil
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from jangin.errors import SimulationError
from jangin.privacy.statement import Statement
from jangin.simulation.experiment import Experiment
from jangin.simulation.result import Figures, Result, defined
from jangin.simulation.unfinished import Unfinished, readable

__all__ = ["RunFolder", "parts_left", "read_run"]

_RECORDED = ("jangin", "torch", "numpy", "opacus", "dp-accounting", "scikit-learn", "pyarrow", "flwr")


class RunFolder:
    """A context that fills a sibling folder and renames it when all is well; with None it keeps nothing.

    A run that can go on and breaks off after a round was kept leaves its sibling, for the same run to go on from;
    but for one that diverged, which would again. Any other leaves nothing.

    Attributes:
        path: the sibling; None where nothing is kept.
        unfinished: what a run that can go on has come to; empty for another.
    """

    def __init__(self, out: str | Path | None, option: str = "--out", *, goes_on: bool = False) -> None:
        """Name the folder that is to appear, by the option that messages name.

        Raises:
            SimulationError: JG-sim-001, it exists already.
        """
        self._out, self._option, self._goes_on = Path(out) if out is not None else None, option, goes_on
        self.path: Path | None = None
        if self._out is not None:
            self._refuse_existing(self._out)
            alone = self._out.with_name(f".{self._out.name}.{os.getpid()}.part")
            self.path = _part_of(self._out) if goes_on else alone
        self.unfinished = Unfinished(self.path / "unfinished" if self.path is not None and goes_on else None)

    def __enter__(self) -> "RunFolder":
        """Make the sibling, or take the one that is there, and the folders above it that are not there yet.

        Raises:
            SimulationError: JG-sim-001, another run has finished it meanwhile; JG-sim-003, it cannot be made;
                JG-sim-028, another run works on it.
        """
        if self.path is not None and self._out is not None:
            self._made = [parent for parent in self.path.parents if not parent.exists()]
            try:
                self.path.mkdir(parents=True, exist_ok=self._goes_on)
                self.unfinished.__enter__()
            except (OSError, ValueError) as error:
                raise _cannot(self._out, self._option, error) from None
            try:
                self._refuse_existing(self._out)
            except SimulationError as finished:
                self.__exit__(type(finished), finished, None)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Rename it into place; or leave it, or remove it with whatever was made above it."""
        if self.path is None or self._out is None:
            return
        diverged = isinstance(error, SimulationError) and error.code == "JG-sim-002"
        try:
            if kind is None:
                self.path.rename(self._out)
                shutil.rmtree(self._out / "unfinished", ignore_errors=True)
            elif diverged or not self.unfinished.begun:
                shutil.rmtree(self.path, ignore_errors=True)
                with suppress(OSError):  # somebody else has used it meanwhile
                    for parent in self._made:
                        parent.rmdir()
        finally:
            self.unfinished.__exit__()

    def _refuse_existing(self, out: Path) -> None:
        try:
            there = out.exists()
        except (OSError, ValueError) as error:
            raise _cannot(out, self._option, error) from None
        if there:
            raise SimulationError("JG-sim-001", where=self._option, folder=str(out))

    def write(self, experiment: Experiment, result: Result, statement: Callable[[], Statement]) -> None:
        """Write everything but records that were made, which are already there.

        plan.yaml, environment.json, result.json, history.parquet and the same as .csv, metric_by_round.png,
        per_site.png, better_off.png where sites have models of their own to compare with, final.safetensors:
        `parameters`, shape (d,), float32, its layout as metadata; scaling.json for its inputs and outputs;
        statement.json and .html on its privacy.

        Args:
            experiment: the plan that was run.
            result: what it came to.
            statement: makes the privacy statement, where there is a folder to keep it in.
        """
        if self.path is None:
            return
        import pyarrow.csv
        import pyarrow.parquet
        from safetensors.numpy import save_file

        from jangin.privacy.page import page
        from jangin.simulation.plots import better_off_at_sites, metric_by_round, per_site_bars

        plan = experiment.model_dump(mode="json")
        (self.path / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False, allow_unicode=True))
        environment = {
            "plan_sha256": experiment.digest("simulation"),
            "python": platform.python_version(),
            "machine": platform.platform(),
            "cores": os.cpu_count(),
            **{name: version(name) for name in _RECORDED},
        }
        (self.path / "environment.json").write_text(json.dumps(environment, indent=2))
        outcome = {
            **result.as_dict(),
            "sites": result.sites,
            "per_site": {
                name: list(defined(dict(zip(result.sites, figures, strict=True))).values())
                for name, figures in result.per_site.items()
            },
            "union": defined(result.union),
        }
        (self.path / "result.json").write_text(json.dumps(outcome, indent=2, ensure_ascii=False))
        pyarrow.parquet.write_table(result.history, self.path / "history.parquet")
        pyarrow.csv.write_csv(result.history, self.path / "history.csv")
        model = {"parameters": result.parameters}
        save_file(model, self.path / "final.safetensors", metadata=result.layout.metadata())
        (self.path / "scaling.json").write_text(json.dumps(result.scaling.as_dict(), indent=2))
        stated = statement()
        (self.path / "statement.json").write_bytes(stated.as_json())
        (self.path / "statement.html").write_text(page(stated), encoding="utf-8")
        metric_by_round(result, self.path / "metric_by_round.png")
        per_site_bars(result, self.path / "per_site.png")
        if result.better_off["federated"] is not None:
            better_off_at_sites(result, self.path / "better_off.png")


def read_run(folder: Path) -> tuple[Figures, dict[str, Any]]:
    """What a finished run folder says: its figures, and the line of `--format json`.

    Raises:
        SimulationError: JG-sim-035, files that are damaged.
    """
    import pyarrow.parquet

    with readable(folder / "result.json"):
        line = json.loads((folder / "result.json").read_text())
        sites, per_site = tuple(line.pop("sites")), line.pop("per_site")
        line.pop("union")
        own = {name: tuple(float("nan") if one is None else one for one in all_) for name, all_ in per_site.items()}
        return Figures(
            metric=line["metric"],
            std=line["std"],
            better_off=line["better_off"],
            privacy=line["privacy"],
            sites=sites,
            per_site=own,
            rounds=tuple(pyarrow.parquet.read_table(folder / "history.parquet").to_pylist()),
            seconds=line["seconds"],
        ), line


def _part_of(out: Path) -> Path:
    """Where a run that can go on is until its folder appears."""
    return out.with_name(f".{out.name}.part")


def parts_left(out: Path) -> list[Path]:
    """What broke off: of a run that was to become this folder, or of the runs of a sweep in it."""
    parts = [*([_part_of(out)] if out.name else []), *sorted(out.glob(_part_of(Path("*")).name))]
    return [part for part in parts if part.exists()]


def _cannot(folder: Path | None, option: str, error: OSError | ValueError) -> SimulationError:
    problem = error.strerror if isinstance(error, OSError) else str(error)
    return SimulationError("JG-sim-003", where=option, folder=str(folder)[:80], problem=problem)
