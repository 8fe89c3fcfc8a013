"""Jangin (장인, master artisan): privacy-preserving federated learning for manufacturing know-how.

The import costs nothing: `simulate` loads torch only when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from jangin.version import __version__

if TYPE_CHECKING:
    from jangin.simulation import simulate

__all__ = ["__version__", "simulate"]


def __getattr__(name: str) -> Any:
    """Load `jangin.simulate` on first use.

    Raises:
        AttributeError: for any other name.
    """
    if name == "simulate":
        from jangin.simulation import simulate

        return simulate
    raise AttributeError(f"module 'jangin' has no attribute {name!r}")
