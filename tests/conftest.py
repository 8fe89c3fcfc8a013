"""One thread, no screen, English, and how much is tried: HYPOTHESIS_PROFILE=soak tries more, and what is marked so."""

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from light import LightSites

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["JANGIN_LANG"] = "en"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each of the many processes that tests start would compile the package

gc.set_threshold(50_000)  # what the libraries made lives on: looking through it at every 700th object is dear

settings.register_profile("default", deadline=None, max_examples=60, derandomize=True)
settings.register_profile(
    "soak", deadline=None, max_examples=5_000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
settings.load_profile(PROFILE)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave to `make soak` what says of further cases what another test says of one."""
    further = [item for item in items if PROFILE != "soak" and item.get_closest_marker("soak")]
    if further:
        config.hook.pytest_deselected(items=further)
        items[:] = [item for item in items if item not in further]


@pytest.fixture(scope="session")
def light() -> Iterator[LightSites]:
    """What forks site daemons, each of which trains in its own process."""
    with LightSites() as light:
        yield light
