"""The `jangin` command: thin commands over the library, one module a group of them.

The law: stdout is data, stderr is talk; exit 0 ok, 1 findings or refused, 2 wrong usage, 3 cannot reach, 4 not
allowed, 5 bug. Every message ends with a way out, in English or Korean.
"""

from jangin.cli.app import main

__all__ = ["main"]
