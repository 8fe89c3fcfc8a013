"""Import every module of the wheel installed in the folder named, and make sure they come from there."""

import importlib
import pkgutil
import sys
from pathlib import Path

place = Path(sys.argv[1]).resolve()
sys.path.insert(0, str(place))
import jangin  # noqa: E402

names = [
    "jangin",
    *(module.name for module in pkgutil.walk_packages(jangin.__path__, "jangin.") if "__main__" not in module.name),
]
for name in names:
    file = importlib.import_module(name).__file__
    if file is None or not Path(file).resolve().is_relative_to(place):
        sys.exit(f"error: {name} was imported from {file}")
from jangin.errors import catalogue  # noqa: E402

if not catalogue():
    sys.exit("error: the wheel has lost its YAML files")
sys.stdout.write(f"{len(names)} modules imported from the wheel, {len(catalogue())} coded texts\n")
