"""Laws of an installation without network: every version is pinned, and the wheels of one folder are enough."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def pinned() -> dict[str, str]:
    """Every version of constraints.txt by its name."""
    if not (ROOT / "constraints.txt").exists():
        pytest.skip("constraints.txt is not in this tree (an sdist has none)")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pins.items()}


def needed(lines: list[str], extra: str = "") -> Iterator[Requirement]:
    """The requirements that count on this machine."""
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def test_all_that_jangin_needs_is_pinned_and_so_is_what_that_needs(pinned: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, seen = list(needed(project["dependencies"])), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"constraints.txt lacks {requirement}"
        assert requirement.specifier.contains(pinned[name], prereleases=True), (str(requirement), pinned[name])
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += needed(metadata.requires(name) or [], extra)
    assert len(seen) > 50


@pytest.mark.soak
@pytest.mark.slow
def test_the_wheelhouse_is_enough_for_an_installation_without_network(tmp_path: Path) -> None:
    if not (ROOT / "Makefile").exists():
        pytest.skip("The Makefile is not in this tree (an sdist has none).")
    wheels, tools = tmp_path / "wheels", Path(sys.executable).parent
    make = ["make", "-o", "install", "-o", ".venv/installed", "wheelhouse", f"BIN={tools}", f"WHEELHOUSE={wheels}"]
    subprocess.run(make, cwd=ROOT, capture_output=True, timeout=900, check=True)
    sums = (line.split() for line in (wheels / "SHA256SUMS").read_text().splitlines())
    listed = {name: digest for digest, name in sums}
    assert listed == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in wheels.glob("*.whl")}
    alone = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")} | {
        "PIP_CONFIG_FILE": os.devnull
    }
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    command = [*pip, "--no-index", "--find-links", str(wheels), "jangin"]
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=900, check=True)
    installed = {one["metadata"]["name"] for one in json.loads(done.stdout)["install"]}
    assert {"jangin", "torch", "flwr"} <= installed
    assert len(installed) == len(listed)
    assert not [name for name in listed if re.match("nvidia", name)]
