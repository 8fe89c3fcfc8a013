"""Processes that are not counted in the coverage: what is reached by many whole ones is reached by other tests."""

import os

__all__ = ["uncovered"]


def uncovered() -> dict[str, str]:
    """This process' environment without what has coverage trace a child: it starts and runs a third faster."""
    return {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
