"""Run the benchmarks and write benchmarks/RESULTS.md. Usage: python benchmarks/run.py [NAME ...] [--quick]"""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent
NAMES = ("accounting", "private_step", "secure_sum", "simulation", "federation", "site", "server", "records")
LIBRARIES = ("jangin", "torch", "numpy", "flwr", "opacus", "dp-accounting")


def rows(name: str, quick: bool) -> list[dict]:
    """What one script measured; its own words go to stderr."""
    print(f"{name} ...", file=sys.stderr)
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--json", *(["--quick"] if quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "NO"
        case dict():
            return ", ".join(f"{key} {cell(part)}" for key, part in value.items())
        case _:
            return str(value)


def page(measured: list[dict]) -> str:
    """The table, with the machine, the versions and the day."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    head = "| what | figure | beside | ratio | goal | holds |\n|---|---|---|---|---|---|\n"
    columns = ("name", "figure", "beside", "ratio", "goal", "holds")
    lines = ["| " + " | ".join(cell(row[column]) for column in columns) + " |\n" for row in measured]
    return (
        "# Benchmarks\n\nMade by `make bench`: a row is measured side by side in one run; ratios travel well.\n\n"
        f"{datetime.now(UTC):%Y-%m-%d}, {machine}; {libraries}.\n\n{head}{''.join(lines)}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all without one")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; nothing is written")
    arguments = parser.parse_args()
    table = page([row for name in arguments.names or NAMES for row in rows(name, arguments.quick)])
    print(table)
    if not arguments.quick and not arguments.names:
        (FOLDER / "RESULTS.md").write_text(table, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
