"""The light process of a site loads all of this, and nothing heavy with it."""

import pkgutil
import subprocess
import sys

import jangin.trust

HEAVY = ("torch", "scipy", "dp_accounting", "pyarrow", "sqlalchemy", "numpy", "flwr", "grpc", "boto3", "requests")


def test_trust_loads_nothing_heavy() -> None:
    modules = [f"jangin.trust.{module.name}" for module in pkgutil.iter_modules(jangin.trust.__path__)]
    script = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert len(modules) >= 7
