"""The version, in one place; this file imports nothing."""

__version__ = "0.1.0"
